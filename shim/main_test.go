package shim

import (
	"slices"
	"strings"
	"testing"
)

// What a container runs is shown, and never taken for an argument.
func TestTitleIsNoArgument(t *testing.T) {
	for _, title := range [][]string{nil, {"nest", "5"}, {"announce"}, {"--", "--"}, {""}} {
		for _, args := range [][]string{Args(title), NestedArgs(7, title)} {
			if !IsShim(append([]string{programName}, args...)) {
				t.Errorf("%q is no shim", args)
			}
			own, shown := cutTitle(args)
			if !slices.Equal(shown, title) || slices.Contains(own, "5") || slices.Contains(own, argAnnounce) {
				t.Errorf("%q: own %q, shown %q", args, own, shown)
			}
			if nests := len(own) == 3 && own[1] == argNest && own[2] == "7"; !nests && len(own) != 1 {
				t.Errorf("%q: own %q", args, own)
			}
		}
	}
	long := strings.Repeat("x", maxTitle/2)
	if _, shown := cutTitle(Args([]string{long, "word", long, "more"})); !slices.Equal(shown, []string{long, "word"}) {
		t.Errorf("%d words are shown", len(shown))
	}
}
