package namespace

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// maxCPUs is how many CPUs a unix.CPUSet can name.
const maxCPUs = 1024

// OnAllCPUs calls start, which makes a process, on a thread that may run on every
// CPU that its cgroup allows, and returns start's error. A child inherits the
// affinity of the thread that forks it (sched_setaffinity(2)), which is otherwise
// what this process's caller happened to be bound to. Where the kernel refuses, as it
// does for more CPUs than maxCPUs, the child has that affinity.
func OnAllCPUs(start func() error) error {
	runtime.LockOSThread()
	const thisThread = 0
	var before, all unix.CPUSet
	if unix.SchedGetaffinity(thisThread, &before) != nil {
		runtime.UnlockOSThread()
		return start()
	}
	for cpu := range maxCPUs {
		all.Set(cpu)
	}
	_ = unix.SchedSetaffinity(thisThread, &all)
	err := start()
	// A thread whose affinity cannot be restored stays locked: it ends with its
	// goroutine, and no other goroutine gets it.
	if unix.SchedSetaffinity(thisThread, &before) == nil {
		runtime.UnlockOSThread()
	}
	return err
}
