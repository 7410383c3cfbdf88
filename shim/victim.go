package shim

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"runch/shimproto"

	"golang.org/x/sys/unix"
)

const (
	// victimScore is the highest oom_score_adj: the OOM killer takes the victim first.
	victimScore = "1000"
	// victimChunk is how much memory the victim takes at a time, in bytes.
	victimChunk = 1 << 20
)

// errSurvived says that the victim has not ended by SIGKILL.
var errSurvived = errors.New("the kernel's OOM killer has not killed it")

// starved is a process that is to run short of memory.
type starved struct {
	process *os.Process
	// requests takes a line with a number of bytes for each time that the process is to
	// take memory. The process ends when requests is closed.
	requests *os.File
	// done has a line when the process has begun, and one for each request that it has done.
	done *bufio.Reader
	out  *os.File
}

// startVictim starts this program again. The working directory is a /proc and becomes the
// victim's root, so that it reaches no file of the guest.
func startVictim() (*starved, error) {
	stdin, requests, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make the victim's pipes: %w", err)
	}
	defer stdin.Close()
	out, stdout, err := os.Pipe()
	if err != nil {
		_ = requests.Close()
		return nil, fmt.Errorf("make the victim's pipes: %w", err)
	}
	defer stdout.Close()
	v := &starved{requests: requests, out: out, done: bufio.NewReader(out)}
	v.process, err = os.StartProcess("/self/exe", shimproto.Invocation{Role: shimproto.RoleVictim}.Args(), &os.ProcAttr{
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

// take lets the victim take memory, in bytes, and returns when the victim has the memory
// and is stopped, or was killed.
func (v *starved) take(bytes int) error {
	if _, err := fmt.Fprintln(v.requests, bytes); err != nil {
		return fmt.Errorf("let the victim take memory: %w", err)
	}
	_, _ = v.done.ReadString('\n') // an error says that it was killed, which is as good
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

// ended ends the victim, if it lives. The error says that it was not killed before.
func (v *starved) ended() error {
	v.close()
	_ = v.process.Signal(unix.SIGCONT) // no effect on a victim that was killed
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
	_ = v.requests.Close()
	_ = v.out.Close()
}

// victim runs the program in the role of the victim. Its root is a /proc.
func victim() int {
	if err := writeFile("/self/oom_score_adj", victimScore); err != nil {
		return 1
	}
	for requests := bufio.NewScanner(os.Stdin); ; {
		if _, err := fmt.Println(); err != nil || !requests.Scan() {
			return 0
		}
		bytes, err := strconv.Atoi(requests.Text())
		for ; err == nil && bytes > 0; bytes -= victimChunk {
			err = takeChunk()
		}
		if err != nil {
			return 1
		}
	}
}

// takeChunk takes memory for good.
func takeChunk() error {
	memory, err := unix.Mmap(-1, 0, victimChunk, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	for i := 0; i < len(memory); i += os.Getpagesize() {
		memory[i] = 1
	}
	// The memory must not be swapped out. If mlock is not permitted, the cgroup has no swap.
	_ = unix.Mlock(memory)
	return nil
}
