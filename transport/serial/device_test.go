package serial

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
)

// A file stands in for the port. What a read gets tells whether it came before the write.
func openFile(t *testing.T, content string) *Device {
	t.Helper()
	path := filepath.Join(t.TempDir(), "port")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := OpenDevice(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestReadWaitsForTheFirstWrite(t *testing.T) {
	d := openFile(t, "ab")
	synctest.Test(t, func(t *testing.T) {
		d.written = make(chan struct{}) // one that synctest can wait for
		got := make(chan string)
		go func() {
			var b [1]byte
			_, _ = d.Read(b[:])
			got <- string(b[:])
		}()
		synctest.Wait()
		if _, err := d.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		if s := <-got; s != "b" {
			t.Errorf("the read got %q, want what is behind the write", s)
		}
	})
}

func TestPortThatIsNotThere(t *testing.T) {
	if path, err := FindDevice("runch.no.such.port"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("found %q, %v", path, err)
	}
}
