package cgroup

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// roleVariable names the role in which this test binary was started.
const roleVariable = "RUNCH_CGROUP_TEST_ROLE"

// roles are what the test binary can do instead. Each begins when its standard input has a
// first line, and the process stays until the input ends.
var roles = map[string]func() error{
	"splice": splicePages,
	"eat":    eatMemory,
}

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		if err := play(role); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func play(role string) error {
	in := bufio.NewReader(os.Stdin)
	if _, err := in.ReadString('\n'); err != nil {
		return err
	}
	if err := roles[role](); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, in)
	return err
}

// actor starts this test binary in a role, with files from descriptor 3 on. It
// ends with the test at the latest.
func actor(t *testing.T, role string, files ...*os.File) (cmd *exec.Cmd, stdin io.WriteCloser) {
	t.Helper()
	cmd = exec.CommandContext(context.Background(), "/proc/self/exe") // t.Context ends before Cleanup
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.ExtraFiles, cmd.Stderr = files, os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd, stdin
}

// How many pipes splicePages fills, and how much each of them holds at most.
const (
	splicedPipes = 8
	pipeBytes    = 1 << 20
)

// splicePages fills the pipes from descriptor 3 on with pages of this process, which
// it then unmaps: no process has them mapped, but they are not free.
func splicePages() error {
	for i := range splicedPipes {
		if err := fillPipe(3 + i); err != nil {
			return err
		}
	}
	return nil
}

func fillPipe(fd int) error {
	pages, err := unix.Mmap(-1, 0, pipeBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("map memory: %w", err)
	}
	for i := 0; i < len(pages); i += os.Getpagesize() {
		pages[i] = 1
	}
	for rest := pages; len(rest) > 0; {
		part := unix.Iovec{Base: &rest[0]}
		part.SetLen(len(rest))
		n, err := unix.Vmsplice(fd, []unix.Iovec{part}, 0)
		if err != nil {
			return fmt.Errorf("splice memory: %w", err)
		}
		rest = rest[n:]
	}
	return unix.Munmap(pages)
}

// eatMemory takes more memory than Starve leaves, and then writes to descriptor 3.
func eatMemory() error {
	pages, err := unix.Mmap(-1, 0, largeTake, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("map memory: %w", err)
	}
	for i := 0; i < len(pages); i += os.Getpagesize() {
		pages[i] = 1
	}
	_, err = unix.Write(3, []byte{'\n'})
	return err
}
