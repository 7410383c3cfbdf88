package state

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// play does what a process in this role does.
func play(role string, args []string) error {
	if role == "threads" {
		return endFirstThread()
	}
	s := NewStore(args[0])
	switch role {
	case "holder":
		// Holds the lock until its input ends or it is killed.
		d, err := s.Lock(context.Background(), args[1])
		if err != nil {
			return err
		}
		fmt.Println("locked")
		_, _ = io.Copy(io.Discard, os.Stdin)
		return d.Close()
	case "counter":
		// Adds to a number in the record, which is correct only with a lock.
		times, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		for range times {
			if err := count(s, args[1]); err != nil {
				return err
			}
		}
		return nil
	case "churner":
		// Makes and removes one container over and over.
		for range 100 {
			if err := churn(s, args[1]); err != nil {
				return err
			}
		}
		return nil
	}
	return errors.New("no such role")
}

func count(s *Store, id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	d, err := s.Lock(ctx, id)
	if err != nil {
		return err
	}
	c, err := d.Load()
	if err != nil {
		return errors.Join(err, d.Close())
	}
	c.Shim.PID++
	return errors.Join(d.Save(c), d.Close())
}

func churn(s *Store, id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	d, err := s.New(ctx, id)
	switch {
	case err == nil:
		return errors.Join(d.Save(testContainer(id)), d.Close())
	case !errors.Is(err, ErrExist):
		return err
	}
	d, err = s.Lock(ctx, id)
	if errors.Is(err, ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return d.Remove()
}

// start starts this binary in a role.
func start(t *testing.T, role string, args ...string) (*exec.Cmd, io.WriteCloser, *bufio.Reader) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, stdin, bufio.NewReader(stdout)
}

// holder starts a process that has the lock.
func holder(t *testing.T, root, id string) (*exec.Cmd, io.WriteCloser) {
	t.Helper()
	cmd, stdin, stdout := start(t, "holder", root, id)
	if line, err := stdout.ReadString('\n'); line != "locked\n" {
		t.Fatalf("holder said %q, %v", line, err)
	}
	return cmd, stdin
}

func TestLockWaits(t *testing.T) {
	root := t.TempDir()
	s := NewStore(root)
	if err := newDir(t, s, "c1").Close(); err != nil {
		t.Fatal(err)
	}
	cmd, stdin := holder(t, root, "c1")

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Lock(ctx, "c1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a deadline: %v", err)
	}
	got := make(chan error, 1)
	go func() {
		d, err := s.Lock(t.Context(), "c1")
		if err == nil {
			err = d.Close()
		}
		got <- err
	}()
	select {
	case err := <-got:
		t.Errorf("did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	_ = stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	await(t, got)
}

func TestLockOfKilledHolder(t *testing.T) {
	root := t.TempDir()
	s := NewStore(root)
	if err := newDir(t, s, "c1").Close(); err != nil {
		t.Fatal(err)
	}
	cmd, _ := holder(t, root, "c1")
	got := make(chan error, 1)
	go func() {
		d, err := s.Lock(t.Context(), "c1")
		if err == nil {
			err = d.Remove()
		}
		got <- err
	}()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	await(t, got)
}

// TestLockOfRemoved waits for the lock of a container that is removed, and of one that
// is then made again.
func TestLockOfRemoved(t *testing.T) {
	for _, again := range []bool{false, true} {
		s := NewStore(t.TempDir())
		d := newDir(t, s, "c1")
		got := make(chan error, 1)
		go func() {
			d, err := s.Lock(t.Context(), "c1")
			if err == nil {
				err = d.Close()
			}
			got <- err
		}()
		if err := d.Remove(); err != nil {
			t.Fatal(err)
		}
		if again {
			if err := newDir(t, s, "c1").Close(); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case err := <-got:
			if err != nil && !errors.Is(err, ErrNotExist) {
				t.Errorf("again %t: %v", again, err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("again %t: still waiting", again)
		}
	}
}

// TestLockOfJustMade: a command that waited for the lock of a deleted container may have
// the lock of the directory that was made in its place.
func TestLockOfJustMade(t *testing.T) {
	for name, tt := range map[string]struct {
		meanwhile func(*directory) error
		want      error
	}{
		"it is given back": {(*directory).Close, nil},
		"it is removed":    {(*directory).Remove, ErrNotExist},
		"there is a record": {func(d *directory) error {
			return errors.Join(os.WriteFile(filepath.Join(d.path, d.record), nil, 0o600), d.Close())
		}, ErrExist},
		"it is kept forever": {func(*directory) error { return nil }, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "c1")
			if err := os.Mkdir(path, dirMode); err != nil {
				t.Fatal(err)
			}
			other, err := tryLock(path, containerFile, "c1")
			if err != nil || other == nil {
				t.Fatalf("%v, %v", other, err)
			}
			defer other.Close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if errors.Is(tt.want, context.DeadlineExceeded) {
				ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
			}
			defer cancel()
			got := make(chan error)
			go func() {
				d, err := lockEmpty(ctx, path, containerFile, "c1")
				if err == nil {
					err = d.Close()
				}
				got <- err
			}()
			if err := tt.meanwhile(other); err != nil {
				t.Fatal(err)
			}
			if err := <-got; !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// The directory of another command, complete and unlocked, may have taken the place of the one made.
func TestNewDoesNotTakeAnothersDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c1")
	if err := errors.Join(os.Mkdir(path, dirMode), os.WriteFile(filepath.Join(path, containerFile), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := lockEmpty(t.Context(), path, containerFile, "c1"); !errors.Is(err, ErrExist) {
		t.Errorf("got %v", err)
	}
}

func await(t *testing.T, got <-chan error) {
	t.Helper()
	select {
	case err := <-got:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("still waiting")
	}
}

// TestLockExcludes lets processes and goroutines add to one number, while
// others read the record without a lock.
func TestLockExcludes(t *testing.T) {
	const processes, goroutines, times = 3, 3, 30
	root := t.TempDir()
	s := NewStore(root)
	d := newDir(t, s, "c1")
	c := testContainer("c1")
	c.Shim.PID = 0
	if err := errors.Join(d.Save(c), d.Close()); err != nil {
		t.Fatal(err)
	}
	var writers, reader sync.WaitGroup
	for range goroutines {
		writers.Go(func() {
			for range times {
				if err := count(s, "c1"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	reader.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if _, err := s.Load("c1"); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range processes {
		cmd, _, _ := start(t, "counter", root, "c1", strconv.Itoa(times))
		writers.Go(func() {
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
	writers.Wait()
	close(done)
	reader.Wait()
	got, err := s.Load("c1")
	if err != nil {
		t.Fatal(err)
	}
	if want := (processes + goroutines) * times; got.Shim.PID != want {
		t.Errorf("counted %d, want %d", got.Shim.PID, want)
	}
	leftNothingElse(t, filepath.Join(root, "c1"), containerFile)
}

// TestChurn has processes make, find and remove the same container while it is
// listed.
func TestChurn(t *testing.T) {
	root := t.TempDir()
	s := NewStore(root)
	var all sync.WaitGroup
	for range 3 {
		cmd, _, _ := start(t, "churner", root, "c1")
		all.Go(func() {
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
	for range 200 {
		if _, err := s.List(); err != nil {
			t.Error(err)
		}
	}
	all.Wait()
}

func TestTryLockDoesNotWait(t *testing.T) {
	s := NewStore(t.TempDir())
	if _, err := s.TryLock("c1"); !errors.Is(err, ErrNotExist) {
		t.Errorf("of no container: %v", err)
	}
	d := newDir(t, s, "c1")
	if _, err := s.TryLock("c1"); !errors.Is(err, ErrLocked) {
		t.Errorf("while it is held: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := s.TryLock("c1")
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
