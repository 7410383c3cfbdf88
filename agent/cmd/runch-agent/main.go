// Runch-agent is the first process of a runch guest. libcontainer starts it
// again, with the argument init, as the first stage of every container process.
// The kernel starts it as modprobe.
package main

import (
	"context"
	"fmt"
	"os"
	"runtime"

	_ "github.com/opencontainers/cgroups/devices" // device rules for cgroup v2
	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // joins namespaces before the Go runtime starts

	"runch/agent"
	"runch/agent/timerslack"
)

// The main goroutine keeps the process's first thread; only in an init function is it
// sure to be on that thread. A container's init needs it because libcontainer sets CPUs and
// scheduling for the pid, which is the first thread's, and the program gets those of the
// thread that calls execve. The agent needs it because libcontainer has threads join
// containers' mount namespaces and then ends them, but Go never ends the first thread. That
// one would keep a container's mounts for ever, and /proc/self would show them as the agent's.
func init() { //nolint:gochecknoinits // in main another thread may be the process's first
	runtime.LockOSThread()
	if isInit() {
		timerslack.Reset() // the other threads keep theirs
	}
}

func isInit() bool { return len(os.Args) > 1 && os.Args[1] == "init" }

func main() {
	if isInit() {
		if agent.InitReserves() {
			makeSpareThreads(spareThreads)
			growHeap(spareHeap)
		}
		libcontainer.Init() // never returns
	}
	if alias, ok := agent.IsModprobe(os.Args); ok {
		if err := agent.Modprobe(alias); err != nil {
			os.Exit(1) // no message: the kernel asks for many modules that do not exist
		}
		return
	}
	// The kernel panics when its first process ends, and the VM ends with it;
	// the console keeps this message.
	if err := agent.Run(context.Background()); err != nil {
		fmt.Fprintf(os.Stderr, "runch-agent: %v\n", err)
	}
	os.Exit(1)
}
