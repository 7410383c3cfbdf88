package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"runch/hypervisor"
)

// process is a process of the host.
type process struct {
	pid, parent int
	// namespace is its pid namespace.
	namespace   string
	commandLine string
}

func (p process) isVMM() bool {
	return strings.HasPrefix(p.base(), "qemu-system-") || p.base() == hypervisor.DriverCloudHypervisor
}

func (p process) isVirtiofsd() bool { return p.base() == "virtiofsd" }

// base is the program's name.
func (p process) base() string {
	program, _, _ := strings.Cut(p.commandLine, " ")
	return filepath.Base(program)
}

// processes returns the processes for which wanted is true. It skips those that end meanwhile.
func processes(wanted func(process) bool) ([]process, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var found []process
	for _, dir := range dirs {
		p, err := readProcess(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, err
		case wanted(p):
			found = append(found, p)
		}
	}
	return found, nil
}

func readProcess(dir string) (process, error) {
	var p process
	var err error
	if p.pid, err = strconv.Atoi(filepath.Base(dir)); err != nil {
		return p, err
	}
	args, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil {
		return p, gone(err)
	}
	p.commandLine = string(bytes.TrimSpace(bytes.ReplaceAll(args, []byte{0}, []byte{' '})))
	if p.namespace, err = os.Readlink(filepath.Join(dir, "ns/pid")); err != nil {
		return p, gone(err)
	}
	parent, err := statusField(p.pid, "status", "PPid:")
	p.parent = int(parent)
	return p, err
}

// gone marks an error as that of a process that has ended, which reads of /proc report in several ways.
func gone(err error) error { return fmt.Errorf("%w: %w", fs.ErrNotExist, err) }

// statusField reads the number after a label in a file of /proc/PID: see proc_pid_status(5) and proc_pid_smaps(5),
// where amounts of memory are in KiB.
func statusField(pid int, file, label string) (int64, error) {
	path := filepath.Join("/proc", strconv.Itoa(pid), file)
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, gone(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, label); ok {
			n, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
			return strconv.ParseInt(n, 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, label)
}

// sandbox are the processes of one VM.
type sandbox struct {
	shim, vmm, virtiofsd process
	// others are unexpected processes.
	others []process
}

// sandboxOf gives the processes in the pid namespace of a container's process.
func sandboxOf(pid int) (*sandbox, error) {
	shim, err := readProcess(filepath.Join("/proc", strconv.Itoa(pid)))
	if err != nil {
		return nil, fmt.Errorf("find the shim: %w", err)
	}
	s := &sandbox{shim: shim}
	members, err := processes(func(p process) bool { return p.namespace == shim.namespace && p.pid != pid })
	if err != nil {
		return nil, err
	}
	for _, p := range members {
		switch {
		case p.isVMM() && s.vmm.pid == 0:
			s.vmm = p
		case p.isVirtiofsd() && s.virtiofsd.pid == 0:
			s.virtiofsd = p
		default:
			s.others = append(s.others, p)
		}
	}
	if s.vmm.pid == 0 || s.virtiofsd.pid == 0 {
		return nil, fmt.Errorf("the container's VMM or virtiofsd is not there: %v", members)
	}
	return s, nil
}
