// Package plaintext makes text of unknown origin fit for a terminal and a log. The
// output of a guest, a VMM or a process may hold escape sequences, which move the
// cursor or hide the text behind them.
package plaintext

import (
	"strconv"
	"strings"
)

// Line gives the text as one line without line breaks at its end: a line break or
// another kind of white space is a space, anything else that is not printable is a
// question mark. It is never longer than the text.
func Line(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case strconv.IsPrint(r):
			return r
		case r == '\t' || r == '\n' || r == '\r':
			return ' '
		default:
			return '?'
		}
	}, strings.ToValidUTF8(strings.TrimRight(text, "\r\n"), "?"))
}
