package oci

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// checkError checks what callers rely on in an error: it is one line without control
// characters, of at most 8 KiB.
func checkError(t *testing.T, err error) {
	t.Helper()
	text := err.Error()
	if text == "" || len(text) > 8<<10 || strings.IndexFunc(text, unicode.IsControl) >= 0 {
		t.Errorf("error of %d bytes: %q", len(text), text)
	}
}

// FuzzConfig feeds config.json files to what reads, checks and splits them.
func FuzzConfig(f *testing.F) {
	for _, name := range []string{"podman", "containerd"} {
		data, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(bytes.ReplaceAll(data, []byte(bundlePlaceholder), []byte("/etc")))
	}
	data, err := json.Marshal(testSpec())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	env := testEnvironment()
	env.selinux, env.apparmor = true, true
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		var spec *specs.Spec
		if err := decode(bytes.NewReader(data), &spec); err != nil {
			checkError(t, err)
			return
		}
		if spec == nil {
			return
		}
		host, guest, err := split(&Bundle{Dir: dir, Rootfs: dir, Spec: spec}, "c1", testPlacement(), env)
		if err != nil {
			checkError(t, err)
			return
		}
		checkGuest(t, host, guest)
	})
}

// checkGuest checks what the guest relies on in an accepted spec.
func checkGuest(t *testing.T, host *HostPart, guest *specs.Spec) {
	t.Helper()
	shared := testPlacement().Shared + "/c1/"
	if guest.Root.Path != shared+"rootfs" || guest.Linux.CgroupsPath != "/runch/c1" {
		t.Errorf("root %q, cgroup %q", guest.Root.Path, guest.Linux.CgroupsPath)
	}
	if guest.Process.SelinuxLabel != "" || guest.Process.ApparmorProfile != "" || guest.Linux.MountLabel != "" {
		t.Error("labels of the host reached the guest")
	}
	for _, ns := range guest.Linux.Namespaces {
		if ns.Path != "" && ns.Path != testPlacement().NetNS {
			t.Errorf("namespace %s has path %q", ns.Type, ns.Path)
		}
	}
	binds := make(map[string]bool)
	for _, b := range host.Binds {
		if !filepath.IsLocal(b.GuestSource) || !filepath.IsAbs(b.Source) {
			t.Errorf("bind %+v", b)
		}
		binds[shared+b.GuestSource] = true
	}
	for _, m := range guest.Mounts {
		if isBind(m) && !binds[m.Source] && !strings.HasPrefix(m.Source, "/dev/") {
			t.Errorf("bind of the guest's own %s", m.Source)
		}
		if m.UIDMappings != nil || m.GIDMappings != nil || isBind(m) && hasOption(m, "idmap", "ridmap") {
			t.Errorf("the guest is to map the ids of %s once more", m.Source)
		}
	}
	if guest.Hooks != nil && (len(guest.Hooks.CreateRuntime) > 0 || len(guest.Hooks.Poststop) > 0) {
		t.Error("hooks of the host reached the guest")
	}
	_, _ = host.CPUs()
	if n, ok := host.MemoryLimit(); ok && n <= 0 {
		t.Errorf("memory limit %d", n)
	}
}

// FuzzProcess feeds process.json files to LoadProcess.
func FuzzProcess(f *testing.F) {
	f.Add([]byte(`{"args": ["id"], "cwd": "/", "env": ["A=b"], "user": {"uid": 1}}`))
	f.Add([]byte(`{"args": ["sh"], "cwd": "/", "terminal": true, "consoleSize": {"height": 24, "width": 80}, "rlimits": [{"type": "RLIMIT_CORE", "hard": 1, "soft": 0}]}`))
	f.Add([]byte(`{"args": ["x"], "cwd": "/", "scheduler": {"policy": "SCHED_FIFO", "priority": 3}, "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 2}, "execCPUAffinity": {"initial": "0-1,3"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := LoadProcess(bytes.NewReader(data))
		if err != nil {
			checkError(t, err)
			return
		}
		if len(p.Args) == 0 || !filepath.IsAbs(p.Cwd) {
			t.Errorf("process %+v", p)
		}
	})
}

// FuzzAnnotations feeds annotations to what reads a pod from them.
func FuzzAnnotations(f *testing.F) {
	f.Add("c1", crioType, typeContainer, crioSandbox, "p1")
	f.Add("c1", containerdType, typeSandbox, containerdPod, "c1")
	f.Add("c1", crioSandbox, "../x", "", "")
	f.Fuzz(func(t *testing.T, id, name1, value1, name2, value2 string) {
		role, sandbox, err := RoleOf(id, map[string]string{name1: value1, name2: value2})
		switch {
		case err != nil:
			checkError(t, err)
		case (role == Member || role == MemberOrAlone) && (ValidateID(sandbox) != nil || sandbox == id):
			t.Errorf("member of %q", sandbox)
		case role == Sandbox && sandbox != id:
			t.Errorf("sandbox %q", sandbox)
		}
	})
}

// FuzzArguments feeds ids and signals to the functions that read them.
func FuzzArguments(f *testing.F) {
	for _, word := range []string{"c1", "..", "SIGTERM", "rtmin+3", "64", "-9", "a/b"} {
		f.Add(word)
	}
	f.Fuzz(func(t *testing.T, word string) {
		if ValidateID(word) == nil && filepath.Base(filepath.Join("/root", word)) != word {
			t.Errorf("id %q is not a name", word)
		}
		if sig, err := ParseSignal(word); err != nil {
			checkError(t, err)
		} else if sig < 0 || sig > maxSignal {
			t.Errorf("signal %q is %d", word, sig)
		}
	})
}
