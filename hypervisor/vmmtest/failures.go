package vmmtest

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"runch/hypervisor"
)

// testBadKernel: with a file that is not a kernel, Boot fails or the VMM ends, with a reason.
func testBadKernel(t *testing.T, s *suite) {
	cfg := s.config(t, s.small)
	cfg.Kernel = filepath.Join(cfg.Dir, "kernel")
	writeFile(t, cfg.Kernel, strings.Repeat("this is no kernel\n", 1000), 0o600)
	m := s.prepare(t, cfg)
	defer m.close()
	err := m.Boot(timeout(t, bootTimeout))
	if err == nil {
		err = m.wait()
	}
	var exit *hypervisor.ExitError
	var refused *hypervisor.RefusedError
	switch {
	case errors.As(err, &exit) && len(exit.StderrTail) > 0:
	case errors.As(err, &refused) && len(refused.Reasons) > 0:
	default:
		t.Errorf("Boot: %v, want an ExitError with a tail of stderr, or a RefusedError", err)
	}
}

// testMissingKernel: New fails if a file or directory of the Config is missing, or a file is a
// directory.
func testMissingKernel(t *testing.T, s *suite) {
	for name, change := range map[string]func(*hypervisor.Config){
		"kernel":              func(c *hypervisor.Config) { c.Kernel = filepath.Join(c.Dir, "none") },
		"initramfs":           func(c *hypervisor.Config) { c.Initramfs = filepath.Join(c.Dir, "none") },
		"kernel directory":    func(c *hypervisor.Config) { c.Kernel = c.Dir },
		"initramfs directory": func(c *hypervisor.Config) { c.Initramfs = c.Dir },
		"directory":           func(c *hypervisor.Config) { c.Dir = filepath.Join(c.Dir, "none") },
		"share": func(c *hypervisor.Config) {
			c.Share = &hypervisor.Share{Tag: "t", Socket: filepath.Join(c.Dir, "none")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := s.config(t, s.small)
			change(cfg)
			vm, err := s.driver.New(cfg)
			if err == nil {
				_ = vm.Close()
				t.Fatal("New gave no error")
			}
			if !strings.Contains(err.Error(), strings.Fields(name)[0]) && !strings.Contains(err.Error(), cfg.Dir) && name != "share" {
				t.Errorf("error %q does not say what is missing", err)
			}
			if (name == "kernel" || name == "initramfs") && !errors.Is(err, hypervisor.ErrNotFound) {
				t.Errorf("error %v is no ErrNotFound", err)
			}
		})
	}
}

// testMissingProgram: if the VMM's program is missing, New or Boot fails.
func testMissingProgram(t *testing.T, s *suite) {
	cfg := s.config(t, s.small)
	cfg.Binary = filepath.Join(cfg.Dir, "none")
	_ = s.mustFail(t, cfg, "no such file")
}

// testDyingProgram: if the VMM ends at once, the error has the last lines of its standard
// error, bounded and without control characters.
func testDyingProgram(t *testing.T, s *suite) {
	cfg := s.config(t, s.small)
	cfg.Binary = filepath.Join(cfg.Dir, "dying")
	writeFile(t, cfg.Binary, "#!/bin/sh\ni=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done\n"+
		"head -c 100000 /dev/zero | tr '\\0' x\nprintf '\\nI \\033[31mdie\\n' >&2\nexit 3\n", 0o700)
	err := s.mustFail(t, cfg, "I ?[31mdie")
	var exit *hypervisor.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("Boot: %v, want an ExitError", err)
	}
	if exit.State == nil || exit.State.ExitCode() != 3 {
		t.Errorf("state %v, want exit status 3", exit.State)
	}
	if n := len(err.Error()); n > 16<<10 {
		t.Errorf("%d bytes of standard error", n)
	}
}

// testSilentProgram: if the VMM does nothing, Boot kills it when its context ends.
func testSilentProgram(t *testing.T, s *suite) {
	cfg := s.config(t, s.small)
	cfg.Binary = filepath.Join(cfg.Dir, "silent")
	writeFile(t, cfg.Binary, "#!/bin/sh\nexec sleep 1000\n", 0o700)
	m := s.prepare(t, cfg)
	defer m.close()
	begin := time.Now()
	if err := m.Boot(timeout(t, 300*time.Millisecond)); err == nil {
		t.Error("a program that is no VMM boots")
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("it took %v to give up", took)
	}
	if err := m.wait(); err == nil {
		t.Error("Wait: no error")
	}
}

// mustFail checks that New or Boot fails with this text in the error, which it returns.
func (s *suite) mustFail(t *testing.T, cfg *hypervisor.Config, text string) error {
	t.Helper()
	vm, err := s.driver.New(cfg)
	if err == nil {
		err = vm.Boot(timeout(t, bootTimeout))
		_ = vm.Close()
	}
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v, want one with %q", err, text)
	}
	return err
}

// testConfig: New refuses invalid values with ErrConfig.
func testConfig(t *testing.T, s *suite) {
	for name, change := range map[string]func(*hypervisor.Config){
		"relative program":   func(c *hypervisor.Config) { c.Binary = "vmm" },
		"no kernel":          func(c *hypervisor.Config) { c.Kernel = "" },
		"no memory":          func(c *hypervisor.Config) { c.MemoryMiB = 0 },
		"relative directory": func(c *hypervisor.Config) { c.Dir = "x" },
		"negative CPUs":      func(c *hypervisor.Config) { c.CPUs = -1 },
		"too few CPUs":       func(c *hypervisor.Config) { c.CPUs, c.MaxCPUs = 2, 1 },
		"accelerator":        func(c *hypervisor.Config) { c.Accel = "magic" },
		"no serial port":     func(c *hypervisor.Config) { c.SerialPort = "" },
		"serial port":        func(c *hypervisor.Config) { c.SerialPort = "a,b" },
		"slots":              func(c *hypervisor.Config) { c.HotplugSlots = 1000 },
		"newline":            func(c *hypervisor.Config) { c.Cmdline = []string{"a\nb"} },
		"long command line":  func(c *hypervisor.Config) { c.Cmdline = []string{strings.Repeat("x", 4000)} },
		"tag":                func(c *hypervisor.Config) { c.Share = &hypervisor.Share{Tag: "a,b", Socket: "/s"} },
		"share nowhere":      func(c *hypervisor.Config) { c.Share = &hypervisor.Share{Tag: "a"} },
		"odd memory":         func(c *hypervisor.Config) { c.MaxMemoryMiB = c.MemoryMiB + 1 },
		"less memory":        func(c *hypervisor.Config) { c.MaxMemoryMiB = c.MemoryMiB - 128 },
		"disk nowhere":       func(c *hypervisor.Config) { c.Disks = []hypervisor.Disk{{ID: "a"}} },
		"disk id":            func(c *hypervisor.Config) { c.Disks = []hypervisor.Disk{{ID: "a,b", Path: "/d"}} },
		"two of one name": func(c *hypervisor.Config) {
			c.Disks = []hypervisor.Disk{{ID: "a", Path: "/d"}, {ID: "a", Path: "/e"}}
		},
		"NIC without tap": func(c *hypervisor.Config) {
			c.NICs = []hypervisor.NIC{{ID: "a", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}}}
		},
		"NIC id": func(c *hypervisor.Config) { c.NICs = []hypervisor.NIC{{ID: "a,b", Tap: []*os.File{os.Stdin}}} },
		"multicast NIC": func(c *hypervisor.Config) {
			c.NICs = []hypervisor.NIC{{ID: "a", MAC: net.HardwareAddr{1, 0, 0, 0, 0, 1}, Tap: []*os.File{os.Stdin}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := s.config(t, s.small)
			change(cfg)
			vm, err := s.driver.New(cfg)
			if err == nil {
				_ = vm.Close()
			}
			if !errors.Is(err, hypervisor.ErrConfig) {
				t.Errorf("New: %v, want ErrConfig", err)
			}
		})
	}
}

func writeFile(t *testing.T, path, body string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(body), mode); err != nil {
		t.Fatal(err)
	}
}

func removeFile(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
