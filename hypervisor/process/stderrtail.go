package process

import (
	"bufio"
	"io"
	"sync"

	"runch/plaintext"
)

const (
	// maxLine bounds a line of a program's standard error, in bytes; the rest of a
	// longer one is dropped.
	maxLine = 1024
	// tailLines is how many lines are kept to tell why the program ended.
	tailLines = 8
)

// stderrTail copies a program's standard error to a log, line by line, and keeps the
// last lines.
type stderrTail struct {
	log  io.Writer
	mu   sync.Mutex
	kept []string
}

// drain reads r to its end, even if the log fails. A program blocks when its pipe is full
// and not read.
func (t *stderrTail) drain(r io.Reader) {
	in := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := in.ReadSlice('\n')
		long := err == bufio.ErrBufferFull //nolint:errorlint // bufio returns it unwrapped
		if len(line) > 0 {
			t.add(line)
		}
		for long {
			_, err = in.ReadSlice('\n')
			long = err == bufio.ErrBufferFull //nolint:errorlint // bufio returns it unwrapped
		}
		if err != nil {
			return
		}
	}
}

func (t *stderrTail) add(line []byte) {
	text := plaintext.Line(string(line))
	if text == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, text)
	if len(t.kept) > tailLines {
		t.kept = t.kept[1:]
	}
	if t.log != nil {
		_, _ = io.WriteString(t.log, text+"\n")
	}
}

// lines gives the last lines.
func (t *stderrTail) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.kept...)
}
