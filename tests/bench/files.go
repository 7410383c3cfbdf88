package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"

	"runch/tests/bench/measurement"
)

// The names of the measured directories in the results.
const (
	onRootfs = "rootfs"
	onVolume = "volume"

	// rootfsDir and volumeDir are their paths in a container.
	rootfsDir = "/work"
	volumeDir = "/volume"
)

// fileWork returns the workload's arguments for one of the directories. Only in a guest are files dropped from the page
// cache before they are read (--cold). On the host they stay in it, as they do for virtiofsd: otherwise the disk would
// be measured.
func (b *ioBench) fileWork(inGuest bool, where string) []string {
	args := []string{partFiles, "--dirs=" + strconv.Itoa(b.options.files/measurement.SmallFiles)}
	if inGuest {
		args = append(args, "--cold")
	}
	dir := map[string]string{onRootfs: rootfsDir, onVolume: volumeDir}[where]
	return append(args, where+"="+dir)
}

// makeTrees makes the files that the workload reads in a directory.
func (b *ioBench) makeTrees(dir string) error {
	small := bytes.Repeat([]byte("small\n"), measurement.SmallSize)[:measurement.SmallSize]
	for d := range b.options.files / measurement.SmallFiles {
		for f := range measurement.SmallFiles {
			if err := makeFile(small, dir, measurement.SmallDir, strconv.Itoa(d), strconv.Itoa(f)); err != nil {
				return err
			}
		}
	}
	include := bytes.Repeat([]byte("include\n"), measurement.IncludeSize)[:measurement.IncludeSize]
	for i := range measurement.Includes {
		if err := makeFile(include, dir, measurement.IncludeDir, strconv.Itoa(i)+".h"); err != nil {
			return err
		}
	}
	return os.MkdirAll(filepath.Join(dir, measurement.ObjectDir), 0o755)
}

func makeFile(content []byte, path ...string) error {
	name := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, content, 0o644)
}
