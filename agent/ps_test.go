package agent

import (
	"os"
	"testing"

	"runch/procstat"
)

func TestStatState(t *testing.T) {
	for want, st := range map[string]procstat.Stat{
		"Rs":    {State: 'R', Group: 7, Session: 7, ForegroundGroup: -1, Threads: 1},
		"S+":    {State: 'S', Group: 8, Session: 1, ForegroundGroup: 8, Threads: 1},
		"Sl+":   {State: 'S', Group: 8, Session: 9, ForegroundGroup: 8, Threads: 3},
		"D<":    {State: 'D', Group: 8, Session: 9, ForegroundGroup: -1, Nice: -5, Threads: 1},
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
