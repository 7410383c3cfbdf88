package shim

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// victimScore is the highest oom_score_adj: the OOM killer takes the victim first.
	victimScore = 1000
	// What the victim takes, and how much of it at a time, in bytes. Where nobody is
	// short of memory after all, it takes no more than that.
	victimMeal, victimBite = 64 << 20, 1 << 20
)

// errSurvived says that the victim was not short of memory.
var errSurvived = errors.New("the kernel's OOM killer has not killed it")

// starved is a process that is to run short of memory.
type starved struct {
	process *os.Process
	// let is closed to let it take memory, ready tells that it is there.
	let, ready *os.File
}

// startVictim starts this program again, from a working directory that is a /proc and
// that becomes its root: nothing that belongs to the guest is in its reach.
func startVictim() (*starved, error) {
	stdin, let, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make the victim's pipes: %w", err)
	}
	defer stdin.Close()
	ready, stdout, err := os.Pipe()
	if err != nil {
		_ = let.Close()
		return nil, fmt.Errorf("make the victim's pipes: %w", err)
	}
	defer stdout.Close()
	v := &starved{let: let, ready: ready}
	v.process, err = os.StartProcess("/self/exe", []string{"runch", argShim, argVictim}, &os.ProcAttr{
		Dir: "/", Env: os.Environ(), Files: []*os.File{stdin, stdout, stdout}, Sys: &syscall.SysProcAttr{Chroot: "."},
	})
	if err != nil {
		v.close()
		return nil, fmt.Errorf("start the victim: %w", err)
	}
	_ = stdout.Close()
	if _, err := io.ReadFull(ready, make([]byte, 1)); err != nil {
		v.end()
		return nil, fmt.Errorf("wait for the victim: %w", err)
	}
	return v, nil
}

// eat lets the victim take memory until it is killed.
func (v *starved) eat() error {
	_ = v.let.Close()
	state, err := v.process.Wait()
	if err != nil {
		return fmt.Errorf("wait for the victim's end: %w", err)
	}
	if ws, ok := state.Sys().(syscall.WaitStatus); !ok || ws.Signal() != unix.SIGKILL {
		return errSurvived
	}
	return nil
}

// end ends the victim, if it lives.
func (v *starved) end() {
	_ = v.process.Kill()
	_, _ = v.process.Wait() // it may have been waited for
	v.close()
}

func (v *starved) close() {
	_ = v.let.Close()
	_ = v.ready.Close()
}

// victim is the program where it is the victim. Its root is a /proc.
func victim() int {
	err := writeFile("/self/oom_score_adj", strconv.Itoa(victimScore))
	if err == nil {
		_, err = os.Stdout.Write([]byte{'\n'})
	}
	if err == nil {
		_, err = io.Copy(io.Discard, os.Stdin)
	}
	for taken := 0; err == nil && taken < victimMeal; taken += victimBite {
		err = bite()
	}
	if err != nil {
		return 1
	}
	return 0
}

// bite takes memory for good.
func bite() error {
	memory, err := unix.Mmap(-1, 0, victimBite, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	for i := 0; i < len(memory); i += os.Getpagesize() {
		memory[i] = 1
	}
	// So that it is not swapped out. Who may not do this is in a cgroup without swap.
	_ = unix.Mlock(memory)
	return nil
}
