// Package guestimage puts another init into runch's guest image, and loads the image's kernel modules for such an init:
// that of the driver suite, and that of the benchmark.
package guestimage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// The lists of the image: what is needed to reach the host, by vsock too, and what waits until it is asked for.
const (
	Boot  = "/etc/runch/modules"
	Vsock = "/etc/runch/modules.vsock"
	lazy  = "/etc/runch/modules.lazy"
)

// LoadList loads the modules of a list of the image.
func LoadList(list string) error {
	text, err := os.ReadFile(list)
	if err != nil {
		return err
	}
	for _, path := range strings.Fields(string(text)) {
		if err := load(path); err != nil {
			return err
		}
	}
	return nil
}

// Load loads one module of the image's list of lazy ones, without those that it depends
// on: the caller loads them before it. One that is loaded or built in is no error.
func Load(name string) error {
	if _, err := os.Stat("/sys/module/" + name); err == nil {
		return nil
	}
	text, err := os.ReadFile(lazy)
	if err != nil {
		return err
	}
	for _, path := range strings.Fields(string(text)) {
		if filepath.Base(path) == name+".ko" {
			return load(path)
		}
	}
	return fmt.Errorf("the guest image has no module %s", name)
}

func load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.FinitModule(int(f.Fd()), "", 0)
	if err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("load %s: %w", path, err)
	}
	return nil
}
