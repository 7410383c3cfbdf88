package shim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"runch/hypervisor"
	"runch/shimproto"
	"runch/state"
	"runch/storage"
	"runch/unixsocket"
)

// requestTimeout bounds one request of a command, from its connection on.
const requestTimeout = 30 * time.Second

// releaseTimeout bounds how long a guest may take to release an interface, or CPUs when
// the VM is resized.
const releaseTimeout = 20 * time.Second

// serve answers the requests that commands and the shims of other containers make to the
// holder, one after the other, and keeps the guest's clock. Both go on until the process
// ends, also after ctx is done. Nobody sends a request before the VM is known to run.
func (h *holder) serve(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	go func() {
		for {
			conn, err := unixsocket.Accept(h.requests.AcceptUnix)
			if err != nil {
				return
			}
			h.answer(ctx, conn)
		}
	}()
	go h.keepTime(ctx)
}

// control has a request carried out by the VMM.
func (h *holder) control(ctx context.Context, do func(context.Context, hypervisor.Control) error) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	vm, err := h.vm.Control(ctx)
	if err != nil {
		return err
	}
	defer vm.Close()
	return do(ctx, vm)
}

// answer takes one request and answers it. It ignores errors of the answer: the peer is
// gone then.
func (h *holder) answer(ctx context.Context, conn *net.UnixConn) {
	defer h.settle()
	lasts := false
	defer func() {
		if !lasts {
			_ = conn.Close()
		}
	}()
	if err := conn.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return
	}
	var r shimproto.Request
	files, err := shimproto.ReceiveFiles(conn, &r)
	if err != nil {
		return
	}
	if r.Attend {
		lasts = h.attend(conn)
		return
	}
	clones, err := h.carryOut(ctx, &r, files)
	for _, f := range files {
		_ = f.Close()
	}
	_ = shimproto.Respond(conn, clones, err)
	storage.CloseMounts(clones)
}

// attend takes a member's connection, which stays open for as long as the member's shim
// lives, or refuses it.
func (h *holder) attend(conn *net.UnixConn) (taken bool) {
	err := h.pod.attend(conn)
	_ = shimproto.Respond(conn, nil, err)
	return err == nil
}

func (h *holder) carryOut(ctx context.Context, r *shimproto.Request, files []*os.File) ([]storage.Mount, error) {
	switch {
	case r.Share != nil:
		mounts, err := shimproto.PairMounts(r.Share.Paths, files)
		if err != nil {
			return nil, err
		}
		return nil, h.tree.Share(r.Share.Name, mounts)
	case r.AddNIC != nil:
		nic := hypervisor.NIC{ID: r.AddNIC.ID, MAC: r.AddNIC.MAC, MTU: r.AddNIC.MTU, Tap: files}
		return nil, explainSlots(h.control(ctx, func(ctx context.Context, vm hypervisor.Control) error { return vm.AddNIC(ctx, nic) }))
	case r.RemoveNIC != "":
		return nil, h.control(ctx, func(ctx context.Context, vm hypervisor.Control) error { return unplug(ctx, vm, r.RemoveNIC) })
	case r.Resize != nil:
		return nil, h.control(ctx, func(ctx context.Context, vm hypervisor.Control) error { return resize(ctx, vm, *r.Resize) })
	case r.Protect != "":
		return nil, h.tree.Protect(r.Protect)
	case r.Clones != "":
		return h.tree.Clones(r.Clones)
	case r.Terminate:
		return nil, h.pod.terminate()
	case r.ServeNames.IsValid():
		return nil, h.names.serve(ctx, r.ServeNames)
	case r.Unshare != "":
		return nil, h.tree.Unshare(r.Unshare)
	default:
		return nil, errors.New("the request asks for nothing")
	}
}

// unplug gives up before requestTimeout, after which the command would not wait for the
// error any more.
func unplug(ctx context.Context, vm hypervisor.Plugger, id string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, releaseTimeout, fmt.Errorf("the guest has not released it within %v", releaseTimeout))
	defer cancel()
	return vm.Remove(ctx, id)
}

// resize gives up in time, as unplug does.
func resize(ctx context.Context, vm hypervisor.Resizer, size state.VMSize) error {
	ctx, cancel := context.WithTimeoutCause(ctx, releaseTimeout, fmt.Errorf("not within %v", releaseTimeout))
	defer cancel()
	return vm.Resize(ctx, size)
}

// explainSlots says what to do when the VM has no slot for an interface any more.
func explainSlots(err error) error {
	if !errors.Is(err, hypervisor.ErrNoSlot) {
		return err
	}
	return fmt.Errorf("%w: the VM was booted with %d for interfaces that come later; `runch network remove` frees one", err, hotplugSlots)
}
