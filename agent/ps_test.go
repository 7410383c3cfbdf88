package agent

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"runch/agentproto"
	"runch/procstat"
)

func TestReadProcess(t *testing.T) {
	const rest = " S 7 1 1 34817 1 4194304 1 2 3 4 150 50 0 0 20 0 1 0 12345 1 2"
	for _, tc := range []struct{ name, line, command string }{
		{"plain", "42 (sh)" + rest, "[sh]"},
		{"parentheses and blanks", "42 (a) b (c)" + rest, "[a) b (c]"},
		{"not text", "42 (\xff)" + rest, "[?]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "stat"), []byte(tc.line), 0o600); err != nil {
				t.Fatal(err)
			}
			p, err := readProcess(dir)
			if err != nil {
				t.Fatal(err)
			}
			want := &agentproto.Process{
				Ppid: 7, Uid: p.GetUid(), Tty: "pts/1", CpuTimeNs: 2_000_000_000, StartTimeNs: 123_450_000_000, State: "S+", Command: tc.command,
			}
			if diff := cmp.Diff(want, p, protocmp.Transform()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A process itself sets where its arguments are, and how long.
func TestACommandWithoutAnEnd(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "stat"), []byte("42 (sh) S 7 1 1 0 1 4194304 1 2 3 4 150 50 0 0 20 0 1 0 1 1 2"), 0o600); err != nil {
		t.Fatal(err)
	}
	line, err := os.Create(filepath.Join(dir, "cmdline"))
	if err != nil {
		t.Fatal(err)
	}
	defer line.Close()
	if err := line.Truncate(1 << 40); err != nil { // more than fits into memory
		t.Fatal(err)
	}
	if _, err := line.WriteAt([]byte("sh\x00-c"), 0); err != nil {
		t.Fatal(err)
	}
	p, err := readProcess(dir)
	if err != nil || p.GetCommand() != "sh -c" {
		t.Errorf("%q, %v", p.GetCommand(), err)
	}
}

func TestStatState(t *testing.T) {
	for want, st := range map[string]procstat.Stat{
		"Rs":    {State: 'R', Group: 7, Session: 7, ForegroundGroup: -1, Threads: 1},
		"S+":    {State: 'S', Group: 8, Session: 1, ForegroundGroup: 8, Threads: 1},
		"Sl+":   {State: 'S', Group: 8, Session: 9, ForegroundGroup: 8, Threads: 3},
		"D<":    {State: 'D', Group: 8, Session: 9, ForegroundGroup: -1, Nice: -5, Threads: 1},
		"I<":    {State: 'I', Group: 0, Session: 0, ForegroundGroup: -1, Nice: -20, Threads: 1},
		"ZNsl+": {State: 'Z', Group: 7, Session: 7, ForegroundGroup: 7, Nice: 19, Threads: 2},
	} {
		st.PID = 7
		if got := statState(st); got != want {
			t.Errorf("%+v: %s, want %s", st, got, want)
		}
	}
}

func TestTTYName(t *testing.T) {
	for dev, want := range map[uint64]string{0: "?", 34816: "pts/0", 34816 + 5: "pts/5", 137<<8 | 1: "pts/257", 4<<8 | 64: "4:64"} {
		if got := ttyName(dev); got != want {
			t.Errorf("%d: %s, want %s", dev, got, want)
		}
	}
}

func TestListProcesses(t *testing.T) {
	got := listProcesses("/proc", []int{os.Getpid(), 1 << 29})
	if len(got) != 1 || int(got[0].GetPid()) != os.Getpid() || int(got[0].GetPpid()) != os.Getppid() || int(got[0].GetUid()) != os.Getuid() {
		t.Errorf("got %v", got)
	}
	if got[0].GetCommand() == "" || len(got[0].GetCommand()) > maxCommand {
		t.Errorf("command %q", got[0].GetCommand())
	}
}

func TestKilobytes(t *testing.T) {
	const text = "MemTotal:  1024 kB\nMemFree: x kB\nMemAvailable:\n"
	for key, want := range map[string]uint64{"MemTotal:": 1 << 20, "MemFree:": 0, "MemAvailable:": 0, "Swap:": 0} {
		if got := kilobytes(text, key); got != want {
			t.Errorf("%s %d, want %d", key, got, want)
		}
	}
}
