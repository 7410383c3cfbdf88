package vmmtest

import (
	"os"
	"path/filepath"
	"testing"

	"runch/hypervisor"
	"runch/hypervisor/vmmtest/guestports"
)

// testTemplate: the first VM makes a template, and it and later ones go on from that, each
// with a memory, a share and an interface of its own.
func testTemplate(t *testing.T, s *suite) {
	if s.driver.Accel != hypervisor.AccelTCG {
		t.Skip("templates are for translated guests")
	}
	templates := filepath.Join(t.TempDir(), "templates")
	for i, name := range []string{"first", "second"} {
		nic := newNIC(t, "eth0", byte(i)) // #nosec G115 -- 0 or 1
		defer closeNIC(nic)
		cfg := s.config(t, s.small)
		share, server := newShare(t, cfg, name)
		cfg.Templates, cfg.Share, cfg.NICs = templates, &share, []hypervisor.NIC{nic}
		m := s.boot(t, cfg)
		m.mustAnswer(name, guestports.ReadShare, name)
		m.mustAnswer("<nil>", guestports.AwaitNIC)
		m.mustAnswer("", guestports.Recall) // nothing of another VM's memory
		m.mustAnswer("<nil>", guestports.Remember, name)
		m.mustAnswer(name, guestports.Recall)
		if made := entries(t, templates); len(made) != 1 {
			t.Errorf("there are the templates %v, want one", made)
		}
		m.close()
		mustEnd(t, server)
		if name == "second" {
			dropper, ok := m.VM.(hypervisor.TemplateDropper)
			if !ok {
				t.Fatal("the driver has templates, but drops none")
			}
			if err := dropper.DropTemplate(); err != nil {
				t.Errorf("DropTemplate: %v", err)
			}
		}
	}
	if left := entries(t, templates); len(left) != 0 {
		t.Errorf("the second VM did not go on from the template: %v", left)
	}
}

func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, 0, len(list))
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}
