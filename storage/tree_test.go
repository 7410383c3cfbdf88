package storage

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"runch/oci"

	"golang.org/x/sys/unix"
)

// The tree changes the root of the process that makes it, so each test runs its
// body in a child of its own. insideTest is the variable that names the body.
const insideTest = "RUNCH_STORAGE_TEST"

var bodies = map[string]func(dir string) error{
	"view":          viewBody,
	"processes":     processesBody,
	"protect":       protectBody,
	"enter":         enterBody,
	"member":        memberBody,
	"leave":         leaveBody,
	"half":          halfBody,
	"overlay":       overlayBody,
	"nothing":       nothingOfTheHostBody,
	"covered":       covered(nothingOfTheHostBody),
	"covered-shim":  covered(memberBody),
	"covered-exec":  covered(enterBody),
	"served":        servedBody,
	"pretends":      linkBody,
	"passage":       passageBody,
	"same-place":    samePlaceBody,
	"below":         belowBody,
	"idmap":         idMapBody,
	"refused-idmap": refusedIDMapBody,
	"foreign-idmap": foreignIDMapBody,
}

func TestMain(m *testing.M) {
	if name := os.Getenv(insideTest); name != "" {
		if err := bodies[name](os.Getenv(insideTest + "_DIR")); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// inNamespaces runs a body as a shim would run: in a pid and mount namespace of
// its own. dir has a rootfs, two volumes and an empty directory for the tree.
func inNamespaces(t *testing.T, name string) (dir string) {
	t.Helper()
	return inNamespacesOf(t, name, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID})
}

func inNamespacesOf(t *testing.T, name string, attr *syscall.SysProcAttr) (dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mount namespaces need root")
	}
	dir = t.TempDir()
	for _, d := range []string{"rootfs/proc", "rootfs/etc", "rootfs/data", "rootfs/ro", "rootfs/run", "volume", "tree"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	for f, text := range map[string]string{"rootfs/etc/name": "rootfs", "rootfs/etc/hosts": "", "volume/file": "volume", "hosts": "bound"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), insideTest+"="+name, insideTest+"_DIR="+dir)
	cmd.SysProcAttr = attr
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s (%v)", out, err)
	}
	return dir
}

func binds(dir string) []oci.Bind {
	return []oci.Bind{
		{Source: filepath.Join(dir, "volume"), Destination: "/data", GuestSource: "mounts/0/volume", Recursive: true},
		{Source: filepath.Join(dir, "volume"), Destination: "/ro", GuestSource: "mounts/1/volume", ReadOnly: true},
		{Source: filepath.Join(dir, "hosts"), Destination: "/etc/hosts", GuestSource: "mounts/4/hosts"},
		{Source: filepath.Join(dir, "volume"), Destination: "/run/in/tmpfs", GuestSource: "mounts/5/volume"},
	}
}

// makeView does all that a shim does.
func makeView(dir string) error {
	t, err := shared(dir)
	if err != nil {
		return err
	}
	mounts, err := t.Clones("id")
	if err != nil {
		return err
	}
	defer CloseMounts(mounts)
	if err := t.Leave(); err != nil {
		return err
	}
	return t.EnterView(mounts, viewOfTest(dir))
}

func viewOfTest(dir string) View {
	return View{Binds: binds(dir), Tmpfs: []string{"/run", "/absent"}}
}

func shared(dir string) (*Tree, error) {
	if err := SlaveMounts(); err != nil {
		return nil, err
	}
	t, err := NewTree(filepath.Join(dir, "tree"))
	if err != nil {
		return nil, err
	}
	_, err = shareClones(t, dir, binds(dir))
	return t, err
}

// shareClones clones a container's files, shares them as "id", and gives the
// mounts below them.
func shareClones(t *Tree, dir string, binds []oci.Bind) ([]string, error) {
	mounts, submounts, err := Clone(filepath.Join(dir, "rootfs"), binds)
	if err != nil {
		return nil, err
	}
	defer CloseMounts(mounts)
	return submounts, t.Share("id", mounts)
}

func contains(path, want string) error {
	got, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if string(got) != want {
		return fmt.Errorf("%s has %q, not %q", path, got, want)
	}
	return nil
}

func viewBody(dir string) error {
	if err := makeView(dir); err != nil {
		return err
	}
	return checkView()
}

func checkView() error {
	readOnly := func(path string) error {
		if err := os.WriteFile(path, nil, 0o600); !errors.Is(err, unix.EROFS) {
			return fmt.Errorf("write to %s: %w", path, err)
		}
		return nil
	}
	return errors.Join(
		contains("/etc/name", "rootfs"), contains("/data/file", "volume"), contains("/ro/file", "volume"),
		contains("/etc/hosts", "bound"), contains("/run/in/tmpfs/file", "volume"),
		readOnly("/ro/new"), readOnly("/run/new"),
		os.WriteFile("/data/new", []byte("from the view"), 0o600),
		contains("/proc/self/comm", filepath.Base(os.Args[0])[:min(15, len(filepath.Base(os.Args[0])))]+"\n"),
	)
}

func TestViewIsTheContainer(t *testing.T) {
	dir := inNamespaces(t, "view")
	if err := contains(filepath.Join(dir, "volume/new"), "from the view"); err != nil {
		t.Error(err)
	}
}

// TestViewInAUserNamespace runs as under rootless podman: the kernel mounts a proc there
// only where one is visible.
func TestViewInAUserNamespace(t *testing.T) {
	all := []syscall.SysProcIDMap{{Size: 1 << 16}}
	inNamespacesOf(t, "view", &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUSER,
		UidMappings: all, GidMappings: all, GidMappingsEnableSetgroups: true,
	})
}

// nothingOfTheHostBody looks for mounts that would keep the host's file
// systems busy.
func nothingOfTheHostBody(dir string) error {
	if err := makeView(dir); err != nil {
		return err
	}
	return checkNothingOfTheHost(dir)
}

func checkNothingOfTheHost(dir string) error {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(info)) {
		mountPoint := strings.Fields(line)[4]
		switch mountPoint {
		case "/", "/data", "/ro", "/etc/hosts", "/run", "/run/in/tmpfs", "/proc":
		default:
			return fmt.Errorf("a mount of the host's is left: %s", line)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the host's %s can be seen: %w", dir, err)
	}
	return checkTop()
}

// checkTop checks that nothing is mounted on top of the view: a process that enters the
// mount namespace gets the topmost mount of its root.
func checkTop() error {
	root, err := mountAt("/")
	if err != nil {
		return err
	}
	top, err := mountAt("/..")
	if err == nil && top != root {
		err = fmt.Errorf("mount %d is on top of the view's, %d", top, root)
	}
	return err
}

func TestNothingOfTheHostIsLeft(t *testing.T) { inNamespaces(t, "nothing") }

// enterBody has a second process enter the view of the first.
func enterBody(dir string) error {
	if os.Getenv(insideTest+"_PID") != "" {
		pid, err := strconv.Atoi(os.Getenv(insideTest + "_PID"))
		if err != nil {
			return err
		}
		if err := JoinView(pid); err != nil {
			return err
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("the host's %s can be seen: %w", dir, err)
		}
		return errors.Join(contains("/etc/name", "rootfs"), contains("/data/file", "volume"), checkTop())
	}
	// The child is made while this process still has the host's files, as the
	// shim of an exec is, and waits on its stdin until the view is there.
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	child := exec.Command("/bin/sh", "-c", "read -r go; exec "+exe) //nolint:noctx // this test's own program, waited for below
	// This /proc is still the host's, where this process has another pid.
	self, err := os.Readlink("/proc/self")
	if err != nil {
		return err
	}
	child.Env = append(os.Environ(), insideTest+"_PID="+self)
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	in, err := child.StdinPipe()
	if err != nil {
		return err
	}
	var out strings.Builder
	child.Stdout, child.Stderr = &out, &out
	if err := child.Start(); err != nil {
		return err
	}
	if err := makeView(dir); err != nil {
		return errors.Join(err, child.Process.Kill())
	}
	if _, err := in.Write([]byte("go\n")); err != nil {
		return err
	}
	if err := child.Wait(); err != nil {
		return fmt.Errorf("%s: %w", out.String(), err)
	}
	return nil
}

func TestJoinView(t *testing.T) { inNamespaces(t, "enter") }

// memberBody makes the view of a process that holds no tree, like the shim of a
// container whose VM another process holds.
func memberBody(dir string) error {
	if err := SlaveMounts(); err != nil {
		return err
	}
	mounts, _, err := Clone(filepath.Join(dir, "rootfs"), binds(dir))
	if err != nil {
		return err
	}
	defer CloseMounts(mounts)
	if err := EnterView(filepath.Join(dir, "rootfs"), mounts, viewOfTest(dir)); err != nil {
		return err
	}
	return errors.Join(checkView(), checkNothingOfTheHost(dir))
}

func TestViewWithoutATree(t *testing.T) { inNamespaces(t, "member") }

// linkBody has a rootfs whose links point out of it.
func linkBody(dir string) error {
	rootfs := filepath.Join(dir, "rootfs")
	if err := os.Remove(filepath.Join(rootfs, "data")); err != nil {
		return err
	}
	if err := os.Symlink(filepath.Join(dir, "victim"), filepath.Join(rootfs, "data")); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(dir, "victim"), 0o750); err != nil {
		return err
	}
	if err := makeView(dir); err != nil {
		return err
	}
	// The link leads nowhere inside the rootfs, so nothing is bound there.
	if _, err := os.Stat("/data/file"); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the volume is at %s: %w", "/data", err)
	}
	return contains("/ro/file", "volume")
}

func TestLinksOfTheRootfsStayInIt(t *testing.T) { inNamespaces(t, "pretends") }
