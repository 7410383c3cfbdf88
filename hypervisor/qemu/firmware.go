package qemu

import (
	"os"
	"path/filepath"
)

// firmware is a BIOS that does nothing but boot a kernel.
const firmware = "qboot.rom"

// firmwareDirs are where distributions keep QEMU's files.
var firmwareDirs = []string{"/usr/share/qemu", "/usr/local/share/qemu", "/usr/share/qemu-kvm"}

// findFirmware gives the path of that BIOS: empty where the distribution has none, and
// QEMU uses its default.
func findFirmware() string {
	for _, dir := range firmwareDirs {
		path := filepath.Join(dir, firmware)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return ""
}
