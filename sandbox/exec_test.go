package sandbox

import (
	"encoding/json"
	"testing"
	"time"

	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// The guest has neither the host's SELinux policy nor its AppArmor profiles:
// an exec in a container that has them is the same there as one that has not.
func TestExecLeavesTheHostsLabelsOnTheHost(t *testing.T) {
	r := &Runtime{Store: state.NewStore(t.TempDir())}
	dir, err := r.Store.New("c")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close() //nolint:errcheck // only the lock
	c := &state.Container{ID: "c", Sandbox: "c", Created: time.Now()}
	if err := dir.SaveSandbox(&state.Sandbox{ID: "c"}); err != nil {
		t.Fatal(err)
	}
	o, err := r.execOrders(c, ExecOptions{ID: "c", Process: &specs.Process{
		Args: []string{"true"}, Cwd: "/", SelinuxLabel: "a:b:c", ApparmorProfile: "containers-default",
	}})
	if err != nil {
		t.Fatal(err)
	}
	var p specs.Process
	if err := json.Unmarshal(o.Exec.Process, &p); err != nil {
		t.Fatal(err)
	}
	if p.ApparmorProfile != "" || p.SelinuxLabel != "" || p.Args[0] != "true" {
		t.Errorf("the guest's process %+v", p)
	}
}
