package cloudhypervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"runch/hypervisor"
	"runch/unixsocket"
)

// TestBoot: a whole boot, with requests that fit the documentation.
func TestBoot(t *testing.T) {
	cfg := testConfig(t, fakeOptions{})
	read, tap, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	defer tap.Close()
	virtiofsd, err := unixsocket.Listen(filepath.Join(cfg.Dir, "fs.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer virtiofsd.Close()
	cfg.Share = &hypervisor.Share{Tag: "files", Socket: filepath.Join(cfg.Dir, "fs.sock")}
	cfg.Disks = []hypervisor.Disk{{ID: "disk-with-a-long-name", Path: "disk", ReadOnly: true}}
	cfg.NICs = []hypervisor.NIC{{ID: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, MTU: 1400, Tap: []*os.File{tap}}}
	r := newRig(t, cfg)
	r.plan.landlock = true // whatever this kernel has
	if err := r.Boot(bounded(t)); err != nil {
		t.Fatalf("Boot: %v", err)
	}
	conn, err := r.hello.Accept()
	if err != nil {
		t.Fatalf("hello: %v", err)
	}
	if text, err := io.ReadAll(conn); err != nil || string(text) != "hello" {
		t.Errorf("hello: %q, %v", text, err)
	}
	_ = conn.Close()
	if _, err := virtiofsd.Accept(); err != nil {
		t.Errorf("virtiofsd: %v", err)
	}
	r.echo()
	var endpoints []string
	for _, request := range r.requests() {
		endpoints = append(endpoints, fmt.Sprintf("%s %d", request.Endpoint, request.Files))
		if request.Endpoint == "vm.create" {
			golden(t, "create.json", request.Body)
		}
		if request.Endpoint == "vm.add-net" {
			golden(t, "add-net.json", request.Body)
		}
	}
	want := []string{"vmm.ping 0", "vm.create 0", "vm.add-net 1", "vm.boot 0"}
	if diff := cmp.Diff(want, endpoints); diff != "" {
		t.Error(diff)
	}
	info, err := os.Stat(hypervisor.RunDir(cfg.Dir))
	if err != nil || info.Mode().Perm() != 0o711 {
		t.Errorf("the VMM's directory after the boot: %v, %v", info.Mode(), err)
	}
	_ = r.Close()
	if err := r.ended(); !errors.Is(err, hypervisor.ErrKilled) {
		t.Errorf("Wait: %v, want ErrKilled", err)
	}
	if text := r.console.String(); !strings.Contains(text, "the fake's guest boots") {
		t.Errorf("console %q", text)
	}
}

// TestBootFaults: if the VMM misbehaves at any step of a boot, Boot returns an error of one
// line in time, and the VMM is gone.
func TestBootFaults(t *testing.T) {
	texts := map[fault]string{
		refuse: "The fault was asked for: a root cause?[2J", plain: "BadReason", hang: "enough", cut: "unexpected EOF",
		malformed: "malformed HTTP", endless: "answer", die: "exit status 3: thread 'vmm' panicked:?[31m the fault was asked for",
	}
	for _, at := range []string{"vmm.ping", "vm.create", "vm.boot"} {
		for fault, want := range texts {
			t.Run(at+" "+string(fault), func(t *testing.T) {
				// testConfig writes the fake's script, so it runs before t.Parallel: a process that another test
				// forks meanwhile would inherit the file, and a file open for writing cannot be executed (ETXTBSY).
				cfg := testConfig(t, fakeOptions{At: at, Fault: fault})
				t.Parallel()
				r := newRig(t, cfg)
				ctx, cancel := context.WithTimeoutCause(t.Context(), limit, errors.New("the test's own time is over"))
				defer cancel()
				if fault == hang {
					ctx, cancel = context.WithTimeoutCause(ctx, 300*time.Millisecond, errors.New("enough"))
					defer cancel()
				}
				err := r.Boot(ctx)
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("Boot: %v, want %q in it", err, want)
				} else if strings.ContainsAny(err.Error(), "\n\x1b") {
					t.Errorf("Boot: more than one plain line: %q", err)
				}
				var refused *hypervisor.RefusedError
				if isRefusal := fault == refuse || fault == plain; errors.As(err, &refused) != isRefusal {
					t.Errorf("Boot: a refusal: %v, want %v", !isRefusal, isRefusal)
				}
				if err := r.ended(); err == nil {
					t.Error("Wait: no error")
				}
			})
		}
	}
}

// TestDialsByDescriptor: Dial works when the directory's path does not exist any more, as in
// a process that has changed its root.
func TestDialsByDescriptor(t *testing.T) {
	r, _ := booted(t, fakeOptions{})
	if err := os.Rename(r.cfg.Dir, r.cfg.Dir+"-moved"); err != nil {
		t.Fatal(err)
	}
	r.echo()
}

// TestVersions: a VMM that is too old, or gives no valid version, is refused.
func TestVersions(t *testing.T) {
	for version, want := range map[string]string{
		"v40.0": "", "v53.0.0": "", "54.0.0-dirty": "", "v39.0": "too old", "": "for its version", "v\x1b[1m": "for its version",
	} {
		t.Run(version, func(t *testing.T) {
			o := fakeOptions{Version: version}
			if version == "" {
				o.Version = "x"
			}
			err := newRig(t, testConfig(t, o)).Boot(bounded(t))
			if (want == "") != (err == nil) || want != "" && !strings.Contains(err.Error(), want) {
				t.Errorf("Boot: %v, want %q", err, want)
			}
		})
	}
}

// TestEnds: when the guest ends, the VMM ends, and Wait returns nil unless the VMM was killed.
func TestEnds(t *testing.T) {
	for _, then := range []string{"rebooting", "exit"} {
		t.Run(then, func(t *testing.T) {
			r, h := booted(t, fakeOptions{Then: then})
			_, _ = h.Counters(bounded(t)) // the VMM may end before it answers
			if err := r.ended(); err != nil {
				t.Errorf("Wait: %v", err)
			}
			// The hello's connection may still be in the queue.
			if conn, err := r.hello.Accept(); err == nil {
				_ = conn.Close()
				_, err = r.hello.Accept()
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("Accept: %v, want net.ErrClosed", err)
				}
			}
		})
	}
	t.Run("killed", func(t *testing.T) {
		r, _ := booted(t, fakeOptions{})
		var ping struct{ PID int }
		if err := r.api.get(bounded(t), "vmm.ping", &ping); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(ping.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		var exit *hypervisor.ExitError
		if err := r.ended(); !errors.As(err, &exit) {
			t.Errorf("Wait: %v, want an ExitError", err)
		}
	})
}

// TestSchemaHasTeeth: checkBody refuses bodies that differ from the documentation.
func TestSchemaHasTeeth(t *testing.T) {
	for endpoint, body := range map[string]string{
		"vm.create": `{"payload":{"kernel":"k"},"kernal":1}`, "vm.add-net": `{"id":1}`, "vm.add-fs": `{"tag":"a","socket":"s","num_queues":1}`,
		"vm.boot": `{}`, "vm.none": `{}`, "vm.add-disk": `{"image_type":"raw"}`, "vm.resize": `[]`,
	} {
		if err := checkBody(endpoint, []byte(body)); err == nil {
			t.Errorf("%s %s goes through", endpoint, body)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`["a","b"]`))
	f.Add([]byte("plain"))
	f.Fuzz(func(t *testing.T, body []byte) {
		text := (&hypervisor.RefusedError{VMM: vmmName, Request: "x", Reasons: reasons(nil, append(body, 'x'))}).Error()
		if strings.ContainsAny(text, "\n\x1b\x00") || len(text) > 2000 {
			t.Errorf("%q", text)
		}
	})
}
