package hypervisor

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"runch/program"
)

// The drivers' names.
const (
	// DriverAuto leaves the driver to Choose.
	DriverAuto = "auto"
	// DriverCloudHypervisor is package hypervisor/cloudhypervisor.
	DriverCloudHypervisor = "cloud-hypervisor"
	// DriverQEMU is package hypervisor/qemu.
	DriverQEMU = "qemu"
)

// Program is a VMM that this host has.
type Program struct {
	// Driver is the name of the driver that it goes with.
	Driver string
	// Path is absolute.
	Path string
}

// programs are the names of each driver's programs, by the values of GOARCH that the
// driver supports.
var programs = map[string]map[string]string{
	DriverCloudHypervisor: {"amd64": "cloud-hypervisor"},
	DriverQEMU:            {"amd64": "qemu-system-x86_64"},
}

// advice is how to get a program.
var advice = map[string]string{
	DriverCloudHypervisor: "install one from cloud-hypervisor's releases, or name it in the configuration (cloud_hypervisor)",
	DriverQEMU:            "install the package qemu-system-x86, or name the program in the configuration (qemu)",
}

// Find returns the program of a driver: the one at path, or the one that the host has
// if path is empty. If there is none, the error wraps ErrNotFound, and says how to get one
// if path is empty. Find starts no process.
func Find(driver, path string) (*Program, error) {
	names, ok := programs[driver]
	if !ok {
		return nil, fmt.Errorf("%w: unknown hypervisor %q", ErrConfig, driver)
	}
	if path != "" {
		abs, err := checkProgram(path)
		if err != nil {
			return nil, err
		}
		return &Program{Driver: driver, Path: abs}, nil
	}
	name, ok := names[runtime.GOARCH]
	if !ok {
		return nil, fmt.Errorf("%w: a %s for %s that runch knows", ErrNotFound, driver, runtime.GOARCH)
	}
	if found := program.Find(name); found != "" {
		return &Program{Driver: driver, Path: found}, nil
	}
	return nil, fmt.Errorf("%s: %w: %s", name, ErrNotFound, advice[driver])
}

func checkProgram(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w: %w", path, ErrNotFound, err)
	}
	info, err := os.Stat(abs)
	switch {
	case err != nil:
		return "", fmt.Errorf("VMM: %w: %w", ErrNotFound, err)
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("VMM: %w: %s is no program", ErrNotFound, abs)
	}
	if err := unix.Access(abs, unix.X_OK); err != nil {
		return "", fmt.Errorf("VMM: %w: %s cannot be run: %w", ErrNotFound, abs, err)
	}
	return abs, nil
}

// Version returns the first line of the program's version, for instance "QEMU emulator
// version 10.0.2". It starts a process, which takes too long to do at every create.
func (p *Program) Version(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, p.Path, "--version")
	cmd.Env = []string{"LC_ALL=C"}
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", p.Path, err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line), nil
}
