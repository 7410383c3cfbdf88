package shim

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"runch/shimproto"
	"runch/storage"
	"runch/unixsocket"
)

// requestTimeout bounds one request of a command, from its connection on.
const requestTimeout = 30 * time.Second

// serve answers the requests that commands and the shims of other containers make
// to the holder, one after the other, as long as the process lives.
func (h *holder) serve(dir string) error {
	listener, err := unixsocket.ListenPacket(filepath.Join(dir, shimproto.HolderSocket))
	if err != nil {
		return fmt.Errorf("listen for requests to the sandbox: %w", err)
	}
	go func() {
		for {
			conn, err := listener.AcceptUnix()
			if err != nil {
				return
			}
			h.answer(conn)
		}
	}()
	return nil
}

// answer takes one request and answers it. Whoever does not listen to the answer
// has gone.
func (h *holder) answer(conn *net.UnixConn) {
	defer h.settle()
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return
	}
	var r shimproto.Request
	files, err := shimproto.ReceiveFiles(conn, &r)
	if err != nil {
		return
	}
	var paths []string
	if r.Share != nil {
		paths = r.Share.Paths
	}
	mounts, err := shimproto.PairMounts(paths, files)
	var clones []storage.Mount
	if err == nil {
		clones, err = h.carryOut(&r, mounts)
	}
	storage.CloseMounts(mounts)
	_ = shimproto.Respond(conn, clones, err)
	storage.CloseMounts(clones)
}

func (h *holder) carryOut(r *shimproto.Request, mounts []storage.Mount) ([]storage.Mount, error) {
	switch {
	case r.Share != nil:
		return nil, h.tree.Share(r.Share.Name, mounts)
	case r.Protect != "":
		return nil, h.tree.Protect(r.Protect)
	case r.Clones != "":
		return h.tree.Clones(r.Clones)
	case r.Unshare != "":
		return nil, h.tree.Unshare(r.Unshare)
	default:
		return nil, errors.New("the request asks for nothing")
	}
}
