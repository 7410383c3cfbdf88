package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// moveProc moves the process's own /proc into the view, if the rootfs has a directory
// for it. A process that enters the view looks there for the container's processes.
func moveProc(root *os.File) error {
	target, err := openInView(root, procDir)
	if err != nil || target == nil {
		return err
	}
	defer target.Close()
	if err := coverProcesses(); err != nil {
		return err
	}
	err = unix.MoveMount(unix.AT_FDCWD, procDir, int(target.Fd()), "", unix.MOVE_MOUNT_T_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("move /proc into the view: %w", err)
	}
	return nil
}

// coverProcesses mounts an empty directory over each process in /proc except this one.
// While a view is built these are the VMM and virtiofsd, which are in the same pid
// namespace but do not belong to the container. A program that lists the processes
// finds them empty, like one that has just ended.
func coverProcesses() error {
	proc, err := os.Open(procDir)
	if err != nil {
		return fmt.Errorf("list the processes in the view: %w", err)
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("list the processes in the view: %w", err)
	}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid == os.Getpid() {
			continue
		}
		if err := coverProcess(filepath.Join(procDir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("cover process %d in the view: %w", pid, err)
		}
	}
	return nil
}

func coverProcess(dir string) error {
	empty, err := newTmpfs(treeSize, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return err
	}
	defer empty.close()
	return empty.attachPath(dir)
}
