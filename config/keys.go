package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
)

// key is one setting. Its name is what files call it.
type key struct {
	name string
	get  func(*Config) string
	set  func(*Config, string) error
	// isPath says that a relative value is made absolute, isProgram that only one with
	// a slash in it is. isList lets a file give the value as an array.
	isPath, isProgram, isList bool
}

// variable is the environment variable that sets it.
func (k key) variable() string { return "RUNCH_" + strings.ToUpper(k.name) }

// flag is the flag that sets it, for messages.
func (k key) flag() string { return "--" + strings.ReplaceAll(k.name, "_", "-") }

// keys are all settings, in the order in which they are shown.
func keys() []key {
	return []key{
		choice("hypervisor", func(c *Config) *string { return &c.Hypervisor }, "auto", "cloud-hypervisor", "qemu"),
		choice("accel", func(c *Config) *string { return &c.Accel }, "auto", "kvm", "tcg"),
		path("cloud_hypervisor", func(c *Config) *string { return &c.CloudHypervisor }),
		path("qemu", func(c *Config) *string { return &c.QEMU }),
		path("virtiofsd", func(c *Config) *string { return &c.Virtiofsd }),
		path("kernel", func(c *Config) *string { return &c.Kernel }),
		path("initramfs", func(c *Config) *string { return &c.Initramfs }),
		kernelParams(),
		size("memory", func(c *Config) *int { return &c.MemoryMiB }, minMemoryMiB),
		size("overhead", func(c *Config) *int { return &c.OverheadMiB }, minOverheadMiB),
		size("vmm_overhead", func(c *Config) *int { return &c.VMMOverheadMiB }, minOverheadMiB),
		cpus("cpus", func(c *Config) *int { return &c.CPUs }),
		size("max_memory", func(c *Config) *int { return &c.MaxMemoryMiB }, minMemoryMiB),
		cpus("max_cpus", func(c *Config) *int { return &c.MaxCPUs }),
		choice("huge_pages", func(c *Config) *string { return &c.HugePages }, HugePagesAdvise, HugePagesNever),
		choice("templates", func(c *Config) *string { return &c.Templates }, TemplatesAuto, TemplatesNever),
		bootTimeout(),
		path("cache_dir", func(c *Config) *string { return &c.CacheDir }),
		path("log_dir", func(c *Config) *string { return &c.LogDir }),
		program("fallback_runtime", func(c *Config) *string { return &c.FallbackRuntime }),
		annotations(),
	}
}

// With less memory no distribution's kernel boots, or no container starts.
const (
	minMemoryMiB   = 16
	minOverheadMiB = 64
	maxMiB         = 16 << 20
)

func find(name string) (key, bool) {
	all := keys()
	i := slices.IndexFunc(all, func(k key) bool { return k.name == name })
	if i < 0 {
		return key{}, false
	}
	return all[i], true
}

func choice(name string, field func(*Config) *string, values ...string) key {
	return key{
		name: name,
		get:  func(c *Config) string { return *field(c) },
		set: func(c *Config, text string) error {
			if !slices.Contains(values, text) {
				return fmt.Errorf("%q is not one of %s", text, strings.Join(values, ", "))
			}
			*field(c) = text
			return nil
		},
	}
}

func path(name string, field func(*Config) *string) key {
	return key{
		name: name, isPath: true,
		get: func(c *Config) string { return *field(c) },
		set: func(c *Config, text string) error {
			if strings.ContainsAny(text, "\x00\n") {
				return fmt.Errorf("%q is not a path", text)
			}
			*field(c) = text
			return nil
		},
	}
}

// program is a path, or a name without a slash that program.Find looks for.
func program(name string, field func(*Config) *string) key {
	k := path(name, field)
	k.isPath, k.isProgram = false, true
	return k
}

// size is an amount of memory such as 512M, in whole mebibytes.
func size(name string, field func(*Config) *int, least int) key {
	return key{
		name: name,
		get:  func(c *Config) string { return strconv.Itoa(*field(c)) + "M" },
		set: func(c *Config, text string) error {
			n, err := units.RAMInBytes(text)
			if err != nil {
				return fmt.Errorf("%q is not a size such as 512M or 2G", text)
			}
			mib := n >> 20
			if mib < int64(least) || mib > maxMiB {
				return fmt.Errorf("%q is not between %dM and %dT", text, least, maxMiB>>20)
			}
			*field(c) = int(mib)
			return nil
		},
	}
}

func kernelParams() key {
	return key{
		name: "kernel_params", isList: true,
		get: func(c *Config) string { return strings.Join(c.KernelParams, " ") },
		set: func(c *Config, text string) error {
			c.KernelParams = strings.Fields(text)
			return nil
		},
	}
}

// annotatable are the settings that a configuration can allow annotations to change.
// None of them names a file of the host.
var annotatable = []string{"hypervisor", "accel"}

func annotations() key {
	return key{
		name: "annotations", isList: true,
		get: func(c *Config) string { return strings.Join(c.Annotations, " ") },
		set: func(c *Config, text string) error {
			names := strings.Fields(text)
			for _, name := range names {
				if !slices.Contains(annotatable, name) {
					return fmt.Errorf("%q is not one of %s", name, strings.Join(annotatable, ", "))
				}
			}
			c.Annotations = names
			return nil
		},
	}
}

func cpus(name string, field func(*Config) *int) key {
	return key{
		name: name,
		get:  func(c *Config) string { return strconv.Itoa(*field(c)) },
		set: func(c *Config, text string) error {
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 || n > 255 {
				return fmt.Errorf("%q is not a number from 1 to 255", text)
			}
			*field(c) = n
			return nil
		},
	}
}

func bootTimeout() key {
	return key{
		name: "boot_timeout",
		get:  func(c *Config) string { return c.BootTimeout.String() },
		set: func(c *Config, text string) error {
			d, err := time.ParseDuration(text)
			if err != nil || d < time.Second || d > time.Hour {
				return fmt.Errorf("%q is not a time from 1s to 1h, such as 90s", text)
			}
			c.BootTimeout = d
			return nil
		},
	}
}

// text is a file's value in the form that variables and flags have.
func (k key) text(value any) (string, error) {
	switch v := value.(type) {
	case string:
		return v, nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case []any:
		if k.isList {
			return joinWords(v)
		}
	}
	if k.isList {
		return "", errors.New("the value is not an array of strings")
	}
	return "", errors.New("the value is neither a string nor a whole number")
}

func joinWords(list []any) (string, error) {
	var words []string
	for _, element := range list {
		word, ok := element.(string)
		if !ok || word == "" || strings.ContainsAny(word, " \t\n\x00") {
			return "", fmt.Errorf("%v is not a word", element)
		}
		words = append(words, word)
	}
	return strings.Join(words, " "), nil
}
