package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"runch/namespace"
	"runch/shimproto"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// shimSpec says how a shim's process is made.
type shimSpec struct {
	// stdio are the files that become 0, 1 and 2; nil for /dev/null.
	stdio [3]*os.File
	// console becomes shimproto.ConsoleFD.
	console *os.File
	// join are the namespaces it is born in.
	join []namespace.Namespace
	// unshare are clone(2) flags of the namespaces that are made for it.
	unshare uintptr
	// title has the arguments of the process for which the shim stands.
	title []string
	// nested makes its pid namespace below one that join names.
	nested bool
}

// shimSpec is that of the container's shim. The shim is in the network namespace of the
// sandbox. If the holder is another process, the shim's pid namespace is below the
// holder's, so that the kernel kills the shim when the holder ends.
func (c *creation) shimSpec(console *os.File) shimSpec {
	s := shimSpec{unshare: unix.CLONE_NEWPID | unix.CLONE_NEWNS, console: console, title: c.spec.Process.Args}
	if c.terminal == nil {
		s.stdio = [3]*os.File{c.o.Stdin, c.o.Stdout, c.o.Stderr}
	}
	for _, kind := range []struct {
		t    specs.LinuxNamespaceType
		flag int
	}{{specs.IPCNamespace, unix.CLONE_NEWIPC}, {specs.UTSNamespace, unix.CLONE_NEWUTS}, {specs.NetworkNamespace, unix.CLONE_NEWNET}} {
		path, ok := c.host.Namespaces[kind.t]
		if kind.t == specs.NetworkNamespace && !c.place.own {
			path = netNSOf(c.sandbox.record)
		}
		switch {
		case path != "":
			s.join = append(s.join, namespace.Namespace{Kind: kind.flag, Path: path})
		case ok:
			s.unshare |= uintptr(kind.flag)
		}
	}
	if !c.place.own {
		s.nested = true
		s.join = append(s.join, pidNSOf(c.sandbox.record.Holder.PID))
	}
	return s
}

// pidNSOf is the pid namespace of a shim or holder.
func pidNSOf(pid int) namespace.Namespace {
	return namespace.Namespace{Kind: unix.CLONE_NEWPID, Path: nsPath(pid, "pid")}
}

// nsPath is the path of a process's namespace, by its name in /proc/PID/ns.
func nsPath(pid int, name string) string {
	return filepath.Join("/proc", strconv.Itoa(pid), "ns", name)
}

// shimEnv keeps the shim small: it has one thing to do at a time. Where the kernel uses
// transparent huge pages by default, they would make the shim's heap larger than the
// memory that it has in use; disablethp=1 turns them off for the heap.
var shimEnv = []string{
	"GOMAXPROCS=1", "GOGC=50", "GOTRACEBACK=single", "GODEBUG=disablethp=1",
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}

// spawn starts a shim: this program again, leading a session of its own. It
// does nothing before it has its setup.
func spawn(s shimSpec) (*shimProcess, error) {
	conn, theirs, err := shimproto.Pair()
	if err != nil {
		return nil, err
	}
	process, err := startShim(s, conn, theirs)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("start the shim: %w", err)
	}
	p := &shimProcess{process: process, conn: conn, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		awaitZombie(p.pid())
	}()
	return p, nil
}

// startShim starts the process, with theirs as its end of conn; theirs is closed.
func startShim(s shimSpec, conn *shimproto.Conn, theirs *os.File) (*os.Process, error) {
	defer theirs.Close()
	as, flags := shimproto.Invocation{Role: shimproto.RoleShim, Title: s.title}, s.unshare
	if s.nested {
		if err := conn.PassCredentials(); err != nil {
			return nil, err
		}
		as.Role, as.Flags, flags = shimproto.RoleNest, s.unshare, 0
	}
	cmd := exec.Command("/proc/self/exe") //nolint:noctx // it outlives this command
	cmd.Args = as.Args()
	cmd.Env = shimEnv
	cmd.Dir = "/"
	setStdio(cmd, s.stdio)
	cmd.ExtraFiles = []*os.File{theirs}
	if s.console != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, s.console)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: flags}
	err := namespace.In(s.join, func() error { return namespace.OnAllCPUs(cmd.Start) })
	if err != nil || !s.nested {
		return cmd.Process, err
	}
	_ = theirs.Close() // so that the shim's death is the end of conn
	return nestedShim(cmd, conn)
}

// nestedShim waits for the process that makes a shim in a pid namespace below its
// own, and finds that shim, which is a child of this process.
func nestedShim(cmd *exec.Cmd, conn *shimproto.Conn) (*os.Process, error) {
	if err := cmd.Wait(); err != nil {
		if !cmd.ProcessState.Exited() {
			// It was killed. Do not wait for a report: a shim that it has started waits
			// for its setup, and sends none.
			return nil, fmt.Errorf("%w: %w", errNoReport, err)
		}
		var r shimproto.Report
		if conn.Receive(&r) == nil && r.Error != "" {
			err = errors.New(r.Error)
		}
		return nil, err
	}
	pid, err := conn.ReceivePID()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoReport, err)
	}
	return os.FindProcess(pid)
}

func setStdio(cmd *exec.Cmd, stdio [3]*os.File) {
	if stdio[0] != nil {
		cmd.Stdin = stdio[0]
	}
	if stdio[1] != nil {
		cmd.Stdout = stdio[1]
	}
	if stdio[2] != nil {
		cmd.Stderr = stdio[2]
	}
}
