package agentproto

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestStreamHeaderRoundTrip(t *testing.T) {
	var b bytes.Buffer
	if err := WriteStreamHeader(&b, 0x0102030405060708); err != nil {
		t.Fatal(err)
	}
	b.WriteString("data")
	id, err := ReadStreamHeader(&b)
	if err != nil || id != 0x0102030405060708 {
		t.Fatalf("id %#x, %v", id, err)
	}
	// Not a byte more than the header may be taken from the stream.
	if b.String() != "data" {
		t.Errorf("left in the stream: %q", b.String())
	}
}

func TestStreamHeaderRefusals(t *testing.T) {
	if err := WriteStreamHeader(io.Discard, 0); !errors.Is(err, ErrProtocol) {
		t.Errorf("writing id 0: %v", err)
	}
	for name, in := range map[string]string{
		"wrong magic": "RUNCHST2\x00\x00\x00\x00\x00\x00\x00\x01",
		"id 0":        "RUNCHST1\x00\x00\x00\x00\x00\x00\x00\x00",
	} {
		if _, err := ReadStreamHeader(bytes.NewBufferString(in)); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ReadStreamHeader(bytes.NewBufferString("RUNCH")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a short header: %v", err)
	}
}

func TestHelloRoundTrip(t *testing.T) {
	var b bytes.Buffer
	if err := WriteHello(&b, &Hello{Protocol: Version, KernelRelease: "6.12"}); err != nil {
		t.Fatal(err)
	}
	hello, err := ReadHello(&b)
	if err != nil || hello.GetKernelRelease() != "6.12" {
		t.Errorf("hello %v, %v", hello, err)
	}
}

func TestHelloRefusals(t *testing.T) {
	var other bytes.Buffer
	if err := WriteHello(&other, &Hello{Protocol: Version + 1}); err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string][]byte{
		"another version": other.Bytes(),
		"too long":        {0x7f, 0xff, 0xff, 0xff, 1},
		"not protobuf":    {0, 0, 0, 2, 0xff, 0xff},
	} {
		if _, err := ReadHello(bytes.NewReader(in)); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzReadHello(f *testing.F) {
	var b bytes.Buffer
	if err := WriteHello(&b, &Hello{Protocol: Version, AgentVersion: "1", Timeline: &Timeline{HelloNs: 1}}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte{0, 0, 16, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		if hello, err := ReadHello(bytes.NewReader(in)); err == nil && hello.GetProtocol() != Version {
			t.Errorf("a hello of protocol %d was let in", hello.GetProtocol())
		}
	})
}

func FuzzReadStreamHeader(f *testing.F) {
	f.Add([]byte("RUNCHST1\x00\x00\x00\x00\x00\x00\x00\x01"))
	f.Fuzz(func(t *testing.T, in []byte) {
		id, err := ReadStreamHeader(bytes.NewReader(in))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := WriteStreamHeader(&b, id); err != nil || !bytes.HasPrefix(in, b.Bytes()) {
			t.Errorf("read id %d from %q, but it is written as %q (%v)", id, in, b.Bytes(), err)
		}
	})
}
