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

// shortage is how the host is told that a container was short of memory: the
// guest's kernel killed a process of it, of which the host's kernel knows nothing.
// The callers listen to the memory of the container's cgroup, so the shim lets the
// host's kernel kill a process there. That is done once, when the container has
// ended, whatever the guest says: no caller looks before.
type shortage struct {
	// memory is the cgroup's, nil where the shim is in none that it could see.
	memory *cgroup.Memory
	// bundle is for a file, nil where the caller does not look for it.
	bundle *os.Root
}

const (
	// oomFile is the file in the bundle.
	oomFile = "oom"
	// tellTimeout bounds how much longer than its process a container lives.
	tellTimeout = time.Second
)

// openShortage opens what can not be found by its path later.
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
		err = nil // who may not make cgroups has none
	}
	return s, err
}

// tell tells it; h is the VM that the process holds, if it holds one: it ends with
// the container. There is nobody to tell of an error.
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
			// They are in the cgroup as well, and nobody is to be killed in the victim's place.
			_ = h.vm.Close()
			h.server.Kill()
			<-h.server.Done()
		}
		_ = sacrifice(s.memory)
	}()
	select {
	case <-told:
	case <-time.After(tellTimeout):
		// What is under way ends with this process, or goes with the cgroup.
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
	// Where that is not allowed, the victim's size has to be enough.
	_ = writeFile("self/oom_score_adj", "-1000")
	return errors.Join(memory.Starve(cgroup.Victim{PID: v.process.Pid, Take: v.take, Ended: v.ended}), v.ended())
}

// enterProc makes /proc the working directory, by which this program's file is found.
// The guest may have put something else into its place, so it is looked at first.
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
