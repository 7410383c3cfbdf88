package oci

import (
	"errors"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// refusal is a change to a good spec and the error that it must cause.
type refusal struct {
	name   string
	change func(*specs.Spec)
	want   string
}

func runRefusals(t *testing.T, env *environment, tests []refusal) {
	t.Helper()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			spec := testSpec()
			test.change(spec)
			err := validate(spec, env)
			if err == nil {
				t.Fatal("accepted")
			}
			if err.Error() != test.want {
				t.Errorf("error\n%s\nwant\n%s", err, test.want)
			}
			var fieldErr *fieldError
			if !errors.As(err, &fieldErr) {
				t.Errorf("%T is no fieldError", err)
			}
		})
	}
}

func TestRefusesTopLevel(t *testing.T) {
	runRefusals(t, testEnvironment(), []refusal{
		{"version", func(s *specs.Spec) { s.Version = "2.0.0" }, `ociVersion: 2.0.0 is not supported: this runtime knows up to ` + specs.Version},
		{"version text", func(s *specs.Spec) { s.Version = "latest" }, `ociVersion: "latest" is not a semantic version`},
		{"version words", func(s *specs.Spec) { s.Version = "a.b.c" }, `ociVersion: "a.b.c" is not a semantic version`},
		{"root", func(s *specs.Spec) { s.Root = nil }, `root: root must be specified`},
		{"root path", func(s *specs.Spec) { s.Root.Path = "" }, `root.path: must not be empty`},
		{"root null byte", func(s *specs.Spec) { s.Root.Path = "a\x00b" }, `root.path: contains a null byte`},
		{"linux", func(s *specs.Spec) { s.Linux = nil }, `linux: linux must be specified: a container that shares the host's namespaces cannot be in a VM`},
		{"vm", func(s *specs.Spec) { s.VM = &specs.VM{} }, `vm: the virtual machine is described by this runtime's own configuration`},
		{"windows", func(s *specs.Spec) { s.Windows = &specs.Windows{} }, `windows: this runtime runs Linux containers`},
		{"solaris", func(s *specs.Spec) { s.Solaris = &specs.Solaris{} }, `solaris: this runtime runs Linux containers`},
		{"zos", func(s *specs.Spec) { s.ZOS = &specs.ZOS{} }, `zos: this runtime runs Linux containers`},
		{"freebsd", func(s *specs.Spec) { s.FreeBSD = &specs.FreeBSD{} }, `freebsd: this runtime runs Linux containers`},
		{"hostname", func(s *specs.Spec) { s.Hostname = strings.Repeat("h", 65) }, `hostname: longer than 64 bytes`},
		{"hostname null byte", func(s *specs.Spec) { s.Hostname = "a\x00" }, `hostname: contains a null byte`},
		{"domainname", func(s *specs.Spec) { s.Domainname = strings.Repeat("d", 65) }, `domainname: longer than 64 bytes`},
		{"annotation", func(s *specs.Spec) { s.Annotations = map[string]string{"": "x"} }, `annotations: a key is empty`},
		{
			"hook path", func(s *specs.Spec) { s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/ok"}, {Path: "bin/x"}}} },
			`hooks.poststop[1].path: "bin/x" is not an absolute path`,
		},
		{
			"hook timeout", func(s *specs.Spec) {
				s.Hooks = &specs.Hooks{StartContainer: []specs.Hook{{Path: "/x", Timeout: ptr(0)}}}
			},
			`hooks.startContainer[0].timeout: 0 is not greater than zero`,
		},
	})
}

func TestRefusesProcess(t *testing.T) {
	runRefusals(t, testEnvironment(), []refusal{
		{"none", func(s *specs.Spec) { s.Process = nil }, `process: process property must not be empty`},
		{"no cwd", func(s *specs.Spec) { s.Process.Cwd = "" }, `process.cwd: Cwd property must not be empty`},
		{"relative cwd", func(s *specs.Spec) { s.Process.Cwd = "tmp" }, `process.cwd: Cwd must be an absolute path`},
		{"cwd null byte", func(s *specs.Spec) { s.Process.Cwd = "/\x00" }, `process.cwd: contains a null byte`},
		{"no args", func(s *specs.Spec) { s.Process.Args = nil }, `process.args: args must not be empty`},
		{"arg null byte", func(s *specs.Spec) { s.Process.Args = []string{"a", "b\x00"} }, `process.args[1]: contains a null byte`},
		{"env", func(s *specs.Spec) { s.Process.Env = []string{"A=1", "B"} }, `process.env[1]: invalid environment variable: missing '='`},
		{"env name", func(s *specs.Spec) { s.Process.Env = []string{"=1"} }, `process.env[0]: invalid environment variable: name cannot be empty`},
		{"env null byte", func(s *specs.Spec) { s.Process.Env = []string{"A=\x00"} }, `process.env[0]: invalid environment variable "A": contains nul byte (\x00)`},
		{"selinux", func(s *specs.Spec) { s.Process.SelinuxLabel = "a:b:c:d" }, `process.selinuxLabel: selinux label is specified in config, but selinux is disabled or not supported`},
		{"apparmor", func(s *specs.Spec) { s.Process.ApparmorProfile = "p" }, `process.apparmorProfile: apparmor: config provided but apparmor not supported`},
		{"oom score", func(s *specs.Spec) { s.Process.OOMScoreAdj = ptr(1001) }, `process.oomScoreAdj: 1001 is not between -1000 and 1000`},
		{"rlimit", func(s *specs.Spec) { s.Process.Rlimits[0].Type = "NOFILE" }, `process.rlimits[0].type: wrong rlimit value: NOFILE`},
		{"rlimit line", func(s *specs.Spec) { s.Process.Rlimits[0].Type = "a\nb" }, `process.rlimits[0].type: wrong rlimit value: a\nb`},
		{
			"rlimit twice", func(s *specs.Spec) { s.Process.Rlimits = append(s.Process.Rlimits, s.Process.Rlimits[0]) },
			`process.rlimits[1].type: RLIMIT_NOFILE is given twice`,
		},
		{"rlimit soft", func(s *specs.Spec) { s.Process.Rlimits[0].Soft = 1025 }, `process.rlimits[0].soft: 1025 is more than the hard limit 1024`},
		{"scheduler", func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{} }, `process.scheduler.policy: scheduler policy is required`},
		{
			"scheduler policy", func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: "FAST"} },
			`process.scheduler.policy: invalid scheduler policy: "FAST"`,
		},
		{
			"scheduler nice", func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Nice: 20} },
			`process.scheduler.nice: invalid scheduler.nice: 20 when scheduler.policy is SCHED_OTHER`,
		},
		{
			"scheduler priority", func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedIdle, Priority: 1} },
			`process.scheduler.priority: scheduler.priority can only be specified for SchedFIFO or SchedRR policy`,
		},
		{
			"scheduler deadline", func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedRR, Runtime: 1} },
			`process.scheduler: scheduler runtime/deadline/period can only be specified for SchedDeadline policy`,
		},
		{
			"scheduler flag", func(s *specs.Spec) {
				s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedRR, Flags: []specs.LinuxSchedulerFlag{"X"}}
			},
			`process.scheduler.flags[0]: invalid scheduler flag: "X"`,
		},
		{
			"io priority", func(s *specs.Spec) {
				s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 8}
			},
			`process.ioPriority.priority: invalid ioPriority.Priority: 8`,
		},
		{
			"io priority class", func(s *specs.Spec) { s.Process.IOPriority = &specs.LinuxIOPriority{Class: "BEST"} },
			`process.ioPriority.class: invalid ioPriority.Class: "BEST"`,
		},
		{
			"affinity", func(s *specs.Spec) { s.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "0-x"} },
			`process.execCPUAffinity.initial: bad CPUAffinity.Initial: "x" is not a number`,
		},
		{
			"affinity range", func(s *specs.Spec) { s.Process.ExecCPUAffinity = &specs.CPUAffinity{Final: "3-1"} },
			`process.execCPUAffinity.final: bad CPUAffinity.Final: invalid range: 3-1`,
		},
		{
			"affinity number", func(s *specs.Spec) { s.Process.ExecCPUAffinity = &specs.CPUAffinity{Final: "1024"} },
			`process.execCPUAffinity.final: bad CPUAffinity.Final: values larger than 1023 are not supported`,
		},
	})
}

func TestRefusesMounts(t *testing.T) {
	mount := func(m specs.Mount) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Mounts = []specs.Mount{m} }
	}
	sharing := func(propagation string) func(*specs.Spec) {
		return func(s *specs.Spec) {
			s.Linux.RootfsPropagation = propagation
			s.Mounts = []specs.Mount{{Destination: "/x", Source: "/", Options: []string{"rbind", "rshared"}}}
		}
	}
	runRefusals(t, testEnvironment(), []refusal{
		{"destination", mount(specs.Mount{Type: "tmpfs"}), `mounts[0].destination: must not be empty`},
		{"destination null byte", mount(specs.Mount{Destination: "/\x00"}), `mounts[0].destination: mount field contains null byte`},
		{"source null byte", mount(specs.Mount{Destination: "/x", Source: "\x00"}), `mounts[0].source: mount field contains null byte`},
		{"type null byte", mount(specs.Mount{Destination: "/x", Type: "\x00"}), `mounts[0].type: mount field contains null byte`},
		{"option null byte", mount(specs.Mount{Destination: "/x", Type: "tmpfs", Options: []string{"\x00"}}), `mounts[0].options[0]: mount field contains null byte`},
		{"bind source", mount(specs.Mount{Destination: "/x", Type: "bind"}), `mounts[0].source: must not be empty`},
		{"bind shared", sharing("shared"), `mounts[0].options[1]: rshared: a mount that is made in a VM cannot reach the host`},
		{"bind shared recursively", sharing("rshared"), `mounts[0].options[1]: rshared: a mount that is made in a VM cannot reach the host`},
		{"no type", mount(specs.Mount{Destination: "/x", Source: "/"}), `mounts[0].type: must not be empty, unless the mount is a bind`},
		{"disk", mount(specs.Mount{Destination: "/x", Type: "ext4", Source: "/dev/sdb"}), `mounts[0].type: "ext4": a VM cannot mount it; mount it on the host and bind it`},
		{"overlay", mount(specs.Mount{Destination: "/x", Type: "overlay"}), `mounts[0].options: an overlay needs lowerdir=`},
		{"devtmpfs", mount(specs.Mount{Destination: "/x", Type: "devtmpfs"}), `mounts[0].type: "devtmpfs": a VM cannot mount it; mount it on the host and bind it`},
	})
}

func TestErrorsAreShort(t *testing.T) {
	spec := testSpec()
	spec.Process.Rlimits[0].Type = strings.Repeat("\n", 1<<20)
	err := validate(spec, testEnvironment())
	if err == nil || len(err.Error()) > 4<<10 || strings.Contains(err.Error(), "\n") {
		t.Errorf("error of %d bytes", len(err.Error()))
	}
}
