package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ConfigName is the name of a bundle's spec file.
const ConfigName = "config.json"

// maxFile bounds config.json and process.json, in bytes. Real ones have some
// tens of kilobytes.
const maxFile = 16 << 20

// Bundle is a bundle that was read and, if it comes from Load or Check has accepted it,
// can run in a VM.
type Bundle struct {
	// Dir is the bundle's absolute path, without symbolic links.
	Dir string
	// Spec is its config.json.
	Spec *specs.Spec
	// Rootfs is the absolute path of its root filesystem, without symbolic links.
	Rootfs string

	// plans say how each mount of the spec is made, env is the host that the spec
	// was checked on. Both are nil in a bundle that was not checked.
	plans []mountPlan
	env   *environment
}

// errNotLoaded is a programming error: Split takes only bundles that were checked.
var errNotLoaded = errors.New("the bundle was not checked")

// Load reads the bundle in dir ("" is the working directory) and checks it.
func Load(dir string) (*Bundle, error) {
	b, err := Read(dir)
	if err != nil {
		return nil, err
	}
	if err := b.Check(); err != nil {
		return nil, err
	}
	return b, nil
}

// Read reads the bundle in dir ("" is the working directory) and sets Dir and Spec. It
// does not check what config.json says.
func Read(dir string) (*Bundle, error) {
	dir, err := resolveDir(dir)
	if err != nil {
		return nil, err
	}
	spec, err := loadSpec(filepath.Join(dir, ConfigName))
	if err != nil {
		return nil, err
	}
	return &Bundle{Dir: dir, Spec: spec}, nil
}

// Check checks all of the config.json that can be checked without making anything:
// runc's own rules, with runc's messages, and what a VM cannot honour. The error is one
// line, and names the field where it is about one.
func (b *Bundle) Check() error {
	return b.check(hostEnvironment())
}

// check finds out whether the bundle is fit to run in a VM on that host.
func (b *Bundle) check(env *environment) error {
	if err := validate(b.Spec, env); err != nil {
		return err
	}
	var err error
	if b.Rootfs, err = resolveRootfs(b.Dir, b.Spec.Root.Path); err != nil {
		return err
	}
	if b.plans, err = planMounts(b); err != nil {
		return err
	}
	b.env = env
	return nil
}

// resolveDir is the bundle's path as getcwd(2) would give it after chdir(2).
func resolveDir(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("open bundle %q: %w", dir, err)
	}
	resolved, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return "", fmt.Errorf("open bundle %s: %w", abs, rootCause(err))
	}
	info, err := os.Stat(resolved)
	if err != nil {
		return "", fmt.Errorf("open bundle %s: %w", abs, rootCause(err))
	}
	if !info.IsDir() {
		return "", fmt.Errorf("open bundle %s: %w", abs, unix.ENOTDIR)
	}
	return resolved, nil
}

// rootCause is err without its path, for a message that has the path already.
func rootCause(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

// loadSpec reads a config.json.
func loadSpec(path string) (*specs.Spec, error) {
	// Without O_NONBLOCK, open(2) of a FIFO waits until somebody writes to it.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("JSON specification file %s not found: %s: %w", ConfigName, path, unix.ENOENT)
		}
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("open %s: not a regular file", path)
	}
	var spec *specs.Spec
	if err := decode(f, &spec); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if spec == nil {
		return nil, fmt.Errorf("read %s: config cannot be null", path)
	}
	return spec, nil
}

// decode reads one JSON value, and refuses anything behind it. Unknown
// properties are ignored, as the runtime spec's section on extensibility wants.
func decode(r io.Reader, v any) error {
	limited := &io.LimitedReader{R: r, N: maxFile + 1}
	dec := json.NewDecoder(limited)
	err := dec.Decode(v)
	if limited.N <= 0 {
		return fmt.Errorf("larger than %d bytes", maxFile)
	}
	if err != nil {
		return describeJSON(err, dec.InputOffset())
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("unexpected data after the JSON value, at byte %d", dec.InputOffset())
	}
	return nil
}

// describeJSON makes an error of encoding/json say where in the file the mistake is.
func describeJSON(err error, offset int64) error {
	var (
		syntax *json.SyntaxError
		typ    *json.UnmarshalTypeError
	)
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("the file is empty")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the JSON value is cut off: %w", err)
	case errors.As(err, &syntax):
		return fmt.Errorf("%w, at byte %d", err, syntax.Offset)
	case errors.As(err, &typ) && typ.Field != "":
		return fieldErrorf(typ.Field, "a JSON %s does not fit here", typ.Value)
	}
	return fmt.Errorf("%w, at byte %d", err, offset)
}

// resolveRootfs finds the root filesystem. As in runc, no element of its path may be a
// symbolic link.
func resolveRootfs(dir, path string) (string, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	path = filepath.Clean(path)
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fieldErrorf("root.path", "invalid rootfs: %w", err)
	}
	if resolved != path {
		return "", fieldErrorf("root.path", "invalid rootfs: not an absolute path, or a symlink")
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", fieldErrorf("root.path", "invalid rootfs: %w", err)
	}
	if !info.IsDir() {
		return "", fieldErrorf("root.path", "invalid rootfs: %s is not a directory", path)
	}
	return path, nil
}
