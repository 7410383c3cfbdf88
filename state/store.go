package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"runch/oci"
)

const (
	containerFile = "container.json"
	sandboxFile   = "sandbox.json"

	// sandboxPrefix begins the names of sandboxes' directories. No container's id begins
	// with it or with fallbackPrefix: see oci.ValidateID.
	sandboxPrefix = "@"
	// fallbackPrefix begins the names of the root directories of other runtimes.
	fallbackPrefix = "="

	rootMode = 0o700
	// Other users may pass through a container's directory, as with runc, because sockets
	// in it can be meant for them. They cannot list it.
	dirMode  = 0o711
	fileMode = 0o600
)

// Store is a root directory with the records of containers and sandboxes. It keeps no file
// open, and may be used by several goroutines at once.
type Store struct {
	root string
}

// NewStore is the store in root. The directory is made when the first
// container is.
func NewStore(root string) *Store { return &Store{root: root} }

// Root is the store's directory.
func (s *Store) Root() string { return s.root }

// DefaultRoot is where records are if no root directory is given: /run/runch, or
// $XDG_RUNTIME_DIR/runch for a user who is not the machine's root.
func DefaultRoot() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" && useRuntimeDir() {
		return filepath.Join(dir, "runch")
	}
	return "/run/runch"
}

// useRuntimeDir follows runc: root in a user namespace, as under rootless podman,
// counts as a user, unless USER is root, as after sudo.
func useRuntimeDir() bool {
	if os.Geteuid() != 0 {
		return true
	}
	uidMap, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return false
	}
	return !wholeUIDMap(string(uidMap)) && os.Getenv("USER") != "root"
}

// wholeUIDMap tells the initial user namespace's map from others.
func wholeUIDMap(uidMap string) bool {
	return strings.Join(strings.Fields(uidMap), " ") == "0 0 4294967295"
}

// dir is the directory of the container or sandbox with this id; record, containerFile or
// sandboxFile, says which of the two. An id that cannot name a directory of its own is
// refused, with oci.ErrInvalidID: it may come unchecked from the command line.
func (s *Store) dir(record, id string) (string, error) {
	if id == "" || id == "." || id == ".." || strings.ContainsAny(id, "/\x00") || isReserved(id) {
		return "", oci.ErrInvalidID
	}
	if record == sandboxFile {
		id = sandboxPrefix + id
	}
	return filepath.Join(s.root, id), nil
}

// SandboxDir is the path of a sandbox's directory, which need not exist.
func (s *Store) SandboxDir(id string) (string, error) { return s.dir(sandboxFile, id) }

// isReserved tells names of other directories from those of containers.
func isReserved(name string) bool {
	return strings.HasPrefix(name, sandboxPrefix) || strings.HasPrefix(name, fallbackPrefix)
}

// FallbackRoot is the root directory for the fallback runtime with this program, which
// keeps there the state of the containers that were passed on to it. It need not exist. No
// other container can have one of their ids, as each has its record in the store as well.
func (s *Store) FallbackRoot(program string) string {
	return filepath.Join(s.root, fallbackPrefix+filepath.Base(program))
}

// makeRoot makes the root directory. Under $XDG_RUNTIME_DIR it gets the sticky
// bit, which by the XDG base directory specification keeps it from being
// cleaned away.
func (s *Store) makeRoot() error {
	if err := os.MkdirAll(s.root, rootMode); err != nil {
		return fmt.Errorf("make root directory: %w", err)
	}
	if runtimeDir := os.Getenv("XDG_RUNTIME_DIR"); runtimeDir != "" && filepath.Dir(s.root) == filepath.Clean(runtimeDir) {
		if err := os.Chmod(s.root, rootMode|fs.ModeSticky); err != nil {
			return fmt.Errorf("keep root directory: %w", err)
		}
	}
	return nil
}

// Load reads a container's record, without a lock. The error is ErrNotExist
// for an unknown id.
func (s *Store) Load(id string) (*Container, error) {
	dir, err := s.dir(containerFile, id)
	if err != nil {
		return nil, err
	}
	return loadContainer(dir, id)
}

// LoadSandbox reads a sandbox's record, without a lock. The error is
// ErrNotExist where there is none.
func (s *Store) LoadSandbox(id string) (*Sandbox, error) {
	dir, err := s.dir(sandboxFile, id)
	if err != nil {
		return nil, err
	}
	return loadSandbox(dir, id)
}

// List reads the records of all containers, ordered by id. It skips a container that
// has no record yet or has just been deleted. When records cannot be read, it returns
// the others together with an error that joins what is wrong with each. The error wraps
// fs.ErrNotExist if there is no root directory.
func (s *Store) List() ([]*Container, error) {
	ids, err := s.IDs()
	if err != nil {
		return nil, err
	}
	return loadAll(ids, "container", s.Load)
}

// Sandboxes reads the records of all sandboxes, as List does those of containers.
func (s *Store) Sandboxes() ([]*Sandbox, error) {
	names, err := s.directories()
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, name := range names {
		if id, ok := strings.CutPrefix(name, sandboxPrefix); ok {
			ids = append(ids, id)
		}
	}
	return loadAll(ids, "sandbox", s.LoadSandbox)
}

func loadAll[T any](ids []string, what string, load func(string) (*T, error)) ([]*T, error) {
	var (
		records []*T
		errs    []error
	)
	for _, id := range ids {
		r, err := load(id)
		switch {
		case err == nil:
			records = append(records, r)
		case !errors.Is(err, ErrNotExist):
			errs = append(errs, fmt.Errorf("load %s %s: %w", what, id, err))
		}
	}
	return records, errors.Join(errs...)
}

// IDs are the names of all containers' directories in the root directory, with or
// without a record in them: what `delete --force` could be asked to clean.
func (s *Store) IDs() ([]string, error) {
	names, err := s.directories()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(names, isReserved), nil
}

// directories lists the names of the directories in the root directory.
func (s *Store) directories() ([]string, error) {
	entries, err := os.ReadDir(s.root)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	var names []string
	for _, entry := range entries {
		if entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// notThere tells the errors that mean: no such container.
func notThere(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
}
