// Package lean builds the small kernel for guests: Linux's source as the distribution
// ships it, configured with only what the VMs of runch have and containers expect of a
// kernel (kernel.config), and linked into one uncompressed file that the VMMs enter
// directly.
//
// The same source, configuration and compiler make the same bytes, so a kernel is
// built once and kept by the digest of what it was made of.
package lean

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// errInput is wrapped by every error about what Build was given.
var errInput = errors.New("cannot build a kernel")

// fragment has the options to set; all others are off.
//
//go:embed kernel.config
var fragment []byte

// Options are what a kernel is built of, and where.
type Options struct {
	// Source is Debian's package of Linux's source (a file), the tar file in it, or a
	// directory with a source tree, which is only read.
	Source string
	// Cache is the directory in which kernels are built and kept. A build takes 2 GiB
	// there, a kernel 20 MiB. It is made if it is missing.
	Cache string
	// Epoch is the build time in the kernel; the zero value means 1970.
	Epoch time.Time
	// Progress gets a line for each step; nil for none.
	Progress io.Writer
}

// Build makes the kernel, if Cache does not have it, and returns a directory with boot
// and lib/modules as an unpacked kernel package has them, except that the kernel is
// an ELF file, boot/vmlinux-RELEASE. When it fails, it leaves nothing.
func Build(ctx context.Context, o Options) (string, error) {
	if o.Source == "" || o.Cache == "" {
		return "", fmt.Errorf("%w: no source or no directory to build in given", errInput)
	}
	if runtime.GOARCH != "amd64" {
		return "", fmt.Errorf("%w: there is a configuration for x86_64 only", errInput)
	}
	tools, err := findTools(ctx)
	if err != nil {
		return "", err
	}
	src, err := openSource(o.Source)
	if err != nil {
		return "", err
	}
	say := func(format string, args ...any) {
		if o.Progress != nil {
			_, _ = fmt.Fprintf(o.Progress, "lean kernel: "+format+"\n", args...)
		}
	}
	say("reading %s", o.Source)
	key, err := src.key(ctx, tools, o.Epoch)
	if err != nil {
		return "", err
	}
	// make and the kernel's users may have other working directories.
	cache, err := filepath.Abs(o.Cache)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errInput, err)
	}
	dir := filepath.Join(cache, key)
	if _, err := os.Stat(dir); err == nil {
		say("built before, in %s", dir)
		return dir, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("make the directory of kernels: %w", err)
	}
	tmp, err := os.MkdirTemp(cache, ".build-*")
	if err != nil {
		return "", fmt.Errorf("make a directory to build in: %w", err)
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	tree, err := src.unpack(ctx, filepath.Join(tmp, "source"), say)
	if err != nil {
		return "", err
	}
	b := &build{source: tree, objects: filepath.Join(tmp, "objects"), epoch: o.Epoch, say: say}
	kernel := filepath.Join(tmp, "kernel")
	if err := b.run(ctx, kernel); err != nil {
		return "", err
	}
	// Another build of the same may have been faster, and made the same bytes.
	if err := os.Rename(kernel, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("put the kernel in place: %w", err)
	}
	say("in %s", dir)
	return dir, nil
}
