package oci

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// LoadProcess reads a process.json, as `exec --process` names one, and
// validates it.
func LoadProcess(r io.Reader) (*specs.Process, error) {
	var p *specs.Process
	if err := decode(r, &p); err != nil {
		return nil, fmt.Errorf("read process file: %w", err)
	}
	if err := ValidateProcess(p); err != nil {
		return nil, err
	}
	return p, nil
}

// ValidateProcess checks a process by runc's rules, and for what a VM cannot
// honour. The error names a field that begins with "process".
func ValidateProcess(p *specs.Process) error {
	return validateProcess(p, hostEnvironment())
}

// GuestProcess is p as the guest is to have it: without SELinux label and
// AppArmor profile, which name things of the host (see Split).
func GuestProcess(p *specs.Process) *specs.Process {
	guest := *p
	guest.SelinuxLabel = ""
	guest.ApparmorProfile = ""
	return &guest
}

// UnknownCapabilities are those of a process's capabilities, sorted, that this
// runtime does not know. The process does not get them, and the runtime spec requires
// a warning.
func UnknownCapabilities(p *specs.Process) []string {
	if p.Capabilities == nil {
		return nil
	}
	known := knownCapabilities()
	unknown := make(map[string]bool)
	for _, set := range [][]string{
		p.Capabilities.Bounding, p.Capabilities.Effective, p.Capabilities.Inheritable, p.Capabilities.Permitted,
		p.Capabilities.Ambient,
	} {
		for _, name := range set {
			if !slices.Contains(known, name) {
				unknown[name] = true
			}
		}
	}
	return sortedNames(unknown)
}

func validateProcess(p *specs.Process, env *environment) error {
	switch {
	case p == nil:
		return fieldErrorf("process", "process property must not be empty")
	case p.Cwd == "":
		return fieldErrorf("process.cwd", "Cwd property must not be empty")
	case !filepath.IsAbs(p.Cwd):
		return fieldErrorf("process.cwd", "Cwd must be an absolute path")
	case len(p.Args) == 0:
		return fieldErrorf("process.args", "args must not be empty")
	case p.SelinuxLabel != "" && !env.selinux:
		return fieldErrorf("process.selinuxLabel", "selinux label is specified in config, but selinux is disabled or not supported")
	case p.OOMScoreAdj != nil && (*p.OOMScoreAdj < -1000 || *p.OOMScoreAdj > 1000):
		return fieldErrorf("process.oomScoreAdj", "%d is not between -1000 and 1000", *p.OOMScoreAdj)
	}
	if err := validateApparmor(p.ApparmorProfile, env); err != nil {
		return err
	}
	for _, check := range []func(*specs.Process) error{
		validateStrings, validateRlimits, validateScheduler, validateIOPriority, validateAffinity,
	} {
		if err := check(p); err != nil {
			return err
		}
	}
	return nil
}

// validateApparmor refuses a profile where runc would: on a host without AppArmor,
// unless it is "" or "unconfined".
func validateApparmor(profile string, env *environment) error {
	if profile == "" || profile == "unconfined" || env.apparmor {
		return nil
	}
	return fieldErrorf("process.apparmorProfile", "apparmor: config provided but apparmor not supported")
}

// validateStrings refuses null bytes, which would end a string in execve(2) or chdir(2),
// and environment variables without a name or without "=".
func validateStrings(p *specs.Process) error {
	for i, arg := range p.Args {
		if strings.IndexByte(arg, 0) >= 0 {
			return fieldErrorf(index("process.args", i), "contains a null byte")
		}
	}
	for i, e := range p.Env {
		field := index("process.env", i)
		name, _, ok := strings.Cut(e, "=")
		switch {
		case !ok:
			return fieldErrorf(field, "invalid environment variable: missing '='")
		case name == "":
			return fieldErrorf(field, "invalid environment variable: name cannot be empty")
		case strings.IndexByte(e, 0) >= 0:
			return fieldErrorf(field, `invalid environment variable %q: contains nul byte (\x00)`, name)
		}
	}
	if strings.IndexByte(p.Cwd, 0) >= 0 {
		return fieldErrorf("process.cwd", "contains a null byte")
	}
	return nil
}

// validateScheduler is runc's check; see sched_setattr(2).
func validateScheduler(p *specs.Process) error {
	s := p.Scheduler
	if s == nil {
		return nil
	}
	const field = "process.scheduler"
	switch s.Policy {
	case "":
		return fieldErrorf(field+".policy", "scheduler policy is required")
	case specs.SchedOther, specs.SchedBatch:
		if s.Nice < -20 || s.Nice > 19 {
			return fieldErrorf(field+".nice", "invalid scheduler.nice: %d when scheduler.policy is %s", s.Nice, s.Policy)
		}
	case specs.SchedFIFO, specs.SchedRR, specs.SchedISO, specs.SchedIdle, specs.SchedDeadline:
	default:
		return fieldErrorf(field+".policy", "invalid scheduler policy: %q", s.Policy)
	}
	if s.Priority != 0 && s.Policy != specs.SchedFIFO && s.Policy != specs.SchedRR {
		return fieldErrorf(field+".priority", "scheduler.priority can only be specified for SchedFIFO or SchedRR policy")
	}
	if s.Policy != specs.SchedDeadline && (s.Runtime != 0 || s.Deadline != 0 || s.Period != 0) {
		return fieldErrorf(field, "scheduler runtime/deadline/period can only be specified for SchedDeadline policy")
	}
	for i, flag := range s.Flags {
		switch flag {
		case specs.SchedFlagResetOnFork, specs.SchedFlagReclaim, specs.SchedFlagDLOverrun, specs.SchedFlagKeepPolicy,
			specs.SchedFlagKeepParams, specs.SchedFlagUtilClampMin, specs.SchedFlagUtilClampMax:
		default:
			return fieldErrorf(index(field+".flags", i), "invalid scheduler flag: %q", flag)
		}
	}
	return nil
}

// validateIOPriority is runc's check; see ioprio_set(2).
func validateIOPriority(p *specs.Process) error {
	prio := p.IOPriority
	if prio == nil {
		return nil
	}
	const field = "process.ioPriority"
	if prio.Priority < 0 || prio.Priority > 7 {
		return fieldErrorf(field+".priority", "invalid ioPriority.Priority: %d", prio.Priority)
	}
	switch prio.Class {
	case specs.IOPRIO_CLASS_RT, specs.IOPRIO_CLASS_BE, specs.IOPRIO_CLASS_IDLE:
		return nil
	}
	return fieldErrorf(field+".class", "invalid ioPriority.Class: %q", prio.Class)
}

func validateAffinity(p *specs.Process) error {
	if p.ExecCPUAffinity == nil {
		return nil
	}
	const field = "process.execCPUAffinity"
	if err := validateList(p.ExecCPUAffinity.Initial); err != nil {
		return fieldErrorf(field+".initial", "bad CPUAffinity.Initial: %w", err)
	}
	if err := validateList(p.ExecCPUAffinity.Final); err != nil {
		return fieldErrorf(field+".final", "bad CPUAffinity.Final: %w", err)
	}
	return nil
}
