// Package guestimage puts another init into runch's guest image, and loads the image's kernel modules in such an init.
// The driver suite and the benchmark have one each.
package guestimage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// The image's lists of modules: Boot and, with a vsock, Vsock are needed to reach the host, those of lazy are loaded by
// name.
const (
	Boot  = "/etc/runch/modules"
	Vsock = "/etc/runch/modules.vsock"
	lazy  = "/etc/runch/modules.lazy"
)

// LoadList loads all modules of a list of the image, Boot or Vsock.
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

// Load loads one module of the image's lazy list. The caller loads those that it depends on
// before. A module that is loaded already, or built in, is no error.
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
