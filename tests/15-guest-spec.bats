#!/usr/bin/env bats
# The fields of a config.json that the guest carries out; docs/oci.md has the list. The first tests share one container
# that has as many of them as possible. Those at the end make containers with fields that exclude these.

load helpers

setup_file() {
	is_runch || return 0
	share
	bundle
	tree
	config '.hostname = "guest-name" | .domainname = "guest.example" | .annotations = {"org.example.key": "a value"}
		| .process += {
			user: {uid: 1000, gid: 1001, umask: 23, additionalGids: [10, 20]},
			env: ["PATH=/bin:/usr/bin:/sbin:/usr/sbin", "TWICE=first", "EMPTY=", "TWICE=second"],
			cwd: "/srv/work",
			noNewPrivileges: true,
			oomScoreAdj: 432,
			scheduler: {policy: "SCHED_BATCH", nice: 5},
			ioPriority: {class: "IOPRIO_CLASS_BE", priority: 6},
			execCPUAffinity: {initial: "0", final: "1"},
			capabilities: {
				bounding: ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_NET_BIND_SERVICE"],
				permitted: ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
				effective: ["CAP_KILL", "CAP_NET_BIND_SERVICE"],
				inheritable: ["CAP_KILL", "CAP_NET_BIND_SERVICE"],
				ambient: ["CAP_NET_BIND_SERVICE"]
			},
			rlimits: [
				["AS", 17179869184, 34359738368], ["CORE", 0, 4096], ["CPU", 3600, 7200], ["DATA", 8589934592, 17179869184],
				["FSIZE", 1073741824, 2147483648], ["LOCKS", 100, 200], ["MEMLOCK", 65536, 131072], ["MSGQUEUE", 4096, 8192],
				["NICE", 10, 20], ["NOFILE", 512, 768], ["NPROC", 500, 600], ["RSS", 1073741824, 2147483648],
				["RTPRIO", 5, 6], ["RTTIME", 1000000, 2000000], ["SIGPENDING", 300, 400], ["STACK", 4194304, 8388608]
			] | map({type: ("RLIMIT_" + .[0]), soft: .[1], hard: .[2]})
		}'
	config '.linux.namespaces += [{type: "cgroup"}, {type: "time"}]
		| .linux.timeOffsets = {boottime: {secs: 864000, nanosecs: 5}, monotonic: {secs: 3600}}
		| .linux.rootfsPropagation = "shared"
		| .linux.personality = {domain: "LINUX32"}
		| .linux.memoryPolicy = {mode: "MPOL_BIND", nodes: "0", flags: ["MPOL_F_STATIC_NODES"]}
		| .linux.maskedPaths += ["/etc/secret", "/srv/secret", "/srv/not-there"]
		| .linux.readonlyPaths += ["/srv/frozen"]
		| .linux.sysctl = {"kernel.shmmax": "1048576", "fs.mqueue.msg_max": "20", "net/ipv4/ip_default_ttl": "33"}
		| .linux.devices = [
			{path: "/dev/half", type: "c", major: 1, minor: 5, fileMode: 416, uid: 1000, gid: 10},
			{path: "/dev/log-reader", type: "u", major: 1, minor: 11},
			{path: "/dev/fuse", type: "c", major: 10, minor: 229, fileMode: 438},
			{path: "/dev/queue", type: "p", fileMode: 402}
		]
		| .linux.seccomp = {
			defaultAction: "SCMP_ACT_ALLOW", architectures: ["SCMP_ARCH_X86_64"], flags: ["SECCOMP_FILTER_FLAG_LOG"],
			listenerPath: "/run/nobody-listens", listenerMetadata: "of nothing",
			syscalls: [
				{names: ["rmdir"], action: "SCMP_ACT_ERRNO", errnoRet: 95},
				{names: ["sync"], action: "SCMP_ACT_KILL_PROCESS"},
				{names: ["kill"], action: "SCMP_ACT_ERRNO", errnoRet: 18, args: [{index: 1, value: 12, op: "SCMP_CMP_EQ"}]},
				{names: ["mknod"], action: "SCMP_ACT_ERRNO", errnoRet: 38,
					args: [{index: 1, value: 61440, valueTwo: 4096, op: "SCMP_CMP_MASKED_EQ"}]},
				{names: ["mknodat"], action: "SCMP_ACT_ERRNO", errnoRet: 38,
					args: [{index: 2, value: 61440, valueTwo: 4096, op: "SCMP_CMP_MASKED_EQ"}]}
			]
		}'
	config '.linux.resources = {
			devices: [
				{allow: false, access: "rwm"},
				{allow: true, type: "c", major: 1, minor: 11, access: "r"},
				{allow: true, type: "c", major: 10, minor: 229, access: "rw"}
			],
			memory: {limit: 134217728, reservation: 67108864, swap: 201326592},
			cpu: {shares: 1024, quota: 150000, period: 100000, burst: 20000},
			pids: {limit: 64},
			hugepageLimits: [{pageSize: "2MB", limit: 4194304}],
			unified: {"memory.high": "100663296", "memory.oom.group": "1"}
		}'
	config --arg tree "$B/volume" '.mounts += [
			{destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup", options: ["ro", "nosuid", "noexec", "nodev"]},
			{destination: "/scratch", type: "tmpfs", source: "tmpfs",
				options: ["nosuid", "nodev", "noexec", "size=1m", "nr_inodes=77", "mode=1770", "uid=1000", "gid=10"]},
			{destination: "/srv/copied", type: "tmpfs", source: "tmpfs", options: ["tmpcopyup"]},
			{destination: "/srv/rro", source: $tree, options: ["rbind", "rro"]},
			{destination: "/srv/rnoexec", source: $tree, options: ["rbind", "rnoexec", "rnosuid"]},
			{destination: "/srv/plain", type: "bind", source: $tree, options: ["rbind", "nodev"]}
		]'
	args sleep 10000
	launch
	shared
}

# tree: makes the files for the tests in the root and in a volume, which has a mount below it.
tree() {
	mkdir -p "$B"/rootfs/srv/{work,secret,frozen,copied,rro,rnoexec,plain} "$B"/rootfs/{etc,scratch} "$B/volume/below"
	echo hidden | tee "$B/rootfs/etc/secret" >"$B/rootfs/srv/secret/file"
	echo cold >"$B/rootfs/srv/frozen/file"
	echo copied >"$B/rootfs/srv/copied/file"
	mount -t tmpfs below "$B/volume/below"
	cp "$B/rootfs/bin/workload" "$B/volume/"
	cp "$B/rootfs/bin/workload" "$B/volume/below/"
	chmod 1777 "$B"/rootfs/srv/{work,frozen} "$B/volume" "$B/volume/below"
}

teardown_file() {
	is_runch || return 0
	umount "${SHARED:-$T}/bundle/volume/below"
	unshare_all
}

setup() {
	needs_vm # with another runtime, the host's kernel and cgroup v1 may support less
	begin
}

teardown() {
	[ -z "${T:-}" ] || finish
}

# exec_as JQ-FILTER WORD...: runs a command in the container, with its process of config.json changed by the filter.
exec_as() {
	local filter=$1
	shift
	process "$@" | jq "$filter" >"$T/process"
	runch exec --process "$T/process" "$ID"
}

# as_root WORD...: runs a command in the container as root, with the capabilities that the tests need.
as_root() {
	exec_as '.user = {uid: 0, gid: 0} | .noNewPrivileges = false
		| ["CHOWN", "DAC_OVERRIDE", "FOWNER", "MKNOD", "SYS_ADMIN", "SYS_PTRACE", "SYSLOG"] as $caps
		| .capabilities = ($caps | map("CAP_" + .) | {bounding: ., permitted: ., effective: .})' "$@"
}

# status NAME...: prints these fields of a /proc/PID/status on stdin, with one blank between words.
status() {
	local name
	local -A lines
	while read -r name line; do
		lines[${name%:}]=${line//$'\t'/ }
	done
	for name in "$@"; do
		echo "$name ${lines[$name]% }"
	done
}

# schedule: prints policy, nice value and real-time priority of a /proc/PID/stat on stdin.
schedule() {
	sed 's/.*) //' | cut -d ' ' -f 39,17,38 | { read -r nice rt policy && echo "policy $policy nice $nice rt $rt"; }
}

# --- process ---

@test "process.user: uid, gid, additionalGids and umask" {
	same "$(execute cat /proc/1/status | status Uid Gid Groups Umask)" "Uid 1000 1000 1000 1000
Gid 1001 1001 1001 1001
Groups 10 20
Umask 0027"
	same "$(execute sh -c 'umask; id -u')" $'0027\n1000'
}

@test "process.env and cwd: the last of two counts, and HOME is found where it is not given" {
	same "$(execute env | sort)" "EMPTY=
HOME=/
PATH=/bin:/usr/bin:/sbin:/usr/sbin
TWICE=second"
	same "$(execute pwd)" /srv/work
	same "$(execute readlink /proc/1/cwd)" /srv/work
}

@test "process.rlimits: every one that Linux has" {
	execute cat /proc/1/limits | sed -E '1d; s/  +/|/g' | cut -d '|' -f 1-3 | sort >"$T/limits"
	diff "$T/limits" - <<-'EOT'
		Max address space|17179869184|34359738368
		Max core file size|0|4096
		Max cpu time|3600|7200
		Max data size|8589934592|17179869184
		Max file locks|100|200
		Max file size|1073741824|2147483648
		Max locked memory|65536|131072
		Max msgqueue size|4096|8192
		Max nice priority|10|20
		Max open files|512|768
		Max pending signals|300|400
		Max processes|500|600
		Max realtime priority|5|6
		Max realtime timeout|1000000|2000000
		Max resident set|1073741824|2147483648
		Max stack size|4194304|8388608
	EOT
}

@test "process.capabilities: the five sets, and noNewPrivileges" {
	same "$(execute cat /proc/1/status | status CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs)" "CapInh 0000000000000420
CapPrm 0000000000000400
CapEff 0000000000000400
CapBnd 00000000000004a1
CapAmb 0000000000000400
NoNewPrivs 1"
}

@test "an exec has the user, the capabilities, the limits and the scheduling of its own process file" {
	exec_as '.user = {uid: 7, gid: 8, additionalGids: [9]} | .noNewPrivileges = false
		| .rlimits = [{type: "RLIMIT_NOFILE", soft: 100, hard: 200}]
		| .scheduler = {policy: "SCHED_RR", priority: 3, flags: ["SCHED_FLAG_RESET_ON_FORK"]}
		| .ioPriority = {class: "IOPRIO_CLASS_IDLE", priority: 0}
		| .execCPUAffinity = {initial: "1", final: "0"}
		| .capabilities = {bounding: ["CAP_CHOWN", "CAP_SYS_CHROOT"], permitted: ["CAP_SYS_CHROOT"],
			inheritable: ["CAP_SYS_CHROOT"], ambient: ["CAP_SYS_CHROOT"]}' \
		sh -c 'cat /proc/$$/status; cat /proc/$$/stat /proc/self/stat; ulimit -n; ulimit -Hn; ionice -p $$' >"$T/seen"
	same "$(status Uid Gid Groups NoNewPrivs CapEff CapBnd CapAmb Cpus_allowed_list <"$T/seen")" "Uid 7 7 7 7
Gid 8 8 8 8
Groups 9
NoNewPrivs 0
CapEff 0000000000040000
CapBnd 0000000000040001
CapAmb 0000000000040000
Cpus_allowed_list 0"
	# With SCHED_FLAG_RESET_ON_FORK the child has the default policy.
	same "$(grep ') ' "$T/seen" | schedule_each)" "policy 2 nice 0 rt 3
policy 0 nice 0 rt 0"
	same "$(tail -n 3 "$T/seen")" $'100\n200\nidle'
}

schedule_each() {
	local line
	while read -r line; do
		schedule <<<"$line"
	done
}

@test "process.oomScoreAdj, scheduler and ioPriority" {
	same "$(execute cat /proc/1/oom_score_adj)" 432
	same "$(execute cat /proc/1/stat | schedule)" "policy 3 nice 5 rt 0"
	same "$(execute ionice -p 1)" "best-effort: prio 6"
	same "$(execute sh -c 'cat /proc/self/oom_score_adj; ionice')" $'432\nbest-effort: prio 6'
}

@test "process.execCPUAffinity is that of an exec, not of the container's process" {
	same "$(execute cat /proc/self/status | status Cpus_allowed_list)" "Cpus_allowed_list 1"
	same "$(execute cat /proc/1/status | status Cpus_allowed_list)" "Cpus_allowed_list 0-1"
	# Repeated, as it must not depend on the thread on which the init of an exec runs.
	local i
	for i in {1..20}; do
		exec_as '.execCPUAffinity = {initial: "1", final: "0"}' cat /proc/self/status >"$T/seen"
		same "$(status Cpus_allowed_list <"$T/seen")" "Cpus_allowed_list 0"
	done
}

@test "process.apparmorProfile: the guest has no profiles, a profile is an error where the host has none" {
	# The guest's kernel has AppArmor built in, but not enabled.
	try execute cat /proc/self/attr/current
	same "$status" 1
	[[ $stderr == *"Invalid argument"* ]]

	[ ! -d /sys/kernel/security/apparmor ] || skip "the host has AppArmor, so that a profile is taken"
	try runch exec --apparmor some-profile "$ID" true
	same "$status" 255
	[[ $stderr == *"apparmor: config provided but apparmor not supported"* ]]
}

# --- namespaces and what belongs to them ---

@test "linux.namespaces: the container has its own of each kind" {
	# The numbers of a kernel's first namespaces are fixed (include/linux/proc_ns.h); net has no such number.
	local list
	list=$(execute sh -c 'cd /proc/self/ns && for n in cgroup ipc pid time user uts; do readlink $n; done')
	echo "$list"
	same "$(grep -c -E '^(cgroup|ipc|pid|time|uts):' <<<"$list")" 5
	same "$(grep -E '\[40265318(3[4568]|39)\]' <<<"$list" || true)" ""
	same "$(grep user <<<"$list")" "user:[4026531837]"
	same "$(execute cat /proc/self/cgroup)" 0::/
	same "$(execute cat /proc/1/comm)" sleep
}

@test "linux.timeOffsets: the clocks of the container's processes are moved" {
	execute cat /proc/self/timens_offsets | sed -E 's/ +/ /g' >"$T/offsets"
	diff "$T/offsets" - <<-'EOT'
		monotonic 3600 0
		boottime 864000 5
	EOT
	[ "$(execute cat /proc/uptime | cut -d . -f 1)" -ge 864000 ]
}

@test "hostname and domainname" {
	same "$(execute hostname)" guest-name
	same "$(execute cat /proc/sys/kernel/domainname)" guest.example
}

@test "linux.sysctl, by names with dots and with slashes" {
	same "$(execute cat /proc/sys/kernel/shmmax /proc/sys/fs/mqueue/msg_max /proc/sys/net/ipv4/ip_default_ttl)" $'1048576\n20\n33'
}

# --- files ---

@test "linux.maskedPaths and readonlyPaths" {
	same "$(as_root cat /etc/secret)" ""
	same "$(as_root ls /srv/secret)" ""
	try as_root sh -c 'echo >/srv/secret/new'
	[[ $stderr == *"Read-only file system"* ]]
	same "$(execute cat /srv/frozen/file)" cold
	try as_root sh -c 'echo >/srv/frozen/new'
	[[ $stderr == *"Read-only file system"* ]]
	try as_root sh -c 'echo 1 >/proc/sys/kernel/shmmax'
	[[ $stderr == *"Read-only file system"* ]]
}

@test "linux.rootfsPropagation" {
	execute cat /proc/1/mountinfo | grep -E '^[0-9]+ [0-9]+ [0-9:]+ / / |/rootfs / ' >"$T/root"
	cat "$T/root"
	grep -q ' / .* shared:[0-9]' "$T/root"
}

@test "mounts: a tmpfs with its options, and one that begins with what was there" {
	execute cat /proc/1/mountinfo >"$T/mounts"
	grep -q ' / /scratch rw,nosuid,nodev,noexec,relatime .*- tmpfs tmpfs rw,size=1024k,nr_inodes=77,mode=1770,uid=1000,gid=10' "$T/mounts"
	same "$(execute stat -c '%a %u %g' /scratch)" "1770 1000 10"
	try as_root dd if=/dev/zero of=/scratch/large bs=65536 count=32
	[[ $stderr == *"No space left on device"* ]]
	same "$(execute cat /srv/copied/file)" copied
	as_root sh -c 'echo changed >/srv/copied/file'
	same "$(cat "$B/rootfs/srv/copied/file")" copied
}

@test "mounts: recursive options hold for what is mounted below" {
	local dir
	for dir in /srv/plain /srv/plain/below; do
		as_root sh -c "echo >$dir/new && rm $dir/new"
		same "$(execute "$dir/workload" count </dev/null | cut -d ' ' -f 1)" 0
	done
	for dir in /srv/rro /srv/rro/below; do
		try as_root sh -c "echo >$dir/new"
		[[ $stderr == *"Read-only file system"* ]]
	done
	for dir in /srv/rnoexec /srv/rnoexec/below; do
		try execute "$dir/workload" count
		same "$status" 255
		[[ $stderr == *"ermission denied"* ]]
		as_root sh -c "echo >$dir/new && rm $dir/new"
	done
}

@test "linux.devices: nodes with their numbers, modes and owners" {
	same "$(execute stat -c '%F %a %u %g %t:%T' /dev/half /dev/log-reader /dev/fuse /dev/queue)" "character special file 640 1000 10 1:5
character special file 666 0 0 1:b
character special file 666 0 0 a:e5
fifo 622 0 0 0:0"
	same "$(execute head -c 4 /dev/half | od -An -tx1)" " 00 00 00 00"
}

@test "linux.resources.devices: the rules are the kernel's" {
	as_root dd if=/dev/fuse of=/dev/null count=0
	as_root dd if=/dev/log-reader of=/dev/null count=0
	try as_root sh -c 'echo >/dev/log-reader'
	same "$status" 1
	[[ $stderr == *"Operation not permitted"* ]]
}

# --- what the kernel lets a process do ---

@test "linux.seccomp: errno, arguments, masks, and an end by SIGSYS" {
	same "$(execute cat /proc/1/status | status Seccomp Seccomp_filters)" "Seccomp 2
Seccomp_filters 1"
	try execute sh -c 'mkdir d && rmdir d'
	[[ $stderr == *"Not supported"* || $stderr == *"not supported"* ]]
	execute sh -c 'kill -0 $$' # kill itself is allowed
	try execute sh -c 'kill -USR2 $$'
	[[ $stderr == *"nvalid cross-device link"* || $stderr == *"ross-device link"* ]]
	try execute mknod fifo p
	[[ $stderr == *"unction not implemented"* ]]
	try execute sync
	same "$status" $((128 + 31))
}

@test "linux.personality" {
	same "$(execute uname -m)" i686
	same "$(as_root cat /proc/1/personality)" 00000008
}

@test "linux.memoryPolicy" {
	same "$(as_root head -n 1 /proc/1/numa_maps | cut -d ' ' -f 2)" bind=static:0
	same "$(execute head -n 1 /proc/self/numa_maps | cut -d ' ' -f 2)" bind=static:0
}

# --- resources ---

@test "linux.resources: the limits are exact in the guest's cgroup" {
	local name value
	while read -r name value; do
		echo "$name"
		same "$(execute cat "/sys/fs/cgroup/$name")" "$value"
	done <<-'EOT'
		memory.max 134217728
		memory.low 67108864
		memory.swap.max 67108864
		memory.high 100663296
		memory.oom.group 1
		cpu.weight 100
		cpu.max 150000 100000
		cpu.max.burst 20000
		pids.max 64
		hugetlb.2MB.max 4194304
		hugetlb.2MB.rsvd.max 4194304
	EOT
}

@test "annotations are those of the state" {
	same "$(runch state "$ID" | jq -c .annotations)" '{"org.example.key":"a value"}'
}

# --- what excludes the above ---

@test "a user namespace with mappings, a read-only root, seccomp that refuses by default, an idle cgroup" {
	own
	chown -R 100000:100000 "$B/rootfs"
	config '.linux.namespaces += [{type: "user"}, {type: "cgroup"}]
		| .linux.uidMappings = [{containerID: 0, hostID: 100000, size: 1000}, {containerID: 1000, hostID: 200000, size: 500}]
		| .linux.gidMappings = [{containerID: 0, hostID: 100000, size: 2000}]
		| .linux.sysctl = {"user.max_user_namespaces": "7"}
		| .linux.resources.cpu = {idle: 1}
		| .mounts += [{destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup", options: ["ro"]}]
		| .root.readonly = true | .process.noNewPrivileges = true | del(.hostname)
		| .linux.seccomp = {defaultAction: "SCMP_ACT_ERRNO", defaultErrnoRet: 95, architectures: ["SCMP_ARCH_X86_64"],
			syscalls: [{action: "SCMP_ACT_ALLOW", names: ($calls | split(" "))}]}' --arg calls "$(allowed)"
	args sleep 10000
	launch
	same "$(execute cat /proc/1/uid_map | sed -E 's/ +/ /g')" " 0 100000 1000
 1000 200000 500"
	same "$(execute cat /proc/1/gid_map | sed -E 's/ +/ /g')" " 0 100000 2000"
	same "$(execute stat -c '%u %g' /bin)" "0 0"
	same "$(execute cat /proc/sys/user/max_user_namespaces)" 7
	same "$(execute cat /sys/fs/cgroup/cpu.idle)" 1
	try execute sh -c 'echo >/new'
	[[ $stderr == *"Read-only file system"* ]]
	try execute mkdir /dev/shm/new
	[[ $stderr == *"ot supported"* ]]
	same "$(execute hostname)" "$(hostname)" # without a hostname in the spec it is the host's, as under runc
}

@test "on an emulated processor the kernel does without cmpxchg16b, whose flags QEMU 7.2 gets wrong" {
	! runch env | grep -q '^accel *kvm' || skip "KVM runs the guests"
	try execute grep -qw cx16 /proc/cpuinfo
	same "$status" 1
	execute grep -qw cx8 /proc/cpuinfo
}

# allowed: prints the system calls that libcontainer and the test's busybox commands need. mkdir is not among them.
allowed() {
	echo access alarm arch_prctl brk capget capset chdir clock_gettime clock_nanosleep clone clone3 close close_range dup \
		dup2 dup3 epoll_create1 epoll_ctl epoll_pwait eventfd2 execve exit exit_group faccessat faccessat2 fchdir fcntl fork \
		fstat fstatfs futex getcwd getdents64 getegid geteuid getgid getgroups getpgrp getpid getppid getrandom getrlimit \
		gettid getuid ioctl lseek lstat madvise mmap mprotect mremap munmap nanosleep newfstatat open openat pipe pipe2 poll \
		ppoll prctl pread64 prlimit64 read readlink readlinkat recvmsg restart_syscall rseq rt_sigaction rt_sigprocmask \
		rt_sigreturn sched_getaffinity sched_yield select sendfile sendmsg set_robust_list set_tid_address setgid setgroups \
		setpgid setresgid setresuid setsid setuid sigaltstack splice stat statfs statx sysinfo tgkill umask uname wait4 \
		write writev
}

@test "linux.resources.pids: one process more than the limit cannot be" {
	own
	config '.linux.resources.pids = {limit: 10}'
	script 'for i in 1 2 3 4 5 6 7 8 9 10 11; do sleep 10000 & done'
	launch
	exit_status "$PID"
	[[ $(<"$B/stderr") == *"an't fork"* ]]
}

@test "linux.resources.memory: a small limit can be used whole, and what takes more is killed" {
	own
	config '.linux.resources.memory = {limit: 33554432}'
	args sleep 10000
	launch
	execute dd if=/dev/zero of=/dev/null bs=28M count=1 2>/dev/null
	try runch exec "$ID" dd if=/dev/zero of=/dev/null bs=40M count=1
	same "$status" 137
	runch kill "$ID" KILL
	exit_status "$PID"
	runch delete "$ID"
}

@test "process.rlimits: a program starts each time where RLIMIT_AS is less than what a Go program reserves" {
	own
	config '.process.rlimits = [{type: "RLIMIT_AS", soft: 1073741824, hard: 1073741824}]
		| .process.env += [range(20) | "LONG\(.)=" + ("x" * 4000)]'
	script 'ulimit -v; exec sleep 10000'
	launch
	eventually 10 says 1048576 "$B/stdout"
	local i
	for i in {1..20}; do
		same "$(execute sh -c 'ulimit -v')" 1048576
	done
	runch kill "$ID" KILL
	exit_status "$PID"
	runch delete "$ID"
}

@test "a container with a user namespace and a cgroup of its own that it may write makes cgroups below it" {
	own
	chown -R 100000:100000 "$B/rootfs"
	config '.linux.namespaces += [{type: "user"}, {type: "cgroup"}]
		| .linux.uidMappings = [{containerID: 0, hostID: 100000, size: 1000}]
		| .linux.gidMappings = [{containerID: 0, hostID: 100000, size: 1000}]
		| .mounts += [{destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup", options: ["rw"]}]'
	args sleep 10000
	launch
	same "$(execute stat -c %u /sys/fs/cgroup /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/memory.max | xargs)" "0 0 65534"
	execute sh -c 'mkdir /sys/fs/cgroup/below && echo $$ >/sys/fs/cgroup/below/cgroup.procs'
	try runch exec "$ID" sh -c 'echo max >/sys/fs/cgroup/memory.max'
	same "$status" 1
	runch kill "$ID" KILL
	exit_status "$PID"
	runch delete "$ID"
}

# DEVICES: a shell command that lists all devices of the kernel on which it runs: node, kind and numbers. It leaves out
# those that engines leave out for privileged containers.
DEVICES='for kind in block char; do
	for device in /sys/dev/$kind/*; do
		[ -e "$device/uevent" ] || continue
		name=$(sed -n "s/^DEVNAME=//p" "$device/uevent")
		number=${device##*/}
		case $name in "" | console | ptmx) continue ;; esac
		echo "/dev/$name $kind ${number%:*} ${number#*:}"
	done
done | sort'

@test "a privileged container has the guest's devices for the host's, and does with them what it does to a kernel" {
	own
	local capabilities
	capabilities=$(runch features | jq -c .linux.capabilities)
	config --argjson all "$capabilities" '.process.capabilities |= {bounding: $all, permitted: $all, effective: $all}
		| .linux.resources.devices = [{allow: true, access: "rwm"}]
		| .linux.devices = [$devices | rtrimstr("\n") / "\n" | .[] / " "
			| {path: .[0], type: .[1][:1], major: (.[2] | tonumber), minor: (.[3] | tonumber), fileMode: 384, uid: 0, gid: 0}]
		| .linux.maskedPaths = [] | .linux.readonlyPaths = []
		| (.mounts[] | select(.type == "sysfs")).options = ["nosuid", "noexec", "nodev", "rw"]
		| .mounts += [{destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup", options: ["nosuid", "noexec", "nodev", "rw"]}]' \
		--arg devices "$(sh -c "$DEVICES")"
	local disks=(/sys/dev/block/*) number
	number=$(basename "${disks[0]}")
	config --argjson major "${number%:*}" --argjson minor "${number#*:}" \
		'.linux.devices += [{path: "/dev/a-disk-of-the-host", type: "b", major: $major, minor: $minor}]'
	args sleep 10000
	runch --debug --log "$T/log" create --bundle "$B" --pid-file "$B/pid" "$ID" <"/dev/null" >"$B/stdout" 2>"$B/stderr"
	PID=$(<"$B/pid")
	runch start "$ID"
	says "a-disk-of-the-host" "$T/log"

	local major minor name kind
	execute find /dev -path /dev/pts -prune -o '(' -type b -o -type c ')' -exec stat -c '%t %T %n %F' '{}' + >"$T/nodes"
	same "$(while read -r major minor name kind; do
		kind=${kind%% *}
		echo "$name ${kind/character/char} $((16#$major)) $((16#$minor))"
	done <"$T/nodes" | sort)" "$(execute sh -c "$DEVICES")"
	same "$(execute cat /proc/self/status | status CapEff Seccomp)" "CapEff 000001ffffffffff
Seccomp 0"

	execute sh -c 'mknod /null c 1 3 && echo >/null && mkdir /mnt && mount -t tmpfs tmpfs /mnt && umount /mnt'
	execute sh -c "echo '<5>$ID is in the guest' >/dev/kmsg && dmesg | grep -q '$ID is in the guest'"
	! dmesg | grep -F "$ID is in the guest" || return
	execute sh -exc 'dd if=/dev/zero of=/img bs=1M count=4; losetup "$(losetup -f)" /img; mke2fs /dev/loop0
		mount -t ext2 /dev/loop0 /mnt; echo text >/mnt/file; umount /mnt; losetup -d /dev/loop0'
	execute sh -c 'mkdir /sys/fs/cgroup/below && rmdir /sys/fs/cgroup/below && echo 0 >/proc/sys/kernel/sysrq &&
		echo 1 >/sys/kernel/rcu_normal'

	# Without the rule that allows all devices, create refuses the first device that the guest does not have.
	runch delete --force "$ID"
	config '.linux.resources.devices = [{allow: false, access: "rwm"}]'
	try create
	same "$status" 1
	[[ $output == *"linux.devices["*"]: a device of the host ("*") cannot be given to a VM"* ]]
}

# open_files PID: prints the limits of open files, soft and hard, of a process in the container.
open_files() {
	awk '/^Max open files/ { print $4, $5 }' <<<"$(execute cat "/proc/$1/limits")"
}

@test "a limit that the spec does not give is that of the program that asks for the process, as with runc" {
	own
	config 'del(.process.rlimits)'
	args sleep 10000
	(
		ulimit -Sn 3000
		ulimit -Hn 4000
		create
	)
	runch start "$ID"
	same "$(open_files 1)" "3000 4000"
	same "$(
		ulimit -Sn 2000
		open_files self
	)" "2000 $(ulimit -Hn)"
	# The guest's kernel applies the spec's limit: this one is higher than its default, and than hosts may allow.
	if is_runch; then
		process sh -c 'ulimit -n' | jq '.rlimits = [{type: "RLIMIT_NOFILE", soft: 2000000, hard: 2000000}]' >"$T/process.json"
		same "$(runch exec --process "$T/process.json" "$ID")" 2000000
	fi
}
