package guest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/xi2/xz"
	"pault.ag/go/debian/deb"
)

// maxUnpacked bounds a kernel unpacked from its image, in bytes.
const maxUnpacked = 512 << 20

// errPacked says why an image cannot be unpacked; the image itself still boots.
var errPacked = errors.New("no kernel to unpack")

// Offsets and sizes of the x86 boot protocol, Documentation/arch/x86/boot.rst.
const (
	setupSectsAt    = 0x1f1
	payloadOffsetAt = 0x248
	payloadLengthAt = 0x24c
	sectorSize      = 512
	defaultSetup    = 4
	// sizeTrailer is how many bytes the kernel's build puts behind what it
	// packed: the unpacked size, little endian.
	sizeTrailer = 4
)

// unpackKernel takes the ELF file out of an x86 image. If a VMM enters it by the
// PVH protocol, the guest need not unpack the image, which takes a second of every
// boot where there is no KVM. But such a kernel does not move to a random address
// (KASLR), so the ELF file is added to the image and does not replace it.
func unpackKernel(image []byte) ([]byte, error) {
	if checkPVH(image) == nil {
		return nil, fmt.Errorf("%w: it is not packed", errPacked)
	}
	if arch, ok := imageArch(image); !ok || arch != "x86_64" {
		return nil, fmt.Errorf("%w: not an x86 image", errPacked)
	}
	setup := int64(image[setupSectsAt])
	if setup == 0 {
		setup = defaultSetup
	}
	start := (setup+1)*sectorSize + int64(binary.LittleEndian.Uint32(image[payloadOffsetAt:]))
	length := int64(binary.LittleEndian.Uint32(image[payloadLengthAt:]))
	if length <= sizeTrailer || start+length > int64(len(image)) {
		return nil, fmt.Errorf("%w: the payload is outside of the image", errPacked)
	}
	payload := image[start : start+length-sizeTrailer]
	r, err := kernelReader(payload)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	vmlinux, err := io.ReadAll(io.LimitReader(r, maxUnpacked+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errPacked, err)
	}
	size := binary.LittleEndian.Uint32(image[start+length-sizeTrailer:])
	if int64(len(vmlinux)) != int64(size) {
		return nil, fmt.Errorf("%w: %d bytes where the image says %d", errPacked, len(vmlinux), size)
	}
	if err := checkPVH(vmlinux); err != nil {
		return nil, err
	}
	return withoutZeros(vmlinux)
}

// withoutZeros removes from a kernel that checkPVH accepts the zeros at the end of its
// segments, which a loader adds by itself (elf(5), p_memsz), and everything behind the last
// segment: the sections, which no VMM needs. Together they are a fifth of Debian's kernel,
// which a VMM would read at each boot and copy to memory that the guest may never use.
// withoutZeros changes vmlinux in place.
func withoutZeros(vmlinux []byte) ([]byte, error) {
	var head elf.Header64
	if _, err := binary.Decode(vmlinux, binary.LittleEndian, &head); err != nil {
		return nil, fmt.Errorf("%w: %w", errPacked, err)
	}
	end := head.Phoff
	for i := range uint64(head.Phnum) {
		at := head.Phoff + i*uint64(head.Phentsize)
		var p elf.Prog64
		if _, err := binary.Decode(vmlinux[at:], binary.LittleEndian, &p); err != nil {
			return nil, fmt.Errorf("%w: %w", errPacked, err)
		}
		if p.Off+p.Filesz > uint64(len(vmlinux)) || p.Off+p.Filesz < p.Off {
			return nil, fmt.Errorf("%w: segment %d is outside of the file", errPacked, i)
		}
		if elf.ProgType(p.Type) == elf.PT_LOAD {
			p.Filesz = uint64(len(bytes.TrimRight(vmlinux[p.Off:p.Off+p.Filesz], "\x00")))
			if _, err := binary.Encode(vmlinux[at:], binary.LittleEndian, &p); err != nil {
				return nil, fmt.Errorf("%w: %w", errPacked, err)
			}
		}
		end = max(end, at+uint64(head.Phentsize), p.Off+p.Filesz)
	}
	head.Shoff, head.Shnum, head.Shstrndx = 0, 0, 0
	if _, err := binary.Encode(vmlinux, binary.LittleEndian, &head); err != nil {
		return nil, fmt.Errorf("%w: %w", errPacked, err)
	}
	return vmlinux[:end], nil
}

// xzDictionary is the largest dictionary that the kernel's build uses, in bytes (scripts/xz_wrap.sh).
const xzDictionary = 128 << 20

// kernelReader unpacks a payload, whose first bytes tell its compression.
func kernelReader(payload []byte) (io.ReadCloser, error) {
	if bytes.HasPrefix(payload, []byte("\xfd7zXZ\x00")) {
		r, err := xz.NewReader(bytes.NewReader(payload), xzDictionary)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errPacked, err)
		}
		return io.NopCloser(r), nil
	}
	for magic, suffix := range map[string]string{
		"\x28\xb5\x2f\xfd": ".zst",
		"\x1f\x8b\x08":     ".gz",
		"BZh":              ".bz2",
	} {
		if bytes.HasPrefix(payload, []byte(magic)) {
			r, err := deb.DecompressorFor(suffix)(bytes.NewReader(payload))
			if err != nil {
				return nil, fmt.Errorf("%w: %w", errPacked, err)
			}
			return r, nil
		}
	}
	return nil, fmt.Errorf("%w: compressed in an unknown way", errPacked)
}

// checkPVH looks for the ELF note with the PVH entry, XEN_ELFNOTE_PHYS32_ENTRY (18).
func checkPVH(vmlinux []byte) error {
	const headerSize, physEntry, align = 12, 18, 4
	f, err := elf.NewFile(bytes.NewReader(vmlinux))
	if err != nil {
		return fmt.Errorf("%w: %w", errPacked, err)
	}
	if f.Machine != elf.EM_X86_64 || f.Class != elf.ELFCLASS64 || f.Data != elf.ELFDATA2LSB {
		return fmt.Errorf("%w: not for x86", errPacked)
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_NOTE || p.Filesz > uint64(len(vmlinux)) {
			continue
		}
		notes := make([]byte, p.Filesz)
		if _, err := p.ReadAt(notes, 0); err != nil {
			return fmt.Errorf("%w: %w", errPacked, err)
		}
		for len(notes) >= headerSize {
			name := uint64(binary.LittleEndian.Uint32(notes))
			desc := uint64(binary.LittleEndian.Uint32(notes[4:]))
			kind := binary.LittleEndian.Uint32(notes[8:])
			end := headerSize + roundUp(name, align) + roundUp(desc, align)
			if end > uint64(len(notes)) {
				break
			}
			if kind == physEntry && bytes.HasPrefix(notes[headerSize:], []byte("Xen\x00")) {
				return nil
			}
			notes = notes[end:]
		}
	}
	return fmt.Errorf("%w: it has no PVH entry", errPacked)
}

func roundUp(n, align uint64) uint64 {
	return (n + align - 1) / align * align
}
