package storage

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"runch/unixsocket"
)

// virtiofsdPlaces are where distributions install virtiofsd, outside of any PATH.
var virtiofsdPlaces = []string{
	"/usr/libexec/virtiofsd",       // the one in Rust: Debian 13, Fedora
	"/usr/lib/virtiofsd",           // the same on Arch
	"/usr/lib/qemu/virtiofsd",      // the one in C that came with QEMU 7: Debian 12
	"/usr/lib/kvm/virtiofsd",       // openSUSE
	"/usr/local/libexec/virtiofsd", // built by hand
}

// ErrNoVirtiofsd says that virtiofsd is in none of virtiofsdPlaces.
var ErrNoVirtiofsd = errors.New("no virtiofsd found: install the package virtiofsd (Debian 13) or qemu-system-common (Debian 12), or name one in the configuration")

// Flavour tells the two programs named virtiofsd apart: they take different options.
type Flavour string

// The two programs.
const (
	FlavourRust Flavour = "rust"
	FlavourC    Flavour = "c"
)

// Virtiofsd is a program to serve files with.
type Virtiofsd struct {
	Path    string
	Flavour Flavour
}

// FindVirtiofsd looks at path, or in the places of distributions where path is empty.
func FindVirtiofsd(path string) (*Virtiofsd, error) {
	if path != "" {
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("virtiofsd: %w", err)
		}
		return &Virtiofsd{Path: path, Flavour: flavourOf(path)}, nil
	}
	for _, p := range virtiofsdPlaces {
		info, err := os.Stat(p)
		if err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return &Virtiofsd{Path: p, Flavour: flavourOf(p)}, nil
		}
	}
	return nil, ErrNoVirtiofsd
}

// flavourOf goes by the place: QEMU kept its C program beside its own files,
// and asking it with --version would cost every create a process.
func flavourOf(path string) Flavour {
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		path = resolved
	}
	if filepath.Base(filepath.Dir(path)) == "qemu" {
		return FlavourC
	}
	return FlavourRust
}

// Args gives the command line that serves dir on the listening socket that is
// file descriptor fd of the program. The program keeps the limit of open files that it is
// started with (rlimit-nofile=0). The guest sees each mount in dir as a mount
// (announce_submounts), keeps file capabilities (xattr), and sees changes made on the host
// within a second (cache=auto).
func (v *Virtiofsd) Args(dir string, fd int) []string {
	if v.Flavour == FlavourC {
		return []string{
			v.Path, "-f", fmt.Sprintf("--fd=%d", fd), "--rlimit-nofile=0",
			"-o", "source=" + dir, "-o", "cache=auto", "-o", "sandbox=chroot", "-o", "xattr",
			"-o", "announce_submounts", "-o", "log_level=warn",
		}
	}
	return []string{
		v.Path, fmt.Sprintf("--fd=%d", fd), "--rlimit-nofile=0", "--shared-dir=" + dir,
		"--cache=auto", "--sandbox=chroot", "--xattr", "--announce-submounts", "--log-level=warn",
	}
}

// Server is a running virtiofsd.
type Server struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Serve starts virtiofsd for dir. When Serve returns, the VMM can connect to the socket,
// which the caller has to remove. virtiofsd ends when the VMM, its only client,
// disconnects. Its output goes to log.
func (v *Virtiofsd) Serve(dir, socket string, log io.Writer) (*Server, error) {
	listener, err := unixsocket.Listen(socket)
	if err != nil {
		return nil, fmt.Errorf("listen for the VMM: %w", err)
	}
	defer listener.Close()
	passed, err := listener.File()
	if err != nil {
		return nil, fmt.Errorf("pass the socket on: %w", err)
	}
	defer passed.Close()
	args := v.Args(dir, 3)
	cmd := exec.Command(args[0], args[1:]...) //nolint:noctx // the configured program, which lives as long as the VM
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{passed}
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", v.Path, err)
	}
	if err := raiseFileLimit(cmd.Process.Pid); err != nil {
		return nil, errors.Join(fmt.Errorf("let %s open more files: %w", v.Path, err), cmd.Process.Kill(), cmd.Wait())
	}
	s := &Server{cmd: cmd, done: make(chan struct{})}
	go func() {
		s.err = cmd.Wait()
		close(s.done)
	}()
	return s, nil
}

// maxFiles is how many files virtiofsd may have open: one for each that the guest's kernel remembers.
const maxFiles = 1_000_000

// raiseFileLimit sets a process's limit to maxFiles, or to the caller's hard limit if that is higher. Where raising is
// not allowed, as in a user namespace, it sets the caller's hard limit.
func raiseFileLimit(pid int) error {
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil {
		return err
	}
	wanted := max(own.Max, maxFiles)
	err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: wanted, Max: wanted}, nil)
	if errors.Is(err, unix.EPERM) {
		err = unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: own.Max, Max: own.Max}, nil)
	}
	return err
}

// Done is closed when virtiofsd has ended, for whatever reason.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err says how it ended; only after Done.
func (s *Server) Err() error { return s.err }

// Kill kills virtiofsd, and does not wait: Done tells when it has ended.
func (s *Server) Kill() { _ = s.cmd.Process.Kill() }
