package commands

import (
	"log/slog"
	"strings"
	"testing"
)

// TestLoggerKeepsAttributes: a logger made of another one has the attributes of both.
func TestLoggerKeepsAttributes(t *testing.T) {
	var out strings.Builder
	log := slog.New(&logHandler{out: &out, format: formatText})
	log.With("first", 1).WithGroup("group").With("second", 2).Info("message", "third", 3)
	for _, want := range []string{"message", "first=1", "second=2", "third=3"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q does not contain %q", out.String(), want)
		}
	}
}
