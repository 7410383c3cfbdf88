package agent

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"runch/agentproto"
)

func TestParseStat(t *testing.T) {
	const rest = " S 7 1 1 34817 1 4194304 1 2 3 4 150 50 0 0 20 0 1 0 12345 1 2"
	for _, tc := range []struct{ name, line, comm string }{
		{"plain", "42 (sh)" + rest, "sh"},
		{"parentheses and blanks", "42 (a) b (c)" + rest, "a) b (c"},
		{"not text", "42 (\xff)" + rest, "?"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, comm, err := parseStat([]byte(tc.line))
			if err != nil || comm != tc.comm {
				t.Fatalf("%q, %v", comm, err)
			}
			want := &agentproto.Process{Ppid: 7, Tty: "pts/1", CpuTimeNs: 2_000_000_000, StartTimeNs: 123_450_000_000, State: "S+"}
			if diff := cmp.Diff(want, p, protocmp.Transform()); diff != "" {
				t.Error(diff)
			}
		})
	}
	for _, line := range []string{"", "42", "42 (sh", "42 (sh) S 1", ")("} {
		if _, _, err := parseStat([]byte(line)); err == nil {
			t.Errorf("%q is a stat line", line)
		}
	}
}

func TestStatState(t *testing.T) {
	for line, want := range map[string]string{
		"R 1 7 7 0 -1 4194304 1 2 3 4 1 5 0 0 20 0 1":   "Rs",
		"S 1 8 9 5 8 4194304 1 2 3 4 1 5 0 0 20 0 3":    "Sl+",
		"D 1 8 9 0 -1 4194304 1 2 3 4 1 5 0 0 20 -5 1":  "D<",
		"Z 1 7 7 5 7 4194304 1 2 3 4 1 5 0 0 20 19 2":   "ZNsl+",
		"I 2 0 0 0 -1 4194304 1 2 3 4 1 5 0 0 20 -20 1": "I<",
	} {
		if got := statState("7", strings.Fields(line)); got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
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

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("42 (sh) S 7 1 1 34817 1 4194304 1 2 3 4 150 50 0 0 20 0 1 0 12345 1 2"))
	f.Fuzz(func(_ *testing.T, line []byte) { _, _, _ = parseStat(line) })
}
