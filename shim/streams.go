package shim

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"runch/agentproto"

	"golang.org/x/sys/unix"
)

// drainTimeout bounds the wait for output that the agent says it has sent, from
// the last of it that came.
const drainTimeout = 10 * time.Second

// Files are the host's ends of the process's stdio. With a terminal, Stdin and
// Stdout are the terminal and Stderr is nil; a nil file is not connected.
type Files struct {
	Stdin, Stdout, Stderr *os.File
}

// Streams are the connections that carry a process's stdio.
type Streams struct {
	ids    agentproto.Stdio
	stdin  *input
	stdout *output
	stderr *output
	wg     sync.WaitGroup
}

// OpenStreams opens a connection for each of files. Standard input that is
// /dev/null needs none.
func OpenStreams(ctx context.Context, d agentproto.Dialer, files Files) (*Streams, error) {
	s := &Streams{}
	open := func(id *uint64) (net.Conn, error) {
		var err error
		if *id, err = streamID(); err != nil {
			return nil, err
		}
		return agentproto.OpenStream(ctx, d, *id)
	}
	if files.Stdin != nil && !isNull(files.Stdin) {
		conn, err := open(&s.ids.Stdin)
		if err != nil {
			return nil, fmt.Errorf("open the input stream: %w", err)
		}
		s.stdin = &input{file: files.Stdin, conn: conn}
	}
	for _, o := range []struct {
		file *os.File
		id   *uint64
		out  **output
	}{{files.Stdout, &s.ids.Stdout, &s.stdout}, {files.Stderr, &s.ids.Stderr, &s.stderr}} {
		if o.file == nil {
			continue
		}
		conn, err := open(o.id)
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("open an output stream: %w", err)
		}
		*o.out = &output{file: o.file, conn: conn, done: make(chan struct{})}
	}
	return s, nil
}

// IDs are the streams' ids, for the agent.
func (s *Streams) IDs() *agentproto.Stdio {
	return &agentproto.Stdio{Stdin: s.ids.Stdin, Stdout: s.ids.Stdout, Stderr: s.ids.Stderr}
}

// Start begins to copy. inputEnd is called once, with the number of bytes that
// the input had, when it has ended.
func (s *Streams) Start(inputEnd func(bytes uint64)) {
	for _, o := range []*output{s.stdout, s.stderr} {
		if o != nil {
			s.wg.Go(o.run)
		}
	}
	if s.stdin != nil {
		// It is not waited for: a read of a terminal or a pipe that nobody
		// writes to ends with the process.
		go s.stdin.run(inputEnd)
	}
}

// Drain returns when each output has carried the bytes that the agent says it
// sent, or when none has come for a while.
func (s *Streams) Drain(stdout, stderr uint64) error {
	var errs []error
	for _, o := range []struct {
		out   *output
		bytes uint64
	}{{s.stdout, stdout}, {s.stderr, stderr}} {
		if o.out != nil {
			errs = append(errs, o.out.finish(o.bytes))
		}
	}
	return errors.Join(errs...)
}

// Close ends every connection.
func (s *Streams) Close() {
	if s.stdin != nil {
		_ = s.stdin.conn.Close()
	}
	for _, o := range []*output{s.stdout, s.stderr} {
		if o != nil {
			_ = o.conn.Close()
		}
	}
	s.wg.Wait()
}

// input carries a file's bytes to the guest.
type input struct {
	file *os.File
	conn net.Conn
}

func (i *input) run(end func(uint64)) {
	n, err := io.Copy(i.conn, i.file)
	if err != nil && !errors.Is(err, unix.EIO) {
		// The guest's side is closed: nothing more will be taken.
		_ = i.conn.Close()
		return
	}
	end(uint64(n)) // #nosec G115 -- a count of bytes
}

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
func (o *output) finish(bytes uint64) error {
	o.await(drainTimeout)
	if got := o.bytes.Load(); got < bytes && !o.broken.Load() {
		return fmt.Errorf("%d of %d bytes of output were lost", bytes-got, bytes)
	}
	return nil
}

// await waits for the copying's end, and ends it when nothing has come for the
// timeout although the file takes more. A reader of the file may be slow: what
// is in a pipe waits for it under any runtime.
func (o *output) await(timeout time.Duration) {
	// Two looks: at the first, a reader that was slow may just have come back.
	ticks := time.NewTicker(timeout / 2)
	defer ticks.Stop()
	idle := 0
	for before := o.bytes.Load(); idle < 2; before = o.bytes.Load() {
		select {
		case <-o.done:
			return
		case <-ticks.C:
		}
		idle++
		if o.bytes.Load() != before || !writable(o.file) {
			idle = 0
		}
	}
	_ = o.conn.SetReadDeadline(time.Unix(1, 0))
	<-o.done
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

func streamID() (uint64, error) {
	var b [8]byte
	for {
		if _, err := rand.Read(b[:]); err != nil {
			return 0, fmt.Errorf("make a stream id: %w", err)
		}
		if id := binary.BigEndian.Uint64(b[:]); id != 0 {
			return id, nil
		}
	}
}

// isNull tells /dev/null from anything that may have input.
func isNull(f *os.File) bool {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return false
	}
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3)
}
