package shim

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// victimScore is the highest oom_score_adj: the OOM killer takes the victim first.
	victimScore = "1000"
	// victimBite is how much memory it takes at a time, in bytes.
	victimBite = 1 << 20
)

// errSurvived says that the victim was not short of memory.
var errSurvived = errors.New("the kernel's OOM killer has not killed it")

// starved is a process that is to run short of memory.
type starved struct {
	process *os.Process
	// orders go to it: how many bytes to take, on a line. It ends when they do.
	orders *os.File
	// done has a line for each thing that it has done.
	done *bufio.Reader
	out  *os.File
}

// startVictim starts this program again, from a working directory that is a /proc and
// that becomes its root: nothing that belongs to the guest is in its reach.
func startVictim() (*starved, error) {
	stdin, orders, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make the victim's pipes: %w", err)
	}
	defer stdin.Close()
	out, stdout, err := os.Pipe()
	if err != nil {
		_ = orders.Close()
		return nil, fmt.Errorf("make the victim's pipes: %w", err)
	}
	defer stdout.Close()
	v := &starved{orders: orders, out: out, done: bufio.NewReader(out)}
	v.process, err = os.StartProcess("/self/exe", []string{"runch", argShim, argVictim}, &os.ProcAttr{
		Dir: "/", Env: os.Environ(), Files: []*os.File{stdin, stdout, stdout}, Sys: &syscall.SysProcAttr{Chroot: "."},
	})
	if err != nil {
		v.close()
		return nil, fmt.Errorf("start the victim: %w", err)
	}
	_ = stdout.Close()
	if _, err := v.done.ReadString('\n'); err != nil {
		_ = v.ended()
		return nil, fmt.Errorf("wait for the victim: %w", err)
	}
	return v, nil
}

// eat lets the victim take memory, until it has it and is stopped, or is killed.
func (v *starved) eat(bytes int) error {
	if _, err := fmt.Fprintln(v.orders, bytes); err != nil {
		return fmt.Errorf("let the victim take memory: %w", err)
	}
	_, _ = v.done.ReadString('\n') // its end is the other answer, and the same
	err := v.process.Signal(unix.SIGSTOP)
	if err == nil {
		err = awaitStop(v.process.Pid)
	}
	if err != nil {
		return fmt.Errorf("stop the victim: %w", err)
	}
	return nil
}

// awaitStop returns when all threads of a child have stopped, or it has ended.
func awaitStop(pid int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// ended ends the victim, if it lives, and says whether it was killed before.
func (v *starved) ended() error {
	v.close()
	_ = v.process.Signal(unix.SIGCONT) // to whom was killed it means nothing
	state, err := v.process.Wait()
	if err != nil {
		return fmt.Errorf("wait for the victim's end: %w", err)
	}
	if ws, ok := state.Sys().(syscall.WaitStatus); !ok || ws.Signal() != unix.SIGKILL {
		return errSurvived
	}
	return nil
}

func (v *starved) close() {
	_ = v.orders.Close()
	_ = v.out.Close()
}

// victim is the program where it is the victim. Its root is a /proc.
func victim() int {
	if err := writeFile("/self/oom_score_adj", victimScore); err != nil {
		return 1
	}
	for orders := bufio.NewScanner(os.Stdin); ; {
		if _, err := fmt.Println(); err != nil || !orders.Scan() {
			return 0
		}
		bytes, err := strconv.Atoi(orders.Text())
		for ; err == nil && bytes > 0; bytes -= victimBite {
			err = bite()
		}
		if err != nil {
			return 1
		}
	}
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
