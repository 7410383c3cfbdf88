package timerslack

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// slack is that of a thread, in nanoseconds.
func slack(t *testing.T, thread string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("/proc", thread, "timerslack_ns"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func TestThreadsAreLateAndAProgramIsNot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root to see the slack of other threads")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	Reset()
	if got := slack(t, strconv.Itoa(unix.Gettid())); got != "50000" {
		t.Errorf("after Reset: %s", got)
	}
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", os.Getpid()))
	if err != nil || len(threads) < 2 {
		t.Fatalf("threads %v, %v", threads, err)
	}
	late := 0
	for _, thread := range threads {
		if slack(t, filepath.Base(thread)) == "5000000" {
			late++
		}
	}
	if late == 0 {
		t.Error("no thread is late")
	}
}
