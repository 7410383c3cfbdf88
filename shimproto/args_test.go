package shimproto

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The title is shown in the command line, and never parsed as an argument of the program.
func TestInvocation(t *testing.T) {
	for _, title := range [][]string{nil, {"nest", "5"}, {"announce"}, {"--", "--"}, {""}} {
		for _, want := range []Invocation{
			{Role: RoleShim}, {Role: RoleAnnounced}, {Role: RoleVictim}, {Role: RoleNest, Flags: 7},
		} {
			want.Title = title
			got, ok := ParseArgs(want.Args())
			if diff := cmp.Diff(want, got); !ok || diff != "" {
				t.Errorf("%q: %v, -want +got:\n%s", want.Args(), ok, diff)
			}
		}
	}
}

func TestLongTitle(t *testing.T) {
	long := strings.Repeat("x", maxTitle/2)
	got, ok := ParseArgs(Invocation{Role: RoleShim, Title: []string{long, "word", long, "more"}}.Args())
	if diff := cmp.Diff([]string{long, "word"}, got.Title); !ok || diff != "" {
		t.Errorf("%v, %d words are shown", ok, len(got.Title))
	}
}

func TestCommandsArgs(t *testing.T) {
	for _, line := range []string{
		"runch", "runch create shim", "runch --root shim", "runch shim nest", "runch shim nest -1",
		"runch shim nest 4294967296", "runch shim announce 1", "runch shim victim 1", "runch shim shim", "runch shim help",
	} {
		if i, ok := ParseArgs(strings.Fields(line)); ok {
			t.Errorf("%q: %v", line, i)
		}
	}
}
