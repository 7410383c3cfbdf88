// Package config reads the settings: defaults that need no file, then
// /etc/runch/config.toml and its drop-ins, the environment, and flags, each of which
// overrides the ones before. Load returns the source of every setting.
package config

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// errInvalid is wrapped by every error about a setting.
var errInvalid = errors.New("invalid configuration")

// Config holds the settings.
type Config struct {
	// Hypervisor is the driver: auto, cloud-hypervisor or qemu.
	Hypervisor string
	// CloudHypervisor, QEMU and Virtiofsd are the paths of programs, Kernel and Initramfs
	// those of the guest image. runch looks for those that are empty.
	CloudHypervisor, QEMU, Virtiofsd, Kernel, Initramfs string
	// Accel is the hypervisor's accelerator: auto, kvm or tcg.
	Accel string
	// MemoryMiB is a guest's memory where the container has no limit, in MiB.
	MemoryMiB int
	// OverheadMiB is what a guest's kernel and agent need on top of a container's
	// memory, in MiB; VMMOverheadMiB is what the VMM and virtiofsd need on the
	// host in addition to the guest's memory.
	OverheadMiB, VMMOverheadMiB int
	// CPUs are a guest's where the container has no quota.
	CPUs int
	// MaxMemoryMiB and MaxCPUs are what a guest may grow to by update.
	MaxMemoryMiB, MaxCPUs int
	// HugePages says whether the host may back a guest's memory with huge pages:
	// HugePagesAdvise or HugePagesNever.
	HugePages string
	// Templates says whether VMs go on from a saved guest that has just booted:
	// TemplatesAuto or TemplatesNever.
	Templates string
	// CacheDir keeps what can be made again: the templates.
	CacheDir string
	// BootTimeout bounds a guest's boot.
	BootTimeout time.Duration
	// LogDir keeps the consoles of guests that did not boot, or were lost.
	LogDir string
	// KernelParams are added to the command line of the guest's kernel.
	KernelParams []string
	// FallbackRuntime is the runtime, a path or a name, for containers that cannot be in
	// a VM; empty means that those are refused.
	FallbackRuntime string
	// Annotations are the settings that a container's annotations may change.
	Annotations []string
}

// The values of HugePages, named as in the kernel's settings for transparent huge
// pages. With HugePagesAdvise the host uses huge pages where those settings allow it,
// with HugePagesNever nowhere.
const (
	HugePagesAdvise = "advise"
	HugePagesNever  = "never"
)

// The values of Templates. With TemplatesAuto a VM goes on from a template where that saves
// seconds, which is where there is no KVM.
const (
	TemplatesAuto  = "auto"
	TemplatesNever = "never"
)

// TemplateDir is the directory of the templates, empty if there are to be none.
func (c *Config) TemplateDir() string {
	if c.Templates == TemplatesNever || c.CacheDir == "" {
		return ""
	}
	return filepath.Join(c.CacheDir, "templates")
}

// Setting is one setting's value and where it came from: "default", a file, an
// environment variable, or a flag.
type Setting struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Source string `json:"source"`
}

// Default is the configuration without files, environment and flags.
func Default() *Config {
	return &Config{
		Hypervisor: "auto", Accel: "auto", MemoryMiB: 1024, OverheadMiB: 128, VMMOverheadMiB: 256, CPUs: 1,
		MaxMemoryMiB: HostMemoryMiB(), MaxCPUs: min(runtime.NumCPU(), defaultMaxCPUs),
		HugePages: HugePagesAdvise, Templates: TemplatesAuto, CacheDir: defaultCacheDir(),
		BootTimeout: time.Minute, LogDir: defaultLogDir(),
	}
}

// defaultMaxCPUs bounds the CPUs that a guest may grow to: its kernel needs some
// hundred KiB for each, whether it is ever added or not.
const defaultMaxCPUs = 8

// HostMemoryMiB is all the memory of the host, with its swap, by sysinfo(2): no program
// gets more.
func HostMemoryMiB() int {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	return int((info.Totalram + info.Totalswap) * uint64(info.Unit) >> 20)
}

// defaultLogDir and defaultCacheDir follow the XDG base directory specification for an
// ordinary user.
func defaultLogDir() string { return defaultDir("/var/log/runch", "XDG_STATE_HOME", ".local/state") }

func defaultCacheDir() string { return defaultDir("/var/cache/runch", "XDG_CACHE_HOME", ".cache") }

func defaultDir(ofRoot, variable, inHome string) string {
	if os.Geteuid() == 0 {
		return ofRoot
	}
	if dir := os.Getenv(variable); filepath.IsAbs(dir) {
		return filepath.Join(dir, "runch")
	}
	if home := os.Getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, inHome, "runch")
	}
	return filepath.Join(os.TempDir(), "runch-"+strconv.Itoa(os.Geteuid()))
}
