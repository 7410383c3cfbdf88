package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"runch/hypervisor"
	"runch/hypervisor/process"
)

// monitor is a connection to QEMU's control socket, for one goroutine and one command
// at a time. It is closed soon, because QEMU serves one client at a time and others wait.
//
// The Go libraries for QMP do not fit: they dial by themselves, take no context, and pass a
// file only to a QEMU that offers out-of-band commands.
type monitor struct {
	conn *net.UnixConn
	in   *bufio.Scanner
	id   uint64
	// events are the latest events that came before an answer.
	events []*message
	// version is QEMU's, from its greeting.
	version qemuVersion
}

// maxEvents bounds the events that are kept, because a guest can cause any number.
const maxEvents = 64

// maxReply bounds a line from QEMU, in bytes. The answer to query-pci with all slots
// taken has some ten thousand bytes.
const maxReply = 1 << 20

type message struct {
	QMP    *greeting       `json:"QMP"`
	Return json.RawMessage `json:"return"`
	Error  *qmpError       `json:"error"`
	Event  string          `json:"event"`
	Data   json.RawMessage `json:"data"`
	ID     uint64          `json:"id"`
}

// greeting is the first message from QEMU.
type greeting struct {
	Version struct {
		QEMU qemuVersion `json:"qemu"`
	} `json:"version"`
}

type qemuVersion struct {
	Major int `json:"major"`
	Minor int `json:"minor"`
	Micro int `json:"micro"`
}

// qmpError is QEMU's refusal of a command.
type qmpError struct {
	Desc string `json:"desc"`
}

func newMonitor(conn *net.UnixConn) *monitor {
	in := bufio.NewScanner(conn)
	in.Buffer(nil, maxReply)
	return &monitor{conn: conn, in: in}
}

// Close ends the connection.
func (m *monitor) Close() error {
	if err := m.conn.Close(); err != nil {
		return fmt.Errorf("close QEMU's monitor: %w", err)
	}
	return nil
}

// greet waits for QEMU's greeting, which comes once QEMU has accepted its command line, and
// switches the connection to command mode.
func (m *monitor) greet(ctx context.Context) error {
	stop := m.bound(ctx)
	defer stop()
	hello, err := m.read()
	if err != nil {
		return m.cause(ctx, "greeting", err)
	}
	if hello.QMP == nil {
		return errors.New("QEMU's monitor sent no greeting")
	}
	m.version = hello.QMP.Version.QEMU
	return m.run(ctx, "qmp_capabilities", nil, nil)
}

// run executes a command. args and result may be nil. The descriptors of files are sent
// with the command. If QEMU refuses it, the error is a *hypervisor.RefusedError.
func (m *monitor) run(ctx context.Context, command string, args, result any, files ...*os.File) error {
	if ctx.Err() != nil {
		return m.cause(ctx, command, nil)
	}
	stop := m.bound(ctx)
	defer stop()
	m.id++
	line, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        uint64 `json:"id"`
	}{command, args, m.id})
	if err != nil {
		return fmt.Errorf("QEMU command %s: %w", command, err)
	}
	if err := process.SendWithFiles(m.conn, append(line, '\n'), files); err != nil {
		return m.cause(ctx, command, err)
	}
	for {
		reply, err := m.read()
		switch {
		case err != nil:
			return m.cause(ctx, command, err)
		case reply.Event != "":
			m.keep(reply)
			continue
		case reply.ID != m.id:
			continue
		case reply.Error != nil:
			return &hypervisor.RefusedError{VMM: vmmName, Request: command, Reasons: []string{reply.Error.Desc}}
		case result == nil:
			return nil
		}
		if err := json.Unmarshal(reply.Return, result); err != nil {
			return fmt.Errorf("QEMU command %s: its answer: %w", command, err)
		}
		return nil
	}
}

func (m *monitor) keep(event *message) {
	if len(m.events) == maxEvents {
		m.events = m.events[1:]
	}
	m.events = append(m.events, event)
}

// await returns the first event for which match is true, among those that are kept and
// those that come before ctx ends. It drops the events before that one.
func (m *monitor) await(ctx context.Context, match func(*message) bool) (*message, error) {
	stop := m.bound(ctx)
	defer stop()
	for {
		for len(m.events) > 0 {
			event := m.events[0]
			m.events = m.events[1:]
			if match(event) {
				return event, nil
			}
		}
		event, err := m.read()
		if err != nil {
			return nil, m.cause(ctx, "event", err)
		}
		if event.Event != "" {
			m.keep(event)
		}
	}
}

func (m *monitor) read() (*message, error) {
	if !m.in.Scan() {
		if err := m.in.Err(); err != nil {
			return nil, err
		}
		return nil, io.ErrUnexpectedEOF
	}
	msg := new(message)
	if err := json.Unmarshal(m.in.Bytes(), msg); err != nil {
		return nil, fmt.Errorf("line %.80q: %w", m.in.Bytes(), err)
	}
	return msg, nil
}

// bound makes reads and writes fail when ctx ends.
func (m *monitor) bound(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = m.conn.SetDeadline(time.Unix(1, 0)) })
}

func (m *monitor) cause(ctx context.Context, command string, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return fmt.Errorf("QEMU command %s: %w", command, err)
}
