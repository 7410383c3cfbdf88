package agent

import (
	"net"
	"os"
	"sync"
)

// input carries what the host sends to a process: to a pipe, or to a terminal's
// master, which is left open at the end since it is the terminal's output too.
type input struct {
	src      net.Conn
	dst      *os.File
	terminal bool

	mu      sync.Mutex
	got     uint64
	limit   uint64
	limited bool
	once    sync.Once
}

// newInput starts to copy. The input owns src, and dst unless it is a terminal.
func newInput(src net.Conn, dst *os.File, terminal bool) *input {
	in := &input{src: src, dst: dst, terminal: terminal}
	go in.run()
	return in
}

// end says how many bytes there are in all; the process's side is closed when
// they have been written.
func (in *input) end(total uint64) {
	in.mu.Lock()
	in.limit, in.limited = total, true
	complete := in.got >= total
	in.mu.Unlock()
	if complete {
		in.close()
	}
}

// close ends both sides at once.
func (in *input) close() {
	if in == nil {
		return
	}
	in.once.Do(func() {
		_ = in.src.Close()
		if !in.terminal {
			_ = in.dst.Close()
		}
	})
}

func (in *input) run() {
	defer in.close()
	buf := make([]byte, copySize)
	for {
		n, err := in.src.Read(buf)
		if n > 0 && !in.write(buf[:n]) {
			return
		}
		if err != nil {
			return
		}
	}
}

// write gives bytes to the process, no more than the limit, and reports whether
// there may be more.
func (in *input) write(p []byte) bool {
	in.mu.Lock()
	if in.limited {
		p = p[:min(uint64(len(p)), in.limit-min(in.got, in.limit))]
	}
	in.mu.Unlock()
	if _, err := in.dst.Write(p); err != nil {
		return false
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.got += uint64(len(p))
	return !in.limited || in.got < in.limit
}
