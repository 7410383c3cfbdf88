package oci

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

var update = flag.Bool("update", false, "write the golden files")

func testPlacement() Placement {
	return Placement{Shared: "/run/runch/shared/c1", NetNS: "/run/runch/netns"}
}

// split checks a bundle as Load does, for the host env, and splits it.
func split(b *Bundle, id string, in Placement, env *environment) (*HostPart, *specs.Spec, error) {
	checked := &Bundle{Dir: b.Dir, Spec: b.Spec}
	err := checked.check(env)
	if err != nil {
		return nil, nil, err
	}
	return Split(checked, id, in)
}

// golden is what a golden file holds.
type golden struct {
	Host  *HostPart   `json:"host"`
	Guest *specs.Spec `json:"guest"`
}

// bundlePlaceholder stands for the bundle's directory in testdata.
const bundlePlaceholder = "@BUNDLE@"

func TestSplitGolden(t *testing.T) {
	env := testEnvironment()
	env.selinux, env.apparmor = true, true
	for _, name := range []string{"default", "podman", "containerd"} {
		t.Run(name, func(t *testing.T) {
			config := mustJSON(t, testSpec())
			if name != "default" {
				var err error
				if config, err = os.ReadFile(filepath.Join("testdata", name+".json")); err != nil {
					t.Fatal(err)
				}
			}
			b := testBundle(t, config)
			before := mustJSON(t, b.Spec)
			host, guest, err := split(b, "c1", testPlacement(), env)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(before), string(mustJSON(t, b.Spec))); diff != "" {
				t.Errorf("the bundle's spec was changed (-before +after):\n%s", diff)
			}
			got := bytes.ReplaceAll(mustJSON(t, golden{host, guest}), []byte(b.Dir), []byte(bundlePlaceholder))
			compareGolden(t, filepath.Join("testdata", "golden", name+".json"), got)
		})
	}
}

// testBundle makes a bundle with what the specs in testdata want to bind.
func testBundle(t *testing.T, config []byte) *Bundle {
	t.Helper()
	dir := writeBundle(t, nil)
	for _, name := range []string{"userdata/shm", "data"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"resolv.conf", "hosts", ".containerenv"} {
		if err := os.WriteFile(filepath.Join(dir, "userdata", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config = bytes.ReplaceAll(config, []byte(bundlePlaceholder), []byte(dir))
	var spec specs.Spec
	if err := json.Unmarshal(config, &spec); err != nil {
		t.Fatal(err)
	}
	return &Bundle{Dir: dir, Spec: &spec, Rootfs: filepath.Join(dir, "rootfs")}
}

func compareGolden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestSplitRefuses(t *testing.T) {
	b := testBundle(t, mustJSON(t, testSpec()))
	for _, test := range []struct {
		name, id, want string
		change         func(*specs.Spec)
	}{
		{"id", "a/b", "invalid container ID format", func(*specs.Spec) {}},
		{"spec", "c1", "root: root must be specified", func(s *specs.Spec) { s.Root = nil }},
		{
			"size", "c1", "the spec is too large: 4196159 bytes, and the guest takes 3145728",
			func(s *specs.Spec) { s.Process.Args = []string{strings.Repeat("x", 4<<20)} },
		},
		{
			"missing source", "c1",
			`mounts[0].source: error mounting "/does/not/exist" to rootfs at "/x": stat /does/not/exist: no such file or directory`,
			func(s *specs.Spec) {
				s.Mounts = []specs.Mount{{Destination: "/x", Type: "bind", Source: "/does/not/exist"}}
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			changed, err := clone(b.Spec)
			if err != nil {
				t.Fatal(err)
			}
			test.change(changed)
			_, _, err = split(&Bundle{Dir: b.Dir, Rootfs: b.Rootfs, Spec: changed}, test.id, testPlacement(), testEnvironment())
			if err == nil || err.Error() != test.want {
				t.Errorf("error %v, want %s", err, test.want)
			}
		})
	}
}

// A namespace with a path is another container's, and has to be in the same sandbox.
func TestSplitJoinsNamespacesOfTheSandboxAlone(t *testing.T) {
	for _, kind := range []specs.LinuxNamespaceType{specs.PIDNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.UserNamespace} {
		b := testBundle(t, mustJSON(t, testSpec()))
		set := slices.DeleteFunc(b.Spec.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == kind })
		b.Spec.Linux.Namespaces = append(set, specs.LinuxNamespace{Type: kind, Path: "/p"})
		_, _, err := split(b, "c1", testPlacement(), testEnvironment())
		if want := fmt.Sprintf("cannot join the %s namespace /p: it is not in the container's VM", kind); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v", kind, err)
		}
		in := testPlacement()
		in.Joined = map[specs.LinuxNamespaceType]bool{kind: true}
		host, guest, err := split(b, "c1", in, testEnvironment())
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		if host.Namespaces[kind] != "/p" {
			t.Errorf("%s: the host's part has %q", kind, host.Namespaces)
		}
		for _, ns := range guest.Linux.Namespaces {
			if ns.Path != "" && ns.Path != in.NetNS {
				t.Errorf("%s: the guest's has a path of the host's, %s", kind, ns.Path)
			}
		}
	}
}

func TestHostNeeds(t *testing.T) {
	cpu := func(quota int64, period uint64) *specs.LinuxResources {
		return &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: &quota, Period: &period}}
	}
	memory := func(limit int64) *specs.LinuxResources {
		return &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
	}
	for _, test := range []struct {
		name    string
		res     *specs.LinuxResources
		cpus    int
		hasCPUs bool
		memory  int64
		limited bool
	}{
		{name: "nothing"},
		{name: "empty", res: &specs.LinuxResources{}},
		{name: "a part of a CPU", res: cpu(1, 100_000), cpus: 1, hasCPUs: true},
		{name: "one and a half", res: cpu(150_000, 100_000), cpus: 2, hasCPUs: true},
		{name: "two", res: cpu(200_000, 100_000), cpus: 2, hasCPUs: true},
		{name: "default period", res: cpu(300_000, 0), cpus: 3, hasCPUs: true},
		{name: "unlimited", res: cpu(-1, 100_000)},
		{name: "memory", res: memory(1 << 20), memory: 1 << 20, limited: true},
		{name: "unset memory", res: memory(0)},
		{name: "unlimited memory", res: memory(-1), memory: -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := &HostPart{Resources: test.res}
			if n, ok := h.CPUs(); n != test.cpus || ok != test.hasCPUs {
				t.Errorf("CPUs %d, %t", n, ok)
			}
			if n, ok := h.MemoryLimit(); n != test.memory || ok != test.limited {
				t.Errorf("memory %d, %t", n, ok)
			}
		})
	}
}

// TestBindWithoutData: the guest gets a bind's options without those of a file system's
// driver, and all of a tmpfs's.
func TestBindWithoutData(t *testing.T) {
	b := testBundle(t, mustJSON(t, testSpec()))
	b.Spec.Mounts = []specs.Mount{
		{Destination: "/x", Source: "/", Options: []string{"nosuid", "mode=755", "rbind", "shared", "size=1k", "rro"}},
		{Destination: "/y", Type: "tmpfs", Options: []string{"nosuid", "mode=755"}},
	}
	_, guest, err := split(b, "c1", testPlacement(), testEnvironment())
	if err != nil {
		t.Fatal(err)
	}
	want := [][]string{{"nosuid", "rbind", "shared", "rro"}, {"nosuid", "mode=755"}}
	if diff := cmp.Diff(want, [][]string{guest.Mounts[0].Options, guest.Mounts[1].Options}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestUserNamespaceOwnsItsNetwork(t *testing.T) {
	b := testBundle(t, mustJSON(t, testSpec()))
	b.Spec.Linux.Namespaces = append(b.Spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	b.Spec.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
	b.Spec.Linux.GIDMappings = b.Spec.Linux.UIDMappings
	_, guest, err := split(b, "c1", testPlacement(), testEnvironment())
	if err != nil {
		t.Fatal(err)
	}
	if path, ok := namespacesOf(guest.Linux)[specs.NetworkNamespace]; !ok || path != "" {
		t.Errorf("network namespace %q, %t", path, ok)
	}
}

func TestFIFOHasNoNumber(t *testing.T) {
	b := testBundle(t, mustJSON(t, testSpec()))
	b.Spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/fifo", Type: "p", Major: 8, Minor: 666}, {Path: "/dev/x", Type: "c", Major: 10, Minor: 666}}
	_, guest, err := split(b, "c1", testPlacement(), testEnvironment())
	if err != nil {
		t.Fatal(err)
	}
	want := []specs.LinuxDevice{{Path: "/dev/fifo", Type: "p"}, {Path: "/dev/x", Type: "c", Major: 10, Minor: 666}}
	if diff := cmp.Diff(want, guest.Linux.Devices); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The listener is a socket of the host, so the guest's spec does not name it.
func TestSeccompListenerStaysOnTheHost(t *testing.T) {
	b := testBundle(t, mustJSON(t, testSpec()))
	b.Spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerPath: "/s", ListenerMetadata: "m"}
	_, guest, err := split(b, "c1", testPlacement(), testEnvironment())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow}, guest.Linux.Seccomp); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
