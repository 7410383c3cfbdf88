package qemu

import (
	"os"
	"path/filepath"
)

// firmware is a BIOS that does nothing but boot a kernel.
const firmware = "qboot.rom"

// firmwareDirs are where distributions keep QEMU's files.
var firmwareDirs = []string{"/usr/share/qemu", "/usr/local/share/qemu", "/usr/share/qemu-kvm"}

// findFirmware returns the path of that BIOS. It is empty if the distribution has none;
// QEMU then uses its default.
func findFirmware() string {
	for _, dir := range firmwareDirs {
		path := filepath.Join(dir, firmware)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return ""
}
