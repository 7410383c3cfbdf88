package oci

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestValidateID(t *testing.T) {
	for _, id := range []string{"a", "A-1_2+3.4", ".hidden", "..a", "-", strings.Repeat("x", 254)} {
		if err := ValidateID(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	for _, id := range []string{"", ".", "..", "a/b", "../a", "/a", "a b", "a\n", "é", "a\x00", "a:b", "a@b", strings.Repeat("x", 255)} {
		if err := ValidateID(id); !errors.Is(err, ErrInvalidID) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestParseSignal(t *testing.T) {
	for text, want := range map[string]unix.Signal{
		"0": 0, "1": unix.SIGHUP, "15": unix.SIGTERM, "34": 34, "64": 64,
		"TERM": unix.SIGTERM, "SIGTERM": unix.SIGTERM, "term": unix.SIGTERM, "sigKill": unix.SIGKILL,
		"USR1": unix.SIGUSR1, "SIGWINCH": unix.SIGWINCH,
		"RTMIN": 34, "SIGRTMIN": 34, "rtmin+3": 37, "SIGRTMAX": 64, "RTMAX-14": 50, "RTMIN+30": 64,
	} {
		got, err := ParseSignal(text)
		if err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-1", "65", "99999999999999999999", "SIG", "NOPE", "SIGSIGTERM", "RTMIN+31", "RTMIN-1", "RTMAX+1", "RTMAX-", "TERM "} {
		if sig, err := ParseSignal(text); err == nil {
			t.Errorf("%q: taken for %d", text, sig)
		} else if want := `unknown signal "` + text + `"`; err.Error() != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestRoleOf(t *testing.T) {
	for _, test := range []struct {
		name        string
		annotations map[string]string
		role        Role
		sandbox     string
		fails       bool
	}{
		{name: "plain"},
		{name: "others", annotations: map[string]string{"a": "b"}},
		{name: "CRI-O's sandbox", annotations: map[string]string{crioType: "sandbox", crioSandbox: "c1"}, role: Sandbox, sandbox: "c1"},
		{name: "CRI-O's container", annotations: map[string]string{crioType: "container", crioSandbox: "p1"}, role: Member, sandbox: "p1"},
		{name: "containerd's sandbox", annotations: map[string]string{containerdType: "sandbox", containerdPod: "c1"}, role: Sandbox, sandbox: "c1"},
		{name: "containerd's container", annotations: map[string]string{containerdType: "container", containerdPod: "p1"}, role: Member, sandbox: "p1"},
		{name: "podman's infra container", annotations: map[string]string{crioSandbox: "c1"}, role: Sandbox, sandbox: "c1"},
		{name: "podman's member", annotations: map[string]string{manager: managerPodman, crioSandbox: "p1"}, role: MemberOrAlone, sandbox: "p1"},
		{name: "podman 4's member", annotations: map[string]string{manager: managerPodman, crioType: "container", crioSandbox: "p1"}, role: MemberOrAlone, sandbox: "p1"},
		{name: "CRI-O's container with its manager", annotations: map[string]string{manager: "cri-o", crioType: "container", crioSandbox: "p1"}, role: Member, sandbox: "p1"},
		{name: "podman's container", annotations: map[string]string{manager: managerPodman}},
		{name: "no type", annotations: map[string]string{crioSandbox: "p1"}, role: MemberOrAlone, sandbox: "p1"},
		{name: "no sandbox", annotations: map[string]string{crioType: "container"}, fails: true},
		{name: "unknown type", annotations: map[string]string{crioType: "vm", crioSandbox: "p1"}, fails: true},
		{name: "hostile sandbox", annotations: map[string]string{containerdPod: "../../etc"}, fails: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			role, sandbox, err := RoleOf("c1", test.annotations)
			if role != test.role || sandbox != test.sandbox || (err != nil) != test.fails {
				t.Errorf("%v, %q, %v", role, sandbox, err)
			}
		})
	}
}
