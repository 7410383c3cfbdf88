// Command workload is the program that the tests run inside containers. It is static, so that it is also all
// there is in a root without a C library, and each of its verbs does one thing that a shell cannot do precisely.
//
//	workload exit N        end with status N, 0 to 255
//	workload die N         end by signal N, with the default action
//	workload flood N       write N bytes to stdout and N to stderr at once, then end at once
//	workload pattern N     write the same N bytes to stdout only
//	workload count         read stdin to its end, print the number of bytes and their SHA-256
//	workload signals       print the number of each signal that arrives; end with status 0 on SIGUSR2
//	workload self          print what a process can learn about itself, in JSON
//	workload serve ADDR    answer each TCP connection with one line
//	workload fetch ADDR    connect and print what comes
//	workload web ADDR      answer each HTTP request with an empty page
//	workload euid          print the effective user id
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
	"strconv"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "workload: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("no verb given")
	}
	verb, rest := args[0], args[1:]
	switch verb {
	case "count":
		return count()
	case "signals":
		return signals()
	case "self":
		return self()
	case "euid":
		fmt.Printf("Effective uid: %d\n", os.Geteuid())
		return nil
	}
	if len(rest) != 1 {
		return fmt.Errorf("%s takes one argument", verb)
	}
	switch verb {
	case "serve":
		return serve(rest[0])
	case "fetch":
		return fetch(rest[0])
	case "web":
		return web(rest[0])
	}
	n, err := strconv.Atoi(rest[0])
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	switch verb {
	case "exit":
		os.Exit(n)
	case "die":
		return die(n)
	case "flood":
		return flood(n)
	case "pattern":
		return pattern(os.Stdout, n)
	}
	return fmt.Errorf("unknown verb %q", verb)
}

// count reads stdin to its end.
func count() error {
	h := sha256.New()
	n, err := io.Copy(h, os.Stdin)
	if err != nil {
		return err
	}
	fmt.Printf("%d %x\n", n, h.Sum(nil))
	return nil
}

// pattern writes n bytes that differ from place to place, so that a piece lost, doubled or moved shows.
func pattern(w io.Writer, n int) error {
	buf := make([]byte, 0, 64<<10)
	x := uint32(2463534242)
	for n > 0 {
		buf = buf[:0]
		for len(buf) < min(cap(buf), n) {
			x ^= x << 13
			x ^= x >> 17
			x ^= x << 5
			buf = append(buf, byte(x&0xff))
		}
		if _, err := w.Write(buf); err != nil {
			return err
		}
		n -= len(buf)
	}
	return nil
}

// flood writes the pattern to stdout and stderr at the same time.
func flood(n int) error {
	done := make(chan error, 1)
	go func() { done <- pattern(os.Stderr, n) }()
	err := pattern(os.Stdout, n)
	return errors.Join(err, <-done)
}

func serve(addr string) error {
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
		peer, ok := conn.RemoteAddr().(*net.TCPAddr)
		if !ok {
			return fmt.Errorf("a peer with the address %v", conn.RemoteAddr())
		}
		// A client may be gone already.
		_, _ = fmt.Fprintf(conn, "hello %s\n", peer.IP)
		_ = conn.Close()
	}
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

func fetch(addr string) error {
	dialer := net.Dialer{Timeout: 10 * time.Second}
	conn, err := dialer.DialContext(context.Background(), "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	_, err = io.Copy(os.Stdout, conn)
	return err
}
