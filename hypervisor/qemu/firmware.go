package qemu

import (
	"os"
	"path/filepath"
)

// firmware is a BIOS that does nothing but start the kernel.
const firmware = "qboot.rom"

// firmwareDirs are where distributions keep QEMU's files.
var firmwareDirs = []string{"/usr/share/qemu", "/usr/local/share/qemu", "/usr/share/qemu-kvm"}

// findFirmware gives the path of the small BIOS, or nothing where the
// distribution has none and QEMU's own choice has to do.
func findFirmware() string {
	for _, dir := range firmwareDirs {
		path := filepath.Join(dir, firmware)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return ""
}
