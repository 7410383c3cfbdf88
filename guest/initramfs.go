package guest

import (
	"bytes"
	"fmt"
	"path"
	"sort"
	"strings"
	"time"

	"github.com/cavaliergopher/cpio"
)

// Where the agent finds the lists of modules: absolute paths, one on a line, each
// behind those that it depends on.
const (
	bootList  = "/etc/runch/modules"       // loaded first
	vsockList = "/etc/runch/modules.vsock" // loaded next, where the channel to the host is vsock
	lazyList  = "/etc/runch/modules.lazy"  // loaded when they are asked for
)

// entry is one file of the initramfs.
type entry struct {
	mode cpio.FileMode
	data []byte
}

// packInitramfs makes the cpio archive. /dev/console needs no node of its own:
// the kernel's built-in initramfs brings one, and unpacks before this one.
func packInitramfs(release string, agent []byte, sel *selection, epoch time.Time) ([]byte, error) {
	entries := map[string]entry{
		"init": {cpio.TypeReg | 0o755, agent},
	}
	for _, dir := range []string{"dev", "etc", "proc", "run", "sys", "tmp"} {
		entries[dir] = entry{mode: cpio.TypeDir | 0o755}
	}
	for name, mods := range map[string][]*module{bootList: sel.boot, vsockList: sel.vsock, lazyList: sel.lazy} {
		entries[strings.TrimPrefix(name, "/")] = entry{cpio.TypeReg | 0o644, list(release, mods)}
		for _, m := range mods {
			entries[strings.TrimPrefix(m.guestPath(release), "/")] = entry{cpio.TypeReg | 0o644, m.data}
		}
	}
	addParents(entries)
	return writeCPIO(entries, epoch)
}

func list(release string, mods []*module) []byte {
	var b bytes.Buffer
	for _, m := range mods {
		b.WriteString(m.guestPath(release) + "\n")
	}
	return b.Bytes()
}

// addParents adds the directories that hold the entries, which the kernel does
// not make by itself.
func addParents(entries map[string]entry) {
	names := make([]string, 0, len(entries))
	for name := range entries {
		names = append(names, name)
	}
	for _, name := range names {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			entries[dir] = entry{mode: cpio.TypeDir | 0o755}
		}
	}
}

// writeCPIO writes the entries sorted by name, which puts a directory before
// what is in it.
func writeCPIO(entries map[string]entry, epoch time.Time) ([]byte, error) {
	names := make([]string, 0, len(entries))
	for name := range entries {
		names = append(names, name)
	}
	sort.Strings(names)
	var b bytes.Buffer
	w := cpio.NewWriter(&b)
	for _, name := range names {
		e := entries[name]
		links := 1
		if e.mode.IsDir() {
			links = 2
		}
		hdr := &cpio.Header{Name: name, Mode: e.mode, Size: int64(len(e.data)), Links: links, ModTime: epoch}
		if err := w.WriteHeader(hdr); err != nil {
			return nil, fmt.Errorf("pack %s: %w", name, err)
		}
		if _, err := w.Write(e.data); err != nil {
			return nil, fmt.Errorf("pack %s: %w", name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("pack initramfs: %w", err)
	}
	return b.Bytes(), nil
}
