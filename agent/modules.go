package agent

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The lists of kernel modules in the initramfs: those that are needed to reach
// the host by every transport, those for vsock, and those that are loaded on
// demand.
const (
	bootModules  = "/etc/runch/modules"
	vsockModules = "/etc/runch/modules.vsock"
	lazyModules  = "/etc/runch/modules.lazy"
	// maxModules bounds a list, which the image's builder keeps far below it.
	maxModules = 1024
)

// readModuleList reads absolute paths, one on a line, in the order in which the
// modules load.
func readModuleList(r io.Reader) ([]string, error) {
	var paths []string
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		path := lines.Text()
		switch {
		case path == "":
			continue
		case !filepath.IsAbs(path) || filepath.Clean(path) != path:
			return nil, fmt.Errorf("module %q: %w", path, unix.EINVAL)
		case len(paths) == maxModules:
			return nil, fmt.Errorf("modules: %w", errTooMany)
		}
		paths = append(paths, path)
	}
	return paths, lines.Err()
}

// moduleList reads a list from the initramfs. One that is missing is empty.
func moduleList(list string) ([]string, error) {
	f, err := os.Open(list)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read module list: %w", err)
	}
	defer f.Close()
	paths, err := readModuleList(f)
	if err != nil {
		return nil, fmt.Errorf("read module list %s: %w", list, err)
	}
	return paths, nil
}

// loadModules loads the modules of a list. Those that the kernel has already,
// or has no device for, are no error.
func loadModules(list string) error {
	paths, err := moduleList(list)
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range paths {
		if err := loadModule(path); err != nil {
			errs = append(errs, fmt.Errorf("load module %s: %w", path, err))
		}
	}
	return errors.Join(errs...)
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.FinitModule(int(f.Fd()), "", 0)
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}
