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

// rawVM is the VMM without runch: the same program, command line, kernel and initramfs, with an empty directory to
// share, up to the agent's hello.
type rawVM struct {
	// name is what it is called in the results.
	name  string
	env   *environment
	exits *exitCounter
	// record is that of a container's VM, which this one is to be like.
	record *state.Sandbox
	dir    string
	// commandLine is what it was started with last, for comparison with the container's.
	commandLine string
}

// These are constants of runch's VMs too; sameAs fails where they differ.
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
	// took is from the start of the VMM's process to the agent's hello, cpu what the VMM has used by then.
	took, cpu time.Duration
	timeline  *agentproto.Timeline
	// exits of the VM by then, 0 where they are not counted.
	exits float64
	// ended is what it took to kill the VMM and to reap it.
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

// ownVMM is the process of the VMM that this one has started.
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

// varying are the arguments that differ between any two VMs.
var varying = regexp.MustCompile(`(guest=|guest-cid=|runch\.hello_port=|cloud-hypervisor \(|/)[^, ]*`)

// sameAs is an error where the container's VMM was started with other arguments: the two could not be compared.
func (r *rawVM) sameAs(vmm process) error {
	a, b := varying.ReplaceAllString(r.commandLine, "$1"), varying.ReplaceAllString(vmm.commandLine, "$1")
	if a != b {
		return fmt.Errorf("the bare VMM is not the container's:\n%s\n%s", a, b)
	}
	return nil
}
