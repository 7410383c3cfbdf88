package callers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	securejoin "github.com/cyphar/filepath-securejoin"

	"runch/program"
)

// Host is where callers are configured.
type Host struct {
	// Root is a directory to take for /, such as that of a package or an image that is
	// being built. No program is started then. Empty is this machine itself.
	Root string
	// ConfigHome is the directory of an ordinary user's own configuration, which podman
	// reads. Empty is the system's, in /etc.
	ConfigHome string
}

// programTimeout bounds how long a caller's program may take to read a configuration,
// versionTimeout how long to print its version.
const (
	programTimeout = time.Minute
	versionTimeout = 10 * time.Second
)

// path returns the place of a path of the host: always below its root, which symbolic
// links cannot leave.
func (h Host) path(name string) (string, error) {
	root := h.Root
	if root == "" {
		root = "/"
	}
	return securejoin.SecureJoin(root, name)
}

// read returns a file's content, nil if there is no file.
func (h Host) read(name string) ([]byte, error) {
	full, err := h.path(name)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(full)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && data == nil {
		data = []byte{}
	}
	return data, err
}

// glob returns the paths of the host's files that match a pattern, sorted. Only the last
// element of the pattern may have wildcards.
func (h Host) glob(pattern string) ([]string, error) {
	dir, err := h.path(filepath.Dir(pattern))
	if err != nil {
		return nil, err
	}
	found, err := filepath.Glob(filepath.Join(dir, filepath.Base(pattern)))
	found = slices.DeleteFunc(found, func(name string) bool {
		info, err := os.Stat(name)
		return err == nil && info.IsDir()
	})
	for i := range found {
		found[i] = filepath.Join(filepath.Dir(pattern), filepath.Base(found[i]))
	}
	slices.Sort(found)
	return found, err
}

// find returns a program's path, empty if there is none or if the host is not this machine.
func (h Host) find(name string) string {
	if h.Root != "" {
		return ""
	}
	return program.Find(name)
}

// Version is an installed caller.
type Version struct {
	// Path is the program's path.
	Path string
	// Number is the version that the program prints, such as 4.3.1.
	Number string
	major  int
	minor  int
}

// versionNumber matches the version in the output of --version. It needs a dot, because
// containerd's line has a path with "v2" before the version.
var versionNumber = regexp.MustCompile(`\b[v]?((\d+)\.(\d+)(?:\.\d+)?)\b`)

// version asks a caller's program for its version. It returns nil if that is not installed.
func (c *Caller) version(ctx context.Context, h Host) (*Version, error) {
	path := h.find(c.program)
	if path == "" {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	out, err := output(ctx, os.Environ(), path, "--version")
	if err != nil {
		return nil, err
	}
	return parseVersion(path, out)
}

func parseVersion(path, out string) (*Version, error) {
	match := versionNumber.FindStringSubmatch(out)
	if match == nil {
		return nil, fmt.Errorf("%s --version says no version: %q", path, strings.TrimSpace(out))
	}
	v := &Version{Path: path, Number: match[1]}
	var errs [2]error
	v.major, errs[0] = strconv.Atoi(match[2])
	v.minor, errs[1] = strconv.Atoi(match[3])
	return v, errors.Join(errs[:]...)
}

// output runs a program and gives its stdout. The error has the last line of its stderr.
func output(ctx context.Context, env []string, path string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, programTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = env
	// Processes that the program leaves running may keep its stdout open.
	cmd.WaitDelay = time.Second
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		return string(out), nil
	}
	what := filepath.Base(path)
	if ctx.Err() != nil {
		return "", fmt.Errorf("%s has not answered: %w", what, ctx.Err())
	}
	if lines := strings.Split(strings.TrimSpace(stderr.String()), "\n"); lines[len(lines)-1] != "" {
		return "", fmt.Errorf("%s: %s", what, lines[len(lines)-1])
	}
	return "", fmt.Errorf("%s: %w", what, err)
}

// withDir calls a function with a new temporary directory, and removes that afterwards.
func withDir(do func(dir string) error) (err error) {
	dir, err := os.MkdirTemp("", "runch-install-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return do(dir)
}

// aside calls a function with a new file that has the content, and removes the file
// afterwards. The file is in dir, or in the directory for temporary files if dir is empty.
func aside(dir string, content []byte, read func(file string) error) (err error) {
	f, err := os.CreateTemp(dir, ".runch-install-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = f.Write(content)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return read(f.Name())
}
