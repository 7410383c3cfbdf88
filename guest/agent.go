package guest

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"fmt"
	"os"
)

// maxAgent bounds the agent's binary, in bytes: it is unpacked into the
// guest's memory at every boot.
const maxAgent = 64 << 20

type agent struct {
	data    []byte
	arch    string
	version string
}

// loadAgent reads the binary at path and refuses what could not be a guest's
// first process: an executable that needs a loader finds none in an initramfs.
func loadAgent(path, version string) (*agent, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%w: agent: %w", errInput, err)
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: agent %s is not a file", errInput, path)
	}
	if st.Size() > maxAgent {
		return nil, fmt.Errorf("%w: agent %s is larger than %d MiB", errInput, path, maxAgent>>20)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: agent: %w", errInput, err)
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: agent %s is not an ELF executable", errInput, path)
	}
	arch, ok := elfArch(f.Machine)
	if !ok {
		return nil, fmt.Errorf("%w: agent %s is for %s, which is not supported", errInput, path, f.Machine)
	}
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return nil, fmt.Errorf("%w: agent %s is not an ELF executable", errInput, path)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return nil, fmt.Errorf("%w: agent %s is not static", errInput, path)
		}
	}
	if version == "" {
		version = builtVersion(data)
	}
	return &agent{data: data, arch: arch, version: version}, nil
}

// builtVersion is the version that the Go tool wrote into a binary, or
// "unknown".
func builtVersion(data []byte) string {
	info, err := buildinfo.Read(bytes.NewReader(data))
	if err != nil || info.Main.Version == "" {
		return "unknown"
	}
	return info.Main.Version
}

// elfArch names a machine as uname(2) does.
func elfArch(m elf.Machine) (string, bool) {
	switch m {
	case elf.EM_X86_64:
		return "x86_64", true
	case elf.EM_AARCH64:
		return "aarch64", true
	default:
		return "", false
	}
}
