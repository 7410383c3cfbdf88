package guest

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"strings"

	"pault.ag/go/debian/deb"
)

// maxModule bounds one unpacked module, in bytes.
const maxModule = 32 << 20

// source is a module file as the distribution ships it, perhaps compressed.
type source struct {
	path string // below lib/modules/RELEASE
	read func() ([]byte, error)
}

// module is a module ready for the initramfs.
type module struct {
	name    string
	path    string // below lib/modules/RELEASE, without the compression's suffix
	data    []byte
	depends []string // must be loaded before
	soft    []string // should be loaded before, where they exist
}

// moduleName is the name that the kernel has for the module in a file: dashes
// and underscores are one to it.
func moduleName(file string) (string, bool) {
	base, _, ok := strings.Cut(path.Base(file), ".ko")
	return canonical(base), ok && base != ""
}

func canonical(name string) string {
	return strings.ReplaceAll(name, "-", "_")
}

// load reads, unpacks and parses the module for a kernel of that release.
func (s source) load(release string) (*module, error) {
	raw, err := s.read()
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", s.path, err)
	}
	file := s.path
	switch ext := filepath.Ext(file); ext {
	case ".ko":
	case ".xz", ".zst", ".gz":
		if raw, err = unpack(raw, ext); err != nil {
			return nil, fmt.Errorf("%w: unpack module %s: %w", errInput, s.path, err)
		}
		file = strings.TrimSuffix(file, ext)
	default:
		return nil, fmt.Errorf("%w: module %s has an unknown compression", errInput, s.path)
	}
	name, _ := moduleName(file)
	m := &module{name: name, path: file, data: raw}
	if err := m.parse(release); err != nil {
		return nil, fmt.Errorf("%w: module %s: %w", errInput, s.path, err)
	}
	return m, nil
}

func unpack(raw []byte, ext string) ([]byte, error) {
	r, err := deb.DecompressorFor(ext)(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	data, err := io.ReadAll(io.LimitReader(r, maxModule+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxModule {
		return nil, fmt.Errorf("larger than %d MiB", maxModule>>20)
	}
	return data, nil
}

// parse reads the module's .modinfo section, a row of NUL-terminated KEY=VALUE.
func (m *module) parse(release string) error {
	f, err := elf.NewFile(bytes.NewReader(m.data))
	if err != nil {
		return err
	}
	sec := f.Section(".modinfo")
	if sec == nil {
		return fmt.Errorf("no .modinfo section")
	}
	info, err := sec.Data()
	if err != nil {
		return err
	}
	for _, field := range strings.Split(string(info), "\x00") {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "depends":
			for _, d := range strings.FieldsFunc(value, func(r rune) bool { return r == ',' }) {
				m.depends = append(m.depends, canonical(d))
			}
		case "softdep":
			m.soft = append(m.soft, softBefore(value)...)
		case "vermagic":
			if built, _, _ := strings.Cut(value, " "); built != release {
				return fmt.Errorf("built for kernel %s, not %s", built, release)
			}
		}
	}
	return nil
}

// softBefore returns the modules of a softdep that load before: those behind
// "pre:" in "pre: a b post: c".
func softBefore(value string) []string {
	var names []string
	pre := false
	for _, word := range strings.Fields(value) {
		switch word {
		case "pre:":
			pre = true
		case "post:":
			pre = false
		default:
			if pre {
				names = append(names, canonical(word))
			}
		}
	}
	return names
}

func (m *module) guestPath(release string) string {
	return path.Join("/lib/modules", release, m.path)
}

func (m *module) describe(release string) Module {
	return Module{File: describe(m.data), Name: m.name, Path: m.guestPath(release)}
}
