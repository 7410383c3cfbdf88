package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"runch/shimproto"
	"runch/state"
	"runch/storage"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// podMember is CRI-O's member of the pod "pod", which has no container of its own.
func podMember(netns string) func(*specs.Spec) {
	return annotated(
		map[string]string{"io.kubernetes.cri-o.ContainerType": "container", "io.kubernetes.cri-o.SandboxID": "pod"},
		map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: netns},
	)
}

// The pod's VM is made before it is known whether it can be large enough for the member.
func TestAPodWhoseFirstMemberIsRefused(t *testing.T) {
	r := newRig(t)
	netns := newNetNS(t)
	err := r.create(t, "a", func(s *specs.Spec) {
		podMember(netns)(s)
		s.Linux.Resources.Memory = memoryOf(int64(r.Config.MaxMemoryMiB+1) << 20)
	})
	if err == nil || !strings.Contains(err.Error(), "max_memory") {
		t.Errorf("got %v", err)
	}
	r.onlyLeft(t)
}

// A create that is killed between the boot of its pod's VM and the admission of its
// container leaves a holder, and nobody is a member.
func TestAHolderWithoutMembersIsDeleted(t *testing.T) {
	for name, tt := range map[string]struct {
		id string
		// unrecorded says that the container has gone without the sandbox.
		unrecorded bool
	}{
		"by the container": {id: "a"},
		"by the pod":       {id: "pod", unrecorded: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.beginCreate(t, podMember(newNetNS(t)), tt.unrecorded)
			s, err := r.Store.LoadSandbox("pod")
			if err != nil || !s.Running() || len(s.Members) != 0 {
				t.Fatalf("sandbox %+v, %v", s, err)
			}
			if err := r.Delete(t.Context(), tt.id, true); err != nil {
				t.Fatal(err)
			}
			end(t, s.Holder)
			r.onlyLeft(t)
		})
	}
}

// The sandbox's record has what the container's would have said.
func TestAMemberWithoutAReadableRecordIsDeleted(t *testing.T) {
	r := newRig(t)
	member := podMember(newNetNS(t))
	a, b := r.mustCreate(t, "a", member), r.mustCreate(t, "b", member)
	r.truncate(t, "a")
	dir, err := r.Store.SandboxDir("pod")
	if err != nil {
		t.Fatal(err)
	}
	holder := shimproto.Holder{Dir: dir}
	clones, err := holder.Clones(a.Share)
	if err != nil || len(clones) == 0 {
		t.Errorf("before: %d mounts are shared, %v", len(clones), err)
	}
	storage.CloseMounts(clones)
	if err := r.Delete(t.Context(), "a", true); err != nil {
		t.Fatal(err)
	}
	end(t, a.Shim)
	if _, err := holder.Clones(a.Share); err == nil || !strings.Contains(err.Error(), storage.ErrNoShare.Error()) {
		t.Errorf("after: the share is there, %v", err)
	}
	s, err := r.Store.LoadSandbox("pod")
	if err != nil || len(s.Members) != 1 || s.Members["b"].Shim != b.Shim || !b.Shim.Alive() {
		t.Errorf("sandbox %+v, %v", s, err)
	}
	r.onlyLeft(t, "@pod", "b")
	// An older runtime's sandbox does not know the share.
	r.truncate(t, "b")
	s.Members["b"] = state.Member{Shim: b.Shim}
	s.Members["c"] = state.Member{}
	r.saveSandbox(t, s)
	if err := r.Delete(t.Context(), "b", true); err != nil {
		t.Fatal(err)
	}
	if s, err := r.Store.LoadSandbox("pod"); err != nil || len(s.Members) != 1 || !s.Running() {
		t.Errorf("sandbox %+v, %v", s, err)
	}
	if err := r.Delete(t.Context(), "c", true); err != nil {
		t.Fatal(err)
	}
	r.onlyLeft(t)
}

// truncate makes a container's record unreadable.
func (r *rig) truncate(t *testing.T, id string) {
	t.Helper()
	if err := os.Truncate(filepath.Join(r.Store.Root(), id, "container.json"), 10); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) saveSandbox(t *testing.T, s *state.Sandbox) {
	t.Helper()
	dir, err := r.Store.LockSandbox(t.Context(), s.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(dir.Save(s), dir.Close()); err != nil {
		t.Fatal(err)
	}
}

// beginCreate runs the create of "a" up to its admission to the sandbox, and then gives up
// its locks, as if it were killed. With unrecorded, the container's record goes, too.
func (r *rig) beginCreate(t *testing.T, change func(*specs.Spec), unrecorded bool) {
	t.Helper()
	c := &creation{r: r.Runtime, o: CreateOptions{ID: "a", Bundle: r.bundle(t, "a", change)}}
	err := c.prepare()
	if err != nil {
		t.Fatal(err)
	}
	if c.dir, err = r.Store.New(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := c.dir.Save(c.record); err != nil {
		t.Fatal(err)
	}
	if c.sandbox, err = r.openSandbox(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	done := c.dir.Close
	if unrecorded {
		done = c.dir.Remove
	}
	if err := errors.Join(c.sandbox.Close(), done()); err != nil {
		t.Fatal(err)
	}
}
