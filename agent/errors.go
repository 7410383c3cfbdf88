package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/runc/libcontainer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"runch/agentproto"
)

// Reasons to refuse a call. Callers of a runtime search for runc's texts.
var (
	errNoContainer    = libcontainer.ErrNotExist
	errExists         = libcontainer.ErrExist
	errNotRunning     = libcontainer.ErrNotRunning
	errNotPaused      = libcontainer.ErrNotPaused
	errNoProcess      = errors.New("process does not exist")
	errProcessExists  = errors.New("process with given ID already exists")
	errProcessDone    = errors.New("process already finished")
	errStartStopped   = agentproto.ErrStartStopped
	errStartRunning   = agentproto.ErrStartRunning
	errExecStopped    = agentproto.ErrExecStopped
	errExecPaused     = agentproto.ErrExecPaused
	errTooMany        = errors.New("too many of them")
	errNoTerminal     = errors.New("the process has no terminal")
	errStreamMissing  = errors.New("the stream's connection did not arrive")
	errStreamRefused  = errors.New("the stream's connection was not expected")
	errNotConfigured  = errors.New("the guest is not configured")
	errInvalidRequest = errors.New("invalid request")
)

// maxErrorText bounds the text of an error sent to the host, in bytes.
const maxErrorText = 4096

// invalidf makes an error that reaches the host as InvalidArgument.
func invalidf(format string, args ...any) error {
	return &invalidError{text: fmt.Sprintf(format, args...)}
}

type invalidError struct{ text string }

func (e *invalidError) Error() string { return e.text }
func (e *invalidError) Unwrap() error { return errInvalidRequest }

// toStatus gives an error the code that the host decides by; its text stays as it is.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	// ttrpc closes the connection instead of sending text that is not UTF-8, as a file's
	// name or a character that is cut off may be.
	return status.Error(codeOf(err), strings.ToValidUTF8(text[:min(len(text), maxErrorText)], "?"))
}

func codeOf(err error) codes.Code {
	for _, k := range []struct {
		code codes.Code
		of   []error
	}{
		{codes.NotFound, []error{errNoContainer, errNoProcess}},
		{codes.InvalidArgument, []error{errInvalidRequest, libcontainer.ErrInvalidID, ErrNetworkField}},
		{codes.FailedPrecondition, []error{
			errExists, errProcessExists, errNotRunning, errNotPaused, errProcessDone, errStartStopped, errStartRunning,
			errExecStopped, errExecPaused, errNoTerminal, errNotConfigured, libcontainer.ErrRunning, libcontainer.ErrPaused,
		}},
		{codes.ResourceExhausted, []error{errTooMany}},
		{codes.Canceled, []error{context.Canceled}},
		{codes.DeadlineExceeded, []error{context.DeadlineExceeded}},
	} {
		for _, target := range k.of {
			if errors.Is(err, target) {
				return k.code
			}
		}
	}
	return codes.Internal
}
