package serial

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestPortRoundTrip(t *testing.T) {
	var b bytes.Buffer
	if err := WritePort(&b, 1<<32-2); err != nil {
		t.Fatal(err)
	}
	b.WriteString("the stream's own")
	if port, err := ReadPort(&b); err != nil || port != 1<<32-2 || b.String() != "the stream's own" {
		t.Errorf("port %d, %v; left %q", port, err, b.String())
	}
	if _, err := ReadPort(bytes.NewReader([]byte{1, 2})); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("half a number: %v", err)
	}
}
