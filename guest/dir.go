package guest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// dirKernel reads a kernel out of a directory: a root tree or unpacked package
// (boot/ and lib/modules/), a /boot beside such a lib/, or a lib/modules/RELEASE
// that has its kernel in it.
func dirKernel(ctx context.Context, dir, release string) (*kernel, error) {
	images, err := dirImages(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: kernel: %w", errInput, err)
	}
	release, err = pickRelease(dir, images, release)
	if err != nil {
		return nil, err
	}
	image, err := readBounded(images[release], maxKernel)
	if err != nil {
		return nil, fmt.Errorf("%w: kernel: %w", errInput, err)
	}
	k := &kernel{release: release, image: image, modules: map[string]source{}, builtin: map[string]bool{}}
	mods := modulesDir(dir, release)
	if mods == "" {
		return nil, fmt.Errorf("%w: no modules for kernel %s in %s (lib/modules/%s)", errInput, release, dir, release)
	}
	if err := k.addTree(ctx, mods); err != nil {
		return nil, err
	}
	return k, k.finish()
}

// dirImages finds the kernel images of a directory, by release.
func dirImages(dir string) (map[string]string, error) {
	images := map[string]string{}
	if _, err := os.ReadDir(dir); err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	patterns := []string{"boot/*-*", "*-*", "lib/modules/*/vmlinuz", "usr/lib/modules/*/vmlinuz"}
	for _, p := range patterns {
		found, err := filepath.Glob(filepath.Join(abs, p))
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			rel, err := filepath.Rel(abs, f)
			if err != nil {
				return nil, err
			}
			st, err := os.Stat(f)
			if r, ok := imageRelease(strings.TrimPrefix(rel, "usr/")); ok && err == nil && st.Mode().IsRegular() && images[r] == "" {
				images[r] = f
			}
		}
	}
	// The directory may be a lib/modules/RELEASE itself.
	if f := filepath.Join(abs, "vmlinuz"); filepath.Base(filepath.Dir(abs)) == "modules" {
		if st, err := os.Stat(f); err == nil && st.Mode().IsRegular() {
			images[filepath.Base(abs)] = f
		}
	}
	return images, nil
}

// modulesDir returns the directory of a release's modules, or "".
func modulesDir(dir, release string) string {
	for _, c := range []string{
		filepath.Join(dir, "lib/modules", release),
		filepath.Join(dir, "usr/lib/modules", release),
		filepath.Join(dir, "..", "lib/modules", release),
		filepath.Join(dir, "../usr/lib/modules", release),
		filepath.Join(dir, "..", release),
	} {
		if st, err := os.Stat(c); err == nil && st.IsDir() {
			return c
		}
	}
	return ""
}

// addTree adds the modules below dir, a lib/modules/RELEASE.
func (k *kernel) addTree(ctx context.Context, dir string) error {
	builtin, err := readBounded(filepath.Join(dir, "modules.builtin"), maxModule)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", errInput, err)
	}
	k.addBuiltin(builtin)
	root := filepath.Join(dir, "kernel")
	err = filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if !d.Type().IsRegular() {
			return nil
		}
		rel, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		k.addModule(rel, func() ([]byte, error) { return readBounded(file, maxModule) })
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read modules of kernel %s: %w", k.release, err)
	}
	return nil
}

// readBounded reads a file that may not be larger than limit bytes.
func readBounded(file string, limit int64) ([]byte, error) {
	st, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if st.Size() > limit {
		return nil, fmt.Errorf("%s is larger than %d MiB", file, limit>>20)
	}
	return os.ReadFile(file)
}
