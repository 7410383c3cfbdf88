package state

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"runch/oci"
	"runch/transport"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func testContainer(id string) *Container {
	timeout := 5
	return &Container{
		ID: id, Sandbox: id, OCIVersion: specs.Version, Bundle: "/b", Rootfs: "/b/rootfs",
		Created:     time.Date(2024, 2, 29, 12, 0, 0, 7, time.UTC),
		Annotations: map[string]string{"a": "b"}, Owner: "root",
		Creator: Process{PID: 1, StartTime: 2}, Shim: Process{PID: 3, StartTime: 4},
		Started: true, Ready: true, Share: "s",
		Cgroup: Cgroup{Path: "/c", Systemd: true, Paths: map[string]string{"": "/sys/fs/cgroup/c"}},
		Hooks:  &specs.Hooks{Poststop: []specs.Hook{{Path: "/bin/true", Timeout: &timeout}}},
	}
}

// newDir makes a container's directory with a record in it, locked.
func newDir(t *testing.T, s *Store, id string) *Dir {
	t.Helper()
	d, err := s.New(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	if err := d.Save(testContainer(id)); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestRecordsRoundTrip(t *testing.T) {
	s := NewStore(filepath.Join(t.TempDir(), "a", "b"))
	d := newDir(t, s, "c1")
	want := testContainer("c1")
	want.Version = Version
	got, err := s.Load("c1")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("container (-want +got):\n%s", diff)
	}
	if _, err := s.LoadSandbox("c1"); !errors.Is(err, ErrNotExist) {
		t.Errorf("no sandbox: %v", err)
	}
	leftNothingElse(t, d.Path(), containerFile)
}

func TestSandboxesAreApartFromContainers(t *testing.T) {
	s := NewStore(t.TempDir())
	container := newDir(t, s, "c1")
	d, err := s.NewSandbox(t.Context(), "c1")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	want := &Sandbox{
		ID: "c1", Holder: Process{PID: 3, StartTime: 4}, Owner: "c1", Endpoint: transport.Endpoint{Unix: "/s"}, VMM: "qemu",
		Members: map[string]Member{"c1": {Shim: Process{PID: 3, StartTime: 4}, Share: "s"}},
		Network: Network{NetNS: "/n", Taps: []Tap{{Name: "runch2", Link: "eth0", MAC: "02:00:00:00:00:01", MTU: 1500}}, Removed: []string{"runch3"}},
	}
	if err := d.Save(want); err != nil {
		t.Fatal(err)
	}
	got, err := d.Load()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sandbox (-want +got):\n%s", diff)
	}
	leftNothingElse(t, d.Path(), sandboxFile)
	if ids, err := s.IDs(); err != nil || len(ids) != 1 || ids[0] != "c1" {
		t.Errorf("containers %q, %v", ids, err)
	}
	if all, err := s.List(); err != nil || len(all) != 1 {
		t.Errorf("%d containers, %v", len(all), err)
	}
	if all, err := s.Sandboxes(); err != nil || len(all) != 1 || all[0].ID != "c1" {
		t.Errorf("sandboxes %v, %v", all, err)
	}
	// The container and the sandbox have separate locks, and the sandbox outlives the container.
	if err := container.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.LoadSandbox("c1"); err != nil {
		t.Error(err)
	}
	if _, err := s.New(t.Context(), sandboxPrefix+"c1"); !errors.Is(err, oci.ErrInvalidID) {
		t.Errorf("a container called as a sandbox's directory: %v", err)
	}
}

// A sandbox of an older runtime may still run.
func TestTapsOfFormerVersions(t *testing.T) {
	s, err := decodeSandbox([]byte(`{"version": 2, "id": "c1", "network": {"taps": ["runch2", "runch3"]}}`), "c1")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Tap{{Name: "runch2"}, {Name: "runch3"}}, s.Network.Taps); diff != "" {
		t.Errorf("taps (-want +got):\n%s", diff)
	}
}

// The root of a fallback runtime is below the store's root, and is not taken for a container.
func TestFallbackRoot(t *testing.T) {
	s := NewStore(t.TempDir())
	root := s.FallbackRoot("/usr/sbin/runc")
	if root != filepath.Join(s.Root(), "=runc") {
		t.Errorf("it is %s", root)
	}
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	if ids, err := s.IDs(); err != nil || len(ids) > 0 {
		t.Errorf("containers: %q, %v", ids, err)
	}
	if all, err := s.Sandboxes(); err != nil || len(all) > 0 {
		t.Errorf("sandboxes: %v, %v", all, err)
	}
	if _, err := s.New(t.Context(), filepath.Base(root)); !errors.Is(err, oci.ErrInvalidID) {
		t.Errorf("a container called as it: %v", err)
	}
}

// leftNothingElse reports files in dir other than the names.
func leftNothingElse(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if diff := cmp.Diff(names, got); diff != "" {
		t.Errorf("files in %s (-want +got):\n%s", dir, diff)
	}
}

func TestPermissions(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	d := newDir(t, NewStore(root), "c1")
	for path, want := range map[string]fs.FileMode{
		root: fs.ModeDir | rootMode, d.Path(): fs.ModeDir | dirMode, filepath.Join(d.Path(), containerFile): fileMode,
	} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode(), want)
		}
	}
}

func TestRuntimeDirIsSticky(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", dir)
	root := filepath.Join(dir, "runch")
	newDir(t, NewStore(root), "c1")
	info, err := os.Stat(root)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode()&fs.ModeSticky == 0 {
		t.Errorf("%s has mode %v", root, info.Mode())
	}
}

func TestUnknownAndInvalidIDs(t *testing.T) {
	s := NewStore(t.TempDir())
	operations := map[string]func(id string) error{
		"load":         func(id string) error { _, err := s.Load(id); return err },
		"load sandbox": func(id string) error { _, err := s.LoadSandbox(id); return err },
		"lock":         func(id string) error { _, err := s.Lock(t.Context(), id); return err },
	}
	for name, operation := range operations {
		if err := operation("none"); !errors.Is(err, ErrNotExist) {
			t.Errorf("%s of an unknown id: %v", name, err)
		}
	}
	operations["new"] = func(id string) error { _, err := s.New(t.Context(), id); return err }
	for name, operation := range operations {
		for _, id := range []string{"", ".", "..", "../x", "a/b", "/", "a\x00"} {
			if err := operation(id); !errors.Is(err, oci.ErrInvalidID) {
				t.Errorf("%s of %q: %v", name, id, err)
			}
		}
	}
	if err := operations["load"](strings.Repeat("x", 300)); err == nil {
		t.Error("an id too long for a file name was loaded")
	}
}

func TestNewTwice(t *testing.T) {
	s := NewStore(t.TempDir())
	d := newDir(t, s, "c1")
	if _, err := s.New(t.Context(), "c1"); !errors.Is(err, ErrExist) {
		t.Errorf("while locked: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.New(t.Context(), "c1"); !errors.Is(err, ErrExist) {
		t.Errorf("while unlocked: %v", err)
	}
	d, err := s.Lock(t.Context(), "c1")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(); err != nil {
		t.Fatal(err)
	}
	newDir(t, s, "c1")
}

func TestRemoveTakesEverything(t *testing.T) {
	root := t.TempDir()
	d := newDir(t, NewStore(root), "c1")
	if err := os.MkdirAll(filepath.Join(d.Path(), "vm", "deep"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.Path(), "vm", "deep", "socket"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Errorf("close after remove: %v", err)
	}
	leftNothingElse(t, root)
}

func TestMalformedRecords(t *testing.T) {
	good := `{"version": 1, "id": "c1", "created": "2024-02-29T12:00:00Z", "shim": {"pid": 1, "startTime": 2}}`
	for _, test := range []struct {
		name, text, want string
		is               error
	}{
		{"empty", "", "the file is empty", ErrMalformed},
		{"cut off", good[:40], "unexpected end of JSON input", ErrMalformed},
		{"syntax", "{]", "invalid character ']' looking for beginning of object key string", ErrMalformed},
		{"type", `{"version": 1, "id": "c1", "shim": 7}`, "json: cannot unmarshal number into Go struct field Container.shim of type state.Process", ErrMalformed},
		{"no version", `{"id": "c1"}`, "no version", ErrMalformed},
		{"null", `null`, "no version", ErrMalformed},
		{"other id", `{"version": 1, "id": "c2"}`, `it is of container "c2"`, ErrMalformed},
		{"runtime", `{"version": 1, "id": "c1", "fallback": "runc"}`, "\"runc\" is no absolute path", ErrMalformed},
		{"pid", `{"version": 1, "id": "c1", "shim": {"pid": -1}}`, "negative pid", ErrMalformed},
		{"newer", `{"version": 4, "shim": "another thing"}`, "4, this runch knows 3", ErrVersion},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := NewStore(t.TempDir())
			d := newDir(t, s, "c1")
			path := filepath.Join(d.Path(), containerFile)
			if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := s.Load("c1")
			if err == nil {
				t.Fatal("loaded")
			}
			want := path + ": " + test.is.Error() + ": " + test.want + " (`runch delete --force c1` removes what is left of the container)"
			if err.Error() != want || !errors.Is(err, test.is) {
				t.Errorf("error\n%v\nwant\n%s", err, want)
			}
		})
	}
}

func TestList(t *testing.T) {
	root := t.TempDir()
	s := NewStore(root)
	for _, id := range []string{"b", "a", "bad"} {
		newDir(t, s, id)
	}
	if err := os.WriteFile(filepath.Join(root, "bad", containerFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "being-made"), 0o700); err != nil {
		t.Fatal(err)
	}
	list, err := s.List()
	if !errors.Is(err, ErrMalformed) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v", err)
	}
	var ids []string
	for _, c := range list {
		ids = append(ids, c.ID)
	}
	if diff := cmp.Diff([]string{"a", "b"}, ids); diff != "" {
		t.Errorf("ids (-want +got):\n%s", diff)
	}
	all, err := s.IDs()
	if diff := cmp.Diff([]string{"a", "b", "bad", "being-made"}, all); diff != "" || err != nil {
		t.Errorf("all ids %v (-want +got):\n%s", err, diff)
	}
	if _, err := NewStore(filepath.Join(root, "none")).List(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no root: %v", err)
	}
}

func TestSaveOnFullDisk(t *testing.T) {
	s := NewStore(fullDisk(t))
	d := newDir(t, s, "c1")
	c := testContainer("c1")
	c.Annotations = map[string]string{"big": strings.Repeat("x", 4<<20)}
	err := d.Save(c)
	if err == nil || !strings.HasSuffix(err.Error(), "no space left on device") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v", err)
	}
	leftNothingElse(t, d.Path(), containerFile)
	if _, err := s.Load("c1"); err != nil {
		t.Errorf("the former record: %v", err)
	}
}
