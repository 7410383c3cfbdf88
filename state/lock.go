package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// New makes the directory of a container and locks it. The error is ErrExist
// when there is one. New waits, until ctx ends, for a command that has waited for
// the former container with this id and now has the new directory's lock.
func (s *Store) New(ctx context.Context, id string) (*Dir, error) {
	d, err := s.make(ctx, containerFile, id)
	if err != nil {
		return nil, err
	}
	return &Dir{d}, nil
}

// NewSandbox makes the directory of a sandbox and locks it, as New does that of a
// container.
func (s *Store) NewSandbox(ctx context.Context, id string) (*SandboxDir, error) {
	d, err := s.make(ctx, sandboxFile, id)
	if err != nil {
		return nil, err
	}
	return &SandboxDir{d}, nil
}

func (s *Store) make(ctx context.Context, record, id string) (*directory, error) {
	path, err := s.dir(record, id)
	if err != nil {
		return nil, err
	}
	if err := s.makeRoot(); err != nil {
		return nil, err
	}
	d, err := makeLocked(ctx, path, record, id)
	if err != nil {
		return nil, err
	}
	// mkdir(2) applies the umask, which comes from the caller and may be stricter.
	if err := d.lock.Chmod(dirMode); err != nil {
		return nil, errors.Join(fmt.Errorf("make state directory: %w", err), d.Remove())
	}
	return d, nil
}

// makeLocked makes a directory and locks it.
func makeLocked(ctx context.Context, path, record, id string) (*directory, error) {
	// Before the directory is locked, a forced delete of the same id may remove it; then it
	// is made again. No delete does that many times, so a few tries are enough.
	const tries = 10
	for range tries {
		if err := os.Mkdir(path, dirMode); err != nil {
			if errors.Is(err, fs.ErrExist) {
				return nil, ErrExist
			}
			return nil, fmt.Errorf("make state directory: %w", err)
		}
		d, err := lockEmpty(ctx, path, record, id)
		if !errors.Is(err, ErrNotExist) {
			return d, err
		}
	}
	return nil, ErrExist
}

// lockEmpty locks a directory that was just made, and waits for the lock: a command that
// waited for the lock of a deleted container with this id may have it for a moment, until
// the command sees that there is no record. The error is ErrNotExist if the directory is
// gone, and ErrExist if another one, with a record, has taken its place.
func lockEmpty(ctx context.Context, path, record, id string) (*directory, error) {
	d, err := tryLock(path, record, id)
	if err == nil && d == nil {
		d, err = awaitNew(ctx, path, record, id)
	}
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(filepath.Join(path, record)); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = ErrExist
		}
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// awaitNew waits for the lock of a directory that was just made. The error is ErrNotExist
// if the directory is gone, or another one has taken its place.
func awaitNew(ctx context.Context, path, record, id string) (*directory, error) {
	f, err := awaitLock(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", id, err)
	}
	d, err := locked(f, path, record, id)
	if err == nil && d == nil {
		err = ErrNotExist
	}
	return d, err
}

// Lock locks the directory of a container, and waits for that until ctx ends.
// The error is ErrNotExist for an unknown id, and wraps ctx's cause when ctx ends
// before the lock is free.
func (s *Store) Lock(ctx context.Context, id string) (*Dir, error) {
	d, err := s.lock(ctx, containerFile, id)
	if err != nil {
		return nil, err
	}
	return &Dir{d}, nil
}

// TryLock is Lock without a wait. The error is ErrLocked if another command has the lock.
func (s *Store) TryLock(id string) (*Dir, error) {
	path, err := s.dir(containerFile, id)
	if err != nil {
		return nil, err
	}
	d, err := tryLock(path, containerFile, id)
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, ErrLocked // another command holds it, or has just replaced the directory
	}
	return &Dir{d}, nil
}

// LockSandbox locks the directory of a sandbox as Lock does that of a container.
func (s *Store) LockSandbox(ctx context.Context, id string) (*SandboxDir, error) {
	d, err := s.lock(ctx, sandboxFile, id)
	if err != nil {
		return nil, err
	}
	return &SandboxDir{d}, nil
}

func (s *Store) lock(ctx context.Context, record, id string) (*directory, error) {
	path, err := s.dir(record, id)
	if err != nil {
		return nil, err
	}
	for {
		d, err := tryLock(path, record, id)
		if err != nil || d != nil {
			return d, err
		}
		// Either another process holds it, or it was replaced just now.
		f, err := awaitLock(ctx, path)
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", id, err)
		}
		if d, err := locked(f, path, record, id); err != nil || d != nil {
			return d, err
		}
	}
}

// tryLock locks the directory. It returns nil without an error if the lock is held, or the
// directory was replaced.
func tryLock(path, record, id string) (*directory, error) {
	f, err := openDir(path)
	if err != nil {
		return nil, err
	}
	if err := flock(f, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, nil
		}
		return nil, fmt.Errorf("lock %s: %w", id, err)
	}
	return locked(f, path, record, id)
}

// locked makes a directory of f, on which this process has the lock. It returns nil if
// path names another one by now: the lock's former holder may have removed this one.
func locked(f *os.File, path, record, id string) (*directory, error) {
	if same, err := isAt(f, path); err != nil || !same {
		_ = f.Close()
		return nil, err
	}
	return &directory{id: id, path: path, record: record, lock: f}, nil
}

// awaitLock waits until it has the lock or ctx ends.
func awaitLock(ctx context.Context, path string) (*os.File, error) {
	f, err := openDir(path)
	if err != nil {
		return nil, err
	}
	done, abandoned := make(chan error), make(chan struct{})
	// flock(2) can wait, but a wait cannot be cancelled. An abandoned wait ends when the
	// lock is free, and gives it back.
	go func() {
		err := flock(f, unix.LOCK_EX)
		select {
		case done <- err:
		case <-abandoned:
			_ = f.Close()
		}
	}()
	select {
	case err := <-done:
		if err != nil {
			_ = f.Close()
			return nil, err
		}
		return f, nil
	case <-ctx.Done():
		close(abandoned)
		return nil, context.Cause(ctx)
	}
}

func openDir(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		if notThere(err) {
			return nil, ErrNotExist
		}
		return nil, fmt.Errorf("open state directory: %w", err)
	}
	return f, nil
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// isAt tells whether path still names the open file.
func isAt(f *os.File, path string) (bool, error) {
	open, err := f.Stat()
	if err != nil {
		return false, fmt.Errorf("stat state directory: %w", err)
	}
	named, err := os.Lstat(path)
	if err != nil {
		if notThere(err) {
			return false, ErrNotExist
		}
		return false, fmt.Errorf("stat state directory: %w", err)
	}
	return os.SameFile(open, named), nil
}
