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

	"runch/agentproto"

	"golang.org/x/sys/unix"
)

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
		// Close does not wait for it: a read of a terminal or a pipe that nobody
		// writes to ends only with this process.
		go s.stdin.run(inputEnd)
	}
}

// Drain waits until each output has carried the bytes that the agent says it sent, or until
// none have come for a while. Missing bytes are an error, except for a process that was
// killed: its output may have no reader any more.
func (s *Streams) Drain(stdout, stderr uint64, killed bool) error {
	var errs []error
	for _, o := range []struct {
		out   *output
		bytes uint64
	}{{s.stdout, stdout}, {s.stderr, stderr}} {
		if o.out != nil {
			errs = append(errs, o.out.finish(o.bytes, killed))
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
		// The guest's side is closed and takes no more. EIO instead says that the terminal
		// is gone, which ends the input.
		_ = i.conn.Close()
		return
	}
	end(uint64(n)) // #nosec G115 -- a count of bytes
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
