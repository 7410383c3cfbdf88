package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxMessage bounds an error's text, in bytes. conmon reads 8 KiB of the log, and the
// text is longer there: JSON escapes some characters.
const maxMessage = 4 << 10

// logHandler writes records in the formats of logrus, which runc uses and runc's callers
// parse. By default it writes nothing below a warning, because callers expect a single
// record in the log file of a failed command.
type logHandler struct {
	mu     sync.Mutex
	out    io.Writer
	level  slog.Level
	format func(record) []byte
	// toFile says that out is not the program's stderr.
	toFile bool
}

func newLogHandler(stderr *os.File) *logHandler {
	h := &logHandler{out: stderr, level: slog.LevelWarn, format: formatText}
	if _, err := unix.IoctlGetTermios(int(stderr.Fd()), unix.TCGETS); err == nil {
		h.format = formatTerminal
	}
	return h
}

// open applies the global flags --log, --log-format and --debug.
func (h *logHandler) open(path, format string, debug bool) error {
	if debug {
		h.level = slog.LevelDebug
	}
	switch format {
	case "json":
		h.format = formatJSON
	case "", "text":
		if path != "" {
			h.format = formatText
		}
	default:
		return errors.New("invalid log-format: " + format)
	}
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	h.out, h.toFile = f, true
	return nil
}

// record is a line of the log.
type record struct {
	level, msg string
	time       time.Time
	attrs      []slog.Attr
}

// Enabled implements slog.Handler.
func (h *logHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }

// Handle implements slog.Handler.
func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	line := record{level: levelName(r.Level), msg: shorten(r.Message), time: r.Time}
	r.Attrs(func(a slog.Attr) bool {
		line.attrs = append(line.attrs, a)
		return true
	})
	return h.write(line)
}

// WithAttrs implements slog.Handler.
func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &derivedHandler{logHandler: h, attrs: attrs}
}

// WithGroup implements slog.Handler. logrus has no groups.
func (h *logHandler) WithGroup(string) slog.Handler { return h }

// derivedHandler adds attributes to each record.
type derivedHandler struct {
	*logHandler
	attrs []slog.Attr
}

// Handle implements slog.Handler.
func (d *derivedHandler) Handle(ctx context.Context, r slog.Record) error {
	r.AddAttrs(d.attrs...)
	return d.logHandler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (d *derivedHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &derivedHandler{logHandler: d.logHandler, attrs: slices.Concat(d.attrs, attrs)}
}

// WithGroup implements slog.Handler.
func (d *derivedHandler) WithGroup(string) slog.Handler { return d }

func (h *logHandler) error(text string) {
	// A failure to write the log could only be reported in the log.
	_ = h.write(record{level: "error", msg: text, time: time.Now()})
}

// write makes one call of write(2) for a line: several commands append to the same file.
func (h *logHandler) write(r record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := h.out.Write(h.format(r))
	return err
}

func levelName(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "error"
	case l >= slog.LevelWarn:
		return "warning"
	case l >= slog.LevelInfo:
		return "info"
	}
	return "debug"
}

// formatJSON is logrus.JSONFormatter, whose keys are sorted.
func formatJSON(r record) []byte {
	fields := map[string]any{"level": r.level, "msg": r.msg, "time": r.time.Format(time.RFC3339)}
	for _, a := range r.attrs {
		fields[a.Key] = a.Value.String()
	}
	var line bytes.Buffer
	e := json.NewEncoder(&line)
	// Strings can always be encoded.
	_ = e.Encode(fields)
	return line.Bytes()
}

// formatText is logrus.TextFormatter.
func formatText(r record) []byte {
	var line strings.Builder
	fmt.Fprintf(&line, "time=%q level=%s msg=%s", r.time.Format(time.RFC3339), r.level, quote(r.msg))
	for _, a := range r.attrs {
		fmt.Fprintf(&line, " %s=%s", a.Key, quote(a.Value.String()))
	}
	return []byte(line.String() + "\n")
}

// formatTerminal is logrus's format for terminals, without colours.
func formatTerminal(r record) []byte {
	return fmt.Appendf(nil, "%.4s[0000] %s\n", strings.ToUpper(r.level)+" ", r.msg)
}

// quote quotes a value where logrus does.
func quote(text string) string {
	for _, r := range text {
		plain := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._/@^+", r)
		if !plain {
			return strconv.Quote(text)
		}
	}
	return text
}

// shorten makes one line of bounded length out of an error's text, in which errors.Join
// puts each error on a line of its own.
func shorten(text string) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "..."
	}
	return text
}
