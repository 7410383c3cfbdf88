package agentproto

import (
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestFromAgent(t *testing.T) {
	for _, tc := range []struct {
		code codes.Code
		want error
	}{
		{codes.NotFound, ErrNotFound},
		{codes.FailedPrecondition, ErrState},
		{codes.InvalidArgument, ErrInvalid},
		{codes.Unavailable, ErrUnreachable},
		{codes.DeadlineExceeded, ErrUnreachable},
	} {
		if err := FromAgent(status.Error(tc.code, "words")); !errors.Is(err, tc.want) {
			t.Errorf("%s gives %v", tc.code, err)
		}
	}
	if err := FromAgent(io.ErrUnexpectedEOF); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a broken connection gives %v", err)
	}
	if FromAgent(nil) != nil {
		t.Error("no error gives one")
	}
}

func TestAgentWordsAreMadeFitForATerminal(t *testing.T) {
	for _, code := range []codes.Code{codes.Internal, codes.NotFound, codes.Unavailable, codes.Canceled, codes.DeadlineExceeded} {
		err := FromAgent(status.Error(code, "two\nlines \x1b[2J\u009b and "+strings.Repeat("x", 10000)))
		if s := err.Error(); strings.ContainsAny(s, "\n\x1b\u009b") || len(s) > maxErrorText+len(ErrUnreachable.Error()+": ") {
			t.Errorf("%s: the guest's text came through: %.60q, %d bytes", code, s, len(s))
		}
		if s := err.Error(); !strings.Contains(s, "two lines ") {
			t.Errorf("%s: text was lost: %.20q", code, s)
		}
	}
}
