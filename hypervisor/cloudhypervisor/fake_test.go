package cloudhypervisor

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fakeVariable is the environment variable that makes this test program the fake VMM. It
// holds a fakeOptions.
const fakeVariable = "RUNCH_FAKE_VMM"

func TestMain(m *testing.M) {
	if encoded := os.Getenv(fakeVariable); encoded != "" {
		os.Exit(runFake(encoded, os.Args[1:]))
	}
	os.Exit(m.Run())
}

// fakeOptions say how the fake behaves.
type fakeOptions struct {
	// Log is the file for its requests, one line each.
	Log string
	// Version is the version that it reports.
	Version string
	// At is the endpoint whose first request gets Fault.
	At    string
	Fault fault
	// Then is what vm.counters causes: an event of this name, or, for exit, the fake's end.
	Then string
	// Keeps is how many requests are refused before the guest releases CPUs.
	Keeps int
}

type fault string

const (
	refuse    fault = "refuse"    // an error in the documented format
	plain     fault = "plain"     // an error in the format of older versions: plain text
	hang      fault = "hang"      // no answer
	cut       fault = "cut"       // half of an answer
	malformed fault = "malformed" // an answer that is not HTTP
	endless   fault = "endless"   // an answer without an end
	die       fault = "die"       // the VMM ends
	ignore    fault = "ignore"    // success, but nothing is done
)

// fakeRequest is a line of the fake's log.
type fakeRequest struct {
	Endpoint string
	Body     json.RawMessage `json:",omitempty"`
	Files    int             `json:",omitempty"`
	// Problem says where the request differs from the documentation.
	Problem string `json:",omitempty"`
}

// fake is a cloud-hypervisor without a VM.
type fake struct {
	options fakeOptions
	log     *os.File
	events  *os.File
	config  *vmConfig // nil before vm.create
	state   string
	ids     map[string]bool
	open    []io.Closer
	// here is how many CPUs the guest has, staying how many it keeps. refusals counts the
	// refused requests: see fakeOptions.Keeps.
	here, staying, refusals int
}

func runFake(encoded string, args []string) int {
	f := &fake{ids: make(map[string]bool)}
	if err := json.Unmarshal([]byte(encoded), &f.options); err != nil {
		return complain(err)
	}
	var err error
	if f.log, err = os.OpenFile(f.options.Log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600); err != nil {
		return complain(err)
	}
	fds := make(map[string]int)
	for ; len(args) >= 2; args = args[2:] {
		switch number, isFD := strings.CutPrefix(args[1], "fd="); {
		case isFD && (args[0] == "--api-socket" || args[0] == "--event-monitor"):
			fds[args[0]], err = strconv.Atoi(number)
		case args[0] == "--seccomp" && args[1] == "true":
		default:
			err = fmt.Errorf("argument %s %s", args[0], args[1])
		}
		if err != nil {
			return complain(err)
		}
	}
	if len(args) != 0 || len(fds) != 2 {
		return complain(fmt.Errorf("arguments %q", args))
	}
	f.events = os.NewFile(uintptr(fds["--event-monitor"]), "events")
	f.event("vmm", "starting", nil)
	l, err := net.FileListener(os.NewFile(uintptr(fds["--api-socket"]), "api"))
	if err != nil {
		return complain(err)
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return complain(err)
		}
		unixConn, ok := conn.(*net.UnixConn)
		if !ok {
			return complain(errors.New("the API's socket is no unix socket"))
		}
		// One after the other, as the real one does.
		f.serve(unixConn)
		_ = conn.Close()
	}
}

func complain(err error) int {
	fmt.Fprintln(os.Stderr, "fake VMM:", err)
	return 1
}

// event writes an event like the real VMM: on several lines, with a blank one after it.
func (f *fake) event(source, name string, properties map[string]string) {
	text, _ := json.MarshalIndent(map[string]any{
		"timestamp": map[string]int{"secs": 1, "nanos": 2}, "source": source, "event": name, "properties": properties,
	}, "", "  ")
	_, _ = f.events.Write(append(text, '\n', '\n'))
}

// readRequest reads a request with its body and its descriptors.
func readRequest(conn *net.UnixConn) (*http.Request, []byte, []int, error) {
	var all []byte
	var files []int
	for {
		buf, oob := make([]byte, 4096), make([]byte, 1024)
		n, oobn, _, _, err := conn.ReadMsgUnix(buf, oob)
		if err != nil || n == 0 {
			return nil, nil, files, fmt.Errorf("read a request: %w", errors.Join(err, io.ErrUnexpectedEOF))
		}
		all = append(all, buf[:n]...)
		if oobn > 0 {
			messages, err := unix.ParseSocketControlMessage(oob[:oobn])
			if err != nil {
				return nil, nil, files, err
			}
			for _, m := range messages {
				fds, err := unix.ParseUnixRights(&m)
				if err != nil {
					return nil, nil, files, err
				}
				files = append(files, fds...)
			}
		}
		head, body, whole := bytes.Cut(all, []byte("\r\n\r\n"))
		if !whole {
			continue
		}
		request, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(append(head, "\r\n\r\n"...))))
		if err != nil {
			return nil, nil, files, err
		}
		if int64(len(body)) >= request.ContentLength {
			return request, body, files, nil
		}
	}
}

func (f *fake) serve(conn *net.UnixConn) {
	request, body, files, err := readRequest(conn)
	if err != nil {
		return // a client that went away
	}
	defer func() {
		for _, fd := range files {
			_ = unix.Close(fd)
		}
	}()
	endpoint, isAPI := strings.CutPrefix(request.URL.Path, "/api/v1/")
	if problem := judge(request, isAPI, endpoint, body); problem != nil {
		f.record(fakeRequest{Endpoint: endpoint, Files: len(files), Problem: problem.Error()})
		answer(conn, http.StatusBadRequest, []string{problem.Error()})
		return
	}
	f.record(fakeRequest{Endpoint: endpoint, Body: body, Files: len(files)})
	if f.options.At == endpoint {
		f.options.At = ""
		f.fault(conn)
		return
	}
	status, result := f.do(endpoint, body, files)
	answer(conn, status, result)
	if endpoint == "vmm.shutdown" {
		os.Exit(0)
	}
}

func (f *fake) record(r fakeRequest) {
	line, _ := json.Marshal(r)
	_, _ = f.log.Write(append(line, '\n'))
}

// fault misbehaves in place of an answer.
func (f *fake) fault(conn *net.UnixConn) {
	switch f.options.Fault {
	case refuse:
		answer(conn, http.StatusInternalServerError, []string{"Error from API", "The fault was asked for", "a root cause\x1b[2J"})
	case plain:
		_, _ = io.WriteString(conn, "HTTP/1.1 400 \r\nServer: Cloud Hypervisor API\r\nContent-Length: 9\r\n\r\nBadReason")
	case hang:
		_, _ = conn.Read(make([]byte, 1)) // until the client goes
	case cut:
		_, _ = io.WriteString(conn, "HTTP/1.1 200 \r\nContent-Length: 100\r\n\r\n{\"version\":")
	case malformed:
		_, _ = io.WriteString(conn, "\x00\x01 this is no HTTP \r\n\r\n")
	case endless:
		for {
			if _, err := conn.Write(bytes.Repeat([]byte("x"), 1<<16)); err != nil {
				return
			}
		}
	case die:
		fmt.Fprintln(os.Stderr, "thread 'vmm' panicked:\x1b[31m the fault was asked for")
		os.Exit(3)
	case ignore:
		answer(conn, http.StatusNoContent, nil)
	}
}

func answer(conn net.Conn, status int, result any) {
	var body []byte
	if result != nil {
		body, _ = json.Marshal(result)
	}
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 %d \r\nServer: Cloud Hypervisor API\r\nConnection: keep-alive\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		status, len(body), body)
}
