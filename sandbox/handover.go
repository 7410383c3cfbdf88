package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"runch/shimproto"
)

// handOver writes the pid-file and sends the commit: the shim then outlives this command.
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
	if err := writeNew(tmp, strconv.AppendInt(nil, int64(pid), 10)); err != nil {
		return fmt.Errorf("write the pid-file: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		_ = os.Remove(tmp)
		return fmt.Errorf("write the pid-file: %w", err)
	}
	return nil
}

// writeNew writes a new file. It first removes what is there, such as a symbolic link, or
// what a killed command has left.
func writeNew(path string, data []byte) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// #nosec G302,G304 -- as runc's: for others to read, where the caller says
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(path)
		return err
	}
	return nil
}
