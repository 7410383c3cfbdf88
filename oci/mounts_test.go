package oci

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// planOne plans a single mount of a bundle in dir.
func planOne(dir string, m specs.Mount) (mountPlan, error) {
	plans, err := planMounts(&Bundle{Dir: dir, Spec: &specs.Spec{Mounts: []specs.Mount{{Type: "tmpfs"}, m}}})
	if err != nil {
		return mountPlan{}, err
	}
	return plans[1], nil
}

func TestPlanBinds(t *testing.T) {
	dir := realTempDir(t)
	mkdir(t, filepath.Join(dir, "volume"))
	write(t, filepath.Join(dir, "file"), "")
	if err := os.Symlink("volume", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		mount specs.Mount
		want  Bind
	}{
		{
			"relative directory",
			specs.Mount{Type: "bind", Source: "volume"},
			Bind{Source: filepath.Join(dir, "volume"), GuestSource: "mounts/1/volume"},
		},
		{
			"file, read-only",
			specs.Mount{Source: filepath.Join(dir, "file"), Options: []string{"bind", "ro"}},
			Bind{Source: filepath.Join(dir, "file"), GuestSource: "mounts/1/file", ReadOnly: true},
		},
		{
			"symbolic link",
			specs.Mount{Source: "link", Options: []string{"rbind", "ro", "rw"}},
			Bind{Source: filepath.Join(dir, "link"), GuestSource: "mounts/1/volume", Recursive: true},
		},
		{
			"recursively read-only",
			specs.Mount{Source: "./volume/../volume/", Options: []string{"rbind", "rro"}},
			Bind{Source: filepath.Join(dir, "volume"), GuestSource: "mounts/1/volume", Recursive: true, ReadOnly: true, ReadOnlyBelow: true},
		},
		{
			"no longer read-only",
			specs.Mount{Source: "volume", Options: []string{"bind", "rro", "rrw"}},
			Bind{Source: filepath.Join(dir, "volume"), GuestSource: "mounts/1/volume"},
		},
		{
			"overlay",
			specs.Mount{Type: "overlay", Source: "any", Options: []string{"lowerdir=/lower", "ro", "private", "userxattr"}},
			Bind{Source: "overlay", Overlay: []string{"lowerdir=/lower", "userxattr"}, GuestSource: "mounts/1/overlay", ReadOnly: true},
		},
		{
			"the root directory",
			specs.Mount{Source: "/", Options: []string{"bind"}},
			Bind{Source: "/", GuestSource: "mounts/1/root"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.mount.Destination = "/dst"
			plan, err := planOne(dir, test.mount)
			if err != nil {
				t.Fatal(err)
			}
			test.want.Destination = "/dst"
			if diff := cmp.Diff(&test.want, plan.bind); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestPlanDevices(t *testing.T) {
	for source, want := range map[string]string{"/dev/null": "/dev/null", "/dev/urandom": "/dev/urandom"} {
		plan, err := planOne("/", specs.Mount{Type: "bind", Source: source, Destination: "/d"})
		if err != nil || plan.device != want || plan.bind != nil {
			t.Errorf("%s: %+v, %v", source, plan, err)
		}
	}
}

func TestPlanSockets(t *testing.T) {
	dir := realTempDir(t)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	if err := unix.Mkfifo(filepath.Join(dir, "p"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{"s", "p"} {
		if plan, err := planOne(dir, specs.Mount{Type: "bind", Source: source, Destination: "/d"}); err != nil || plan.bind == nil {
			t.Errorf("%s: %+v, %v", source, plan, err)
		}
	}
}

func TestPlanRefuses(t *testing.T) {
	dir := realTempDir(t)
	if err := os.Symlink("/proc", filepath.Join(dir, "proc")); err != nil {
		t.Fatal(err)
	}
	for source, want := range map[string]string{
		"/proc":          "proc of the host's kernel cannot be shared with a VM; mount one of type proc instead",
		"/proc/sys":      "proc of the host's kernel cannot be shared with a VM; mount one of type proc instead",
		"/sys":           "sysfs of the host's kernel cannot be shared with a VM; mount one of type sysfs instead",
		"proc":           "proc of the host's kernel cannot be shared with a VM; mount one of type proc instead",
		"/dev":           "the host's device nodes cannot be shared with a VM",
		"/dev/null/none": "stat /dev/null/none: not a directory",
		"none":           "stat " + dir + "/none: no such file or directory",
	} {
		if source == "/sys" && !isFilesystem("/sys", unix.SYSFS_MAGIC) {
			continue
		}
		_, err := planOne(dir, specs.Mount{Type: "bind", Source: source, Destination: "/d"})
		want = `mounts[1].source: error mounting "` + source + `" to rootfs at "/d": ` + want
		if err == nil || err.Error() != want {
			t.Errorf("%s:\n%v\nwant\n%s", source, err, want)
		}
	}
}

func TestPlanRefusesHostDevices(t *testing.T) {
	requireRoot(t)
	dir := realTempDir(t)
	for name, node := range map[string]struct {
		mode, major, minor uint32
		want               string
	}{
		"disk": {unix.S_IFBLK, 8, 0, "a device of the host (b 8:0) cannot be given to a VM"},
		"kvm":  {unix.S_IFCHR, 10, 232, "a device of the host (c 10:232) cannot be given to a VM"},
	} {
		path := filepath.Join(dir, name)
		if err := unix.Mknod(path, node.mode|0o600, int(unix.Mkdev(node.major, node.minor))); err != nil {
			t.Skipf("cannot make device nodes here: %v", err)
		}
		_, err := planOne(dir, specs.Mount{Type: "bind", Source: name, Destination: "/d"})
		if err == nil || !strings.HasSuffix(err.Error(), node.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func isFilesystem(path string, magic int64) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == magic
}
