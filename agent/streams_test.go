package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"runch/agentproto"
)

// arrive gives the host's end of a stream that has sent its header.
func arrive(t *testing.T, s *streams, id uint64) (host net.Conn, accepted <-chan error) {
	t.Helper()
	host, guest := net.Pipe()
	t.Cleanup(func() { _ = host.Close() })
	done := make(chan error, 1)
	go func() { done <- s.accept(guest) }()
	if err := agentproto.WriteStreamHeader(host, id); err != nil {
		t.Fatal(err)
	}
	return host, done
}

func closed(conn net.Conn) bool {
	_, err := conn.Read(make([]byte, 1))
	return errors.Is(err, io.EOF)
}

func TestStreamArrivesFirst(t *testing.T) {
	s := newStreams(time.Minute)
	host, accepted := arrive(t, s, 7)
	if err := <-accepted; err != nil {
		t.Fatal(err)
	}
	conn, err := s.claim(t.Context(), 7)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = conn.Write([]byte("x")) }()
	if b, err := io.ReadAll(io.LimitReader(host, 1)); err != nil || string(b) != "x" {
		t.Errorf("read %q, %v", b, err)
	}
	if _, err := newStreams(time.Millisecond).claim(t.Context(), 7); !errors.Is(err, errStreamMissing) {
		t.Errorf("another registry has it too: %v", err)
	}
}

func TestStreamIsWaitedFor(t *testing.T) {
	s := newStreams(time.Minute)
	got := make(chan error, 1)
	go func() {
		conn, err := s.claim(t.Context(), 9)
		if err == nil {
			err = conn.Close()
		}
		got <- err
	}()
	host, accepted := arrive(t, s, 9)
	if err := errors.Join(<-accepted, <-got); err != nil {
		t.Fatal(err)
	}
	if !closed(host) {
		t.Error("the claimed connection is another one")
	}
}

func TestStreamTimes(t *testing.T) {
	t.Run("nobody asks", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newStreams(streamTimeout)
			host, accepted := arrive(t, s, 1)
			if err := <-accepted; err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if !closed(host) || time.Since(start) != streamTimeout {
				t.Errorf("closed after %s", time.Since(start))
			}
		})
	})
	t.Run("nothing comes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newStreams(streamTimeout)
			start := time.Now()
			if _, err := s.claim(t.Context(), 1); !errors.Is(err, errStreamMissing) || time.Since(start) != streamTimeout {
				t.Errorf("%v after %s", err, time.Since(start))
			}
			if len(s.wanted) != 0 {
				t.Error("the claim is still there")
			}
		})
	})
	t.Run("the caller goes", func(t *testing.T) {
		s := newStreams(streamTimeout)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.claim(ctx, 1); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Run("no header comes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			host, guest := net.Pipe()
			defer host.Close()
			if err := newStreams(streamTimeout).accept(guest); err == nil {
				t.Error("accepted")
			}
			if !closed(host) {
				t.Error("left open")
			}
		})
	})
}

func TestStreamsAreBounded(t *testing.T) {
	s := newStreams(time.Minute)
	for id := uint64(1); id <= maxStreams; id++ {
		if _, accepted := arrive(t, s, id); <-accepted != nil {
			t.Fatalf("stream %d refused", id)
		}
	}
	host, accepted := arrive(t, s, maxStreams+1)
	if err := <-accepted; !errors.Is(err, errTooMany) || !closed(host) {
		t.Errorf("one too many: %v", err)
	}
	if _, err := s.claim(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if _, accepted := arrive(t, s, maxStreams+1); <-accepted != nil {
		t.Error("no room although one was claimed")
	}
	if host, accepted = arrive(t, s, 2); !errors.Is(<-accepted, errStreamRefused) || !closed(host) {
		t.Error("the same id came twice")
	}
}

func TestClaimAllIsAllOrNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStreams(streamTimeout)
		host, accepted := arrive(t, s, 1)
		if err := <-accepted; err != nil {
			t.Fatal(err)
		}
		if _, err := s.claimAll(t.Context(), &agentproto.Stdio{Stdin: 1, Stdout: 2}); !errors.Is(err, errStreamMissing) {
			t.Errorf("error %v", err)
		}
		if !closed(host) {
			t.Error("the first stream is left open")
		}
		c, err := s.claimAll(t.Context(), &agentproto.Stdio{})
		if err != nil || c.stdin != nil || c.stdout != nil || c.stderr != nil {
			t.Errorf("no streams: %v, %v", c, err)
		}
	})
}

// headerConn is a connection that holds only what was sent.
type headerConn struct {
	net.Conn
	r io.Reader
}

func (c headerConn) Read(p []byte) (int, error)      { return c.r.Read(p) }
func (c headerConn) SetReadDeadline(time.Time) error { return nil }
func (c headerConn) Close() error                    { return nil }

func FuzzStreamHeader(f *testing.F) {
	var good bytes.Buffer
	if err := agentproto.WriteStreamHeader(&good, 1); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bytes())
	f.Add([]byte("RUNCHST1"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		s := newStreams(time.Minute)
		err := s.accept(headerConn{r: bytes.NewReader(data)})
		if err == nil && len(s.arrived) != 1 || err != nil && len(s.arrived) != 0 || s.reading != 0 {
			t.Errorf("%q: %v with %d streams, %d headers under way", data, err, len(s.arrived), s.reading)
		}
		for _, a := range s.arrived {
			a.timer.Stop()
		}
	})
}
