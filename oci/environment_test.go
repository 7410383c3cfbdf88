package oci

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestCheckNetNSRefuses(t *testing.T) {
	for path, want := range map[string]string{
		"/proc/self/ns/net": "/proc/self/ns/net is the host's network namespace, which a VM cannot share",
		"/proc/self/ns/pid": "/proc/self/ns/pid is not a network namespace",
		"/dev/null":         "/dev/null is not a network namespace",
		"/":                 "/ is not a network namespace",
		"/no/such/ns":       "open /no/such/ns: no such file or directory",
	} {
		err := checkNetNS(path)
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
}

func TestCheckNetNSAccepts(t *testing.T) {
	requireRoot(t)
	cmd := exec.CommandContext(t.Context(), "/bin/cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("cannot make a network namespace here: %v", err)
	}
	path := "/proc/" + strconv.Itoa(cmd.Process.Pid) + "/ns/net"
	if err := checkNetNS(path); err != nil {
		t.Error(err)
	}
	_ = stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestHostEnvironment(t *testing.T) {
	env := hostEnvironment()
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if env.hostname != name || strings.Contains(env.domainname, "none") {
		t.Errorf("names %q, %q; the host is %q", env.hostname, env.domainname, name)
	}
}
