package agentproto

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"runch/plaintext"
)

// Client calls the agent. Closing it ends its open calls.
type Client struct {
	AgentService
	conn *ttrpc.Client
	raw  *sentConn
}

// sentConn tells when something has been written to it.
type sentConn struct {
	net.Conn
	mu   sync.Mutex
	next chan struct{}
}

// Write writes to the connection and closes the channel of NextSent.
func (c *sentConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next != nil {
		close(c.next)
		c.next = nil
	}
	return n, err
}

// NextSent gives a channel that is closed after the next write to the connection, even
// one that fails. A request of less than 4 KiB is one write: once written, it reaches the
// guest even if this process ends.
func (c *Client) NextSent() <-chan struct{} {
	c.raw.mu.Lock()
	defer c.raw.mu.Unlock()
	if c.raw.next == nil {
		c.raw.next = make(chan struct{})
	}
	return c.raw.next
}

// Connect dials the agent's control port through d. The caller closes the client.
func Connect(ctx context.Context, d Dialer) (*Client, error) {
	conn, err := d.Dial(ctx, ControlPort)
	if err != nil {
		return nil, err
	}
	raw := &sentConn{Conn: conn}
	c := ttrpc.NewClient(raw)
	return &Client{AgentService: NewAgentClient(c), conn: c, raw: raw}, nil
}

// Close ends the connection.
func (c *Client) Close() error {
	if err := c.conn.Close(); err != nil && !errors.Is(err, ttrpc.ErrClosed) {
		return fmt.Errorf("close the control connection: %w", err)
	}
	return nil
}

// The agent's errors, as far as a caller has to tell them apart.
var (
	// ErrNotFound says that the guest has no such container or process.
	ErrNotFound = errors.New("no such container or process in the guest")
	// ErrState says that the container's state does not allow the call.
	ErrState = errors.New("not in this state")
	// ErrInvalid says that a field of the request cannot be honoured.
	ErrInvalid = errors.New("invalid request")
	// ErrUnreachable says that the agent did not answer.
	ErrUnreachable = errors.New("the guest's agent does not answer")
)

// Errors that both sides give: the host if it knows the container's state without
// asking the agent. Their texts are runc's, for which callers of a runtime search.
var (
	ErrStartStopped = errors.New("cannot start a container that has stopped")
	ErrStartRunning = errors.New("cannot start an already running container")
	ErrExecStopped  = errors.New("cannot exec in a stopped container")
	ErrExecPaused   = errors.New("cannot exec in a paused container (use --ignore-paused to override)")
)

// Error is an error that the agent sent: its own text, and a kind to ask for
// with errors.Is.
type Error struct {
	Kind error
	Text string
}

// Error gives the agent's text, without a prefix: callers of a runtime search it.
func (e *Error) Error() string { return e.Text }

// Unwrap gives the kind.
func (e *Error) Unwrap() error { return e.Kind }

// maxErrorText bounds the text taken from the guest, in bytes.
const maxErrorText = 4096

// FromAgent turns the error of a call into an *Error, or into one that wraps
// ErrUnreachable when no answer came. nil stays nil.
func FromAgent(err error) error {
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok || errors.Is(err, ttrpc.ErrClosed) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	text := st.Message()
	text = plaintext.Line(text[:min(len(text), maxErrorText)])
	switch st.Code() {
	case codes.NotFound:
		return &Error{Kind: ErrNotFound, Text: text}
	case codes.FailedPrecondition:
		return &Error{Kind: ErrState, Text: text}
	case codes.InvalidArgument:
		return &Error{Kind: ErrInvalid, Text: text}
	case codes.DeadlineExceeded, codes.Canceled, codes.Unavailable:
		return fmt.Errorf("%w: %s", ErrUnreachable, text)
	default:
		return &Error{Text: text}
	}
}
