package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// directory is the locked directory of a container or of a sandbox.
type directory struct {
	id   string
	path string
	// record is the name of the file with its record.
	record string
	// lock is the directory itself: a lock file in it would have a moment in
	// which the directory is there and the lock is not.
	lock *os.File
}

// Dir is a container's directory, locked against everybody else until Close or
// Remove. It must not be used by several goroutines at once.
type Dir struct{ *directory }

// SandboxDir is a sandbox's directory, locked as a Dir is. A command that needs both
// locks takes the container's first.
type SandboxDir struct{ *directory }

// Path is the directory's path. Other files of the container or sandbox may be put
// there: Remove deletes them.
func (d *directory) Path() string { return d.path }

// Close gives the lock up. A second call does nothing.
func (d *directory) Close() error {
	if d.lock == nil {
		return nil
	}
	err := d.lock.Close()
	d.lock = nil
	if err != nil {
		return fmt.Errorf("unlock %s: %w", d.id, err)
	}
	return nil
}

// Remove deletes the directory with all that is in it, and gives the lock up. The record
// goes last, so that a removal which was cut short can be repeated.
func (d *directory) Remove() error {
	if err := d.remove(); err != nil {
		return errors.Join(fmt.Errorf("remove state of %s: %w", d.id, err), d.Close())
	}
	return d.Close()
}

func (d *directory) remove() error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() == d.record {
			continue
		}
		if err := os.RemoveAll(filepath.Join(d.path, entry.Name())); err != nil {
			return err
		}
	}
	return os.RemoveAll(d.path)
}
