package sandbox

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"runch/plaintext"
	"runch/shimproto"
)

// keptLogs is how many logs of VMs that failed are kept.
const keptLogs = 16

// keepLogs copies the logs of a VM that failed to a file in logDir, which outlives the
// sandbox, and gives its path. The path is empty if there are no logs, or on an error.
func keepLogs(logDir, dir, id string) string {
	var parts []io.Reader
	for _, name := range []string{shimproto.VMMLog, shimproto.ConsoleLog} {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			continue
		}
		defer f.Close()
		parts = append(parts, f)
	}
	if len(parts) == 0 {
		return ""
	}
	if err := os.MkdirAll(logDir, 0o700); err != nil {
		return ""
	}
	pruneLogs(logDir)
	path := filepath.Join(logDir, fmt.Sprintf("%s-%d.log", id, time.Now().UnixNano()))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return ""
	}
	defer f.Close()
	if _, err := io.Copy(f, io.MultiReader(parts...)); err != nil {
		return ""
	}
	return path
}

// describeLogs keeps the logs, and gives text to append to the reason of a failure:
// where they are, and how they end unless the reason has that text already, as the
// VMM's stderr tail is in both. It is empty when there are no logs.
func describeLogs(reason, logDir, dir, id string) string {
	kept := keepLogs(logDir, dir, id)
	if kept == "" {
		return ""
	}
	place := " (the console's log is " + kept
	if tail := logTail(kept); tail != "" && !strings.Contains(reason, tail) {
		place += " and ends: " + tail
	}
	return place + ")"
}

// logName matches the names that keepLogs gives: others' logs may be in the directory.
var logName = regexp.MustCompile(`-[0-9]{19}\.log$`)

// pruneLogs makes room for one more log: the oldest ones go.
func pruneLogs(logDir string) {
	entries, err := os.ReadDir(logDir)
	if err != nil {
		return
	}
	type aged struct {
		path string
		when time.Time
	}
	var logs []aged
	for _, e := range entries {
		if info, err := e.Info(); err == nil && logName.MatchString(e.Name()) {
			logs = append(logs, aged{filepath.Join(logDir, e.Name()), info.ModTime()})
		}
	}
	slices.SortFunc(logs, func(a, b aged) int { return a.when.Compare(b.when) })
	for len(logs) >= keptLogs {
		_ = os.Remove(logs[0].path)
		logs = logs[1:]
	}
}

// The tail of a console's log that an error quotes: at most tailLines lines and tailText
// bytes of the last tailBytes bytes, or only the line in which the guest's kernel says why
// it panicked.
const (
	tailLines   = 3
	tailText    = 600
	tailBytes   = 16 << 10
	panicPrefix = "Kernel panic - "
)

// logTail gives the end of a log, fit for one line of an error; empty when
// there is nothing to show.
func logTail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > tailBytes {
		if _, err := f.Seek(-tailBytes, io.SeekEnd); err != nil {
			return ""
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, tailBytes))
	if err != nil {
		return ""
	}
	var lines []string
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(plaintext.Line(line))
		if line != "" {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return ""
	}
	last := lines[max(0, len(lines)-tailLines):]
	// What follows a panic's line is a stack trace, which says less.
	if i := slices.IndexFunc(lines, func(line string) bool { return strings.Contains(line, panicPrefix) }); i >= 0 {
		last = lines[i : i+1]
	}
	tail := strings.Join(last, "; ")
	return tail[max(0, len(tail)-tailText):]
}
