package agent

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// copySize is how much is copied at once, in bytes.
	copySize = 32 << 10
	// maxDrain bounds what is still read after the process has ended, in
	// bytes: the largest pipe there can be. Whoever else holds the pipe may write
	// for ever.
	maxDrain = 1 << 20
	// stallTimeout is how long the host may read none of the output of a process that was
	// killed. Such a process ends even if nobody reads its output, as without a VM.
	stallTimeout = time.Second
)

// output carries one output of a process to the host: from a pipe or a
// terminal's master to the stream's connection.
type output struct {
	src  *os.File
	dst  net.Conn
	sent atomic.Uint64
	// killed is set when the process has ended by SIGKILL.
	killed atomic.Bool
	done   chan struct{}
	once   sync.Once
}

// newOutput starts to copy. The output owns dst, and src too.
func newOutput(src *os.File, dst net.Conn) *output {
	o := &output{src: src, dst: dst, done: make(chan struct{})}
	go o.run()
	go o.watch()
	return o
}

// end is called when the process has ended: what can be read now is sent, and both ends
// are closed. It does not wait for other processes that hold the other end of src, a
// grandchild for example.
func (o *output) end(killed bool) {
	if o == nil {
		return
	}
	if killed {
		o.killed.Store(true)
		_ = o.dst.SetWriteDeadline(time.Now().Add(stallTimeout)) // for a write under way
	}
	_ = o.src.SetReadDeadline(time.Unix(1, 0))
}

// await returns when the output has been sent and both ends are closed.
func (o *output) await() {
	if o != nil {
		<-o.done
	}
}

// bytes is how much has been sent.
func (o *output) bytes() uint64 {
	if o == nil {
		return 0
	}
	return o.sent.Load()
}

func (o *output) run() {
	defer close(o.done)
	defer o.close()
	buf := make([]byte, copySize)
	for {
		n, err := o.src.Read(buf)
		if !o.send(buf[:n]) {
			return
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			o.drain(buf)
			return
		}
		if err != nil {
			return // EOF; a terminal whose other side is closed says EIO
		}
	}
}

// drain sends what can be read without waiting.
func (o *output) drain(buf []byte) {
	if err := o.src.SetReadDeadline(time.Time{}); err != nil {
		return
	}
	for left := maxDrain; left > 0; {
		n, err := readNow(o.src, buf[:min(len(buf), left)])
		if n <= 0 || err != nil || !o.send(buf[:n]) {
			return
		}
		left -= n
	}
}

// readNow reads what is there without waiting. It gives io.EOF at the end and also if
// nothing is there.
func readNow(f *os.File, buf []byte) (n int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	rerr := raw.Read(func(fd uintptr) bool {
		for {
			n, err = unix.Read(int(fd), buf)
			if !errors.Is(err, unix.EINTR) {
				return true
			}
		}
	})
	switch {
	case rerr != nil:
		return 0, rerr
	case errors.Is(err, unix.EAGAIN) || n == 0:
		return 0, io.EOF
	default:
		return n, err
	}
}

// send writes to the host and counts the bytes. It reports false if the host takes
// no more. Then the process's side is closed too, as in a shell's pipeline whose
// reader goes away.
func (o *output) send(p []byte) bool {
	if len(p) == 0 {
		return true
	}
	if o.killed.Load() {
		_ = o.dst.SetWriteDeadline(time.Now().Add(stallTimeout))
	}
	n, err := o.dst.Write(p)
	o.sent.Add(uint64(n)) // #nosec G115 -- never negative
	return err == nil
}

// watch notices that the host has closed the connection, while nothing is
// written and while a write waits for room.
func (o *output) watch() {
	var b [1]byte
	_, _ = o.dst.Read(b[:])
	o.close()
}

func (o *output) close() {
	o.once.Do(func() {
		_ = o.dst.Close()
		_ = o.src.Close()
	})
}
