package guest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// manifestVersion is the only version of manifest.json that Inspect reads.
const manifestVersion = 1

// maxManifest bounds what Inspect reads, in bytes.
const maxManifest = 1 << 20

// errImage is wrapped by every error about an image that is incomplete or damaged.
var errImage = errors.New("bad guest image")

// Manifest is the content of manifest.json: what an image holds.
type Manifest struct {
	Version       int    `json:"version"`
	Arch          string `json:"arch"`
	KernelRelease string `json:"kernelRelease"`
	Kernel        File   `json:"kernel"`
	// Vmlinux is the kernel as an ELF file, nil where the image has none.
	Vmlinux   *File     `json:"vmlinux,omitempty"`
	Initramfs Initramfs `json:"initramfs"`
	Agent     Agent     `json:"agent"`
	// Modules are those that the agent loads at boot, in order.
	Modules []Module `json:"modules"`
	// Vsock are those loaded next where the channel to the host is vsock.
	Vsock []Module `json:"vsockModules"`
	// Lazy are those loaded when they are asked for.
	Lazy []Module `json:"lazyModules"`
	// Builtin are those asked for that are part of the kernel.
	Builtin []string `json:"builtinModules"`
}

// File is a file's size in bytes and its digest.
type File struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Initramfs is the initramfs and how it is packed; Unpacked is in bytes.
type Initramfs struct {
	File
	Compression Compression `json:"compression"`
	Unpacked    int64       `json:"unpackedSize"`
}

// Agent is the binary that is /init.
type Agent struct {
	File
	Version string `json:"version"`
}

// Module is one module file and where it is in the guest.
type Module struct {
	File
	Name string `json:"name"`
	Path string `json:"path"`
}

// Inspect reads the manifest of the image in dir and compares the files with it. A file
// that is missing, or has another size or digest, is an error.
func Inspect(dir string) (*Manifest, error) {
	f, err := os.Open(filepath.Join(dir, ManifestName))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errImage, err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errImage, err)
	}
	m, err := decodeManifest(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errImage, f.Name(), err)
	}
	files := map[string]File{KernelName: m.Kernel, InitramfsName: m.Initramfs.File}
	if m.Vmlinux != nil {
		files[VmlinuxName] = *m.Vmlinux
	}
	for name, want := range files {
		if err := verify(filepath.Join(dir, name), want); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func decodeManifest(data []byte) (*Manifest, error) {
	if len(data) > maxManifest {
		return nil, fmt.Errorf("larger than %d bytes", maxManifest)
	}
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, err
	}
	if m.Version != manifestVersion {
		return nil, fmt.Errorf("version %d, this runch reads %d", m.Version, manifestVersion)
	}
	return &m, nil
}

func verify(path string, want File) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("%w: %w", errImage, err)
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return fmt.Errorf("%w: read %s: %w", errImage, path, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); n != want.Size || got != want.SHA256 {
		return fmt.Errorf("%w: %s is not the file that %s describes", errImage, path, ManifestName)
	}
	return nil
}

func newManifest(k *kernel, a *agent, sel *selection) *Manifest {
	m := &Manifest{
		Version:       manifestVersion,
		Arch:          k.arch,
		KernelRelease: k.release,
		Agent:         Agent{File: describe(a.data), Version: a.version},
		Modules:       describeModules(k.release, sel.boot),
		Vsock:         describeModules(k.release, sel.vsock),
		Lazy:          describeModules(k.release, sel.lazy),
		Builtin:       sel.builtin,
	}
	return m
}

func describeModules(release string, mods []*module) []Module {
	out := make([]Module, 0, len(mods))
	for _, m := range mods {
		out = append(out, m.describe(release))
	}
	return out
}

func (m *Manifest) encode() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	if err := e.Encode(m); err != nil {
		return nil, fmt.Errorf("encode %s: %w", ManifestName, err)
	}
	return b.Bytes(), nil
}

func describe(data []byte) File {
	sum := sha256.Sum256(data)
	return File{Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}
}
