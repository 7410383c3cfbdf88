package state

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSelf(t *testing.T) {
	p, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	if p.PID != os.Getpid() || p.StartTime == 0 || !p.Alive() {
		t.Errorf("%+v, alive %t", p, p.Alive())
	}
	p.StartTime++
	if p.Alive() {
		t.Error("another process of the same pid counts as this one")
	}
}

func TestNobodyIsDead(t *testing.T) {
	for _, p := range []Process{{}, {PID: -1}, {PID: 1 << 30, StartTime: 1}} {
		if p.Alive() {
			t.Errorf("%+v is alive", p)
		}
	}
	if _, err := ProcessOf(1 << 30); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

// TestZombieIsDead looks at a child that has ended and was not reaped.
func TestZombieIsDead(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "read line")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := ProcessOf(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if !p.Alive() {
		t.Error("the child is dead")
	}
	_ = stdin.Close()
	// WNOWAIT leaves it a zombie.
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if p.Alive() {
		t.Error("a zombie is alive")
	}
	_ = cmd.Wait()
	if p.Alive() {
		t.Error("a reaped process is alive")
	}
}

func TestStatus(t *testing.T) {
	self, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	dead := Process{PID: self.PID, StartTime: self.StartTime + 1}
	for _, test := range []struct {
		name string
		c    Container
		want string
	}{
		{"only begun", Container{Creator: self}, StatusCreating},
		{"begun and killed", Container{Creator: dead}, StatusStopped},
		{"without a creator", Container{}, StatusStopped},
		{"being made", Container{Creator: self, Shim: self}, StatusCreating},
		{"made, creator gone", Container{Creator: dead, Shim: self, Ready: true}, StatusCreated},
		{"running", Container{Shim: self, Ready: true, Started: true}, StatusRunning},
		{"paused", Container{Shim: self, Ready: true, Started: true, Paused: true}, StatusPaused},
		{"ended", Container{Shim: dead, Ready: true, Started: true, Paused: true}, StatusStopped},
		{"failed while made", Container{Creator: self, Shim: dead}, StatusStopped},
	} {
		if got := test.c.Status(); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

func TestDefaultRoot(t *testing.T) {
	uidMap, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		t.Fatal(err)
	}
	user := os.Geteuid() != 0
	inside := !wholeUIDMap(string(uidMap))
	for _, test := range []struct {
		dir, user, want string
		skip            bool
	}{
		{"", "", "/run/runch", false},
		{"/run/user/7", "root", "/run/runch", user},
		{"/run/user/7", "me", "/run/runch", user || inside},
		{"/run/user/7", "me", "/run/user/7/runch", !user && !inside},
	} {
		if test.skip {
			continue
		}
		t.Setenv("XDG_RUNTIME_DIR", test.dir)
		t.Setenv("USER", test.user)
		if got := DefaultRoot(); got != test.want {
			t.Errorf("%+v: %s", test, got)
		}
	}
	for text, want := range map[string]bool{
		"         0          0 4294967295\n": true, "0 1000 1\n1 100000 65536\n": false, "": false,
	} {
		if wholeUIDMap(text) != want {
			t.Errorf("uid map %q is whole: %t", text, !want)
		}
	}
}

// TestReusedPid gives the pid of a dead process to another one, through ns_last_pid. It
// does so in a pid namespace of its own, where no foreign process takes that pid.
func TestReusedPid(t *testing.T) {
	const inside = "RUNCH_TEST_IN_A_PID_NAMESPACE"
	if os.Getenv(inside) == "" {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestReusedPid$", "-test.v")
		cmd.Env = append(os.Environ(), inside+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS}
		out, err := cmd.CombinedOutput()
		switch {
		case errors.Is(err, fs.ErrPermission):
			t.Skipf("SKIPPED: no pid namespace for this user: %v", err)
		case err != nil || !strings.Contains(string(out), "--- PASS: TestReusedPid"):
			t.Errorf("in a pid namespace: %v: %s", err, out)
		}
		return
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		t.Fatal(err)
	}
	first := ended(t)
	for {
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(first.PID-1)), 0); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "sleep", "60")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		second := processOf(t, cmd.Process.Pid)
		alive := first.Alive()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if second.PID == first.PID && second.StartTime != first.StartTime {
			if alive {
				t.Error("a dead process is alive in another of its pid")
			}
			return
		}
	}
}

// ended is a process that has ended and was reaped.
func ended(t *testing.T) Process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := ProcessOf(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	return p
}
