package agent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
)

const (
	// modprobeSelf is the agent as the kernel's modprobe: its file in the
	// initramfs is deleted, so it is named by its process.
	modprobeSelf = "/proc/1/exe"
	// virtioNet is the modalias of a virtio network card.
	virtioNet = "virtio:d00000001v00001AF4"
	// maxModuleDepth bounds the chain of modules that need each other.
	maxModuleDepth = 16
)

var errNoModule = errors.New("no such module in the guest image")

// IsModprobe reports whether args are those by which the kernel starts modprobe,
// and for what.
func IsModprobe(args []string) (alias string, ok bool) {
	if len(args) == 4 && args[1] == "-q" && args[2] == "--" {
		return args[3], true
	}
	return "", false
}

// Modprobe loads the module of the image that alias stands for, and those that
// it needs. An alias is a module's name or what it claims to be for: a file
// system, a protocol, a device.
func Modprobe(alias string) error {
	return modprobe(lazyModules, alias, loadModule)
}

// loadDriver loads a device's driver by its modalias. A driver that the image has no
// module for is built into the kernel, which is no error.
func loadDriver(alias string) error {
	if err := Modprobe(alias); err != nil && !errors.Is(err, errNoModule) {
		return err
	}
	return nil
}

func modprobe(list, alias string, load func(path string) error) error {
	paths, err := moduleList(list)
	if err != nil {
		return err
	}
	image := make(map[string]string, len(paths))
	for _, p := range paths {
		image[moduleName(p)] = p
	}
	name := moduleName(alias)
	if _, ok := image[name]; !ok {
		if name, err = findAlias(paths, alias); err != nil {
			return fmt.Errorf("load module %q: %w", alias, err)
		}
	}
	return loadWithNeeds(image, name, load, maxModuleDepth)
}

// loadWithNeeds loads the modules that a module depends on, then the module. One
// that is not in the image is built into the kernel.
func loadWithNeeds(image map[string]string, name string, load func(string) error, depth int) error {
	file, ok := image[name]
	if !ok {
		return nil
	}
	if depth == 0 {
		return fmt.Errorf("load module %s: %w", name, errTooMany)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("load module %s: %w", name, err)
	}
	for _, value := range modinfo(data, "depends") {
		for need := range strings.SplitSeq(value, ",") {
			if err := loadWithNeeds(image, moduleName(need), load, depth-1); err != nil {
				return err
			}
		}
	}
	if err := load(file); err != nil {
		return fmt.Errorf("load module %s: %w", name, err)
	}
	return nil
}

// findAlias gives the name of the module that claims alias.
func findAlias(paths []string, alias string) (string, error) {
	for _, p := range paths {
		data, err := os.ReadFile(p)
		if err != nil {
			return "", err
		}
		for _, pattern := range modinfo(data, "alias") {
			if ok, err := path.Match(pattern, alias); ok && err == nil {
				return moduleName(p), nil
			}
		}
	}
	return "", errNoModule
}

// modinfo gives the values of a key in a module, whose section .modinfo has
// zero-terminated key=value strings.
func modinfo(module []byte, key string) []string {
	var values []string
	mark := []byte("\x00" + key + "=")
	for {
		at := bytes.Index(module, mark)
		if at < 0 {
			return values
		}
		module = module[at+len(mark):]
		end := bytes.IndexByte(module, 0)
		if end < 0 {
			return values
		}
		values = append(values, string(module[:end]))
		module = module[end:]
	}
}

// moduleName is what the kernel calls a module: its file's name, with
// underscores for what the file may spell with dashes.
func moduleName(p string) string {
	return strings.ReplaceAll(strings.TrimSuffix(filepath.Base(p), ".ko"), "-", "_")
}
