package commands

import (
	"strings"
	"testing"
	"time"

	"runch/sandbox"
)

func TestPsFormats(t *testing.T) {
	now := time.Date(2026, 5, 4, 12, 30, 0, 0, time.UTC)
	processes := []sandbox.Process{{
		PID: 12, PPID: 1, UID: 1 << 30, Command: "/bin/sleep 1\x1b", TTY: "pts/0\x1b", State: "Ss+",
		StartNS: uint64(now.Add(-time.Minute).UnixNano()), CPUNS: uint64(61 * time.Second),
	}}
	for args, want := range map[string]string{
		"":               "UID PID PPID C STIME TTY TIME CMD|1073741824 12 1 99 12:29 pts/0? 00:01:01 /bin/sleep 1?",
		"-ef":            "UID PID PPID C STIME TTY TIME CMD|1073741824 12 1 99 12:29 pts/0? 00:01:01 /bin/sleep 1?",
		"-e -x":          "PID TTY STAT TIME COMMAND|12 pts/0? Ss+ 1:01 /bin/sleep 1?",
		"-o pid,comm=WH": "PID WH|12 sleep",
		"-ax":            `ps option "-ax" is not supported: -e, -A, -f, -x and -o are`,
		"aux":            `ps option "aux" is not supported: -e, -A, -f, -x and -o are`,
		"-o nonsense":    `ps column "nonsense" is not supported`,
	} {
		columns, err := psColumns(strings.Fields(args))
		if err != nil {
			if err.Error() != want {
				t.Errorf("%s: %v", args, err)
			}
			continue
		}
		var out strings.Builder
		if err := psTable(&out, columns, processes, now); err != nil {
			t.Fatal(err)
		}
		var lines []string
		for line := range strings.Lines(out.String()) {
			lines = append(lines, strings.Join(strings.Fields(line), " "))
		}
		if got := strings.Join(lines, "|"); got != want {
			t.Errorf("%s: %s", args, got)
		}
		if strings.Contains(args, "x") && !strings.HasPrefix(out.String(), "    PID ") {
			t.Errorf("the first column is not to the right:\n%s", &out)
		}
	}
}

// The guest is not trusted: it may report any CPU time.
func TestPsTakesAnyCPUTime(t *testing.T) {
	now := time.Unix(1<<30, 0)
	for _, cpu := range []uint64{1 << 57, 1 << 63, 1<<64 - 1} {
		if got := share(sandbox.Process{StartNS: uint64(now.Add(-time.Hour).UnixNano()), CPUNS: cpu}, now); got != 99 {
			t.Errorf("%d ns of CPU time in an hour are %d %%", cpu, got)
		}
	}
}
