package hypervisor

import (
	"encoding/binary"
	"fmt"
	"unsafe"
)

// fillProbe makes page tables that map the first 2 MiB to themselves, and copies
// the program there.
func fillProbe(memory []byte) {
	const present, writable, large = 1, 2, 1 << 7
	binary.LittleEndian.PutUint64(memory[probePML4:], probePDPT|present|writable)
	binary.LittleEndian.PutUint64(memory[probePDPT:], probePD|present|writable)
	binary.LittleEndian.PutUint64(memory[probePD:], 0|present|writable|large)
	copy(memory[probeCode:], probeProgram)
}

// maxCPUIDs is how many CPUID entries there is room for, more than any KVM has.
const maxCPUIDs = 256

// setProbeFeatures gives the CPU the features that KVM supports: without them it
// has no 64-bit mode.
func setProbeFeatures(device, vcpu int) error {
	// struct kvm_cpuid2: a count, padding, and entries of 40 bytes.
	features := struct {
		count, padding uint32
		entries        [maxCPUIDs][10]uint32
	}{count: maxCPUIDs}
	if err := ioctlPtr(device, kvmGetSupportedCPUID, unsafe.Pointer(&features)); err != nil {
		return fmt.Errorf("ask for the CPU's features: %w", err)
	}
	if err := ioctlPtr(vcpu, kvmSetCPUID2, unsafe.Pointer(&features)); err != nil {
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
	if err := ioctlPtr(vcpu, kvmGetSregs, unsafe.Pointer(&s)); err != nil {
		return fmt.Errorf("read the CPU's state: %w", err)
	}
	code := kvmSegment{limit: 0xFFFFFFFF, selector: 8, kind: 11, present: 1, s: 1, l: 1, g: 1}
	data := kvmSegment{limit: 0xFFFFFFFF, selector: 16, kind: 3, present: 1, s: 1, db: 1, g: 1}
	s.cs, s.ds, s.es, s.fs, s.gs, s.ss = code, data, data, data, data, data
	s.cr0, s.cr3, s.cr4, s.efer = 0x80000011, probePML4, 1<<5, 1<<8|1<<10 // PG|ET|PE, PAE, LME|LMA
	if err := ioctlPtr(vcpu, kvmSetSregs, unsafe.Pointer(&s)); err != nil {
		return fmt.Errorf("set the CPU's state: %w", err)
	}
	var regs [18]uint64 // rax … r15, rip, rflags
	regs[16], regs[17] = probeCode, 2
	if err := ioctlPtr(vcpu, kvmSetRegs, unsafe.Pointer(&regs)); err != nil {
		return fmt.Errorf("set the CPU's registers: %w", err)
	}
	return nil
}
