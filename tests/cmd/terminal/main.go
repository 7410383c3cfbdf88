// Command terminal is the user's side of a pseudo-terminal.
//
//	terminal receive --socket PATH --out FILE --report FILE
//	terminal run --out FILE --report FILE -- COMMAND [ARG...]
//
// receive listens on a console socket as conmon does and takes the pty master that the runtime sends over it.
// run starts COMMAND in a session of its own on a new pty, as a shell in a terminal window does.
//
// Both read instructions from standard input, one on each line:
//
//	accept            (receive) accept the runtime's connection and take the master
//	size ROWS COLS    set the window's size
//	type TEXT         type TEXT and press return
//	send HEX          type these bytes
//	close             close the master
//
// The terminal's output goes to the file of --out, a report about the terminal to that of --report, in JSON.
package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// report is what the program learned about a terminal.
type report struct {
	// Name is the payload of the message with the master, Descriptors the number of descriptors in it.
	Name        string `json:"name"`
	Descriptors int    `json:"descriptors"`
	IsPTYMaster bool   `json:"is_pty_master"`
	// Status is the command's exit code, or 128 plus its signal. Restored says whether the terminal has the same
	// modes after the command as before.
	Status   int  `json:"status"`
	Restored bool `json:"restored"`
}

// screen is the master of one terminal.
type screen struct {
	master *os.File
	out    string
	file   string
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "terminal: %v\n", err)
		os.Exit(125)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("usage: terminal receive|run [flags]")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	socket := flags.String("socket", "", "unix socket to listen on")
	out := flags.String("out", "", "file for what appears on the terminal")
	file := flags.String("report", "", "file for the report")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	s := &screen{out: *out, file: *file}
	switch args[0] {
	case "receive":
		return s.receive(*socket)
	case "run":
		return s.run(flags.Args())
	default:
		return fmt.Errorf("unknown mode %q", args[0])
	}
}

// copy writes all that appears on the terminal to the output file and returns once its other side is closed.
func (s *screen) copy(done chan<- error) {
	f, err := os.OpenFile(s.out, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		done <- err
		return
	}
	_, err = io.Copy(f, s.master)
	// Reading a pty master gives EIO once no process has its slave open.
	if errors.Is(err, unix.EIO) || errors.Is(err, os.ErrClosed) {
		err = nil
	}
	done <- errors.Join(err, f.Close())
}

// write stores the report atomically: a reader sees all of it or no file.
func (s *screen) write(r *report) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.file+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(s.file+".new", s.file)
}

// instructions returns the lines of standard input.
func instructions() <-chan string {
	lines := make(chan string)
	go func() {
		defer close(lines)
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			lines <- in.Text()
		}
	}()
	return lines
}

// execute carries out one instruction for an open terminal.
func (s *screen) execute(line string) error {
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "size":
		var rows, cols uint16
		if _, err := fmt.Sscan(rest, &rows, &cols); err != nil {
			return fmt.Errorf("instruction %q: %w", line, err)
		}
		return s.resize(rows, cols)
	case "type":
		_, err := io.WriteString(s.master, rest+"\n")
		return err
	case "send":
		data, err := hex.DecodeString(rest)
		if err != nil {
			return fmt.Errorf("instruction %q: %w", line, err)
		}
		_, err = s.master.Write(data)
		return err
	case "close":
		return s.master.Close()
	default:
		return fmt.Errorf("unknown instruction %q", line)
	}
}

// resize sets the window's size. It does not use File.Fd, which would set the master to blocking mode.
func (s *screen) resize(rows, cols uint16) error {
	return s.control(func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	})
}

// control runs f with the master's descriptor.
func (s *screen) control(f func(fd int) error) error {
	conn, err := s.master.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = conn.Control(func(fd uintptr) { inner = f(int(fd)) })
	return errors.Join(err, inner)
}
