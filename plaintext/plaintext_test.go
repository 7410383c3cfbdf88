package plaintext

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"":                              "",
		"Kernel panic - not syncing":    "Kernel panic - not syncing",
		"Größe: 5 µs, 日本\r\n":           "Größe: 5 µs, 日本",
		"two\nlines\tand\r\nmore\n":     "two lines and  more",
		"\x1b[31mred \x07\x7f\u009b31m": "?[31mred ???31m",
		"\u202eoverridden\u200b":        "?overridden?",
		"half \xe6\x97 a rune\xff":      "half ? a rune?",
		"\x00":                          "?",
		"\n":                            "",
	} {
		if got := Line(in); got != want {
			t.Errorf("Line(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzLine(f *testing.F) {
	f.Add("a\x1b[31m\u0085\xff\n")
	f.Fuzz(func(t *testing.T, in string) {
		out := Line(in)
		if strings.ContainsFunc(out, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }) || !utf8.ValidString(out) || len(out) > len(in) {
			t.Errorf("Line(%q) = %q", in, out)
		}
		if Line(out) != out {
			t.Errorf("Line(%q) = %q is not a plain line", in, out)
		}
	})
}
