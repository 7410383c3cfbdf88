package qemu

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// maxTemplates is how many templates are kept. Each has the memory of a guest that has just
// booted, some 100 MiB.
const maxTemplates = 4

// memoryOfTemplate is the file of a template that has the guest's memory. Its other file is
// stateFile.
const memoryOfTemplate = "memory"

// newTemplate is the directory of a template that is being made.
const newTemplate = "new"

// errMaking says that another process makes a template right now.
var errMaking = errors.New("another process makes a template")

// templates is a directory with a directory for each template, named by its key.
type templates struct{ dir string }

// template is an open one. The caller closes the files.
type template struct {
	dir           string
	memory, state *os.File
}

// openTemplates makes the directory if need be. No other user may have a hand in it: who
// writes a template decides what a guest does.
func openTemplates(dir string) (*templates, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the templates' directory: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return nil, fmt.Errorf("find the templates' directory %s: %w", dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0 {
		return nil, fmt.Errorf("the templates' directory %s is not this user's alone", dir)
	}
	return &templates{dir}, nil
}

// open opens a template. The error is fs.ErrNotExist if there is none.
func (s *templates) open(key string) (*template, error) {
	dir := filepath.Join(s.dir, key)
	memory, err := os.Open(filepath.Join(dir, memoryOfTemplate))
	if err != nil {
		return nil, fmt.Errorf("open the template: %w", err)
	}
	state, err := os.Open(filepath.Join(dir, stateFile))
	if err != nil {
		_ = memory.Close()
		return nil, fmt.Errorf("open the template: %w", err)
	}
	now := time.Now()
	_ = os.Chtimes(dir, now, now) // for removeOldest
	return &template{dir, memory, state}, nil
}

// add makes a template by write, which fills a directory, and opens it. The error is
// errMaking if another process makes one.
func (s *templates) add(key string, write func(dir string) error) (*template, error) {
	lock, err := os.Open(s.dir)
	if err != nil {
		return nil, fmt.Errorf("open the templates' directory: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errMaking
		}
		return nil, fmt.Errorf("lock the templates' directory: %w", err)
	}
	if t, err := s.open(key); !errors.Is(err, fs.ErrNotExist) {
		return t, err // made meanwhile
	}
	made := filepath.Join(s.dir, newTemplate)
	if err := os.RemoveAll(made); err != nil { // of a maker that was killed
		return nil, fmt.Errorf("make a template: %w", err)
	}
	err = os.Mkdir(made, 0o700)
	if err == nil {
		err = write(made)
	}
	if err == nil {
		err = os.Rename(made, filepath.Join(s.dir, key))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a template: %w", err), os.RemoveAll(made))
	}
	if err := s.removeOldest(); err != nil {
		return nil, err
	}
	return s.open(key)
}

// removeOldest removes the templates that were not used for longest, beyond maxTemplates.
func (s *templates) removeOldest() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("list the templates: %w", err)
	}
	used := make(map[string]time.Time)
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			used[e.Name()] = info.ModTime()
		}
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return used[b.Name()].Compare(used[a.Name()]) })
	for _, e := range entries[min(maxTemplates, len(entries)):] {
		if err := os.RemoveAll(filepath.Join(s.dir, e.Name())); err != nil {
			return fmt.Errorf("remove an old template: %w", err)
		}
	}
	return nil
}

func copyToNew(path string, src *os.File) error {
	dst, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := errors.Join(copyData(dst, src), dst.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// copyData makes the empty file dst as long as src, and copies what src has, in the kernel.
// The holes of src are holes in dst.
func copyData(dst, src *os.File) error {
	info, err := src.Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	if err := dst.Truncate(size); err != nil {
		return err
	}
	from, to := int(src.Fd()), int(dst.Fd())
	for end := int64(0); end < size; {
		begin, err := unix.Seek(from, end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // a hole up to the end
		}
		if err != nil {
			return os.NewSyscallError("lseek", err)
		}
		if end, err = unix.Seek(from, begin, unix.SEEK_HOLE); err != nil {
			return os.NewSyscallError("lseek", err)
		}
		if _, err := unix.Seek(to, begin, unix.SEEK_SET); err != nil {
			return os.NewSyscallError("lseek", err)
		}
		for begin < end {
			n, err := unix.Sendfile(to, from, &begin, int(end-begin))
			if err != nil {
				return os.NewSyscallError("sendfile", err)
			}
			if n == 0 {
				return fmt.Errorf("%s: it became shorter", src.Name())
			}
		}
	}
	return nil
}
