package agent

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"runch/agentproto"
)

const (
	maxStreams    = 3072             // connections that no request has named yet: three for each of 1024 execs that are begun at once
	streamTimeout = 30 * time.Second // how long a connection or a request waits for the other
)

// streams brings together the connections that arrive on StreamPort and the
// requests that name them, whichever comes first. It is safe for concurrent use.
type streams struct {
	timeout time.Duration

	mu      sync.Mutex
	arrived map[uint64]*arrival
	wanted  map[uint64]chan net.Conn
	reading int
}

type arrival struct {
	conn  net.Conn
	timer *time.Timer
}

func newStreams(timeout time.Duration) *streams {
	return &streams{
		timeout: timeout,
		arrived: make(map[uint64]*arrival),
		wanted:  make(map[uint64]chan net.Conn),
	}
}

// accept reads a connection's header and keeps it for the request that names
// it. The registry owns the connection until it is claimed, and closes it if nobody does.
func (s *streams) accept(conn net.Conn) error {
	err := s.take(conn)
	if err != nil {
		_ = conn.Close()
	}
	return err
}

func (s *streams) take(conn net.Conn) error {
	if !s.startReading() {
		return fmt.Errorf("streams without a header: %w", errTooMany)
	}
	_ = conn.SetReadDeadline(time.Now().Add(s.timeout))
	id, err := agentproto.ReadStreamHeader(conn)
	_ = conn.SetReadDeadline(time.Time{})

	s.mu.Lock()
	defer s.mu.Unlock()
	s.reading--
	if err != nil {
		return err
	}
	if want, ok := s.wanted[id]; ok {
		delete(s.wanted, id)
		want <- conn
		return nil
	}
	if _, ok := s.arrived[id]; ok {
		return fmt.Errorf("stream %d: %w", id, errStreamRefused)
	}
	if len(s.arrived) >= maxStreams {
		return fmt.Errorf("streams that nobody asked for: %w", errTooMany)
	}
	s.arrived[id] = &arrival{conn: conn, timer: time.AfterFunc(s.timeout, func() { s.expire(id, conn) })}
	return nil
}

func (s *streams) startReading() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reading >= maxStreams {
		return false
	}
	s.reading++
	return true
}

func (s *streams) expire(id uint64, conn net.Conn) {
	s.mu.Lock()
	a, ok := s.arrived[id]
	if ok && a.conn == conn {
		delete(s.arrived, id)
	} else {
		ok = false
	}
	s.mu.Unlock()
	if ok {
		_ = conn.Close()
	}
}

// claim gives the connection of stream id, waiting for it if need be. The
// caller owns it. id 0 names no stream and gives nil.
func (s *streams) claim(ctx context.Context, id uint64) (net.Conn, error) {
	if id == 0 {
		return nil, nil
	}
	s.mu.Lock()
	if a, ok := s.arrived[id]; ok {
		delete(s.arrived, id)
		s.mu.Unlock()
		a.timer.Stop()
		return a.conn, nil
	}
	if _, ok := s.wanted[id]; ok {
		s.mu.Unlock()
		return nil, invalidf("stdio: stream %d is asked for twice", id)
	}
	want := make(chan net.Conn, 1)
	s.wanted[id] = want
	s.mu.Unlock()

	timer := time.NewTimer(s.timeout)
	defer timer.Stop()
	select {
	case conn := <-want:
		return conn, nil
	case <-timer.C:
		return s.giveUp(id, want, fmt.Errorf("stream %d: %w", id, errStreamMissing))
	case <-ctx.Done():
		return s.giveUp(id, want, fmt.Errorf("stream %d: %w", id, ctx.Err()))
	}
}

// giveUp withdraws a claim, unless the connection came in the same moment.
func (s *streams) giveUp(id uint64, want chan net.Conn, err error) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case conn := <-want:
		return conn, nil
	default:
		delete(s.wanted, id)
		return nil, err
	}
}

// conns are the connections of one process's stdio; nil where there is none.
type conns struct {
	stdin, stdout, stderr net.Conn
	// plainNewlines is for a terminal: newlines go out as they are.
	plainNewlines bool
}

// claimAll claims the streams of a request, all or none.
func (s *streams) claimAll(ctx context.Context, ids *agentproto.Stdio) (_ *conns, err error) {
	c := &conns{plainNewlines: ids.GetPlainNewlines()}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	for _, one := range []struct {
		id uint64
		to *net.Conn
	}{{ids.GetStdin(), &c.stdin}, {ids.GetStdout(), &c.stdout}, {ids.GetStderr(), &c.stderr}} {
		if *one.to, err = s.claim(ctx, one.id); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *conns) close() {
	for _, conn := range []net.Conn{c.stdin, c.stdout, c.stderr} {
		if conn != nil {
			_ = conn.Close()
		}
	}
}
