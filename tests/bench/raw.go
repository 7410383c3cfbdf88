package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"runch/agentproto"
	"runch/hypervisor"
	"runch/hypervisor/cloudhypervisor"
	"runch/hypervisor/qemu"
	"runch/state"
	"runch/storage"
)

// environment is the output of `runch env`.
type environment struct {
	Version    string `json:"version"`
	Hypervisor part   `json:"hypervisor"`
	Accel      part   `json:"accel"`
	Virtiofsd  part   `json:"virtiofsd"`
	Kernel     part   `json:"kernel"`
	Initramfs  part   `json:"initramfs"`
	Settings   []struct {
		Key, Value string
	} `json:"settings"`
}

type part struct {
	Path    string `json:"path"`
	Kind    string `json:"kind"`
	Version string `json:"version"`
	Error   string `json:"error"`
}

func readEnvironment(ctx context.Context, runch string) (*environment, error) {
	out, err := exec.CommandContext(ctx, runch, "env", "--format", "json").Output()
	if err != nil {
		return nil, fmt.Errorf("%s env: %w", runch, err)
	}
	e := new(environment)
	if err := json.Unmarshal(out, e); err != nil {
		return nil, fmt.Errorf("%s env: %w", runch, err)
	}
	for _, p := range []part{e.Hypervisor, e.Accel, e.Virtiofsd, e.Kernel, e.Initramfs} {
		if p.Error != "" {
			return nil, fmt.Errorf("%s env: %s", runch, p.Error)
		}
	}
	return e, nil
}

func (e *environment) setting(key string) string {
	for _, s := range e.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// rawVM is a VM without runch, the "bare VMM" of the results. It has the same program, command line, kernel and
// initramfs, and shares an empty directory. It is ended after the agent's hello.
type rawVM struct {
	// name is its name in the results.
	name  string
	env   *environment
	exits *exitCounter
	// record is the record of a container's sandbox. This VM is made like that one's.
	record *state.Sandbox
	dir    string
	// commandLine is the VMM's command line of the last boot, for comparison with the container's.
	commandLine string
}

// runch has the same constants for its VMs. sameAs fails if they differ.
const (
	hotplugSlots = 4
	nobody       = 65534
)

func (r *rawVM) config(socket string) *hypervisor.Config {
	s := r.record
	return &hypervisor.Config{
		Name: "bench-raw", Dir: r.dir, Binary: r.env.Hypervisor.Path, Accel: hypervisor.Accel(r.env.Accel.Kind),
		Kernel: r.env.Kernel.Path, Initramfs: r.env.Initramfs.Path, Cmdline: strings.Fields(r.env.setting("kernel_params")),
		CPUs: s.Boot.CPUs, MaxCPUs: s.MaxCPUs, MemoryMiB: s.Boot.MemoryMiB, MaxMemoryMiB: s.MaxMemoryMiB,
		HotplugSlots: hotplugSlots, Share: &hypervisor.Share{Tag: agentproto.ShareTag, Socket: socket},
		Announce: agentproto.KernelParams, SerialPort: agentproto.SerialPort,
		Log: io.Discard, Console: io.Discard, User: &syscall.Credential{Uid: nobody, Gid: nobody},
	}
}

func (r *rawVM) newVM(cfg *hypervisor.Config) (hypervisor.VM, error) {
	if r.env.Hypervisor.Kind == hypervisor.DriverCloudHypervisor {
		return cloudhypervisor.New(cfg)
	}
	return qemu.New(cfg)
}

// booted is a boot of the bare VMM.
type booted struct {
	// took is the time from the start of the VMM's process to the agent's hello, cpu the VMM's CPU time until then.
	took, cpu time.Duration
	timeline  *agentproto.Timeline
	// exits are the VM's exits until then, 0 if they are not counted.
	exits float64
	// ended is the time that it took to kill and reap the VMM.
	ended time.Duration
}

// boot starts the VM, and ends it once the agent has said hello.
func (r *rawVM) boot(ctx context.Context) (b *booted, err error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	shared := filepath.Join(r.dir, "shared")
	if err := os.MkdirAll(shared, 0o700); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.dir)) }()
	fsd := storage.Virtiofsd{Path: r.env.Virtiofsd.Path, Flavour: storage.Flavour(r.env.Virtiofsd.Kind)}
	socket := filepath.Join(r.dir, "fs.sock")
	server, err := fsd.Serve(shared, socket, io.Discard)
	if err != nil {
		return nil, err
	}
	defer func() {
		server.Kill()
		<-server.Done()
	}()
	vm, err := r.newVM(r.config(socket)) //nolint:contextcheck // Close ends it, not a context
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, vm.Close()) }()
	l, err := vm.Listen(agentproto.HelloPort)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	b = new(booted)
	began := time.Now()
	if err := vm.Boot(ctx); err != nil {
		return nil, err
	}
	hello, err := readHello(ctx, l)
	if err != nil {
		return nil, err
	}
	b.took, b.timeline = time.Since(began), hello.GetTimeline()
	vmm, err := ownVMM()
	if err != nil {
		return nil, err
	}
	r.commandLine = vmm.commandLine
	if b.exits, err = r.exits.of(vmm.pid); err != nil {
		return nil, err
	}
	if b.cpu, err = cpuTime(vmm.pid); err != nil {
		return nil, err
	}
	began = time.Now()
	err = vm.Close()
	b.ended = time.Since(began)
	return b, err
}

// ownVMM returns the VMM that this process has started. It fails unless there is exactly one.
func ownVMM() (process, error) {
	children, err := processes(func(p process) bool { return p.parent == os.Getpid() && p.isVMM() })
	if err != nil || len(children) != 1 {
		return process{}, errors.Join(errors.New("find the bare VMM's process"), err)
	}
	return children[0], nil
}

// readHello waits for the agent's hello.
func readHello(ctx context.Context, l net.Listener) (*agentproto.Hello, error) {
	conn, err := l.Accept()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("wait for the agent: %w", err), ctx.Err())
	}
	defer conn.Close()
	return agentproto.ReadHello(conn)
}

// varying matches the arguments that differ between any two VMs.
var varying = regexp.MustCompile(`(guest=|guest-cid=|runch\.hello_port=|cloud-hypervisor \(|/)[^, ]*`)

// sameAs returns an error if the container's VMM was started with other arguments, as the two cannot be compared then.
func (r *rawVM) sameAs(vmm process) error {
	a, b := varying.ReplaceAllString(r.commandLine, "$1"), varying.ReplaceAllString(vmm.commandLine, "$1")
	if a != b {
		return fmt.Errorf("the bare VMM is not the container's:\n%s\n%s", a, b)
	}
	return nil
}
