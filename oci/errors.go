package oci

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrInvalidID is returned by ValidateID, in runc's words.
var ErrInvalidID = errors.New("invalid container ID format")

// FieldError says that a field of a config.json or process.json is malformed
// or cannot be honoured. Its text is one line: the field's path in the file,
// a colon, and the reason.
type FieldError struct {
	// Field is the path of the field, such as "linux.namespaces[1].path".
	Field string
	// Err is the reason.
	Err error
}

// maxError bounds an error's text, in bytes: it may hold what a config.json
// holds, and callers read some kilobytes at most.
const maxError = 1 << 10

func (e *FieldError) Error() string { return oneLine(e.Field + ": " + e.Err.Error()) }

func (e *FieldError) Unwrap() error { return e.Err }

// bad makes a FieldError; format and args are those of fmt.Errorf.
func bad(field, format string, args ...any) error {
	return &FieldError{Field: field, Err: fmt.Errorf(format, args...)}
}

// oneLine makes a text fit to be printed: what is not printable is escaped as
// in Go, and what is too long is cut.
func oneLine(text string) string {
	tail := ""
	if len(text) > maxError {
		text, tail = text[:maxError], "..."
	}
	var line strings.Builder
	for _, r := range text {
		if strconv.IsPrint(r) {
			line.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRune(r)
		line.WriteString(quoted[1 : len(quoted)-1])
	}
	return line.String() + tail
}

// index is the field's n-th element.
func index(field string, n int) string { return fmt.Sprintf("%s[%d]", field, n) }

// key is the field's member of that name, for maps with free keys.
func key(field, name string) string { return fmt.Sprintf("%s[%q]", field, name) }
