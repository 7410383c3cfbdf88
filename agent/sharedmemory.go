package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"runch/agentproto"
)

// maxMemories bounds the file systems that one container shares: it has one /dev/shm.
const maxMemories = 8

// sharedMemory are the file systems in memory that containers of the sandbox share.
// It is safe for concurrent use.
type sharedMemory struct {
	dir string

	mu sync.Mutex
	// users counts the containers that use a file system, by its name. The sandbox
	// counts as one more for a file system that lasts as long as the sandbox.
	users map[string]int
}

func newSharedMemory(dir string) *sharedMemory {
	return &sharedMemory{dir: dir, users: make(map[string]int)}
}

// checkMemory refuses names that could lead out of the directory, modes with other
// bits than permissions, and too many file systems.
func checkMemory(memory []*agentproto.SharedMemory) error {
	if len(memory) > maxMemories {
		return invalidf("shared_memory: more than %d", maxMemories)
	}
	for _, m := range memory {
		if err := checkID("shared_memory.name", m.GetName()); err != nil {
			return err
		}
		if m.GetMode() > 0o7777 {
			return invalidf("shared_memory.mode: %#o", m.GetMode())
		}
	}
	return nil
}

// take mounts the file systems that are not mounted yet. Without an error, the caller
// calls release later; with an error, nothing is taken.
func (s *sharedMemory) take(memory []*agentproto.SharedMemory) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, m := range memory {
		if s.users[m.GetName()] == 0 {
			if err := s.mount(m); err != nil {
				return errors.Join(err, s.releaseLocked(memory[:i]))
			}
			if m.GetLasts() {
				s.users[m.GetName()]++
			}
		}
		s.users[m.GetName()]++
	}
	return nil
}

func (s *sharedMemory) mount(m *agentproto.SharedMemory) error {
	path := filepath.Join(s.dir, m.GetName())
	// #nosec G301 -- the init of a container may pass as root of its user namespace alone
	if err := os.MkdirAll(path, 0o711); err != nil {
		return fmt.Errorf("mount shared memory: %w", err)
	}
	options := []string{fmt.Sprintf("mode=%o,uid=%d,gid=%d", m.GetMode(), m.GetUid(), m.GetGid())}
	if m.GetSize() > 0 {
		options = append(options, fmt.Sprintf("size=%d", m.GetSize()))
	}
	err := unix.Mount("shm", path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, strings.Join(options, ","))
	if err != nil {
		return errors.Join(fmt.Errorf("mount shared memory: %w", err), os.Remove(path))
	}
	return nil
}

// release undoes take, and unmounts the file systems that have no user any more.
func (s *sharedMemory) release(memory []*agentproto.SharedMemory) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.releaseLocked(memory)
}

func (s *sharedMemory) releaseLocked(memory []*agentproto.SharedMemory) error {
	var errs []error
	for _, m := range memory {
		name := m.GetName()
		if s.users[name]--; s.users[name] > 0 {
			continue
		}
		delete(s.users, name)
		path := filepath.Join(s.dir, name)
		errs = append(errs, unix.Unmount(path, unix.MNT_DETACH), os.Remove(path))
	}
	return errors.Join(errs...)
}
