package hypervisor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestChoose: the options' combinations, with and without KVM and each program.
func TestChoose(t *testing.T) {
	dir := t.TempDir()
	program := func(name string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ch, qemu, none := program("ch"), program("qemu"), filepath.Join(dir, "none")
	noKVM := fmt.Errorf("%w: for the test", ErrNoKVM)
	for name, tc := range map[string]struct {
		options Options
		kvm     error
		want    string // driver, accelerator, slow; or a part of the error
		err     error
	}{
		"best":                 {Options{CloudHypervisor: ch, QEMU: qemu}, nil, "cloud-hypervisor kvm false", nil},
		"best by name":         {Options{Driver: "auto", Accel: "auto", CloudHypervisor: ch, QEMU: qemu}, nil, "cloud-hypervisor kvm false", nil},
		"no KVM":               {Options{CloudHypervisor: ch, QEMU: qemu}, noKVM, "qemu tcg true", nil},
		"tcg wanted":           {Options{Accel: "tcg", CloudHypervisor: ch, QEMU: qemu}, nil, "qemu tcg false", nil},
		"kvm wanted":           {Options{Accel: "kvm", CloudHypervisor: ch, QEMU: qemu}, noKVM, "cloud-hypervisor kvm false", nil},
		"qemu wanted":          {Options{Driver: "qemu", CloudHypervisor: ch, QEMU: qemu}, nil, "qemu kvm false", nil},
		"qemu without KVM":     {Options{Driver: "qemu", QEMU: qemu}, noKVM, "qemu tcg true", nil},
		"qemu with kvm wanted": {Options{Driver: "qemu", Accel: "kvm", QEMU: qemu}, noKVM, "qemu kvm false", nil},
		"ch wanted":            {Options{Driver: "cloud-hypervisor", CloudHypervisor: ch}, nil, "cloud-hypervisor kvm false", nil},
		"ch without KVM":       {Options{Driver: "cloud-hypervisor", CloudHypervisor: ch}, noKVM, "for the test", ErrNoKVM},
		"ch with tcg":          {Options{Driver: "cloud-hypervisor", Accel: "tcg", CloudHypervisor: ch}, nil, "no accelerator but KVM", ErrConfig},
		"ch wanted, none":      {Options{Driver: "cloud-hypervisor", CloudHypervisor: none}, nil, none, ErrNotFound},
		"ch named, none":       {Options{CloudHypervisor: none, QEMU: qemu}, nil, none, ErrNotFound},
		"no KVM and no qemu":   {Options{CloudHypervisor: ch, QEMU: none}, noKVM, none, ErrNotFound},
		"unknown driver":       {Options{Driver: "xen"}, nil, "xen", ErrConfig},
		"another accelerator":  {Options{Accel: "hvf"}, nil, "hvf", ErrConfig},
	} {
		t.Run(name, func(t *testing.T) {
			probes := 0
			c, err := tc.options.choose(func() error { probes++; return tc.kvm })
			if probes > 1 {
				t.Errorf("%d probes", probes)
			}
			if tc.err != nil {
				if !errors.Is(err, tc.err) || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("%v, want %q in it", err, tc.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprintf("%s %s %v", c.Driver, c.Accel, c.Slow); got != tc.want || c.Why == "" {
				t.Errorf("%s because %q, want %s", got, c.Why, tc.want)
			}
		})
	}
}
