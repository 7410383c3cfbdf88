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

// drainTimeout bounds the wait for output that the agent says it has sent, since
// the last byte that came.
const drainTimeout = 10 * time.Second

// stallTimeout is how long the shim of a process that was killed waits while the caller's
// file takes no output: without a VM, too, such a process ends though nobody reads its output.
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

// chunk is how many bytes are copied between two updates of the count. io.CopyN
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
			// The process has closed its output: close the file too. Or the file takes no
			// more: the process's next write fails then.
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

// finish waits until the copying has ended: the agent closes a stream when all is
// sent. The count then shows whether all has come, also when await has timed out
// because the transport has lost the stream's end.
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

// await waits for the copying's end, and ends the copying when nothing has come for the
// timeout although the file takes more. The file's reader may be slow: await has no limit
// for that, as the bytes in a pipe wait for their reader under any runtime. If stall is
// not 0, it is the limit, and the copying may still be in a write when await returns.
func (o *output) await(timeout, stall time.Duration) {
	// A timeout takes two ticks: at the first, a slow reader may just have read again.
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
