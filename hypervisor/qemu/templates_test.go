package qemu

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"runch/hypervisor"
)

// fill writes the files of a template.
func fill(dir string) error {
	return errors.Join(
		os.WriteFile(filepath.Join(dir, memoryOfTemplate), []byte("memory"), 0o600),
		os.WriteFile(filepath.Join(dir, stateFile), []byte("state"), 0o600))
}

func newTemplates(t *testing.T) *templates {
	t.Helper()
	s, err := openTemplates(filepath.Join(t.TempDir(), "a", "b"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *templates) names(t *testing.T) []string {
	t.Helper()
	list, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func closeTemplate(tmpl *template) {
	_ = tmpl.memory.Close()
	_ = tmpl.state.Close()
}

func TestTemplateIsMadeOnce(t *testing.T) {
	s := newTemplates(t)
	if _, err := s.open("key"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open before there is one: %v, want fs.ErrNotExist", err)
	}
	made := 0
	for range 2 {
		tmpl, err := s.add("key", func(dir string) error {
			made++
			if _, err := s.add("another", fill); !errors.Is(err, errMaking) {
				t.Errorf("add while another one is made: %v, want errMaking", err)
			}
			return fill(dir)
		})
		if err != nil {
			t.Fatal(err)
		}
		closeTemplate(tmpl)
	}
	if made != 1 {
		t.Errorf("it was made %d times", made)
	}
}

func TestFailedTemplateLeavesNothing(t *testing.T) {
	s := newTemplates(t)
	broken := errors.New("broken")
	// What a maker that was killed has left is in nobody's way.
	if err := os.MkdirAll(filepath.Join(s.dir, newTemplate, memoryOfTemplate), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := s.add("key", func(dir string) error { return errors.Join(fill(dir), broken) })
	if !errors.Is(err, broken) {
		t.Errorf("add: %v, want the reason", err)
	}
	if names := s.names(t); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
}

func TestOldTemplatesAreRemoved(t *testing.T) {
	s := newTemplates(t)
	for i := range maxTemplates + 2 {
		tmpl, err := s.add(strconv.Itoa(i), fill)
		if err != nil {
			t.Fatal(err)
		}
		closeTemplate(tmpl)
		// Their order is told by these times, whatever the clock's resolution is.
		used := time.Now().Add(time.Duration(i-100) * time.Second)
		if err := os.Chtimes(filepath.Join(s.dir, strconv.Itoa(i)), used, used); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			continue
		}
		tmpl, err = s.open("0") // the oldest, which is used all the time
		if err != nil {
			t.Fatal(err)
		}
		closeTemplate(tmpl)
	}
	if diff := cmp.Diff([]string{"0", "3", "4", "5"}, s.names(t)); diff != "" {
		t.Errorf("templates, -want +got:\n%s", diff)
	}
}

func TestTemplatesOfOthersAreNotUsed(t *testing.T) {
	dir := t.TempDir()
	for _, mode := range []fs.FileMode{0o770, 0o707, 0o755} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := openTemplates(dir); err == nil {
			t.Errorf("a directory of mode %v is used", mode)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := errors.Join(os.Chmod(dir, 0o700), os.Symlink(dir, link)); err != nil { // #nosec G302 -- a directory
		t.Fatal(err)
	}
	if _, err := openTemplates(link); err == nil {
		t.Error("a link is used")
	}
	if os.Geteuid() != 0 {
		return
	}
	if err := os.Chown(dir, 1, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := openTemplates(dir); err == nil {
		t.Error("another user's directory is used")
	}
}

func TestCopyKeepsHoles(t *testing.T) {
	const size = 64 << 20
	src, err := memoryFile("source")
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if err := src.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{0, 5 << 20, size - 4096} {
		if _, err := src.WriteAt([]byte("data at "+strconv.FormatInt(at, 10)), at); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "copy")
	if err := copyToNew(path, src); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, size)
	if _, err := src.ReadAt(want, 0); err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Error("the copy is not the same")
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	if used := st.Blocks * 512; used > size/4 {
		t.Errorf("the copy has %d bytes on disk", used)
	}
}

// What differs between VMs of a kind is not in the key; what makes them another kind is.
func TestTemplateKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	key := func(change func(*VM)) string {
		vm := &VM{cfg: hypervisor.Config{Binary: file, Kernel: file, Accel: hypervisor.AccelTCG, MemoryMiB: 256, SerialPort: "port"}}
		vm.plan.cfg = &vm.cfg
		change(vm)
		key, err := vm.templateKey()
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	nic := func(last byte) []hypervisor.NIC {
		return []hypervisor.NIC{{ID: "n", MAC: net.HardwareAddr{2, 0, 0, 0, 0, last}}}
	}
	plain, withNIC := key(func(*VM) {}), key(func(vm *VM) { vm.cfg.NICs = nic(1) })
	for name, change := range map[string]func(*VM){
		"name": func(vm *VM) { vm.cfg.Name = "another" },
		"fds":  func(vm *VM) { vm.plan.memory, vm.plan.qmp, vm.plan.kernel = 7, 8, 9 },
		"dir":  func(vm *VM) { vm.cfg.Dir = "/another" },
	} {
		if key(change) != plain {
			t.Errorf("%s: another key", name)
		}
	}
	if key(func(vm *VM) { vm.cfg.NICs = nic(2) }) != withNIC {
		t.Error("another hardware address: another key")
	}
	seen := map[string]string{plain: "plain"}
	for name, change := range map[string]func(*VM){
		"memory":  func(vm *VM) { vm.cfg.MemoryMiB++ },
		"CPUs":    func(vm *VM) { vm.cfg.CPUs = 2 },
		"cmdline": func(vm *VM) { vm.cfg.Cmdline = []string{"a=b"} },
		"slots":   func(vm *VM) { vm.cfg.HotplugSlots = 9 },
		"NIC":     func(vm *VM) { vm.cfg.NICs = nic(1) },
		"kernel": func(vm *VM) {
			vm.cfg.Kernel = filepath.Join(filepath.Dir(file), "kernel")
			if err := os.WriteFile(vm.cfg.Kernel, []byte("another"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		k := key(change)
		if seen[k] != "" {
			t.Errorf("%s: the key of %s", name, seen[k])
		}
		seen[k] = name
	}
}
