package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The names of the runtimes in the results.
const (
	ours = "runch"
	runc = "runc"
	crun = "crun"
)

// runtime is one of the runtimes that are measured, with a bundle of its own.
type runtime struct {
	name, program, version string
	// dir has the bundle and the runtime's state.
	dir string
	// start starts the runtime's commands.
	start spawn
	// bare is the bare VMM to compare with, nil for a runtime without VMs. usage is what its idle container used.
	bare  *rawVM
	usage usage
}

// cgroupParent is the parent of the containers' cgroups.
const cgroupParent = "runch-bench"

// contents describe a bundle: a spec, in which args and mounts are changed, and a root file system, which is copied.
type contents struct {
	spec, rootfs string
	args         []string
	// volume is a directory to mount at /volume, network the path of a network namespace. Both may be empty.
	volume, network string
}

// newRuntime finds the runtime and makes its bundle in dir.
func newRuntime(ctx context.Context, name, program, dir string, c contents) (*runtime, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	r := &runtime{name: name, program: path, dir: dir, start: (*exec.Cmd).Start}
	if name == crun {
		if r.start, err = withoutHybrid(); err != nil {
			return nil, err
		}
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("%s --version: %w", path, err)
	}
	r.version, _, _ = strings.Cut(string(out), "\n")
	return r, r.makeBundle(ctx, c)
}

func (r *runtime) makeBundle(ctx context.Context, c contents) error {
	if err := os.MkdirAll(r.bundle(), 0o700); err != nil {
		return err
	}
	if err := copyRootfs(ctx, c.rootfs, r.rootfs()); err != nil {
		return err
	}
	return r.writeSpec(c)
}

func copyRootfs(ctx context.Context, from, to string) error {
	if out, err := exec.CommandContext(ctx, "cp", "-a", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("copy the root file system: %w: %s", err, out)
	}
	return nil
}

// dirName turns a name in the results into one for a directory.
func dirName(name string) string { return strings.ReplaceAll(name, " ", "-") }

// writeSpec makes the bundle's config.json.
func (r *runtime) writeSpec(c contents) error {
	text, err := os.ReadFile(c.spec)
	if err != nil {
		return err
	}
	var spec specs.Spec
	if err := json.Unmarshal(text, &spec); err != nil {
		return fmt.Errorf("%s: %w", c.spec, err)
	}
	if spec.Process == nil || spec.Linux == nil {
		return fmt.Errorf("%s: process or linux is missing", c.spec)
	}
	spec.Process.Args = c.args
	spec.Linux.CgroupsPath = filepath.Join("/", cgroupParent, r.id())
	for i, ns := range spec.Linux.Namespaces {
		if ns.Type == specs.NetworkNamespace {
			spec.Linux.Namespaces[i].Path = c.network
		}
	}
	if c.volume != "" {
		spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/volume", Type: "bind", Source: c.volume, Options: []string{"bind"}})
	}
	if text, err = json.Marshal(spec); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.bundle(), "config.json"), text, 0o600)
}

func (r *runtime) bundle() string { return filepath.Join(r.dir, "bundle") }

func (r *runtime) rootfs() string { return filepath.Join(r.bundle(), "rootfs") }

func (r *runtime) state() string { return filepath.Join(r.dir, "state") }

func (r *runtime) pidFile() string { return filepath.Join(r.dir, "pid") }

// id returns the container's id, which differs between benches that run at the same time.
func (r *runtime) id() string {
	return "bench-" + dirName(r.name) + "-" + strconv.Itoa(os.Getpid())
}

// verbs are the measured commands of every runtime, in the order of a container's life.
var verbs = []string{"create", "start", "exec", "kill", "delete"}

// argv returns the command line of a verb, which has the same form for every runtime.
func (r *runtime) argv(verb string) []string {
	argv := []string{r.program, "--root", r.state(), verb}
	switch verb {
	case "create", "run":
		return append(argv, "--bundle", r.bundle(), "--pid-file", r.pidFile(), r.id())
	case "exec":
		return append(argv, r.id(), "true")
	case "kill":
		return append(argv, r.id(), "KILL")
	default:
		return append(argv, r.id())
	}
}

func (r *runtime) do(ctx context.Context, verb string) (cost, error) {
	return measure(ctx, r.start, nil, r.argv(verb)...)
}

// pid returns the pid of the container's process.
func (r *runtime) pid() (int, error) {
	text, err := os.ReadFile(r.pidFile())
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(text))
}

// sandbox returns the processes of the container's VM. Only containers of runch have one.
func (r *runtime) sandbox() (*sandbox, error) {
	pid, err := r.pid()
	if err != nil {
		return nil, err
	}
	return sandboxOf(pid)
}

// awaitEnd waits for the end of the container's process.
func (r *runtime) awaitEnd(ctx context.Context) error {
	pid, err := r.pid()
	if err != nil {
		return err
	}
	return reap(ctx, pid)
}

// remove deletes the container that a failed round has left.
func (r *runtime) remove(ctx context.Context) error {
	if _, err := os.Stat(r.state()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	_, err := measure(ctx, r.start, nil, r.program, "--root", r.state(), "delete", "--force", r.id())
	return err
}

// withoutHybrid returns a spawn for crun, which refuses a host where both versions of cgroups have controllers. On such
// a host commands start in a mount namespace without cgroup v2: that of one thread, which does nothing else.
func withoutHybrid() (spawn, error) {
	const unified = "/sys/fs/cgroup/unified"
	controllers, err := os.ReadFile(filepath.Join(unified, "cgroup.controllers"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if len(bytes.TrimSpace(controllers)) == 0 {
		return (*exec.Cmd).Start, nil // the host has one version, or version 2 has no controllers
	}
	type request struct {
		cmd  *exec.Cmd
		done chan error
	}
	requests, ready := make(chan request), make(chan error)
	go func() {
		goruntime.LockOSThread() // and never unlocked: the thread ends with the process
		err := unix.Unshare(unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = unix.Unmount(unified, 0)
		}
		ready <- err
		for r := range requests {
			r.done <- r.cmd.Start()
		}
	}()
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("make a mount namespace for crun: %w", err)
	}
	return func(cmd *exec.Cmd) error {
		r := request{cmd, make(chan error)}
		requests <- r
		return <-r.done
	}, nil
}
