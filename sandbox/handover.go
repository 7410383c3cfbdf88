package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"runch/shimproto"
)

// handOver writes the pid-file and lets the shim live on without us.
func handOver(s *shimProcess, pidFile string) error {
	if err := writePIDFile(pidFile, s.pid()); err != nil {
		return err
	}
	if err := s.conn.Send(shimproto.Reply{Commit: true}); err != nil {
		_ = os.Remove(pidFile)
		return err
	}
	s.conn.Close()
	return nil
}

// writePIDFile writes the pid as decimal digits and nothing else, in one step.
func writePIDFile(path string, pid int) error {
	if path == "" {
		return nil
	}
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
	// #nosec G302,G306 -- as runc's: for others to read, where the caller says
	if err := os.WriteFile(tmp, strconv.AppendInt(nil, int64(pid), 10), 0o644); err != nil {
		return fmt.Errorf("write the pid-file: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		_ = os.Remove(tmp)
		return fmt.Errorf("write the pid-file: %w", err)
	}
	return nil
}
