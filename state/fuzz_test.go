package state

import (
	"encoding/json"
	"strings"
	"testing"
)

// FuzzState feeds records to the decoders of containers and sandboxes.
func FuzzState(f *testing.F) {
	c := testContainer("c1")
	c.Version = Version
	data, err := json.Marshal(c)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(data[:len(data)/2])
	f.Add([]byte(`{"version": 3, "id": "c1", "holder": {"pid": 1, "startTime": 2}, "endpoint": {"unix": "/s", "cid": 3}, "vmm": "qemu", "members": {"c1": {"share": "s"}}, "network": {"taps": ["runch2", {"name": "runch3", "mtu": 1}]}}`))
	f.Add([]byte(`{"version": 4}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := decodeContainer(data, "c1"); err != nil {
			checkError(t, explain(err, "/f", "c1"))
		} else if c.ID != "c1" || c.Version < 1 || c.Version > Version || c.Status() == "" {
			t.Errorf("container %+v", c)
		}
		if s, err := decodeSandbox(data, "c1"); err != nil {
			checkError(t, explain(err, "/f", "c1"))
		} else if s.ID != "c1" || s.Version < 1 || s.Version > Version {
			t.Errorf("sandbox %+v", s)
		}
	})
}

func checkError(t *testing.T, err error) {
	t.Helper()
	if text := err.Error(); strings.Contains(text, "\n") || len(text) > 8<<10 {
		t.Errorf("error of %d bytes: %q", len(text), text)
	}
}
