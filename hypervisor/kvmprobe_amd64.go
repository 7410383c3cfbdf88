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

// paravirtualKVM exists on hosts whose KVM runs without hardware virtualization (kvm_pvm).
// That KVM emulates what a guest does not do by hypercall.
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
	// probeLoops, of two instructions each, are enough to tell a processor from an
	// emulator, which takes a microsecond or more for an instruction.
	probeLoops = 200_000
	// probeCPU is the most CPU time that a processor may need for the loops. It needs
	// about 0.2 ms, and a few tens of milliseconds if KVM itself runs in an emulated
	// machine, most of that for one entry into the guest.
	probeCPU = 100 * time.Millisecond
	// probeWall bounds the probe's duration, also on a busy machine.
	probeWall = 2 * time.Second
)

// probeProgram counts ecx down and writes to a port, in 64-bit mode.
var probeProgram = append(binary.LittleEndian.AppendUint32([]byte{0xB9}, probeLoops), // mov ecx, probeLoops
	0xFF, 0xC9, // dec ecx
	0x75, 0xFC, // jnz -4
	0xB0, 0x2A, // mov al, 42
	0xE6, probePort, // out port, al
	0xF4, // hlt
)

// ProbeKVM finds out whether this host's KVM runs guests. It boots no kernel. It runs
// a small loop in 64-bit mode, as a kernel would, and measures whether the loop runs at the
// speed of a processor. To open the device is not enough: there are hosts where KVM
// makes a VM, but needs hours to unpack a kernel in it. The error wraps ErrNoKVM.
func ProbeKVM() error {
	if err := probeKVM(); err != nil {
		return fmt.Errorf("%w: %w", ErrNoKVM, err)
	}
	return nil
}

func probeKVM() error {
	// The loop would detect kvm_pvm too, but takes a tenth of a second there.
	if _, err := os.Stat(paravirtualKVM); err == nil {
		return errors.New("the host's kvm_pvm runs only kernels that were made for it")
	}
	device, err := openKVM()
	if err != nil {
		return err
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
	defer unix.Munmap(memory) //nolint:errcheck // the mapping is what Mmap gave, which munmap(2) does not refuse
	fillProbe(memory)
	region := struct {
		slot, flags      uint32
		guest, size, own uint64
	}{size: probeMemory, own: uint64(uintptr(unsafe.Pointer(&memory[0])))}
	if err := ioctlPtr(vm, kvmSetUserMemoryRegion, unsafe.Pointer(&region)); err != nil {
		return fmt.Errorf("give the guest memory: %w", err)
	}
	// Older Intel processors need an address for a TSS. This one is outside the guest's memory.
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
	defer unix.Munmap(run) //nolint:errcheck // the mapping is what Mmap gave, which munmap(2) does not refuse
	if err := setProbeFeatures(device, vcpu); err != nil {
		return err
	}
	if err := setProbeState(vcpu); err != nil {
		return err
	}
	return runProbe(vcpu, run)
}

// runProbe runs the program. run is a struct kvm_run: immediate_exit is at 1,
// exit_reason at 8, and for an exit by a port its number at 34.
func runProbe(vcpu int, run []byte) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Only a signal interrupts a thread in KVM_RUN. SIGURG does no harm: Go's runtime
	// uses it for itself, and ignores one that it did not send.
	var late atomic.Bool
	thread := unix.Gettid()
	fired := make(chan struct{})
	timer := time.AfterFunc(probeWall, func() {
		defer close(fired)
		late.Store(true)
		run[1] = 1
		_ = unix.Tgkill(unix.Getpid(), thread, unix.SIGURG)
	})
	defer func() {
		if !timer.Stop() {
			<-fired // it writes to run, which is unmapped next
		}
	}()
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

// ioctlPtr is ioctl for a request that takes a pointer. The pointer is converted to a
// uintptr in the call of Syscall itself, as package unsafe demands: before that call, the
// stack that it points to may still move.
func ioctlPtr(fd int, request uintptr, arg unsafe.Pointer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
	if errno != 0 {
		return errno
	}
	return nil
}

func ioctl(fd int, request, arg uintptr) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, arg)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
