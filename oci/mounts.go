package oci

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// guestFilesystems are the types that the guest's kernel mounts without a device.
// Any other type needs a source on the host, which the guest can get only as a bind.
var guestFilesystems = map[string]bool{
	"binfmt_misc": true, "bpf": true, "cgroup": true, "cgroup2": true, "configfs": true, "debugfs": true,
	"devpts": true, "fusectl": true, "hugetlbfs": true, "mqueue": true, "proc": true, "ramfs": true,
	"securityfs": true, "sysfs": true, "tmpfs": true, "tracefs": true,
}

// overlayType is the type of an overlay. Its options name directories of the host, so the
// host mounts it, and the guest gets it as it gets a bind.
const overlayType = "overlay"

// isOverlay tells whether a mount is an overlay that the host has to make.
func isOverlay(m specs.Mount) bool {
	return m.Type == overlayType && !isBind(m) && !hasOption(m, "remount")
}

// validateMounts checks what the spec says about its mounts. planMounts looks at the
// sources on the host.
func validateMounts(spec *specs.Spec) error {
	for i, m := range spec.Mounts {
		field := index("mounts", i)
		if err := validateMount(field, m, propagatesToHost(spec)); err != nil {
			return err
		}
		if err := validateIDMap(spec, field, m); err != nil {
			return err
		}
	}
	return nil
}

// propagatesToHost tells whether, without a VM, a mount that is made in a shared bind
// of the container would appear on the host (mount_namespaces(7)). Where the root is
// private or a slave, which is the default, it appears only in mount namespaces that
// the container makes.
func propagatesToHost(spec *specs.Spec) bool {
	return spec.Linux != nil && (spec.Linux.RootfsPropagation == "shared" || spec.Linux.RootfsPropagation == "rshared")
}

func validateMount(field string, m specs.Mount, propagatesToHost bool) error {
	switch {
	case m.Destination == "":
		return fieldErrorf(field+".destination", "must not be empty")
	case strings.IndexByte(m.Destination, 0) >= 0:
		return fieldErrorf(field+".destination", "mount field contains null byte")
	case strings.IndexByte(m.Source, 0) >= 0:
		return fieldErrorf(field+".source", "mount field contains null byte")
	case strings.IndexByte(m.Type, 0) >= 0:
		return fieldErrorf(field+".type", "mount field contains null byte")
	}
	for i, o := range m.Options {
		option := index(field+".options", i)
		switch {
		case strings.IndexByte(o, 0) >= 0:
			return fieldErrorf(option, "mount field contains null byte")
		case isBind(m) && propagatesToHost && (o == "shared" || o == "rshared"):
			return fieldErrorf(option, "%s: a mount that is made in a VM cannot reach the host", o)
		}
	}
	switch {
	case isBind(m) && m.Source == "":
		return fieldErrorf(field+".source", "must not be empty")
	case isOverlay(m) && len(overlayOptions(m)) == 0:
		return fieldErrorf(field+".options", "an overlay needs lowerdir=")
	case isBind(m), isOverlay(m), guestFilesystems[m.Type], hasOption(m, "remount"):
		return nil
	case m.Type == "":
		return fieldErrorf(field+".type", "must not be empty, unless the mount is a bind")
	}
	return fieldErrorf(field+".type", "%q: a VM cannot mount it; mount it on the host and bind it", m.Type)
}

// mountPlan says where the guest gets a mount's source. It is zero for a mount that is
// neither a bind nor an overlay.
type mountPlan struct {
	// bind is what the host has to share; nil for none.
	bind *Bind
	// device is the guest's own node to bind instead; "" for none.
	device string
	// memory is the guest's own file system to bind instead; nil for none.
	memory *SharedMemory
}

// planMounts says where the guest gets the source of each mount. It refuses sources of
// binds that are interfaces of the host's kernel rather than files.
func planMounts(b *Bundle) ([]mountPlan, error) {
	plans := make([]mountPlan, len(b.Spec.Mounts))
	for i, m := range b.Spec.Mounts {
		if isOverlay(m) {
			plans[i] = planOverlay(i, m)
		}
		if !isBind(m) {
			continue
		}
		plan, err := planBind(b.Dir, i, m)
		if err != nil {
			return nil, fieldErrorf(index("mounts", i)+".source", "error mounting %q to rootfs at %q: %w", m.Source, m.Destination, err)
		}
		mapping, asking := idMapOf(b.Spec, index("mounts", i), m)
		if plan.bind != nil && mapping == nil {
			if plan.memory, err = sharedMemoryOf(plan.bind.Source, m); err != nil {
				return nil, fieldErrorf(index("mounts", i)+".source", "%w", err)
			}
			if plan.memory != nil {
				plan.bind = nil
			}
		}
		switch {
		case plan.bind != nil:
			plan.bind.IDMap = mapping
		case mapping != nil:
			return nil, fieldErrorf(asking, "%s is the guest's own, which cannot be id-mapped", plan.device)
		}
		plans[i] = plan
	}
	return plans, nil
}

func planBind(dir string, n int, m specs.Mount) (mountPlan, error) {
	source := m.Source
	if !filepath.IsAbs(source) {
		source = filepath.Join(dir, source)
	}
	source = filepath.Clean(source)
	st, err := statOf(source)
	if err != nil {
		return mountPlan{}, err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		device, ok := virtualDevices[deviceNumber{unix.Major(st.Rdev), unix.Minor(st.Rdev)}]
		if !ok {
			return mountPlan{}, fmt.Errorf("a device of the host (c %d:%d) cannot be given to a VM", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		return mountPlan{device: device}, nil
	case unix.S_IFBLK:
		return mountPlan{}, fmt.Errorf("a device of the host (b %d:%d) cannot be given to a VM", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	if err := checkKernelFiles(source, &st); err != nil {
		return mountPlan{}, err
	}
	itself, below := isReadOnly(m)
	return mountPlan{bind: &Bind{
		Source:        source,
		Destination:   m.Destination,
		GuestSource:   path.Join("mounts", strconv.Itoa(n), sourceName(source)),
		ReadOnly:      itself,
		ReadOnlyBelow: below,
		Recursive:     hasOption(m, "rbind"),
		Slave:         hasOption(m, "rslave", "slave"),
	}}, nil
}

// planOverlay plans an overlay that the host mounts. The kernel checks the options when
// the host does.
func planOverlay(n int, m specs.Mount) mountPlan {
	itself, below := isReadOnly(m)
	return mountPlan{bind: &Bind{
		Source:        overlayType,
		Overlay:       overlayOptions(m),
		Destination:   m.Destination,
		GuestSource:   path.Join("mounts", strconv.Itoa(n), overlayType),
		ReadOnly:      itself,
		ReadOnlyBelow: below,
	}}
}

// overlayOptions are a mount's options for the overlay driver.
func overlayOptions(m specs.Mount) []string {
	var own []string
	for _, o := range m.Options {
		if isDataOption(o) {
			own = append(own, o)
		}
	}
	return own
}

// sourceName is the name of a bind's source in mountinfo: the last element of its path
// after symbolic links are resolved.
func sourceName(source string) string {
	resolved, err := filepath.EvalSymlinks(source)
	if err != nil {
		// A link in /proc/PID/fd can be opened even where its text is no path.
		resolved = source
	}
	if name := filepath.Base(resolved); name != "/" {
		return name
	}
	return "root"
}

// applyMounts points the guest's mounts at what the host shares or at the guest's own
// devices and shared memory. It adds the binds and the shared memory to host.
func applyMounts(host *HostPart, guest *specs.Spec, plans []mountPlan, in Placement) {
	for i, plan := range plans {
		m := &guest.Mounts[i]
		switch {
		case plan.bind != nil:
			m.Source = path.Join(in.Shared, plan.bind.GuestSource)
			host.Binds = append(host.Binds, *plan.bind)
		case plan.memory != nil:
			m.Source = path.Join(in.SharedMemory, plan.memory.Name)
			host.SharedMemory = append(host.SharedMemory, *plan.memory)
		case plan.device != "":
			m.Source = plan.device
		default:
			continue
		}
		// The kernel looks at the option and ignores the type, but a caller may give only
		// the type (see isBind). The guest gets both.
		m.Type = "bind"
		// A file system's own options have no effect on a bind, and libcontainer refuses
		// them. The host maps the ids of what it shares.
		m.Options = slices.DeleteFunc(m.Options, func(o string) bool { return isDataOption(o) || isIDMapOption(o) })
		m.UIDMappings, m.GIDMappings = nil, nil
		if !hasOption(*m, "bind", "rbind") {
			m.Options = append(m.Options, "bind")
		}
	}
}
