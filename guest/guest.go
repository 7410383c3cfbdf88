package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// The names of the files that make an image.
const (
	KernelName    = "kernel"
	VmlinuxName   = "vmlinux" // only where Options.Vmlinux asks for it
	InitramfsName = "initramfs"
	ManifestName  = "manifest.json"
)

// RunningKernel is the Options.Kernel that means the running system's own.
const RunningKernel = "running"

// errInput is wrapped by every error about what Build was given, as opposed to
// what the machine could not do.
var errInput = errors.New("cannot make a guest image")

// Options are what an image is made of.
type Options struct {
	// Kernel is a Debian package file, a directory that holds a kernel and its
	// modules (an unpacked package, a root tree, a /boot, a /lib/modules/RELEASE),
	// or RunningKernel.
	Kernel string
	// Release chooses among the kernels of a directory that holds several.
	Release string
	// Agent is the static binary that becomes /init.
	Agent string
	// AgentVersion is recorded in the manifest; empty means that it is read
	// from the build information in the binary.
	AgentVersion string
	// Output is the directory to make. An image that is there already is
	// replaced, file by file: a process that has a file open keeps the old one.
	Output string
	// Modules are packed in addition to the usual ones, for later use in the
	// guest; a name that the kernel does not know is an error.
	Modules []string
	// Vmlinux adds the kernel as an ELF file with a PVH entry, beside the image
	// that the distribution ships. If it cannot be unpacked, the image is made
	// without it, and Progress gets the reason.
	Vmlinux bool
	// Compression of the initramfs; empty means DefaultCompression.
	Compression Compression
	// Epoch is the modification time of every file in the initramfs; the zero
	// value means 1970.
	Epoch time.Time
	// Progress gets a line for each step; nil for none.
	Progress io.Writer
}

// Build makes an image in o.Output and returns its manifest. When it fails, o.Output is
// as it was before; only a failure while it replaces files there may leave a mix of two
// images.
func Build(ctx context.Context, o Options) (*Manifest, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	say := progress(o.Progress)
	agent, err := loadAgent(o.Agent, o.AgentVersion)
	if err != nil {
		return nil, err
	}
	say("agent %s: %s, %s", o.Agent, agent.version, size(len(agent.data)))
	say("kernel %s: reading", o.Kernel)
	k, err := openKernel(ctx, o.Kernel, o.Release)
	if err != nil {
		return nil, err
	}
	if k.arch != agent.arch {
		return nil, fmt.Errorf("%w: agent %s is for %s, kernel %s for %s", errInput, o.Agent, agent.arch, k.release, k.arch)
	}
	say("kernel %s for %s: %s, %d modules", k.release, k.arch, size(len(k.image)), len(k.modules))
	sel, err := k.choose(o.Modules)
	if err != nil {
		return nil, err
	}
	say("modules: %d for every boot, %d for vsock, %d for later, %d of those asked for are built in",
		len(sel.boot), len(sel.vsock), len(sel.lazy), len(sel.builtin))
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	cpio, err := packInitramfs(k.release, agent.data, sel, o.Epoch)
	if err != nil {
		return nil, err
	}
	packed, err := o.Compression.compress(cpio)
	if err != nil {
		return nil, err
	}
	say("initramfs: %s, %s with compression %s", size(len(cpio)), size(len(packed)), o.Compression)
	m := newManifest(k, agent, sel)
	m.Kernel = describe(k.image)
	m.Initramfs = Initramfs{File: describe(packed), Compression: o.Compression, Unpacked: int64(len(cpio))}
	files := []imageFile{{KernelName, k.image}, {InitramfsName, packed}}
	if o.Vmlinux {
		vmlinux, err := unpackKernel(k.image)
		if err != nil {
			say("no %s: %v", VmlinuxName, err)
		} else {
			say("%s: %s", VmlinuxName, size(len(vmlinux)))
			f := describe(vmlinux)
			m.Vmlinux = &f
			files = append(files, imageFile{VmlinuxName, vmlinux})
		}
	}
	if err := writeImage(o.Output, files, m); err != nil {
		return nil, err
	}
	say("image in %s", o.Output)
	return m, nil
}

func (o *Options) check() error {
	if o.Compression == "" {
		o.Compression = DefaultCompression
	}
	switch {
	case o.Kernel == "":
		return fmt.Errorf("%w: no kernel given", errInput)
	case o.Agent == "":
		return fmt.Errorf("%w: no agent given", errInput)
	case o.Output == "":
		return fmt.Errorf("%w: no output directory given", errInput)
	}
	return o.Compression.check()
}

// imageFile is one file of an image.
type imageFile struct {
	name string
	data []byte
}

// writeImage writes the files and the manifest into a directory beside dir and
// puts them in place by renaming, the manifest last.
func writeImage(dir string, files []imageFile, m *Manifest) (err error) {
	manifest, err := m.encode()
	if err != nil {
		return err
	}
	files = append(files, imageFile{ManifestName, manifest})
	dir = filepath.Clean(dir)
	made, err := makeParents(filepath.Dir(dir))
	if err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	defer func() {
		if err != nil && made != "" {
			_ = os.RemoveAll(made)
		}
	}()
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".guest-*")
	if err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	for _, f := range files {
		if err := writeFile(filepath.Join(tmp, f.name), f.data); err != nil {
			return err
		}
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	// os.Rename fails if the directory exists; then the files move one by one.
	if err := os.Rename(tmp, dir); err == nil {
		return nil
	}
	if st, err := os.Stat(dir); err == nil && !st.IsDir() {
		return fmt.Errorf("%w: output %s is not a directory", errInput, dir)
	}
	for _, f := range files {
		if err := os.Rename(filepath.Join(tmp, f.name), filepath.Join(dir, f.name)); err != nil {
			return fmt.Errorf("put %s in place: %w", f.name, err)
		}
	}
	if m.Vmlinux == nil { // dir may have the vmlinux of an older image, which is another kernel
		if err := os.Remove(filepath.Join(dir, VmlinuxName)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove the old %s: %w", VmlinuxName, err)
		}
	}
	return nil
}

// makeParents makes dir and returns the uppermost directory that was missing.
func makeParents(dir string) (made string, err error) {
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); err == nil {
			break
		} else if !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		made = d
	}
	return made, os.MkdirAll(dir, 0o755)
}

func writeFile(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func progress(w io.Writer) func(format string, args ...any) {
	return func(format string, args ...any) {
		if w != nil {
			_, _ = fmt.Fprintf(w, format+"\n", args...)
		}
	}
}

func size(n int) string {
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}
