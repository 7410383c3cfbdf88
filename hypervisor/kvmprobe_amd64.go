package hypervisor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kvmDevice is where Linux has it.
const kvmDevice = "/dev/kvm"

// paravirtualKVM is there where KVM has no hardware to work with and emulates
// all that a guest did not leave to it.
const paravirtualKVM = "/sys/module/kvm_pvm"

// The requests and exits of linux/kvm.h.
const (
	kvmGetAPIVersion       = 0xAE00
	kvmCreateVM            = 0xAE01
	kvmGetVCPUMmapSize     = 0xAE04
	kvmGetSupportedCPUID   = 0xC008AE05
	kvmSetCPUID2           = 0x4008AE90
	kvmCreateVCPU          = 0xAE41
	kvmSetUserMemoryRegion = 0x4020AE46
	kvmSetTSSAddr          = 0xAE47
	kvmRun                 = 0xAE80
	kvmSetRegs             = 0x4090AE82
	kvmGetSregs            = 0x8138AE83
	kvmSetSregs            = 0x4138AE84
	kvmAPIVersion          = 12
	kvmExitIO              = 2
)

// The probe's guest: what it is given and what it runs.
const (
	probeMemory = 4 << 20
	probePML4   = 0x1000
	probePDPT   = 0x2000
	probePD     = 0x3000
	probeCode   = 0x8000
	probePort   = 0x42
	// probeLoops is many enough to tell a processor from an emulator, which takes
	// a microsecond for each instruction or more: two times this many run.
	probeLoops = 200_000
	// probeCPU bounds what a processor needs for it, in time of this thread: some
	// 0.2 ms, and a few ten milliseconds where KVM itself runs in an emulated machine,
	// most of it for one entry into the guest.
	probeCPU = 100 * time.Millisecond
	// probeWall bounds it all, on a machine however busy.
	probeWall = 2 * time.Second
)

// probeProgram counts ecx down and says so at a port, in 64-bit mode.
var probeProgram = append(binary.LittleEndian.AppendUint32([]byte{0xB9}, probeLoops), // mov ecx, probeLoops
	0xFF, 0xC9, // dec ecx
	0x75, 0xFC, // jnz -4
	0xB0, 0x2A, // mov al, 42
	0xE6, probePort, // out port, al
	0xF4, // hlt
)

// ProbeKVM says whether this host's KVM runs guests: it boots nothing, but has a
// few instructions executed in the mode that a kernel lives in, within the time
// that a processor needs for them. To open the device is not enough: there are
// hosts whose KVM opens, makes a VM, and takes hours to unpack a kernel in it.
// The error wraps ErrNoKVM and says what is wrong.
func ProbeKVM() error {
	if err := probeKVM(); err != nil {
		return fmt.Errorf("%w: %w", ErrNoKVM, err)
	}
	return nil
}

func probeKVM() error {
	// It says so itself, and to let it show costs a tenth of a second.
	if _, err := os.Stat(paravirtualKVM); err == nil {
		return errors.New("the host's kvm_pvm runs only kernels that were made for it")
	}
	device, err := unix.Open(kvmDevice, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", kvmDevice, err)
	}
	defer unix.Close(device)
	version, err := ioctl(device, kvmGetAPIVersion, 0)
	if err != nil || version != kvmAPIVersion {
		return fmt.Errorf("%s speaks version %d: %w", kvmDevice, version, errors.Join(err, unix.ENOSYS))
	}
	vm, err := ioctl(device, kvmCreateVM, 0)
	if err != nil {
		return fmt.Errorf("make a VM: %w", err)
	}
	defer unix.Close(vm)
	memory, err := unix.Mmap(-1, 0, probeMemory, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("make the guest's memory: %w", err)
	}
	defer unix.Munmap(memory) //nolint:errcheck // nothing follows
	fillProbe(memory)
	region := struct {
		slot, flags      uint32
		guest, size, own uint64
	}{size: probeMemory, own: uint64(uintptr(unsafe.Pointer(&memory[0])))} // #nosec G103 -- the ioctl takes an address
	if _, err := ioctl(vm, kvmSetUserMemoryRegion, uintptr(unsafe.Pointer(&region))); err != nil { // #nosec G103 -- as above
		return fmt.Errorf("give the guest memory: %w", err)
	}
	// Intel's older processors need a place for it; it is outside the memory.
	if _, err := ioctl(vm, kvmSetTSSAddr, 0xFFFBD000); err != nil {
		return fmt.Errorf("prepare the VM: %w", err)
	}
	size, err := ioctl(device, kvmGetVCPUMmapSize, 0)
	if err != nil {
		return fmt.Errorf("ask for a CPU's size: %w", err)
	}
	vcpu, err := ioctl(vm, kvmCreateVCPU, 0)
	if err != nil {
		return fmt.Errorf("make a CPU: %w", err)
	}
	defer unix.Close(vcpu)
	run, err := unix.Mmap(vcpu, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map the CPU: %w", err)
	}
	defer unix.Munmap(run) //nolint:errcheck // as the memory
	if err := setProbeFeatures(device, vcpu); err != nil {
		return err
	}
	if err := setProbeState(vcpu); err != nil {
		return err
	}
	return runProbe(vcpu, run)
}

// fillProbe maps the first 2 MiB to themselves and puts the program there.
func fillProbe(memory []byte) {
	const present, writable, large = 1, 2, 1 << 7
	binary.LittleEndian.PutUint64(memory[probePML4:], probePDPT|present|writable)
	binary.LittleEndian.PutUint64(memory[probePDPT:], probePD|present|writable)
	binary.LittleEndian.PutUint64(memory[probePD:], 0|present|writable|large)
	copy(memory[probeCode:], probeProgram)
}

// maxCPUIDs is more than any KVM has.
const maxCPUIDs = 256

// setProbeFeatures gives the CPU what KVM has, without which it has no 64-bit mode.
func setProbeFeatures(device, vcpu int) error {
	// struct kvm_cpuid2: a count, padding, and entries of 40 bytes.
	features := struct {
		count, padding uint32
		entries        [maxCPUIDs][10]uint32
	}{count: maxCPUIDs}
	if _, err := ioctl(device, kvmGetSupportedCPUID, uintptr(unsafe.Pointer(&features))); err != nil { // #nosec G103 -- the ioctl takes an address
		return fmt.Errorf("ask for the CPU's features: %w", err)
	}
	if _, err := ioctl(vcpu, kvmSetCPUID2, uintptr(unsafe.Pointer(&features))); err != nil { // #nosec G103 -- as above
		return fmt.Errorf("set the CPU's features: %w", err)
	}
	return nil
}

// The special registers as struct kvm_sregs has them.
type kvmSegment struct {
	base                            uint64
	limit                           uint32
	selector                        uint16
	kind, present, dpl, db, s, l, g uint8
	avl, unusable, padding          uint8
}

type kvmTable struct {
	base    uint64
	limit   uint16
	padding [3]uint16
}

type kvmSregs struct {
	cs, ds, es, fs, gs, ss, tr, ldt kvmSegment
	gdt, idt                        kvmTable
	cr0, cr2, cr3, cr4, cr8         uint64
	efer, apicBase                  uint64
	interrupts                      [4]uint64
}

// setProbeState puts the CPU into 64-bit mode at the program.
func setProbeState(vcpu int) error {
	var s kvmSregs
	if _, err := ioctl(vcpu, kvmGetSregs, uintptr(unsafe.Pointer(&s))); err != nil { // #nosec G103 -- the ioctl takes an address
		return fmt.Errorf("read the CPU's state: %w", err)
	}
	code := kvmSegment{limit: 0xFFFFFFFF, selector: 8, kind: 11, present: 1, s: 1, l: 1, g: 1}
	data := kvmSegment{limit: 0xFFFFFFFF, selector: 16, kind: 3, present: 1, s: 1, db: 1, g: 1}
	s.cs, s.ds, s.es, s.fs, s.gs, s.ss = code, data, data, data, data, data
	s.cr0, s.cr3, s.cr4, s.efer = 0x80000011, probePML4, 1<<5, 1<<8|1<<10            // PG|ET|PE, PAE, LME|LMA
	if _, err := ioctl(vcpu, kvmSetSregs, uintptr(unsafe.Pointer(&s))); err != nil { // #nosec G103 -- as above
		return fmt.Errorf("set the CPU's state: %w", err)
	}
	var regs [18]uint64 // rax … r15, rip, rflags
	regs[16], regs[17] = probeCode, 2
	if _, err := ioctl(vcpu, kvmSetRegs, uintptr(unsafe.Pointer(&regs))); err != nil { // #nosec G103 -- as above
		return fmt.Errorf("set the CPU's registers: %w", err)
	}
	return nil
}

// runProbe runs the program. What KVM says of it is in run, a struct kvm_run:
// immediate_exit at 1, exit_reason at 8, for an exit at a port its number at 34.
func runProbe(vcpu int, run []byte) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// A thread in KVM_RUN comes back for a signal only. The runtime takes SIGURG
	// for its own, to no harm.
	var late atomic.Bool
	thread := unix.Gettid()
	timer := time.AfterFunc(probeWall, func() {
		late.Store(true)
		run[1] = 1
		_ = unix.Tgkill(unix.Getpid(), thread, unix.SIGURG)
	})
	defer timer.Stop()
	begin, err := threadTime()
	if err != nil {
		return err
	}
	for {
		_, err := ioctl(vcpu, kvmRun, 0)
		if errors.Is(err, unix.EINTR) && !late.Load() {
			continue
		}
		if late.Load() {
			return fmt.Errorf("%d instructions took more than %v: guests are emulated", 2*probeLoops, probeWall)
		}
		if err != nil {
			return fmt.Errorf("run guest code: %w", err)
		}
		break
	}
	end, err := threadTime()
	if err != nil {
		return err
	}
	if reason := binary.LittleEndian.Uint32(run[8:]); reason != kvmExitIO || binary.LittleEndian.Uint16(run[34:]) != probePort {
		return fmt.Errorf("run guest code: it ended for reason %d", reason)
	}
	if took := end - begin; took > probeCPU {
		return fmt.Errorf("%d instructions took %v: guests are emulated", 2*probeLoops, took)
	}
	return nil
}

// threadTime is the CPU time of the calling thread, its guest's included.
func threadTime() (time.Duration, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now); err != nil {
		return 0, fmt.Errorf("read the thread's CPU time: %w", err)
	}
	return time.Duration(now.Nano()), nil
}

func ioctl(fd int, request, arg uintptr) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, arg)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
