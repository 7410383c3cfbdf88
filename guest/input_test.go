package guest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBadInput(t *testing.T) {
	mods := "lib/modules/" + testRelease + "/"
	// A tree with one file changed; nil removes it.
	tree := func(change map[string][]byte) func(*testing.T, *Options) {
		return func(t *testing.T, o *Options) {
			t.Helper()
			files := fakeTree(t)
			for name, data := range change {
				if files[name] = data; data == nil {
					delete(files, name)
				}
			}
			o.Kernel = writeTree(t, files)
		}
	}
	file := func(set func(*Options, string), data []byte) func(*testing.T, *Options) {
		return func(t *testing.T, o *Options) {
			t.Helper()
			set(o, write(t, filepath.Join(t.TempDir(), "file"), data))
		}
	}
	kernel := func(o *Options, path string) { o.Kernel = path }
	agent := func(o *Options, path string) { o.Agent = path }
	for name, c := range map[string]struct {
		change func(*testing.T, *Options)
		want   string
	}{
		"no kernel given":       {func(_ *testing.T, o *Options) { o.Kernel = "" }, "no kernel given"},
		"no agent given":        {func(_ *testing.T, o *Options) { o.Agent = "" }, "no agent given"},
		"no output given":       {func(_ *testing.T, o *Options) { o.Output = "" }, "no output directory given"},
		"unknown compression":   {func(_ *testing.T, o *Options) { o.Compression = "rar" }, `unknown compression "rar"`},
		"missing kernel":        {func(_ *testing.T, o *Options) { o.Kernel = "/nonexistent" }, "no such file"},
		"missing agent":         {func(_ *testing.T, o *Options) { o.Agent = "/nonexistent" }, "no such file"},
		"agent is a directory":  {func(_ *testing.T, o *Options) { o.Agent = "/" }, "is not a file"},
		"agent is a script":     {file(agent, []byte("#!/bin/sh\n")), "is not an ELF executable"},
		"agent is a module":     {file(agent, fakeModule(t, testRelease, "", "")), "is not an ELF executable"},
		"agent is dynamic":      {file(agent, elfFile(t, elf.ET_DYN, elf.EM_X86_64, true, ".text", "")), "is not static"},
		"agent of another arch": {file(agent, elfFile(t, elf.ET_EXEC, elf.EM_AARCH64, false, ".text", "")), "is for aarch64, kernel " + testRelease + " for x86_64"},
		"agent of a third arch": {file(agent, elfFile(t, elf.ET_EXEC, elf.EM_RISCV, false, ".text", "")), "which is not supported"},
		"kernel is a device":    {func(_ *testing.T, o *Options) { o.Kernel = "/dev/null" }, "neither a package file nor a directory"},
		"package is empty":      {file(kernel, nil), "is not a whole Debian package"},
		"package is text":       {file(kernel, []byte("hello, this is no package at all")), "is not a whole Debian package"},
		"package is cut short":  {file(kernel, debPackage(t, "data.tar.gz", fakeTree(t))[:1000]), "is not a whole Debian package"},
		"package without data":  {file(kernel, debPackage(t, "nothing.tar", fakeTree(t))), "it has no data.tar"},
		"package of no kernel":  {file(kernel, debPackage(t, "data.tar", map[string][]byte{"usr/bin/true": nil})), "holds no kernel"},
		"directory is empty":    {func(t *testing.T, o *Options) { o.Kernel = t.TempDir() }, "holds no kernel"},
		"unknown release":       {func(_ *testing.T, o *Options) { o.Release = "1.0" }, "has no kernel 1.0, only " + testRelease},
		"two kernels":           {tree(map[string][]byte{"boot/vmlinuz-7.0": fakeImage()}), "holds several kernels, choose one: " + testRelease + ", 7.0"},
		"image is no kernel":    {tree(map[string][]byte{"boot/vmlinuz-" + testRelease: []byte("MZ")}), "is not a bootable Linux image"},
		"no module virtiofs":    {tree(map[string][]byte{mods + "kernel/fs/fuse/virtiofs.ko.gz": nil}), "has no module virtiofs"},
		"missing dependency":    {tree(map[string][]byte{mods + "kernel/fs/fuse/fuse.ko.zst": nil}), "has no module fuse, which virtiofs needs"},
		"module of another kernel": {
			tree(map[string][]byte{mods + "kernel/fs/fuse/fuse.ko.zst": zst(t, fakeModule(t, "5.0", "", ""))}),
			"built for kernel 5.0, not " + testRelease,
		},
		"module is damaged":    {tree(map[string][]byte{mods + "kernel/fs/fuse/fuse.ko.zst": []byte("no zstd")}), "unpack module kernel/fs/fuse/fuse.ko.zst"},
		"module is no module":  {tree(map[string][]byte{mods + "kernel/drivers/virtio/virtio.ko": []byte("x")}), "module kernel/drivers/virtio/virtio.ko"},
		"module has no info":   {tree(map[string][]byte{mods + "kernel/drivers/virtio/virtio.ko": fakeAgent(t)}), "no .modinfo section"},
		"modules in a circle":  {tree(map[string][]byte{mods + "kernel/drivers/virtio/virtio_ring.ko": fakeModule(t, testRelease, "virtio", "")}), "depend on each other: "},
		"extra module unknown": {func(_ *testing.T, o *Options) { o.Modules = []string{"nosuch"} }, "has no module nosuch"},
		"output is a file":     {file(func(o *Options, path string) { o.Output = path }, nil), "is not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t)
			c.change(t, &o)
			m, err := build(t, o)
			if !errors.Is(err, errInput) || m != nil {
				t.Fatalf("got %v, %v", m, err)
			}
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q, want one line with %q", err, c.want)
			}
			if st, err := os.Stat(o.Output); o.Output != "" && err == nil && st.IsDir() {
				t.Error("something was made")
			}
		})
	}
}

func TestUnwritableOutput(t *testing.T) {
	o := options(t)
	parent := filepath.Dir(o.Output)
	o.Output = filepath.Join(write(t, filepath.Join(parent, "file"), nil), "image")
	if _, err := build(t, o); err == nil {
		t.Error("a directory was made below a file")
	}
	o.Output = filepath.Join(parent, "new", strings.Repeat("x", 300))
	if _, err := build(t, o); err == nil {
		t.Error("a directory was made with a name of 300 letters")
	}
	left, err := os.ReadDir(parent)
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestInspectRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		file string
		data string
		want string
	}{
		"changed kernel":    {KernelName, "x", "is not the file that manifest.json describes"},
		"changed initramfs": {InitramfsName, "", "is not the file that manifest.json describes"},
		"no JSON":           {ManifestName, "{", "unexpected end of JSON"},
		"another version":   {ManifestName, `{"version": 7}`, "version 7, this runch reads 1"},
		"huge manifest":     {ManifestName, strings.Repeat(" ", maxManifest+1), "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t)
			if _, err := build(t, o); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(o.Output, c.file), []byte(c.data))
			if _, err := Inspect(o.Output); !errors.Is(err, errImage) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if _, err := Inspect(t.TempDir()); !errors.Is(err, errImage) {
		t.Errorf("an empty directory: %v", err)
	}
}

func TestUnpackKernelRefuses(t *testing.T) {
	vmlinux := fakeVmlinux(t)
	plain := elfFile(t, elf.ET_EXEC, elf.EM_X86_64, false, ".text", "")
	whole := packKernel(t, gz(t, vmlinux), len(vmlinux))
	long := bytes.Clone(vmlinux)
	const sizeAt = 64 + 32 // p_filesz of the first segment
	binary.LittleEndian.PutUint64(long[sizeAt:], 1<<20)
	for name, c := range map[string]struct {
		image []byte
		want  string
	}{
		"no image":        {[]byte("MZ"), "not an x86 image"},
		"no payload":      {fakeImage(), "outside of the image"},
		"cut short":       {whole[:len(whole)-1], "outside of the image"},
		"unknown packing": {packKernel(t, []byte("\x89LZO and more"), 1), "compressed in an unknown way"},
		"damaged":         {packKernel(t, []byte("\x1f\x8b\x08 and more"), 1), "EOF"},
		"another size":    {packKernel(t, gz(t, vmlinux), len(vmlinux)-1), "where the image says"},
		"no ELF":          {packKernel(t, gz(t, bytes.Repeat([]byte("text"), 99)), 396), "bad magic number"},
		"no PVH entry":    {packKernel(t, gz(t, plain), len(plain)), "no PVH entry"},
		"a long segment":  {packKernel(t, gz(t, long), len(long)), "segment 0 is outside of the file"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := unpackKernel(c.image); !errors.Is(err, errPacked) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func FuzzUnpackKernel(f *testing.F) {
	f.Add(fakeImage())
	f.Fuzz(func(_ *testing.T, image []byte) {
		_, _ = unpackKernel(image) // must not panic
	})
}

func FuzzModuleParse(f *testing.F) {
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(_ *testing.T, data []byte) {
		m := &module{data: data}
		_ = m.parse(testRelease) // must not panic
	})
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decodeManifest(data)
		if (m == nil) == (err == nil) {
			t.Errorf("manifest %v with error %v", m, err)
		}
	})
}
