package agent

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxSeed bounds the random bytes that the host gives.
const maxSeed = 512

// addEntropy gives random bytes of the host to the kernel's generator of random numbers, and
// has it make a new key of them at once: see random(4). Guests that went on from one template
// have the same key until then. Programs that draw their random numbers in user space by the
// vDSO's getrandom take notice.
func addEntropy(seed []byte) error {
	if len(seed) > maxSeed {
		return invalidf("seed: %d bytes are more than %d", len(seed), maxSeed)
	}
	if len(seed) == 0 {
		return nil
	}
	f, err := os.OpenFile("/dev/urandom", os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("add entropy: %w", err)
	}
	defer f.Close()
	// struct rand_pool_info of linux/random.h: two ints, the entropy in bits and the size in
	// bytes, and then the bytes.
	info := binary.NativeEndian.AppendUint32(nil, uint32(len(seed)*8)) // #nosec G115 -- at most maxSeed
	info = binary.NativeEndian.AppendUint32(info, uint32(len(seed)))   // #nosec G115 -- at most maxSeed
	info = append(info, seed...)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&info[0])))
	runtime.KeepAlive(info)
	if errno == 0 {
		_, _, errno = unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.RNDRESEEDCRNG, 0)
	}
	if errno != 0 {
		return fmt.Errorf("add entropy: %w", errno)
	}
	return nil
}
