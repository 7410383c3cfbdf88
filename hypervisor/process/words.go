package process

import (
	"bufio"
	"io"
	"sync"

	"runch/hypervisor"
)

const (
	// maxLine bounds a line of a program's standard error, in bytes; the rest of a
	// longer one is dropped.
	maxLine = 1024
	// lastLines is how many lines are kept to tell why it ended.
	lastLines = 8
)

// words passes a program's standard error on, line by line, and keeps the last lines.
type words struct {
	log  io.Writer
	mu   sync.Mutex
	last []string
}

// drain reads r to its end. It never stops before: a pipe that nobody reads
// would stop the program.
func (w *words) drain(r io.Reader) {
	in := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := in.ReadSlice('\n')
		long := err == bufio.ErrBufferFull //nolint:errorlint // it is never wrapped
		if len(line) > 0 {
			w.add(line)
		}
		for long {
			_, err = in.ReadSlice('\n')
			long = err == bufio.ErrBufferFull //nolint:errorlint // as above
		}
		if err != nil {
			return
		}
	}
}

func (w *words) add(line []byte) {
	text := hypervisor.Printable(string(line))
	if text == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = append(w.last, text)
	if len(w.last) > lastLines {
		w.last = w.last[1:]
	}
	if w.log != nil {
		_, _ = io.WriteString(w.log, text+"\n")
	}
}

// lines gives the last lines.
func (w *words) lines() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.last...)
}
