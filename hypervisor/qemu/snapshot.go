package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"runch/hypervisor"
)

// stateFile is the only file of a snapshot. It has QEMU's migration stream.
const stateFile = "qemu-state"

// stateFD is the name under which QEMU gets the file's descriptor.
const stateFD = "state"

// snapshotObstacle gives the reason why the VM cannot be saved, empty if it can.
func (h *Handle) snapshotObstacle(ctx context.Context) (string, error) {
	var chardevs []struct {
		Label string `json:"label"`
	}
	if err := h.monitor.run(ctx, "query-chardev", nil, &chardevs); err != nil {
		return "", err
	}
	obstacle := ""
	for _, c := range chardevs {
		switch {
		case strings.HasPrefix(c.Label, shareName("")):
			return "a VM with a virtiofs share cannot be saved", nil
		case c.Label == agentChardev:
			obstacle = "the guest is reached by a serial port, whose connections cannot be saved: that needs /dev/vhost-vsock"
		}
	}
	return obstacle, nil
}

// migration is a migration's status, in the event MIGRATION and in the answer to
// query-migrate.
type migration struct {
	Status string `json:"status"`
	Error  string `json:"error-desc"`
}

// Snapshot saves a paused VM: QEMU migrates it to a file.
func (h *Handle) Snapshot(ctx context.Context, dir string) error {
	obstacle, err := h.snapshotObstacle(ctx)
	if err != nil {
		return fmt.Errorf("save the VM: %w", err)
	}
	if obstacle != "" {
		return fmt.Errorf("save the VM: %w", refused("migrate", "%s", obstacle))
	}
	return h.monitor.saveTo(ctx, filepath.Join(hypervisor.InRunDir(h.dir, dir), stateFile))
}

// saveTo saves a paused VM into a new file, which is removed if that fails.
func (m *monitor) saveTo(ctx context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("save the VM: %w", err)
	}
	err = m.save(ctx, f)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("save the VM: %w", errors.Join(err, os.Remove(path)))
	}
	return nil
}

// runState gives RunState of the QMP reference: running, or why the VM does not run.
func (m *monitor) runState(ctx context.Context) (string, error) {
	var status struct {
		Status string `json:"status"`
	}
	err := m.run(ctx, "query-status", nil, &status)
	return status.Status, err
}

func (m *monitor) save(ctx context.Context, f *os.File) error {
	state, err := m.runState(ctx)
	if err != nil {
		return err
	}
	if state == "running" {
		return refused("migrate", "the VM is not paused")
	}
	// The default limits the bandwidth, for a network.
	if err := m.run(ctx, "migrate-set-parameters", map[string]any{"max-bandwidth": int64(1) << 50}, nil); err != nil {
		return err
	}
	failed := m.migrate(ctx, "migrate", f)
	if err := m.finalized(ctx); failed == nil {
		return err
	}
	return failed
}

// finalized returns when the VM can be resumed, whether it was saved or not. This is shortly
// after the event for the end of the migration, and has no event of its own, so finalized
// asks again and again. QEMU's migration thread gets the lock that it needs to finish
// between two commands.
func (m *monitor) finalized(ctx context.Context) error {
	for {
		state, err := m.runState(ctx)
		if err != nil || state != "finish-migrate" {
			return err
		}
	}
}

// leaveOutMemory has memory that is shared with this process left out of what is saved or
// loaded. It stays in its file.
func (m *monitor) leaveOutMemory(ctx context.Context) error {
	shared := []map[string]any{{"capability": "x-ignore-shared", "state": true}}
	return m.run(ctx, "migrate-set-capabilities", map[string]any{"capabilities": shared}, nil)
}

// migrate passes the file, runs the command, and waits until the migration has ended.
func (m *monitor) migrate(ctx context.Context, command string, f *os.File) error {
	events := []map[string]any{{"capability": "events", "state": true}}
	if err := m.run(ctx, "migrate-set-capabilities", map[string]any{"capabilities": events}, nil); err != nil {
		return err
	}
	if err := m.run(ctx, "getfd", map[string]any{"fdname": stateFD}, nil, f); err != nil {
		return err
	}
	if err := m.run(ctx, command, map[string]any{"uri": "fd:" + stateFD}, nil); err != nil {
		return err
	}
	var state migration
	_, err := m.await(ctx, func(e *message) bool {
		return e.Event == "MIGRATION" && json.Unmarshal(e.Data, &state) == nil &&
			(state.Status == "completed" || state.Status == "failed")
	})
	if err != nil {
		return err
	}
	if state.Status == "failed" {
		if err := m.run(ctx, "query-migrate", nil, &state); err != nil {
			return err
		}
		return refused(command, "%s", state.Error)
	}
	return nil
}
