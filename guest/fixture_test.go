package guest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

const testRelease = "6.12.0-test"

// elfFile makes an ELF file with one section and, where interp is set, a
// program header that asks for a loader.
func elfFile(t *testing.T, typ elf.Type, machine elf.Machine, interp bool, section, content string) []byte {
	t.Helper()
	const headerSize, sectionSize, progSize = 64, 64, 56
	names := "\x00.shstrtab\x00" + section + "\x00"
	var b bytes.Buffer
	put := func(v any) {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	progs := 0
	if interp {
		progs = 1
	}
	data := headerSize + progs*progSize
	hdr := elf.Header64{
		Type: uint16(typ), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
		Phoff: headerSize, Shoff: uint64(data + len(content) + len(names)), Ehsize: headerSize,
		Phentsize: progSize, Phnum: uint16(progs), Shentsize: sectionSize, Shnum: 3, Shstrndx: 1,
	}
	copy(hdr.Ident[:], "\x7fELF\x02\x01\x01")
	put(hdr)
	if interp {
		put(elf.Prog64{Type: uint32(elf.PT_INTERP)})
	}
	b.WriteString(content + names)
	put(elf.Section64{})
	put(elf.Section64{Name: 1, Type: uint32(elf.SHT_STRTAB), Off: uint64(data + len(content)), Size: uint64(len(names))})
	put(elf.Section64{Name: 11, Type: uint32(elf.SHT_PROGBITS), Off: uint64(data), Size: uint64(len(content))})
	return b.Bytes()
}

func fakeModule(t *testing.T, release, depends, softdep string) []byte {
	t.Helper()
	info := "license=GPL\x00depends=" + depends + "\x00vermagic=" + release + " SMP mod_unload \x00"
	if softdep != "" {
		info += "softdep=" + softdep + "\x00"
	}
	return elfFile(t, elf.ET_REL, elf.EM_X86_64, false, ".modinfo", info)
}

func fakeAgent(t *testing.T) []byte {
	t.Helper()
	return elfFile(t, elf.ET_EXEC, elf.EM_X86_64, false, ".text", "agent")
}

func fakeImage() []byte {
	image := make([]byte, 4096)
	copy(image[0x1fe:], "\x55\xaa")
	copy(image[0x202:], "HdrS")
	return image
}

func gz(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zst(t *testing.T, data []byte) []byte {
	t.Helper()
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return e.EncodeAll(data, nil)
}

// xzip packs data with the program xz and this option of LZMA2.
func xzip(t *testing.T, data []byte, option string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "xz", "--stdout", "--check=crc32", "--x86", "--lzma2=preset=0,"+option)
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// fakeTree is a package's files: a kernel with modules plain and compressed,
// hard, soft and shared dependencies, and one that is built in.
func fakeTree(t *testing.T) map[string][]byte {
	t.Helper()
	mods := "lib/modules/" + testRelease + "/"
	k := mods + "kernel/"
	return map[string][]byte{
		"boot/vmlinuz-" + testRelease:                     fakeImage(),
		"boot/config-" + testRelease:                      []byte("CONFIG_MODULES=y\n"),
		mods + "modules.builtin":                          []byte("kernel/drivers/virtio/virtio_pci.ko\nkernel/net/ipv6/ipv6.ko\n"),
		k + "drivers/char/virtio_console.ko":              fakeModule(t, testRelease, "virtio", ""),
		k + "drivers/virtio/virtio.ko":                    fakeModule(t, testRelease, "virtio-ring", ""),
		k + "drivers/virtio/virtio_ring.ko":               fakeModule(t, testRelease, "", ""),
		k + "fs/fuse/virtiofs.ko.gz":                      gz(t, fakeModule(t, testRelease, "fuse,virtio", "")),
		k + "fs/fuse/fuse.ko.zst":                         zst(t, fakeModule(t, testRelease, "", "")),
		k + "net/vmw_vsock/vmw-vsock-virtio-transport.ko": fakeModule(t, testRelease, "virtio", "pre: crc-x absent post: late"),
		k + "lib/crc-x.ko":                                fakeModule(t, testRelease, "", ""),
		k + "lib/late.ko":                                 fakeModule(t, testRelease, "", ""),
		k + "drivers/net/tun.ko":                          fakeModule(t, testRelease, "", ""),
		k + "extra/special.ko":                            fakeModule(t, testRelease, "", ""),
	}
}

func sortedNames(files map[string][]byte) []string {
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

func writeTree(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		write(t, filepath.Join(dir, name), data)
	}
	return dir
}

func write(t *testing.T, path string, data []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// debPackage makes a Debian package whose data member has that name.
func debPackage(t *testing.T, member string, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range sortedNames(files) {
		hdr := &tar.Header{Name: "./" + name, Mode: 0o644, Size: int64(len(files[name])), Typeflag: tar.TypeReg}
		if err := w.WriteHeader(hdr); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(files[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	data := b.Bytes()
	switch filepath.Ext(member) {
	case ".gz":
		data = gz(t, data)
	case ".zst":
		data = zst(t, data)
	}
	var ar strings.Builder
	ar.WriteString("!<arch>\n")
	for _, m := range []struct {
		name string
		data []byte
	}{{"debian-binary", []byte("2.0\n")}, {"control.tar", nil}, {member, data}} {
		fmt.Fprintf(&ar, "%-16s%-12d%-6d%-6d%-8s%-10d`\n%s", m.name, 0, 0, 0, "100644", len(m.data), m.data)
		if len(m.data)%2 == 1 {
			ar.WriteByte('\n')
		}
	}
	return []byte(ar.String())
}

// fakeVmlinux is an ELF file with the PVH entry as a note, and a segment that ends with
// zeros, some of them in the file.
func fakeVmlinux(t *testing.T) []byte {
	t.Helper()
	const headerSize, progSize, zeros = 64, 56, 5000
	note := "\x04\x00\x00\x00\x04\x00\x00\x00\x12\x00\x00\x00Xen\x00\x00\x00\x00\x01"
	code := "a kernel's code" + strings.Repeat("\x00", zeros)
	at := uint64(headerSize + 2*progSize)
	var progs bytes.Buffer
	for _, p := range []elf.Prog64{
		{Type: uint32(elf.PT_LOAD), Off: at + uint64(len(note)), Filesz: uint64(len(code)), Memsz: uint64(len(code) + zeros)},
		{Type: uint32(elf.PT_NOTE), Off: at, Filesz: uint64(len(note)), Memsz: uint64(len(note))},
	} {
		if err := binary.Write(&progs, binary.LittleEndian, p); err != nil {
			t.Fatal(err)
		}
	}
	// The second program header is where elfFile puts the content.
	data := elfFile(t, elf.ET_EXEC, elf.EM_X86_64, true, ".notes", strings.Repeat(" ", progSize)+note+code)
	copy(data[headerSize:], progs.Bytes())
	const phnumAt = 56
	data[phnumAt] = 2
	return data
}

// loaded is what an ELF file's segments are in memory.
func loaded(t *testing.T, data []byte) []byte {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	var memory []byte
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		segment := make([]byte, p.Memsz)
		if _, err := p.ReadAt(segment[:p.Filesz], 0); err != nil {
			t.Fatal(err)
		}
		memory = append(memory, segment...)
	}
	return memory
}

// packKernel makes an x86 image with this payload and this size of the unpacked kernel.
func packKernel(t *testing.T, payload []byte, unpacked int) []byte {
	t.Helper()
	image := fakeImage()
	image[setupSectsAt] = 3
	offset := len(image) - 4*sectorSize
	put := func(at, value int) {
		binary.LittleEndian.PutUint32(image[at:], uint32(value))
	}
	put(payloadOffsetAt, offset)
	put(payloadLengthAt, len(payload)+sizeTrailer)
	image = append(append(image, payload...), make([]byte, sizeTrailer)...)
	put(len(image)-sizeTrailer, unpacked)
	return image
}
