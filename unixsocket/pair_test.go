package unixsocket

import (
	"bytes"
	"io"
	"os"
	"testing"
)

func TestPairIsConnected(t *testing.T) {
	ours, theirs, err := Pair("console")
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	if theirs.Name() != "console" {
		t.Errorf("the file's name is %q", theirs.Name())
	}
	peer, err := Open(theirs)
	if err != nil {
		t.Fatal(err)
	}
	if err := theirs.Close(); err == nil {
		t.Error("Open has left the file open")
	}
	if _, err := ours.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := ours.Close(); err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	got, err := io.ReadAll(peer)
	if err != nil || !bytes.Equal(got, []byte("hello")) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestOpenRefusesOtherFiles(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	if conn, err := Open(f); err == nil {
		_ = conn.Close()
		t.Error("a device is taken for a socket")
	}
	if err := f.Close(); err == nil {
		t.Error("Open has left the file open")
	}
}
