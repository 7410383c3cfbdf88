package shimproto

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"

	"runch/storage"
	"runch/unixsocket"

	"golang.org/x/sys/unix"
)

const (
	// maxFiles is how many descriptors one message carries; the kernel takes 253
	// (SCM_MAX_FD).
	maxFiles = 64
	// maxDatagram bounds one message, in bytes. It has room for maxFiles paths, each a
	// little longer than NAME_MAX at most.
	maxDatagram = 64 << 10
)

// ErrTooLarge says that a message is larger than the protocol's bound.
var ErrTooLarge = errors.New("message too large")

// PairMounts puts paths and their descriptors together. If their numbers differ, it
// closes the files.
func PairMounts(paths []string, files []*os.File) ([]storage.Mount, error) {
	mounts := make([]storage.Mount, len(files))
	for i, f := range files {
		mounts[i].File = f
	}
	if len(paths) != len(files) {
		storage.CloseMounts(mounts)
		return nil, fmt.Errorf("%d descriptors for %d paths", len(files), len(paths))
	}
	for i, path := range paths {
		mounts[i].Path = path
	}
	return mounts, nil
}

// filesOf are the descriptors of mounts.
func filesOf(mounts []storage.Mount) []*os.File {
	files := make([]*os.File, len(mounts))
	for i, m := range mounts {
		files[i] = m.File
	}
	return files
}

// send sends one message, with descriptors.
func send(conn *net.UnixConn, v any, files []*os.File) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode a message: %w", err)
	}
	if len(data) > maxDatagram {
		return ErrTooLarge
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = descriptor(f)
		}
		rights = unix.UnixRights(fds...)
	}
	_, _, err = conn.WriteMsgUnix(data, rights, nil)
	return err
}

// ReceiveFiles takes one message into v, and gives the descriptors that came along, which
// the caller closes.
func ReceiveFiles(conn *net.UnixConn, v any) ([]*os.File, error) {
	data, oob := make([]byte, maxDatagram), make([]byte, unix.CmsgSpace(4*maxFiles))
	n, oobn, flags, _, err := conn.ReadMsgUnix(data, oob)
	if err != nil {
		return nil, err
	}
	files, err := received(oob[:oobn])
	if err == nil && flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		err = ErrTooLarge
	}
	if err == nil {
		err = json.Unmarshal(data[:n], v)
	}
	if err != nil {
		for _, f := range files {
			_ = f.Close()
		}
		return nil, err
	}
	return files, nil
}

func received(oob []byte) ([]*os.File, error) {
	fds, err := unixsocket.Descriptors(oob)
	files := make([]*os.File, len(fds))
	for i, fd := range fds {
		files[i] = os.NewFile(uintptr(fd), "passed")
	}
	return files, err
}

// descriptor gives the file's descriptor and keeps its mode: os.File.Fd may set it to
// blocking, which a tap must not be. It is -1 for a file that is closed.
func descriptor(f *os.File) int {
	fd := -1
	if raw, err := f.SyscallConn(); err == nil {
		_ = raw.Control(func(n uintptr) { fd = int(n) })
	}
	return fd
}
