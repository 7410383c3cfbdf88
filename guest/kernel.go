package guest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// maxKernel bounds a kernel image, in bytes.
const maxKernel = 256 << 20

// kernel is one kernel and the modules that belong to it.
type kernel struct {
	release string
	arch    string
	image   []byte
	modules map[string]source // by canonical name
	builtin map[string]bool   // by canonical name
}

// openKernel finds the kernel that where names; see Options.Kernel.
func openKernel(ctx context.Context, where, release string) (*kernel, error) {
	if where == RunningKernel {
		var u unix.Utsname
		if err := unix.Uname(&u); err != nil {
			return nil, fmt.Errorf("uname: %w", err)
		}
		running := unix.ByteSliceToString(u.Release[:])
		if release != "" && release != running {
			return nil, fmt.Errorf("%w: the running kernel is %s, not %s", errInput, running, release)
		}
		return dirKernel(ctx, "/", running)
	}
	st, err := os.Stat(where)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: kernel: %w", errInput, err)
	case st.IsDir():
		return dirKernel(ctx, where, release)
	case st.Mode().IsRegular():
		return debKernel(ctx, where, release)
	default:
		return nil, fmt.Errorf("%w: kernel %s is neither a package file nor a directory", errInput, where)
	}
}

// finish checks the image, sets arch, and refuses a kernel for which there is neither a
// module nor a list of built-in ones.
func (k *kernel) finish() error {
	arch, ok := imageArch(k.image)
	if !ok {
		return fmt.Errorf("%w: kernel %s is not a bootable Linux image", errInput, k.release)
	}
	k.arch = arch
	if len(k.modules) == 0 && len(k.builtin) == 0 {
		return fmt.Errorf("%w: no modules for kernel %s", errInput, k.release)
	}
	return nil
}

func (k *kernel) addModule(below string, read func() ([]byte, error)) {
	if name, ok := moduleName(below); ok {
		k.modules[name] = source{path: below, read: read}
	}
}

// addBuiltin reads modules.builtin: a path below lib/modules/RELEASE on each line.
func (k *kernel) addBuiltin(data []byte) {
	for _, line := range strings.Fields(string(data)) {
		if name, ok := moduleName(line); ok {
			k.builtin[name] = true
		}
	}
}

// imageArch is the machine of a kernel image, by its header: the x86 boot
// protocol's "HdrS", arm64's "ARM\x64", or ELF's with a PVH entry.
func imageArch(image []byte) (string, bool) {
	const (
		x86Magic, x86Flag, x86FlagAt = "HdrS", 0xaa55, 0x1fe
		x86MagicAt                   = 0x202
		armMagic, armMagicAt         = "ARM\x64", 56
	)
	if checkPVH(image) == nil {
		return "x86_64", true
	}
	if len(image) < 1024 {
		return "", false
	}
	if bytes.HasPrefix(image[x86MagicAt:], []byte(x86Magic)) && binary.LittleEndian.Uint16(image[x86FlagAt:]) == x86Flag {
		return "x86_64", true
	}
	if bytes.HasPrefix(image[armMagicAt:], []byte(armMagic)) {
		return "aarch64", true
	}
	return "", false
}

// pickRelease chooses the kernel to take out of several.
func pickRelease(where string, found map[string]string, want string) (string, error) {
	names := make([]string, 0, len(found))
	for name := range found {
		names = append(names, name)
	}
	sort.Strings(names)
	switch {
	case want != "" && found[want] != "":
		return want, nil
	case want != "" && len(names) > 0:
		return "", fmt.Errorf("%w: %s has no kernel %s, only %s", errInput, where, want, strings.Join(names, ", "))
	case want != "":
		return "", fmt.Errorf("%w: %s has no kernel %s", errInput, where, want)
	case len(names) == 0:
		return "", fmt.Errorf("%w: %s holds no kernel (vmlinuz-RELEASE)", errInput, where)
	case len(names) > 1:
		return "", fmt.Errorf("%w: %s holds several kernels, choose one: %s", errInput, where, strings.Join(names, ", "))
	}
	return names[0], nil
}

// imageRelease reads the release out of the path of a kernel image, relative to
// a root: boot/vmlinuz-RELEASE, lib/modules/RELEASE/vmlinuz or, directly in the
// directory given, vmlinuz-RELEASE.
func imageRelease(file string) (string, bool) {
	dir, base := path.Split(path.Clean(file))
	for _, prefix := range []string{"vmlinuz-", "vmlinux-", "Image-"} {
		if r, ok := strings.CutPrefix(base, prefix); ok && r != "" && (dir == "" || dir == "boot/") {
			return r, true
		}
	}
	if base == "vmlinuz" && path.Base(path.Dir(path.Clean(dir))) == "modules" {
		return path.Base(dir), true
	}
	return "", false
}

// modulePath splits the path of a file below lib/modules into the release and
// what is below that.
func modulePath(file string) (release, below string, ok bool) {
	rest, found := strings.CutPrefix(strings.TrimPrefix(path.Clean(file), "usr/"), "lib/modules/")
	if !found {
		return "", "", false
	}
	return strings.Cut(rest, "/")
}
