package state

import "errors"

// Conditions that commands test for with errors.Is. The texts are runc's, because callers
// look for them.
var (
	ErrNotExist   = errors.New("container does not exist")
	ErrExist      = errors.New("container with given ID already exists")
	ErrNotRunning = errors.New("container not running")
	ErrNotPaused  = errors.New("container not paused")
)

// ErrLocked says that another command has the lock.
var ErrLocked = errors.New("locked by another command")

// Why a record that is there cannot be used.
var (
	// ErrMalformed says that it is not what this package writes.
	ErrMalformed = errors.New("malformed state file")
	// ErrVersion says that a newer runtime wrote it.
	ErrVersion = errors.New("state file of a newer version")
)
