package cloudhypervisor

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The states of a VM, as vm.info names them.
const created, running, paused = "Created", "Running", "Paused"

// do carries out a request, as far as that is possible without a VM.
func (f *fake) do(endpoint string, body []byte, files []int) (int, any) {
	fail := func(reasons ...string) (int, any) {
		return http.StatusInternalServerError, append([]string{"Error from API"}, reasons...)
	}
	if f.config == nil && !slices.Contains([]string{"vmm.ping", "vmm.shutdown", "vm.create", "vm.restore"}, endpoint) {
		return http.StatusNotFound, []string{"Error from API", "VM is not created"}
	}
	switch endpoint {
	case "vmm.ping":
		return http.StatusOK, map[string]any{"build_version": f.options.Version, "version": f.options.Version, "pid": os.Getpid(), "features": []string{"kvm"}}
	case "vm.create":
		f.config, f.state = new(vmConfig), created
		_ = json.Unmarshal(body, f.config)
		f.here, f.staying = f.config.CPUs.Boot, f.config.CPUs.Boot
		for _, d := range f.config.Disks {
			f.ids[d.ID] = true
		}
	case "vm.add-net":
		var n netConfig
		_ = json.Unmarshal(body, &n)
		if len(files)*2 != n.NumQueues {
			return fail("Number of queues to virtio_net does not match the number of FDs")
		}
		return f.plugged(n.ID)
	case "vm.add-disk", "vm.add-fs":
		var d struct{ ID, Path, Socket string }
		_ = json.Unmarshal(body, &d)
		if _, err := os.Stat(d.Path + d.Socket); err != nil {
			return fail("Cannot open disk path", err.Error())
		}
		if d.Socket != "" {
			f.config.FS = append(f.config.FS, fsConfig{ID: d.ID})
		}
		return f.plugged(d.ID)
	case "vm.boot", "vm.restore":
		if err := f.boot(endpoint); err != nil {
			return fail("The VM could not boot", err.Error())
		}
	case "vm.remove-device":
		var d removeRequest
		_ = json.Unmarshal(body, &d)
		if !f.ids[d.ID] {
			return fail("Unknown device id: " + d.ID)
		}
		delete(f.ids, d.ID)
		time.AfterFunc(50*time.Millisecond, func() {
			f.event("vm", "device-removed", map[string]string{"id": "another", "bdf": "0000:00:07.0"})
			f.event("vm", "device-removed", map[string]string{"id": d.ID, "bdf": "0000:00:06.0"})
		})
	case "vm.info":
		return http.StatusOK, map[string]any{"config": f.config, "state": f.state, "memory_actual_size": f.config.Memory.Size}
	case "vm.counters":
		switch f.options.Then {
		case "":
		case "exit":
			os.Exit(0)
		default:
			f.event("vm", f.options.Then, nil)
		}
		return http.StatusOK, map[string]any{
			"disk0": map[string]uint64{"read_bytes": 1, "write_bytes": 2, "read_ops": 3, "write_ops": 4, "read_latency_min": 18446744073709551615},
			"eth0":  map[string]uint64{"rx_bytes": 5, "rx_frames": 6, "tx_bytes": 7, "tx_frames": 8},
		}
	case "vm.pause":
		f.state = paused
	case "vm.resume":
		f.state = running
	case "vm.snapshot":
		var s snapshotRequest
		_ = json.Unmarshal(body, &s)
		if f.state != paused {
			return fail("Cannot send the VM's state", "VM is not paused")
		}
		dir := strings.TrimPrefix(s.Destination, "file://")
		if err := os.WriteFile(filepath.Join(dir, "state.json"), []byte("{}"), 0o600); err != nil {
			return fail("Cannot write the snapshot", err.Error())
		}
	case "vm.resize":
		var r resizeRequest
		_ = json.Unmarshal(body, &r)
		if r.VCPUs > f.config.CPUs.Max {
			return fail("Requested vCPU count exceeds maximum")
		}
		return f.resize(r.VCPUs)
	}
	return http.StatusNoContent, nil
}

// resize changes the number of CPUs like the real VMM, with a guest that releases removed
// ones only after some refusals.
func (f *fake) resize(want int) (int, any) {
	switch {
	case want == 0:
		return http.StatusNoContent, nil
	case want == f.here && f.staying < f.here:
		f.record(fakeRequest{Endpoint: "vm.resize", Problem: "it is for CPUs that the guest is about to release"})
	case want != f.here && f.staying < f.here && f.refusals < f.options.Keeps:
		f.refusals++
		return http.StatusTooManyRequests, []string{"Too Many Requests"}
	case f.staying < f.here:
		f.here = f.staying
	}
	f.here, f.staying = max(f.here, want), want
	f.config.CPUs.Boot = want
	return http.StatusNoContent, nil
}

// maxDevices is how many can be plugged in.
const maxDevices = 27

func (f *fake) plugged(id string) (int, any) {
	if len(f.ids) >= maxDevices {
		return http.StatusInternalServerError, []string{"Error from API", "Could not find an available device slot on the PCI bus"}
	}
	f.ids[id] = true
	if f.state == created {
		return http.StatusNoContent, nil
	}
	return http.StatusOK, map[string]string{"id": id, "bdf": "0000:00:06.0"}
}

// boot opens the files that the real VMM opens: by path, in the working directory.
func (f *fake) boot(endpoint string) error {
	if endpoint == "vm.restore" {
		f.config = &vmConfig{Vsock: vsockConfig{Socket: "./" + vsockSocket}, Console: consoleConfig{File: "./" + consolePipe}}
	} else if f.state != created {
		return errors.New("VM is already running")
	}
	for _, path := range []string{f.config.Payload.Kernel, f.config.Payload.Initramfs} {
		if path == "" {
			continue
		}
		if _, err := os.ReadFile(path); err != nil {
			return err
		}
	}
	console, err := os.OpenFile(f.config.Console.File, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	f.open = append(f.open, console)
	for _, share := range f.config.FS {
		conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: share.Socket, Net: "unix"})
		if err != nil {
			return err
		}
		f.open = append(f.open, conn)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: f.config.Vsock.Socket, Net: "unix"})
	if err != nil {
		return err
	}
	go f.vsock(l)
	_, _ = io.WriteString(console, "the fake's guest boots\n")
	f.state = running
	f.event("vm", "booting", nil)
	f.event("vm", "booted", nil)
	if hello, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: f.config.Vsock.Socket + "_1026", Net: "unix"}); err == nil {
		_, _ = io.WriteString(hello, "hello")
		_ = hello.Close()
	}
	return nil
}

// vsock serves an echo on port 7 and nothing else.
func (f *fake) vsock(l *net.UnixListener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			in := bufio.NewReader(conn)
			if line, err := in.ReadString('\n'); err != nil || line != "CONNECT 7\n" {
				return
			}
			_, _ = io.WriteString(conn, "OK 1073741824\n")
			_, _ = io.Copy(conn, in)
		}()
	}
}
