package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// processesBody has a child, as a shim that holds a VM has.
func processesBody(dir string) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	child := exec.CommandContext(ctx, "sleep", "1000")
	if err := child.Start(); err != nil {
		return err
	}
	if err := makeView(dir); err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(child.Process.Pid)))
	if err != nil || len(entries) > 0 {
		return fmt.Errorf("the child's entry in /proc has %v, %w", entries, err)
	}
	if _, err := os.Stat("/proc/1/stat"); err != nil {
		return err
	}
	// The end of the child is still visible: the kernel removes its entry with the cover.
	cancel()
	_ = child.Wait() // killed
	if _, err := os.Stat(filepath.Join("/proc", strconv.Itoa(child.Process.Pid))); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("after the child's end: %w", err)
	}
	return nil
}

func TestViewHidesTheVMsProcesses(t *testing.T) { inNamespaces(t, "processes") }

func TestViewHidesTheVMsProcessesInAUserNamespace(t *testing.T) {
	all := []syscall.SysProcIDMap{{Size: 1 << 16}}
	inNamespacesOf(t, "processes", &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUSER,
		UidMappings: all, GidMappings: all, GidMappingsEnableSetgroups: true,
	})
}
