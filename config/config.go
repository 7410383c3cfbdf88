// Package config says how runch is set up: defaults that need no file, then
// /etc/runch/config.toml and its drop-ins, the environment, and flags, each
// over the one before. Every setting knows where it came from.
package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
)

// ErrInvalid is wrapped by every error about a setting.
var ErrInvalid = errors.New("invalid configuration")

// Config is the result.
type Config struct {
	// Hypervisor is the driver: auto or qemu.
	Hypervisor string
	// QEMU and Virtiofsd are programs, Kernel and Initramfs the guest image;
	// empty means that they are looked for.
	QEMU, Virtiofsd, Kernel, Initramfs string
	// Accel says who runs the guest's instructions: auto, kvm or tcg.
	Accel string
	// MemoryMiB is a guest's memory where the container has no limit, in MiB.
	MemoryMiB int
	// OverheadMiB is what a guest's kernel and agent, and on the host the VMM
	// and virtiofsd, need on top of a container's memory, in MiB.
	OverheadMiB int
	// CPUs are a guest's where the container has no quota.
	CPUs int
	// BootTimeout bounds a guest's boot.
	BootTimeout time.Duration
	// LogDir keeps the consoles of guests that did not boot.
	LogDir string
	// KernelParams are words for the guest's kernel.
	KernelParams []string
}

// Setting is one setting's value and where it came from: "default", a file, an
// environment variable, or a flag.
type Setting struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Source string `json:"source"`
}

// field ties a key to its place in Config and to the form of its values.
type field struct {
	key string
	set func(c *Config, value string) error
	get func(c *Config) string
}

// fields are all settings, in the order in which they are shown.
func fields() []field {
	return []field{
		oneOf("hypervisor", func(c *Config) *string { return &c.Hypervisor }, "auto", "qemu"),
		path("qemu", func(c *Config) *string { return &c.QEMU }),
		oneOf("accel", func(c *Config) *string { return &c.Accel }, "auto", "kvm", "tcg"),
		path("virtiofsd", func(c *Config) *string { return &c.Virtiofsd }),
		path("kernel", func(c *Config) *string { return &c.Kernel }),
		path("initramfs", func(c *Config) *string { return &c.Initramfs }),
		words("kernel_params", func(c *Config) *[]string { return &c.KernelParams }),
		size("memory", func(c *Config) *int { return &c.MemoryMiB }, 64),
		size("overhead", func(c *Config) *int { return &c.OverheadMiB }, 64),
		count("cpus", func(c *Config) *int { return &c.CPUs }, 255),
		duration("boot_timeout", func(c *Config) *time.Duration { return &c.BootTimeout }),
		path("log_dir", func(c *Config) *string { return &c.LogDir }),
	}
}

// Default is the configuration without files, environment and flags.
func Default() *Config {
	return &Config{
		Hypervisor: "auto", Accel: "auto", MemoryMiB: 1024, OverheadMiB: 128, CPUs: 1,
		BootTimeout: time.Minute, LogDir: defaultLogDir(),
	}
}

// defaultLogDir follows the XDG base directory specification for an ordinary user.
func defaultLogDir() string {
	if os.Geteuid() == 0 {
		return "/var/log/runch"
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "runch")
	}
	if home := os.Getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local/state/runch")
	}
	return filepath.Join(os.TempDir(), "runch-"+strconv.Itoa(os.Geteuid()))
}

func oneOf(key string, at func(*Config) *string, allowed ...string) field {
	return field{
		key: key,
		set: func(c *Config, value string) error {
			for _, a := range allowed {
				if value == a {
					*at(c) = value
					return nil
				}
			}
			return fmt.Errorf("%q is none of %s", value, strings.Join(allowed, ", "))
		},
		get: func(c *Config) string { return *at(c) },
	}
}

func path(key string, at func(*Config) *string) field {
	return field{
		key: key,
		set: func(c *Config, value string) error {
			if value != "" && !filepath.IsAbs(value) {
				return fmt.Errorf("%q is not an absolute path", value)
			}
			*at(c) = value
			return nil
		},
		get: func(c *Config) string { return *at(c) },
	}
}

func words(key string, at func(*Config) *[]string) field {
	return field{
		key: key,
		set: func(c *Config, value string) error {
			*at(c) = strings.Fields(value)
			return nil
		},
		get: func(c *Config) string { return strings.Join(*at(c), " ") },
	}
}

// size is a number of bytes, with a unit as Docker writes them; it is kept in MiB.
func size(key string, at func(*Config) *int, least int) field {
	return field{
		key: key,
		set: func(c *Config, value string) error {
			bytes, err := units.RAMInBytes(value)
			if err != nil {
				return fmt.Errorf("%q is not a size such as 512M", value)
			}
			if bytes < int64(least)*units.MiB || bytes > units.TiB {
				return fmt.Errorf("%q is not from %dM to 1T", value, least)
			}
			*at(c) = int((bytes + units.MiB - 1) / units.MiB)
			return nil
		},
		get: func(c *Config) string { return strconv.Itoa(*at(c)) + "M" },
	}
}

func count(key string, at func(*Config) *int, most int) field {
	return field{
		key: key,
		set: func(c *Config, value string) error {
			n, err := strconv.Atoi(value)
			if err != nil || n < 1 || n > most {
				return fmt.Errorf("%q is not a number from 1 to %d", value, most)
			}
			*at(c) = n
			return nil
		},
		get: func(c *Config) string { return strconv.Itoa(*at(c)) },
	}
}

func duration(key string, at func(*Config) *time.Duration) field {
	return field{
		key: key,
		set: func(c *Config, value string) error {
			d, err := time.ParseDuration(value)
			if err != nil || d < time.Second || d > time.Hour {
				return fmt.Errorf("%q is not a time from 1s to 1h", value)
			}
			*at(c) = d
			return nil
		},
		get: func(c *Config) string { return at(c).String() },
	}
}
