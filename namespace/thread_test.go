package namespace

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("joining namespaces needs root")
	}
}

// other starts a process in namespaces of its own, and gives the directory of
// their files.
func other(t *testing.T, flags uintptr) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sleep", "300")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "ns")
}

func readlink(t *testing.T, path string) string {
	t.Helper()
	target, err := os.Readlink(path)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// A thread that was not restored is never used again, and Do never uses the process's
// first thread.
func TestDo(t *testing.T) {
	ended := make(map[int]bool)
	for i := range 100 {
		Do(func() bool {
			tid := unix.Gettid()
			if tid == unix.Getpid() || ended[tid] {
				t.Errorf("round %d is on thread %d of process %d, which was to end before: %v", i, tid, unix.Getpid(), ended[tid])
			}
			restored := i%2 == 0
			if !restored {
				ended[tid] = true
			}
			return restored
		})
	}
}

func TestIn(t *testing.T) {
	needRoot(t)
	ns := other(t, syscall.CLONE_NEWNET|syscall.CLONE_NEWPID)
	home := readlink(t, "/proc/self/ns/net")
	var link, pid string
	err := In([]Namespace{
		{Path: filepath.Join(ns, "net"), Kind: unix.CLONE_NEWNET},
		{Path: filepath.Join(ns, "pid"), Kind: unix.CLONE_NEWPID},
	}, func() error {
		link = readlink(t, "/proc/thread-self/ns/net")
		out, err := exec.CommandContext(t.Context(), "readlink", "/proc/self/ns/pid").Output()
		pid = string(out)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := readlink(t, filepath.Join(ns, "net")); link != want {
		t.Errorf("fn was in %s, want %s", link, want)
	}
	if want := readlink(t, filepath.Join(ns, "pid")) + "\n"; pid != want {
		t.Errorf("fn's child was in %q, want %q", pid, want)
	}
	for range 20 {
		if err := In(nil, func() error {
			if link := readlink(t, "/proc/thread-self/ns/net"); link != home {
				t.Errorf("a thread is still in %s", link)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestInRefusesAnotherKind(t *testing.T) {
	needRoot(t)
	ran := false
	err := In([]Namespace{{Path: "/proc/self/ns/mnt", Kind: unix.CLONE_NEWNET}}, func() error { ran = true; return nil })
	if !errors.Is(err, unix.EINVAL) || ran {
		t.Errorf("error %v, called %v", err, ran)
	}
}

func TestInNet(t *testing.T) {
	needRoot(t)
	ns, err := os.Open(filepath.Join(other(t, syscall.CLONE_NEWNET), "net"))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	var names []string
	if err := InNet(ns, func(h *netlink.Handle) error {
		links, err := Dump(h.LinkList)
		for _, l := range links {
			names = append(names, l.Attrs().Name)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if len(names) == 0 || names[0] != "lo" {
		t.Errorf("the new namespace has %v", names)
	}
	failure := errors.New("failure")
	if err := InNet(ns, func(*netlink.Handle) error { return failure }); !errors.Is(err, failure) {
		t.Errorf("got %v", err)
	}
}

func TestDumpGivesUp(t *testing.T) {
	calls := 0
	_, err := Dump(func() ([]int, error) {
		calls++
		return nil, netlink.ErrDumpInterrupted
	})
	if !errors.Is(err, netlink.ErrDumpInterrupted) || calls != 8 {
		t.Errorf("%d calls, %v", calls, err)
	}
}
