package guest

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cavaliergopher/cpio"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

var update = flag.Bool("update", false, "write the golden files")

func build(t *testing.T, o Options) (*Manifest, error) {
	t.Helper()
	return Build(t.Context(), o)
}

func options(t *testing.T) Options {
	t.Helper()
	return Options{
		Kernel:       writeTree(t, fakeTree(t)),
		Agent:        write(t, filepath.Join(t.TempDir(), "agent"), fakeAgent(t)),
		AgentVersion: "1.2.3",
		Output:       filepath.Join(t.TempDir(), "image"),
	}
}

func TestGolden(t *testing.T) {
	o := options(t)
	o.Compression = compressionNone
	o.Modules = []string{"special"}
	if _, err := build(t, o); err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]string{
		"manifest.json": string(read(t, filepath.Join(o.Output, ManifestName))),
		"initramfs.txt": describeCPIO(t, bytes.NewReader(read(t, filepath.Join(o.Output, InitramfsName)))),
	} {
		golden := filepath.Join("testdata", name)
		if *update {
			write(t, golden, []byte(got))
		}
		if diff := cmp.Diff(string(read(t, golden)), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if diff := cmp.Diff(fakeImage(), read(t, filepath.Join(o.Output, KernelName))); diff != "" {
		t.Errorf("the kernel is not as it was: %s", diff)
	}
}

func TestSourcesAgree(t *testing.T) {
	files := fakeTree(t)
	want := ""
	dir := t.TempDir()
	usr := map[string][]byte{}
	for name, data := range files {
		if strings.HasPrefix(name, "lib/") {
			name = "usr/" + name
		}
		usr[name] = data
	}
	tree := writeTree(t, files)
	for name, kernel := range map[string]string{
		"deb with tar":        write(t, filepath.Join(dir, "a.deb"), debPackage(t, "data.tar", files)),
		"deb with gzip":       write(t, filepath.Join(dir, "b.deb"), debPackage(t, "data.tar.gz", files)),
		"deb with zstd":       write(t, filepath.Join(dir, "c.deb"), debPackage(t, "data.tar.zst", files)),
		"deb of a merged usr": write(t, filepath.Join(dir, "d.deb"), debPackage(t, "data.tar", usr)),
		"tree":                tree,
		"merged usr":          writeTree(t, usr),
		"boot":                filepath.Join(tree, "boot"),
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t)
			o.Kernel = kernel
			if _, err := build(t, o); err != nil {
				t.Fatal(err)
			}
			got := imageDigest(t, o.Output)
			if want == "" {
				want = got
			}
			if got != want {
				t.Errorf("another image than from the other sources: %s, %s", got, want)
			}
		})
	}
}

func TestReproducible(t *testing.T) {
	for _, c := range []Compression{compressionNone, compressionGzip, compressionZstd} {
		t.Run(string(c), func(t *testing.T) {
			o := options(t)
			o.Compression = c
			o.Epoch = time.Unix(1700000000, 0)
			var digests [2]string
			for i := range digests {
				o.Output = filepath.Join(t.TempDir(), "image")
				if _, err := build(t, o); err != nil {
					t.Fatal(err)
				}
				digests[i] = imageDigest(t, o.Output)
			}
			if digests[0] != digests[1] {
				t.Errorf("the same input made %s and %s", digests[0], digests[1])
			}
		})
	}
}

func TestCompressionsUnpackToTheSame(t *testing.T) {
	data := bytes.Repeat([]byte("runch guest image "), 100000)
	open := map[Compression]func(io.Reader) (io.Reader, error){
		compressionNone: func(r io.Reader) (io.Reader, error) { return r, nil },
		compressionGzip: func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		compressionZstd: func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) },
	}
	for c, unpack := range open {
		packed, err := c.compress(data)
		if err != nil {
			t.Fatal(err)
		}
		r, err := unpack(bytes.NewReader(packed))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes came back, %v", c, len(got), err)
		}
	}
}

func TestReplacesAnOlderImage(t *testing.T) {
	o := options(t)
	write(t, filepath.Join(o.Output, KernelName), []byte("old"))
	write(t, filepath.Join(o.Output, "notes"), []byte("mine"))
	m, err := build(t, o)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Inspect(o.Output)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m, got); diff != "" {
		t.Errorf("manifest (-built +inspected):\n%s", diff)
	}
	if string(read(t, filepath.Join(o.Output, "notes"))) != "mine" {
		t.Error("a file that is none of the image's was touched")
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(o.Output), ".guest-*")); len(left) > 0 || err != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestVmlinux(t *testing.T) {
	o := options(t)
	o.Vmlinux = true
	vmlinux := fakeVmlinux(t)
	files := fakeTree(t)
	files["boot/vmlinuz-"+testRelease] = packKernel(t, gz(t, vmlinux), len(vmlinux))
	o.Kernel = writeTree(t, files)
	m, err := build(t, o)
	if err != nil {
		t.Fatal(err)
	}
	unpacked := read(t, filepath.Join(o.Output, VmlinuxName))
	if m.Vmlinux == nil || *m.Vmlinux != describe(unpacked) {
		t.Fatalf("manifest says %v", m.Vmlinux)
	}
	if diff := cmp.Diff(loaded(t, vmlinux), loaded(t, unpacked)); diff != "" {
		t.Error(diff)
	}
	if err := checkPVH(unpacked); err != nil {
		t.Error(err)
	}
	// It has neither the zeros at the end of its segment nor its sections.
	if end := []byte("a kernel's code"); !bytes.HasSuffix(unpacked, end) {
		t.Errorf("%d bytes, which do not end with %q", len(unpacked), end)
	}
	if _, err := Inspect(o.Output); err != nil {
		t.Error(err)
	}
	// A kernel that was built with xz's largest dictionary, as tinyconfig does.
	files["boot/vmlinuz-"+testRelease] = packKernel(t, xzip(t, vmlinux, "dict=128MiB"), len(vmlinux))
	o.Kernel = writeTree(t, files)
	if m, err := build(t, o); err != nil || m.Vmlinux == nil || *m.Vmlinux != describe(unpacked) {
		t.Errorf("packed by xz: %v, %v", m, err)
	}
	o.Kernel = writeTree(t, fakeTree(t))
	if m, err = build(t, o); err != nil || m.Vmlinux != nil {
		t.Errorf("an image that holds none: %v, %v", m, err)
	}
	if _, err := os.Stat(filepath.Join(o.Output, VmlinuxName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the older one is still there: %v", err)
	}
}

// A kernel that is not packed becomes the kernel of the image as it is.
func TestUnpackedKernel(t *testing.T) {
	o := options(t)
	o.Vmlinux = true
	var said bytes.Buffer
	o.Progress = &said
	files := fakeTree(t)
	delete(files, "boot/vmlinuz-"+testRelease)
	vmlinux := fakeVmlinux(t)
	files["boot/vmlinux-"+testRelease] = vmlinux
	o.Kernel = writeTree(t, files)
	m, err := build(t, o)
	if err != nil {
		t.Fatal(err)
	}
	if m.Kernel != describe(vmlinux) || m.Vmlinux != nil || m.Arch != "x86_64" {
		t.Errorf("the manifest says %+v", m)
	}
	if !strings.Contains(said.String(), "no vmlinux: no kernel to unpack: it is not packed") {
		t.Errorf("said %q", said.String())
	}
}

func TestCancelled(t *testing.T) {
	o := options(t)
	o.Kernel = write(t, filepath.Join(t.TempDir(), "a.deb"), debPackage(t, "data.tar", fakeTree(t)))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Build(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(o.Output); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was made: %v", err)
	}
}

func TestProgress(t *testing.T) {
	o := options(t)
	var b bytes.Buffer
	o.Progress = &b
	if _, err := build(t, o); err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{testRelease, "agent", "initramfs", o.Output} {
		if !strings.Contains(b.String(), word) {
			t.Errorf("progress does not say %q:\n%s", word, b.String())
		}
	}
}

// TestBuiltImage looks at the image that make built out of Debian's kernel.
func TestBuiltImage(t *testing.T) {
	dir := "../bin/guest"
	if _, err := os.Stat(dir); err != nil {
		t.Skip("no guest image: make guest builds one")
	}
	m, err := Inspect(dir)
	if err != nil {
		t.Fatal(err)
	}
	if limit := int64(12 << 20); m.Initramfs.Size > limit {
		t.Errorf("the initramfs has %d bytes, more than %d", m.Initramfs.Size, limit)
	}
	have := map[string]bool{}
	for _, mod := range slices.Concat(m.Modules, m.Vsock, m.Lazy) {
		have[mod.Name] = true
	}
	for _, name := range m.Builtin {
		have[name] = true
	}
	for _, name := range []string{"virtio_pci", "virtio_console", "virtiofs", "vmw_vsock_virtio_transport", "virtio_net", "overlay", "tun", "loop", "bridge"} {
		if !have[name] {
			t.Errorf("the image has no %s", name)
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func imageDigest(t *testing.T, dir string) string {
	t.Helper()
	var all []byte
	for _, name := range []string{KernelName, InitramfsName, ManifestName} {
		all = append(all, read(t, filepath.Join(dir, name))...)
	}
	return describe(all).SHA256
}

// describeCPIO lists an archive, with the content of the text files.
func describeCPIO(t *testing.T, r io.Reader) string {
	t.Helper()
	var b strings.Builder
	for c := cpio.NewReader(r); ; {
		hdr, err := c.Next()
		if errors.Is(err, io.EOF) {
			return b.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%o %d:%d %d %s\n", uint32(hdr.Mode), hdr.Uid, hdr.Guid, hdr.ModTime.Unix(), hdr.Name)
		if strings.HasPrefix(hdr.Name, "etc/") && !hdr.Mode.IsDir() {
			if _, err := io.Copy(&b, c); err != nil {
				t.Fatal(err)
			}
		}
	}
}
