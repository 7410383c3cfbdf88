package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// childPID takes si_pid out of a siginfo_t: on 64-bit Linux it is the first member of the union, which begins
// at offset 16 (sigaction(2)).
func childPID(info *unix.Siginfo) int {
	return int(*(*int32)(unsafe.Add(unsafe.Pointer(info), 16)))
}
