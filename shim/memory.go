package shim

import (
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ProgramMappings are where this program's file is mapped, read-only: its code
// and constants.
type ProgramMappings []mapping

type mapping struct{ start, end uintptr }

// ReadProgramMappings reads /proc/self/maps, see proc_pid_maps(5), as long as there is a
// /proc. Without one it returns nil, and Release then frees only the heap.
func ReadProgramMappings() ProgramMappings {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil
	}
	data, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return nil
	}
	var found ProgramMappings
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[5] != exe || strings.Contains(fields[1], "w") {
			continue
		}
		low, high, _ := strings.Cut(fields[0], "-")
		start, err1 := strconv.ParseUint(low, 16, 64)
		end, err2 := strconv.ParseUint(high, 16, 64)
		if err1 == nil && err2 == nil {
			found = append(found, mapping{uintptr(start), uintptr(end)})
		}
	}
	return found
}

// forgoHugePages keeps the kernel from giving huge pages to this process and to those
// that it starts from now on: the VMM and virtiofsd, which map the guest's memory. See
// PR_SET_THP_DISABLE(2const).
func forgoHugePages() error {
	if err := unix.Prctl(unix.PR_SET_THP_DISABLE, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("keep huge pages from the VM: %w", err)
	}
	return nil
}

// Release gives memory back that the setup has needed and the wait does not: the heap's,
// and the pages of the program, of which the few that are still run come back from the
// page cache. A shim stays as long as its container, and this is most of its memory.
func (m ProgramMappings) Release() {
	debug.FreeOSMemory()
	for _, r := range m {
		// By number and not by unix.Madvise, which wants a slice: these are
		// addresses of no Go object. See madvise(2), MADV_DONTNEED.
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, r.start, r.end-r.start, unix.MADV_DONTNEED)
	}
}
