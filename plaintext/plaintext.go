// Package plaintext makes text of unknown origin fit for a terminal and a log. The
// output of a guest, a VMM or a process may hold escape sequences, which move the
// cursor or hide the text behind them.
package plaintext

import (
	"strconv"
	"strings"
)

// Line gives the text as one line: line breaks at its end are removed, other line breaks
// and tabs become spaces, and everything else that is not printable becomes a question
// mark. It is never longer than the text.
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
