// Command workload is the program that the tests run inside containers. It is static, so that it also runs as the only
// file in a root. Each of its verbs does one thing that a shell cannot do precisely.
//
//	workload exit N        end with status N, 0 to 255
//	workload die N         end by signal N, with the default action
//	workload flood N       write N bytes to stdout and N to stderr at once, then end at once
//	workload pattern N     write the same N bytes to stdout only
//	workload count         read stdin to its end, print the number of bytes and their SHA-256
//	workload signals       print the number of each signal that arrives; end with status 0 on SIGUSR2
//	workload self          print what a process can learn about itself, in JSON
//	workload serve ADDR    answer each TCP connection with one line
//	workload tally ADDR    read each TCP connection to its end, answer with the number of bytes and their SHA-256
//	workload listener ADDR write a line to each TCP connection, shut down that direction, and print what comes
//	workload fetch ADDR    connect and print what comes
//	workload send ADDR     connect, send stdin to its end, then print what comes
//	workload reply ADDR    connect, print what comes to its end, then send stdin
//	workload crowd ADDR N  send different data to a tally on each of N connections at the same time
//	workload names HOST    ask the name servers for the host by UDP, then by TCP, and print each answer
//	workload web ADDR      answer each HTTP request with an empty page
//	workload euid          print the effective user id
package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "workload: %v\n", err)
		os.Exit(1)
	}
}

// network are the verbs that take an address or a name.
var network = map[string]func(addr string) error{
	"serve": serve, "tally": tally, "listener": listener, "fetch": fetch, "send": send, "reply": reply, "names": names, "web": web,
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
	if verb == "crowd" && len(rest) == 2 {
		n, err := strconv.Atoi(rest[1])
		if err != nil {
			return fmt.Errorf("%s: %w", verb, err)
		}
		return crowd(rest[0], n)
	}
	if len(rest) != 1 {
		return fmt.Errorf("%s takes one argument", verb)
	}
	if use := network[verb]; use != nil {
		return use(rest[0])
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

// count prints the number of bytes on stdin and their SHA-256.
func count() error {
	h := sha256.New()
	n, err := io.Copy(h, os.Stdin)
	if err != nil {
		return err
	}
	fmt.Printf("%d %x\n", n, h.Sum(nil))
	return nil
}

// pattern writes n pseudo-random bytes, so that the receiver's checksum shows a piece that is lost, doubled or moved.
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
