package agent

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"runch/agentproto"
)

func TestCheckID(t *testing.T) {
	for id, good := range map[string]bool{
		"a": true, "A-b_c+d.9": true, strings.Repeat("x", maxID): true,
		"": false, ".": false, "..": false, "a/b": false, "a b": false, "\x00": false, "é": false,
		strings.Repeat("x", maxID+1): false,
	} {
		err := checkID("container_id", id)
		if good != (err == nil) {
			t.Errorf("%.20q: %v", id, err)
		}
		if err != nil && codeOf(err) != codes.InvalidArgument {
			t.Errorf("%.20q: code %s", id, codeOf(err))
		}
	}
}

const goodSpec = `{"root":{"path":"/run/runch/shared/a/rootfs"},"process":{"args":["true"],"cwd":"/"},"linux":{"cgroupsPath":"/runch/a","namespaces":[{"type":"ipc"}]}}`

func TestDecodeSpecNamesTheField(t *testing.T) {
	if _, err := decodeSpec([]byte(goodSpec)); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, old, to, field string }{
		{"not json", goodSpec, "{", "spec"},
		{"an array", goodSpec, "[]", "spec"},
		{"null", goodSpec, "null", "root.path"},
		{"no root", `"root"`, `"toor"`, "root.path"},
		{"relative root", `"/run/runch/shared/a/rootfs"`, `"rootfs"`, "root.path"},
		{"no linux", `"linux"`, `"solaris"`, "linux"},
		{"no cgroup", `"/runch/a"`, `""`, "cgroupsPath"},
		{"cgroup is the root", `"/runch/a"`, `"/x/.."`, "cgroupsPath"},
		{"no process", `"process"`, `"ssecorp"`, "process"},
		{"no args", `["true"]`, `[]`, "process.args"},
		{"relative cwd", `"cwd":"/"`, `"cwd":"tmp"`, "process.cwd"},
		{"too large", goodSpec, strings.Repeat(" ", maxSpec+1), "spec"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := decodeSpec([]byte(strings.Replace(goodSpec, tc.old, tc.to, 1)))
			if err == nil || !strings.Contains(err.Error(), tc.field) || codeOf(err) != codes.InvalidArgument {
				t.Errorf("error %v does not name %s", err, tc.field)
			}
		})
	}
}

func TestCheckStdio(t *testing.T) {
	for _, tc := range []struct {
		stdio    *agentproto.Stdio
		terminal bool
		good     bool
	}{
		{nil, false, true},
		{nil, true, true},
		{&agentproto.Stdio{Stdin: 1, Stdout: 2, Stderr: 3}, false, true},
		{&agentproto.Stdio{Stdin: 1, Stdout: 2, Stderr: 3}, true, false},
		{&agentproto.Stdio{Stdin: 1, Stdout: 2}, true, true},
		{&agentproto.Stdio{Stdin: 1, Stdout: 1}, false, false},
		{&agentproto.Stdio{Stdout: 2, Stderr: 2}, false, false},
	} {
		if err := checkStdio(tc.stdio, tc.terminal); tc.good != (err == nil) {
			t.Errorf("%v, terminal %v: %v", tc.stdio, tc.terminal, err)
		}
	}
}

func TestCheckSize(t *testing.T) {
	for _, tc := range []struct {
		size *agentproto.TerminalSize
		good bool
	}{
		{nil, true},
		{&agentproto.TerminalSize{Height: 24, Width: 80}, true},
		{&agentproto.TerminalSize{Height: 1<<16 - 1, Width: 1<<16 - 1}, true},
		{&agentproto.TerminalSize{Height: 1 << 16}, false},
		{&agentproto.TerminalSize{Width: 1 << 31}, false},
	} {
		if err := checkSize(tc.size); tc.good != (err == nil) {
			t.Errorf("%v: %v", tc.size, err)
		}
	}
}

func TestNewProcess(t *testing.T) {
	caps := []string{"CAP_KILL"}
	no := false
	got, err := newProcess(&specs.Process{
		Terminal:     true,
		ConsoleSize:  &specs.Box{Height: 1, Width: 2},
		User:         specs.User{UID: 5, GID: 6, AdditionalGids: []uint32{7, 8}},
		Args:         []string{"sh"},
		Env:          []string{"A=b"},
		Cwd:          "/tmp",
		Capabilities: &specs.LinuxCapabilities{Bounding: caps, Ambient: caps},
		Rlimits:      []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 9, Soft: 8}},
	}, &agentproto.TerminalSize{Height: 33, Width: 101}, false)
	if err != nil {
		t.Fatal(err)
	}
	want := &libcontainer.Process{
		UID: 5, GID: 6, AdditionalGroups: []int{7, 8},
		Args: []string{"sh"}, Env: []string{"A=b"}, Cwd: "/tmp",
		ConsoleHeight: 33, ConsoleWidth: 101,
		Capabilities:    &configs.Capabilities{Bounding: caps, Ambient: caps},
		NoNewPrivileges: &no,
		Rlimits:         []configs.Rlimit{{Type: 7, Hard: 9, Soft: 8}},
		LogLevel:        "2",
	}
	a, errA := json.Marshal(got)
	b, errB := json.Marshal(want)
	if diff := cmp.Diff(string(b), string(a)); diff != "" || errA != nil || errB != nil {
		t.Error(diff, errA, errB)
	}
	_, err = newProcess(&specs.Process{Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_MONEY"}}}, nil, false)
	if err == nil || !strings.Contains(err.Error(), "RLIMIT_MONEY") {
		t.Errorf("an rlimit that does not exist: %v", err)
	}
	if _, err = newProcess(&specs.Process{ExecCPUAffinity: &specs.CPUAffinity{Initial: "x"}}, nil, false); err == nil {
		t.Error("an affinity that is none")
	}
}

func TestConsoleSize(t *testing.T) {
	for _, tc := range []struct {
		spec          *specs.Box
		host          *agentproto.TerminalSize
		height, width uint16
	}{
		{nil, nil, 0, 0},
		{&specs.Box{Height: 5, Width: 6}, nil, 5, 6},
		{&specs.Box{Height: 5, Width: 6}, &agentproto.TerminalSize{Height: 7, Width: 8}, 7, 8},
		{&specs.Box{Height: 1 << 20, Width: 6}, nil, 0, 0},
	} {
		if h, w := consoleSize(tc.spec, tc.host); h != tc.height || w != tc.width {
			t.Errorf("%v, %v: %dx%d", tc.spec, tc.host, h, w)
		}
	}
}

func TestStatusCodes(t *testing.T) {
	for err, want := range map[error]codes.Code{
		errNoContainer:                  codes.NotFound,
		errNoProcess:                    codes.NotFound,
		errNotRunning:                   codes.FailedPrecondition,
		errNotPaused:                    codes.FailedPrecondition,
		errExists:                       codes.FailedPrecondition,
		errExecPaused:                   codes.FailedPrecondition,
		invalidf("signal: 99 is none"):  codes.InvalidArgument,
		errors.New("permission denied"): codes.Internal,
	} {
		if got := codeOf(err); got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
	if toStatus(nil) != nil {
		t.Error("no error has a status")
	}
	long := toStatus(errors.New(strings.Repeat("x", maxErrorText+1)))
	if len(long.Error()) > maxErrorText+100 {
		t.Error("an error without an end")
	}
	for _, text := range []string{"a name \xff", strings.Repeat("x", maxErrorText-1) + "ä"} {
		if s := status.Convert(toStatus(errors.New(text))).Message(); !utf8.ValidString(s) || len(s) > maxErrorText {
			t.Errorf("an error that cannot be sent: %q", s[max(0, len(s)-10):])
		}
	}
}

func TestSharesAreOnePathElement(t *testing.T) {
	for name, good := range map[string]bool{
		"": true, "a": true, "a.b": true, strings.Repeat("x", 255): true,
		".": false, "..": false, "a/b": false, "/": false, "a\x00": false, strings.Repeat("x", 256): false,
	} {
		if err := checkShare(name); good != (err == nil) || err != nil && codeOf(err) != codes.InvalidArgument {
			t.Errorf("%.20q: %v", name, err)
		}
	}
}

func TestSharedNamespacesNameTheField(t *testing.T) {
	spec := &specs.Linux{Namespaces: []specs.LinuxNamespace{
		{Type: specs.IPCNamespace}, {Type: specs.PIDNamespace}, {Type: specs.UTSNamespace, Path: "/x"}, {Type: specs.MountNamespace},
	}}
	for _, tc := range []struct {
		name   string
		shared []*agentproto.SharedNamespace
		field  string
	}{
		{"two", []*agentproto.SharedNamespace{{Type: "ipc"}, {Type: "pid", ContainerId: "b"}}, ""},
		{"none", []*agentproto.SharedNamespace{nil}, "shared_namespaces[0].type"},
		{"mount", []*agentproto.SharedNamespace{{Type: "mount"}}, "shared_namespaces[0].type"},
		{"twice", []*agentproto.SharedNamespace{{Type: "ipc"}, {Type: "ipc", ContainerId: "b"}}, "shared_namespaces[1].type"},
		{"with a path", []*agentproto.SharedNamespace{{Type: "uts"}}, "shared_namespaces[0].type"},
		{"not in the spec", []*agentproto.SharedNamespace{{Type: "user"}}, "shared_namespaces[0].type"},
		{"itself", []*agentproto.SharedNamespace{{Type: "ipc", ContainerId: "a"}}, "shared_namespaces[0].container_id"},
		{"pid of nobody", []*agentproto.SharedNamespace{{Type: "pid"}}, "shared_namespaces[0].container_id"},
		{"bad id", []*agentproto.SharedNamespace{{Type: "ipc", ContainerId: "b/c"}}, "invalid"},
	} {
		err := checkShared(&agentproto.CreateContainerRequest{ContainerId: "a", SharedNamespaces: tc.shared}, spec)
		if tc.field == "" && err == nil {
			continue
		}
		if err == nil || tc.field == "" || !strings.Contains(err.Error(), tc.field) || codeOf(err) != codes.InvalidArgument {
			t.Errorf("%s: error %v does not name %q", tc.name, err, tc.field)
		}
	}
}

func FuzzRequests(f *testing.F) {
	f.Add("a", []byte(goodSpec), uint64(1), uint64(2), uint32(24), "a", "ipc", "b")
	f.Add("..", []byte(`{"process":{"args":["a"],"cwd":"/","rlimits":[{"type":"x"}]}}`), uint64(0), uint64(0), uint32(1<<31), "../a", "mount", "")
	f.Fuzz(func(t *testing.T, id string, data []byte, in, out uint64, height uint32, share, ns, other string) {
		req := &agentproto.CreateContainerRequest{
			ContainerId: id, Spec: data,
			Stdio:        &agentproto.Stdio{Stdin: in, Stdout: out},
			TerminalSize: &agentproto.TerminalSize{Height: height},
			Share:        share, SharedNamespaces: []*agentproto.SharedNamespace{{Type: ns, ContainerId: other}},
		}
		if spec, err := checkCreate(req); err == nil {
			if strings.ContainsAny(id+share+other, "/\x00") || share == ".." || len(spec.Process.Args) == 0 {
				t.Errorf("accepted %q, %q, %q, %s", id, share, other, data)
			}
			if e := entry(spec.Linux, specs.LinuxNamespaceType(ns)); e == nil || procName(e.Type) == "" || e.Path != "" {
				t.Errorf("accepted %q of %q, %s", ns, other, data)
			}
			_, _ = newProcess(spec.Process, req.GetTerminalSize(), false)
		}
		if p, err := decodeProcess(data); err == nil {
			_, _ = newProcess(p, nil, false)
		}
	})
}
