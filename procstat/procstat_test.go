package procstat

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// rest are the fields after the state: parent, group, session, terminal, foreground group, flags…
const rest = " 1 2 3 34817 -1 1028 7 8 9 10 11 12 13 14 15 -16 3 18 4711 20 21"

func TestParse(t *testing.T) {
	stat := func(name string, state byte) Stat {
		return Stat{
			PID: 7, Name: name, State: state, Parent: 1, Group: 2, Session: 3, Terminal: 34817, ForegroundGroup: -1,
			Flags: 1028, UserTime: 11, SystemTime: 12, Nice: -16, Threads: 3, StartTime: 4711,
		}
	}
	for text, want := range map[string]Stat{
		"7 (sh) S" + rest:          stat("sh", 'S'),
		"7 (a b) c) (d) Z" + rest:  stat("a b) c) (d", 'Z'),
		"7 () X" + rest + "\n":     stat("", 'X'),
		"7 (\n) R 1) R" + rest:     stat("\n) R 1", 'R'),
		"7 (\xff) D" + rest + " 1": stat("\xff", 'D'),
	} {
		if got, err := Parse([]byte(text)); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "7", "7 sh S", "7 (sh", ")(", "7 (sh)", "7 (sh) S 1 2", "7 (sh) SS" + rest, "7 (sh) \x00" + rest, "7 (sh) 3" + rest, "x (sh) S" + rest,
		"7 (sh) S x 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20",
		"7 (sh) S 1 2 3 4 5 x 7 8 9 10 11 12 13 14 15 16 17 18 19 20",
		"7 (sh) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 x 18 19 20",
		"7 (sh) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 x 20",
	} {
		if got, err := Parse([]byte(text)); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

func TestOf(t *testing.T) {
	self, err := Of(os.Getpid())
	if err != nil || self.PID != os.Getpid() || self.Parent != os.Getppid() || self.Exiting() || self.Dead() || self.Threads < 1 {
		t.Errorf("the test itself: %+v, %v", self, err)
	}
	cmd := exec.CommandContext(t.Context(), "true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// WNOWAIT leaves it a zombie.
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if st, err := Of(cmd.Process.Pid); err != nil || !st.Zombie() || !st.Exiting() {
		t.Errorf("a zombie: %+v, %v", st, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := Of(cmd.Process.Pid); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a reaped one: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("7 (sh) S" + rest))
	f.Fuzz(func(t *testing.T, text []byte) {
		if st, err := Parse(text); err == nil && st.State == 0 {
			t.Errorf("%+v", st)
		}
	})
}
