package shim

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// drainTimeout bounds the wait for output that the agent says it has sent, from
// the last of it that came.
const drainTimeout = 10 * time.Second

// stallTimeout is how long the caller's file may take none of the output of a process that
// was killed: that ends though nobody reads its output, as it does without a VM.
const stallTimeout = time.Second

// output carries the guest's bytes to a file.
type output struct {
	file  *os.File
	conn  net.Conn
	bytes atomic.Uint64
	done  chan struct{}
	// broken is set when the file takes no more.
	broken atomic.Bool
}

// chunk is how much is copied between two looks at the count. io.CopyN
// splices where both ends allow it.
const chunk = 256 << 10

func (o *output) run() {
	defer close(o.done)
	for {
		n, err := io.CopyN(o.file, o.conn, chunk)
		o.bytes.Add(uint64(n)) // #nosec G115 -- a count of bytes
		if err == nil {
			continue
		}
		if takesNoMore(err) {
			o.broken.Store(true)
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			// The process has closed its output, and ours is closed too. Or ours takes
			// no more, and the process is to notice that.
			_ = o.conn.Close()
			if o.broken.Load() || errors.Is(err, io.EOF) {
				_ = o.file.Close()
			}
		}
		return
	}
}

// takesNoMore tells whether an error is of a write to the file, and not of the connection:
// nobody reads it, or its disk, its quota or the largest size of a file is full.
func takesNoMore(err error) bool {
	for _, errno := range []unix.Errno{unix.EPIPE, unix.EIO, unix.ENOSPC, unix.EDQUOT, unix.EFBIG} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// finish waits until the copying ended by itself: the agent closes a stream
// when all is sent. The count is the proof, and ends the wait for a transport
// that has lost the end.
func (o *output) finish(bytes uint64, killed bool) error {
	if killed {
		o.await(drainTimeout, stallTimeout)
		return nil
	}
	o.await(drainTimeout, 0)
	if got := o.bytes.Load(); got < bytes && !o.broken.Load() {
		return fmt.Errorf("%d of %d bytes of output were lost", bytes-got, bytes)
	}
	return nil
}

// await waits for the copying's end, and ends it when nothing has come for the
// timeout although the file takes more. A reader of the file may be slow: what
// is in a pipe waits for it under any runtime. Where stall is not 0, it waits
// that long for a reader that takes nothing, and the copying may still be in a write.
func (o *output) await(timeout, stall time.Duration) {
	// Two looks: at the first, a reader that was slow may just have come back.
	tick := timeout / 2
	if stall != 0 {
		tick = stall / 2
	}
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	var idle, stalled time.Duration
	for before := o.bytes.Load(); idle < timeout; before = o.bytes.Load() {
		select {
		case <-o.done:
			return
		case <-ticks.C:
		}
		switch {
		case o.bytes.Load() != before:
			idle, stalled = 0, 0
		case writable(o.file):
			idle, stalled = idle+tick, 0
		default:
			idle, stalled = 0, stalled+tick
		}
		if stall != 0 && stalled >= stall {
			return
		}
	}
	_ = o.conn.SetReadDeadline(time.Unix(1, 0))
	if stall == 0 {
		<-o.done
	}
}

// writable tells whether a write to f would not block. A file that cannot be
// asked takes everything.
func writable(f *os.File) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return true
	}
	ready := true
	err = raw.Control(func(fd uintptr) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 0)
		ready = n > 0 || err != nil
	})
	return ready || err != nil
}
