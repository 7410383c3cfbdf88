package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"runch/unixsocket"
)

// setOOMScoreAdj gives a shim, and so the VMM that it starts, the container's
// oom_score_adj, or 0 if the spec has none: they would inherit the caller's.
func setOOMScoreAdj(pid int, oomScoreAdj *int) error {
	adj := 0
	if oomScoreAdj != nil {
		adj = *oomScoreAdj
	}
	path := filepath.Join("/proc", strconv.Itoa(pid), "oom_score_adj")
	err := os.WriteFile(path, strconv.AppendInt(nil, int64(adj), 10), 0o600)
	if err != nil && !errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("set oom_score_adj: %w", err)
	}
	// A refusal is no error: only a privileged process may lower the value, and in the
	// guest the container has its exact value.
	return nil
}

// owner is the user who runs the command, by name where there is one.
func owner() string {
	uid := strconv.Itoa(os.Getuid())
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return uid
}

// dialConsole connects to the caller's console socket; nil without one. It
// does not wait for the caller to accept.
func dialConsole(path string) (*os.File, error) {
	if path == "" {
		return nil, nil
	}
	conn, err := unixsocket.Dial(path)
	if err != nil {
		return nil, fmt.Errorf("connect to the console socket: %w", err)
	}
	defer conn.Close()
	f, err := conn.File()
	if err != nil {
		return nil, fmt.Errorf("connect to the console socket: %w", err)
	}
	return f, nil
}
