package shim

import (
	"fmt"
	"os"

	"runch/agentproto"
	"runch/shimproto"
	"runch/unixsocket"
)

// files gives the host's side of the process's stdio: a pty, or the files that this
// process has from the command as its own stdio.
func (s *setup) files() (Files, error) {
	if s.Terminal == nil {
		return Files{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}, nil
	}
	c, err := NewConsole(s.Terminal.Size)
	if err != nil {
		return Files{}, err
	}
	s.console = c
	return Files{Stdin: c.Slave, Stdout: c.Slave}, nil
}

// ready sends the report, after it has sent the terminal's master: the caller may
// look for the master as soon as the command has ended.
func (s *setup) ready(r *shimproto.Ready) error {
	if s.console != nil {
		conn, err := unixsocket.Open(os.NewFile(shimproto.ConsoleFD, "console"))
		if err != nil {
			return fmt.Errorf("open the console socket: %w", err)
		}
		defer conn.Close()
		if err := s.console.Send(conn); err != nil {
			return err
		}
	}
	return s.conn.Send(shimproto.Report{Ready: r})
}

// stdio describes the process's streams to the agent.
func (s *setup) stdio(streams *Streams) *agentproto.Stdio {
	ids := streams.IDs()
	ids.PlainNewlines = s.Terminal != nil && s.Terminal.PlainNewlines
	return ids
}

func (s *setup) terminalSize() *agentproto.TerminalSize {
	if s.Terminal == nil {
		return nil
	}
	if size, err := Size(s.console.Slave); err == nil && size.GetHeight() != 0 {
		return size
	}
	return s.Terminal.Size
}

func (s *setup) slave() *os.File {
	if s.console == nil {
		return nil
	}
	return s.console.Slave
}
