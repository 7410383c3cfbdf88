package oci

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrInvalidID says, with runc's text, that an id cannot be a container's or exec's.
var ErrInvalidID = errors.New("invalid container ID format")

// ErrOutside matches, by errors.Is, each error about a namespace of the host, or of a
// process outside of the container's VM. A runtime without VMs could let the container
// have that namespace.
var ErrOutside = errors.New("a namespace outside of the container's VM")

// OutsideErrorf makes an error that matches ErrOutside; format and args are those of
// fmt.Errorf.
func OutsideErrorf(format string, args ...any) error {
	return &outsideError{fmt.Errorf(format, args...)}
}

type outsideError struct{ error }

func (e *outsideError) Is(target error) bool { return target == ErrOutside }

func (e *outsideError) Unwrap() error { return e.error }

// fieldError says that a field of a config.json or process.json is malformed
// or cannot be honoured. Its text is one line: the field's path in the file,
// a colon, and the reason.
type fieldError struct {
	// field is the path of the field, such as "linux.namespaces[1].path".
	field string
	err   error
}

// maxError bounds an error's text, in bytes: it may quote a value of config.json,
// which can be megabytes long, and callers read some kilobytes at most.
const maxError = 1 << 10

func (e *fieldError) Error() string { return oneLine(e.field + ": " + e.err.Error()) }

func (e *fieldError) Unwrap() error { return e.err }

// fieldErrorf makes a fieldError; format and args are those of fmt.Errorf.
func fieldErrorf(field, format string, args ...any) error {
	return &fieldError{field: field, err: fmt.Errorf(format, args...)}
}

// oneLine escapes characters that are not printable as Go does, so that the file's author
// sees which they are. It cuts a text that is longer than maxError.
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
