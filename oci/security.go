package oci

import (
	"slices"
	"sort"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// ipcSysctls belong to the ipc namespace, as do all of fs.mqueue.
var ipcSysctls = map[string]bool{
	"kernel.msgmax":          true,
	"kernel.msgmnb":          true,
	"kernel.msgmni":          true,
	"kernel.sem":             true,
	"kernel.shmall":          true,
	"kernel.shmmax":          true,
	"kernel.shmmni":          true,
	"kernel.shm_rmid_forced": true,
}

// validateSysctl accepts the sysctls that belong to one of the container's namespaces, as
// runc does. Others would affect this guest's kernel alone, but a spec that runc
// refuses is refused here too.
func validateSysctl(l *specs.Linux) error {
	set := namespacesOf(l)
	names := make([]string, 0, len(l.Sysctl))
	for name := range l.Sysctl {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		field := key("linux.sysctl", name)
		dotted := dottedSysctl(name)
		switch {
		case strings.IndexByte(name, 0) >= 0 || strings.Contains(name, ".."):
			return fieldErrorf(field, "sysctl %q is not a name", name)
		case ipcSysctls[dotted], strings.HasPrefix(dotted, "fs.mqueue."), strings.HasPrefix(dotted, "net."):
		case dotted == "kernel.domainname" && set.has(specs.UTSNamespace):
		case dotted == "kernel.hostname" && set.has(specs.UTSNamespace):
			return fieldErrorf(field, "sysctl %q is not allowed as it conflicts with the OCI %q field", dotted, "hostname")
		case strings.HasPrefix(dotted, "user."):
			if !set.has(specs.UserNamespace) {
				return fieldErrorf(field, "setting ucounts without a user namespace not allowed: %v", dotted)
			}
		default:
			return fieldErrorf(field, "sysctl %q is not in a separate kernel namespace", dotted)
		}
	}
	return nil
}

// dottedSysctl converts a name to the form with dots. The first separator tells which
// form the name has; see sysctl.d(5).
func dottedSysctl(name string) string {
	first := strings.IndexAny(name, "./")
	if first < 0 || name[first] == '.' {
		return name
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, name)
}

// seccompActions, seccompOperators, seccompArchs and seccompFlags are runc's.
var (
	seccompActions = []string{
		"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
		"SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP",
	}
	seccompOperators = []string{
		"SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE",
	}
	seccompArchs = []string{
		"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64",
		"SCMP_ARCH_MIPS64N32", "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC",
		"SCMP_ARCH_PPC64", "SCMP_ARCH_PPC64LE", "SCMP_ARCH_RISCV64", "SCMP_ARCH_S390", "SCMP_ARCH_S390X",
		"SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64",
	}
	seccompFlags = []string{
		"SECCOMP_FILTER_FLAG_TSYNC", string(specs.LinuxSeccompFlagSpecAllow), string(specs.LinuxSeccompFlagLog),
		string(specs.LinuxSeccompFlagWaitKillableRecv),
	}
)

// maxSeccompArg is the index of a system call's last argument.
const maxSeccompArg = 5

// validateSeccomp checks the names that the guest's libcontainer will look up. It refuses
// SCMP_ACT_NOTIFY: the listener is a socket of the host, which cannot be sent a file
// descriptor of the guest's kernel. A listener that no action notifies is ignored, as by
// runc.
func validateSeccomp(l *specs.Linux) error {
	s := l.Seccomp
	if s == nil {
		return nil
	}
	const field = "linux.seccomp"
	if s.DefaultAction == "" && len(s.Syscalls) == 0 {
		return nil // libcontainer sets no filter then, whatever the other fields are
	}
	if err := validateAction(field+".defaultAction", s.DefaultAction); err != nil {
		return err
	}
	for i, flag := range s.Flags {
		if !slices.Contains(seccompFlags, string(flag)) {
			return fieldErrorf(index(field+".flags", i), "seccomp flag %q is not known to this runtime", flag)
		}
	}
	for i, arch := range s.Architectures {
		if !slices.Contains(seccompArchs, string(arch)) {
			return fieldErrorf(index(field+".architectures", i), "string %s is not a valid arch for seccomp", arch)
		}
	}
	for i, call := range s.Syscalls {
		if err := validateSyscall(index(field+".syscalls", i), call); err != nil {
			return err
		}
	}
	return nil
}

func validateSyscall(field string, call specs.LinuxSyscall) error {
	if err := validateAction(field+".action", call.Action); err != nil {
		return err
	}
	for i, arg := range call.Args {
		field := index(field+".args", i)
		if arg.Index > maxSeccompArg {
			return fieldErrorf(field+".index", "%d is more than %d", arg.Index, maxSeccompArg)
		}
		if !slices.Contains(seccompOperators, string(arg.Op)) {
			return fieldErrorf(field+".op", "string %s is not a valid operator for seccomp", arg.Op)
		}
	}
	return nil
}

func validateAction(field string, action specs.LinuxSeccompAction) error {
	if action == specs.ActNotify {
		return fieldErrorf(field, "%s needs a listener, which the host cannot have for system calls in a VM", action)
	}
	if !slices.Contains(seccompActions, string(action)) {
		return fieldErrorf(field, "string %s is not a valid action for seccomp", action)
	}
	return nil
}
