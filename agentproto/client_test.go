package agentproto

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// pipeDialer is a guest that answers with fixed bytes, whatever it is asked.
type pipeDialer struct{ answer []byte }

func (d pipeDialer) Dial(context.Context, uint32) (net.Conn, error) {
	host, guest := net.Pipe()
	go func() {
		defer guest.Close()
		go func() { _, _ = io.Copy(io.Discard, guest) }()
		_, _ = guest.Write(d.answer)
	}()
	return host, nil
}

// FuzzAnswers gives a call arbitrary bytes for the guest's answer: the call ends
// in time, and an error's text is fit for a terminal.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 1, 2, 0})
	f.Add([]byte{0, 0, 0, 9, 0, 0, 0, 1, 2, 0, 0x0a, 7, 8, 5, 0x12, 3, 0x1b, '[', 'm'})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 2, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		client, err := Connect(ctx, pipeDialer{answer: data})
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		_, err = client.Info(ctx, &InfoRequest{})
		if ctx.Err() != nil {
			t.Fatal("the call outlived the guest")
		}
		var said *Error
		if !errors.As(FromAgent(err), &said) {
			return
		}
		for _, r := range said.Text {
			if r < ' ' || r >= 0x7f && r < 0xa0 {
				t.Errorf("control character in %q", said.Text)
			}
		}
	})
}

// silentDialer is a guest that takes everything and answers nothing.
type silentDialer struct{}

func (silentDialer) Dial(context.Context, uint32) (net.Conn, error) {
	host, guest := net.Pipe()
	go func() { _, _ = io.Copy(io.Discard, guest) }()
	return host, nil
}

// The channel of NextSent is closed by the next request, and not before.
func TestNextSent(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	client, err := Connect(ctx, silentDialer{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	sent := client.NextSent()
	select {
	case <-sent:
		t.Fatal("sent before it was")
	default:
	}
	go func() { _, _ = client.Wait(ctx, &WaitRequest{}) }()
	select {
	case <-sent:
	case <-ctx.Done():
		t.Fatal("never sent")
	}
	if again := client.NextSent(); again == sent {
		t.Error("the next one is the one before")
	}
}
