package guest

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"pault.ag/go/debian/deb"
)

// maxPackage bounds the files of a package that are kept in memory, in bytes.
const maxPackage = 1 << 30

// debKernel reads a kernel out of a Debian package. Modules stay compressed in
// memory until they are chosen; nothing is unpacked to disk.
func debKernel(ctx context.Context, file, release string) (*kernel, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("%w: kernel: %w", errInput, err)
	}
	defer func() { _ = f.Close() }()
	files, err := debFiles(ctx, f)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s is not a whole Debian package: %w", errInput, file, err)
	}
	images := map[string]string{}
	for name := range files {
		if r, ok := imageRelease(strings.TrimPrefix(name, "usr/")); ok {
			images[r] = name
		}
	}
	release, err = pickRelease(file, images, release)
	if err != nil {
		return nil, err
	}
	k := &kernel{release: release, image: files[images[release]], modules: map[string]source{}, builtin: map[string]bool{}}
	for name, data := range files {
		r, below, ok := modulePath(name)
		switch {
		case !ok || r != release:
		case below == "modules.builtin":
			k.addBuiltin(data)
		case strings.HasPrefix(below, "kernel/"):
			k.addModule(below, func() ([]byte, error) { return data, nil })
		}
	}
	return k, k.finish()
}

// debFiles returns the kernel images and the files below lib/modules in a
// package, by path.
func debFiles(ctx context.Context, r io.ReaderAt) (map[string][]byte, error) {
	t, c, err := OpenPackage(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	return tarFiles(ctx, t)
}

// OpenPackage gives the files that a Debian package installs (deb(5)), to be read one
// after the other. The caller closes the second value.
func OpenPackage(r io.ReaderAt) (*tar.Reader, io.Closer, error) {
	ar, err := deb.LoadAr(r)
	if err != nil {
		return nil, nil, err
	}
	for {
		e, err := ar.Next()
		if errors.Is(err, io.EOF) {
			return nil, nil, errors.New("it has no data.tar")
		}
		if err != nil {
			return nil, nil, err
		}
		if e.Size < 0 {
			return nil, nil, errors.New("a member has a negative size")
		}
		if strings.HasPrefix(e.Name, "data.tar") {
			return e.Tarfile()
		}
	}
}

func tarFiles(ctx context.Context, t *tar.Reader) (map[string][]byte, error) {
	files := map[string][]byte{}
	var total int64
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		hdr, err := t.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		name := path.Clean(strings.TrimPrefix(hdr.Name, "/"))
		_, _, isModule := modulePath(name)
		_, isImage := imageRelease(strings.TrimPrefix(name, "usr/"))
		if hdr.Typeflag != tar.TypeReg || !isModule && !isImage {
			continue
		}
		if total += hdr.Size; total > maxPackage {
			return nil, fmt.Errorf("it unpacks to more than %d MiB", maxPackage>>20)
		}
		data, err := io.ReadAll(t)
		if err != nil {
			return nil, err
		}
		files[name] = data
	}
}
