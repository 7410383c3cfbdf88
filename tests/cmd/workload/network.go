package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// patience is how long a client waits for a connection, an answer or a name server.
const patience = time.Minute

// listen accepts connections and runs answer for each in a goroutine.
func listen(addr string, answer func(*net.TCPConn) error) error {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return err
	}
	fmt.Println("serving")
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		tcp, ok := conn.(*net.TCPConn)
		if !ok {
			return fmt.Errorf("a connection by TCP is a %T", conn)
		}
		go func() {
			defer tcp.Close()
			if err := answer(tcp); err != nil {
				fmt.Println(err) // a client may be gone already
			}
		}()
	}
}

func serve(addr string) error {
	return listen(addr, func(conn *net.TCPConn) error {
		peer, ok := conn.RemoteAddr().(*net.TCPAddr)
		if !ok {
			return fmt.Errorf("a peer with the address %v", conn.RemoteAddr())
		}
		_, err := fmt.Fprintf(conn, "hello %s\n", peer.IP)
		return err
	})
}

// tally answers each connection at the end of its data with the number of bytes and their SHA-256.
func tally(addr string) error {
	return listen(addr, func(conn *net.TCPConn) error {
		h := sha256.New()
		n, err := io.Copy(h, conn)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(conn, "%d %x\n", n, h.Sum(nil))
		return err
	})
}

// listener shuts down its own direction of a connection before it reads the other.
func listener(addr string) error {
	return listen(addr, func(conn *net.TCPConn) error {
		if _, err := fmt.Fprintln(conn, "listening"); err != nil {
			return err
		}
		if err := conn.CloseWrite(); err != nil {
			return err
		}
		said, err := io.ReadAll(io.LimitReader(conn, 1<<20))
		fmt.Printf("heard %s\n", said)
		return err
	})
}

func web(addr string) error {
	fmt.Fprintf(os.Stderr, "%s: serving %s\n", os.Args[0], addr)
	server := &http.Server{
		Addr:              addr,
		Handler:           http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
		ReadHeaderTimeout: 10 * time.Second,
	}
	return server.ListenAndServe()
}

func connect(addr string) (*net.TCPConn, error) {
	dialer := net.Dialer{Timeout: patience}
	conn, err := dialer.DialContext(context.Background(), "tcp", addr)
	if err != nil {
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil, fmt.Errorf("a connection by TCP is a %T", conn)
	}
	return tcp, tcp.SetReadDeadline(time.Now().Add(patience))
}

func fetch(addr string) error {
	conn, err := connect(addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = io.Copy(os.Stdout, conn)
	return err
}

// send sends stdin, shuts down that direction, and prints the answer.
func send(addr string) error {
	conn, err := connect(addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := ask(conn, os.Stdin); err != nil {
		return err
	}
	_, err = io.Copy(os.Stdout, conn)
	return err
}

// ask sends all of question and shuts down that direction. The answer then has to come within patience.
func ask(conn *net.TCPConn, question io.Reader) error {
	if _, err := io.Copy(conn, question); err != nil {
		return err
	}
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	return conn.SetReadDeadline(time.Now().Add(patience))
}

// reply reads the connection to its end before it sends anything.
func reply(addr string) error {
	conn, err := connect(addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.Copy(os.Stdout, conn); err != nil {
		return err
	}
	_, err = io.Copy(conn, os.Stdin)
	return err
}

// crowd opens n connections to a tally at the same time, and sends different data on each.
func crowd(addr string, n int) error {
	var conns []*net.TCPConn
	for range n {
		conn, err := connect(addr)
		if err != nil {
			return fmt.Errorf("with %d connections: %w", len(conns), err)
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	answers := make(chan error, n)
	for i, conn := range conns {
		go func() { answers <- askTally(conn, fmt.Sprintf("connection %d", i)) }()
	}
	var errs []error
	for range conns {
		errs = append(errs, <-answers)
	}
	return errors.Join(errs...)
}

func askTally(conn *net.TCPConn, what string) error {
	if err := ask(conn, strings.NewReader(what)); err != nil {
		return err
	}
	answer, err := io.ReadAll(conn)
	if want := fmt.Sprintf("%d %x\n", len(what), sha256.Sum256([]byte(what))); err == nil && string(answer) != want {
		err = fmt.Errorf("%s: %q, want %q", what, answer, want)
	}
	return err
}

// names uses Go's own resolver, as that can be made to ask by UDP or by TCP.
func names(host string) error {
	for _, network := range []string{"udp", "tcp"} {
		r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, server string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, server)
		}}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		addresses, err := r.LookupHost(ctx, host)
		cancel()
		if err != nil {
			return err
		}
		fmt.Println(network, addresses)
	}
	return nil
}
