package shim

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"runch/cgroup"
	"runch/shimproto"

	"golang.org/x/sys/unix"
)

// shortage reports to the host that a container was short of memory: the guest's kernel
// has killed a process of it, and the host's kernel does not know of that. Callers watch
// the memory of the container's cgroup, so the shim lets the host's kernel kill a process
// there. It does so once, when the container has ended, however often the guest reports a
// kill: no caller looks earlier.
type shortage struct {
	// memory is that of the container's cgroup; nil if it has none, or the shim cannot open it.
	memory *cgroup.Memory
	// bundle is the directory for oomFile; nil if the caller does not look for that file.
	bundle *os.Root
}

const (
	// oomFile is the file in the bundle.
	oomFile = "oom"
	// tellTimeout bounds how long a container outlives its process for the report.
	tellTimeout = time.Second
)

// openShortage opens the directories, because the shim cannot reach their paths later.
func openShortage(c *shimproto.Container) (*shortage, error) {
	s := &shortage{}
	var err error
	if c.OOMFile {
		if s.bundle, err = os.OpenRoot(c.Bundle); err != nil {
			return nil, fmt.Errorf("open the bundle: %w", err)
		}
	}
	if c.Memory == "" {
		return s, nil
	}
	s.memory, err = cgroup.OpenMemory(c.Memory)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		err = nil // a user who may not create cgroups has none
	}
	return s, err
}

// tell makes the report. If this process holds the VM, h is its holder: tell ends the VM,
// which ends with the container anyway. Errors are dropped: there is nobody to tell.
func (s *shortage) tell(h *holder) {
	if s.bundle != nil {
		if f, err := s.bundle.OpenFile(oomFile, os.O_CREATE|os.O_WRONLY, 0o644); err == nil {
			_ = f.Close()
		}
	}
	if s.memory == nil {
		return
	}
	told := make(chan struct{})
	go func() {
		defer close(told)
		if h != nil {
			// The VMM and virtiofsd are in the cgroup too, and must not be killed in the victim's place.
			_ = h.vm.Close()
			h.server.Kill()
			<-h.server.Done()
		}
		_ = sacrifice(s.memory)
	}()
	select {
	case <-told:
	case <-time.After(tellTimeout):
		// The rest ends with this process, or when the cgroup is removed.
	}
}

// sacrifice has the host's kernel kill a process for lack of memory.
func sacrifice(memory *cgroup.Memory) error {
	if err := enterProc(); err != nil {
		return err
	}
	v, err := startVictim()
	if err != nil {
		return err
	}
	// Keep this process from the OOM killer. If that is not permitted, the victim's size
	// has to suffice.
	_ = writeFile("self/oom_score_adj", "-1000")
	return errors.Join(memory.Starve(cgroup.Victim{PID: v.process.Pid, Take: v.take, Ended: v.ended}), v.ended())
}

// enterProc makes /proc the working directory, in which this program's file is found.
// It checks the file system's type first: the guest may have put something else there.
func enterProc() error {
	proc, err := os.OpenFile("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer proc.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(proc.Fd()), &st); err != nil {
		return fmt.Errorf("look at /proc: %w", err)
	}
	if st.Type != unix.PROC_SUPER_MAGIC {
		return errors.New("the container's /proc is none")
	}
	return proc.Chdir()
}

// writeFile writes to a file that is there.
func writeFile(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
