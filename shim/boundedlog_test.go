package shim

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestBoundedLogKeepsTheEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	log, err := newBoundedLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.file.Close()
	line := bytes.Repeat([]byte("x"), 1000)
	for range 2 * logLimit / len(line) {
		if n, err := log.Write(line); n != len(line) || err != nil {
			t.Fatalf("wrote %d, %v", n, err)
		}
	}
	if _, err := log.Write([]byte("the last words")); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > logLimit || !bytes.HasSuffix(data, []byte("xxxthe last words")) {
		t.Errorf("%d bytes, the end is %q", len(data), data[max(0, len(data)-20):])
	}
	if bytes.IndexByte(data, 0) >= 0 {
		t.Error("there is a hole in the log")
	}
}

func TestBoundedLogTakesAnythingAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	log, err := newBoundedLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.file.Close()
	huge := append(bytes.Repeat([]byte("x"), 3*logLimit), "end"...)
	if n, err := log.Write(huge); n != len(huge) || err != nil {
		t.Errorf("wrote %d of %d, %v", n, len(huge), err)
	}
	if data, err := os.ReadFile(path); err != nil || len(data) > logLimit || !bytes.HasSuffix(data, []byte("xend")) {
		t.Errorf("%d bytes are kept, %v", len(data), err)
	}
}
