#!/usr/bin/env bats
# Failures in the middle of `create`: it names the failed step in one line and has runc's exit code. If the VM is the
# cause, the line also names the console's log. Nothing is left: no process, mount, file or cgroup.

load helpers

setup() {
	needs_vm
	begin
	export RUNCH_TEMPLATES=never # these VMs boot, and fail at each point of that
	chmod 755 "$T"               # the VMM runs as nobody
}

teardown() {
	! mountpoint -q "$ROOT" || umount "$ROOT"
	finish
}

# fails TEXT: create ends with status 1 and one line with this text, and leaves nothing.
fails() {
	rm -rf "$T/logs"
	try runch create --bundle "$B" --pid-file "$B/pid" "$ID"
	same "$status" 1
	if [[ $stderr != *"$1"* ]]; then
		echo "these words are missing: $1"
		return 1
	fi
	same "$(wc -l <"$T/.err")" 1
	[ ! -e "$B/pid" ]
	# At once: everything is gone when create returns.
	clean || {
		leftovers
		return 1
	}
}

# fails_in_vm TEXT: like fails, because of the VM or its guest. The line names the console's log, which is there.
fails_in_vm() {
	local log
	fails "$1"
	log=$(grep -o "$T/logs/[^ )]*\.log" <<<"$stderr" | head -n 1)
	[ -f "$log" ]
	same "$(stat -c %a "$log")" 600
}

# fails_in_container TEXT: like fails, because of the container's configuration. The guest works, so its console is
# neither kept nor mentioned.
fails_in_container() {
	fails "$1"
	[[ $stderr != *console* ]]
	[ ! -e "$T/logs" ]
}

# fake NAME: makes a program $T/NAME to replace a real one, from the script on stdin.
fake() {
	cat >"$T/$1"
	chmod 755 "$T/$1"
}

# guest SCRIPT: makes an initramfs whose init is this shell script, and selects it.
guest() {
	mkdir -p "$T/guest/bin"
	cp "$RUNCH_ROOTFS/busybox/bin/busybox" "$T/guest/bin/"
	printf '#!/bin/busybox sh\n%s\n' "$1" >"$T/guest/init"
	chmod 755 "$T/guest/init"
	(cd "$T/guest" && find . | busybox cpio -o -H newc 2>/dev/null) >"$T/initramfs"
	export RUNCH_INITRAMFS=$T/initramfs
}

# --- before there is a VM ---

@test "no kernel" {
	bundle
	RUNCH_KERNEL=$T/none fails "kernel: stat $T/none: no such file or directory"
	mkdir "$T/dir"
	RUNCH_KERNEL=$T/dir fails "kernel: $T/dir is not a file"
	: >"$T/empty"
	RUNCH_KERNEL=$T/empty fails "kernel: $T/empty is not a file, or is empty"
}

@test "no initramfs" {
	bundle
	RUNCH_INITRAMFS=$T/none fails "initramfs: stat $T/none: no such file or directory"
}

@test "a volume that cannot be id-mapped" {
	bundle
	mkdir "$B/ram"
	config --arg source "$B/ram" '[{hostID: 1000, size: 1}] as $ids
		| .mounts += [{destination: "/x", type: "bind", source: $source, uidMappings: $ids, gidMappings: $ids}]'
	# No kernel id-maps a ramfs. It is mounted in a mount namespace of its own, so that it goes with that.
	fake with-ramfs <<-END
		#!/bin/sh
		exec unshare --mount sh -c 'mount -t ramfs ram "$B/ram" && exec "$RUNCH" "\$@"' sh "\$@"
	END
	RUNCH=$T/with-ramfs fails "share the volume $B/ram: failed to set MOUNT_ATTR_IDMAP on $B/ram: invalid argument"
	config '.mounts[-1].uidMappings[0].size = 0'
	fails "share the volume $B/ram: failed to create userns for $B/ram id-mapping: invalid argument"
}

@test "no virtiofsd, or one that cannot be run" {
	bundle
	RUNCH_VIRTIOFSD=$T/none fails "virtiofsd: stat $T/none: no such file or directory"
	echo text >"$T/text"
	RUNCH_VIRTIOFSD=$T/text fails "$T/text: permission denied"
}

@test "no VMM, or one that cannot be run" {
	bundle
	with_vmm "$T/none" fails "$T/none: no such file or directory"
	echo text >"$T/text"
	with_vmm "$T/text" fails "$T/text cannot be run: permission denied"
}

@test "a hook that fails" {
	bundle
	config '.hooks.createRuntime = [{"path": "/bin/sh", "args": ["sh", "-c", "echo its words >&2; exit 3"]}]'
	fails "createRuntime hook #0"
	[[ $stderr == *"its words"* ]]
}

# --- programs that die or do nothing ---

@test "virtiofsd ends at once" {
	bundle
	fake virtiofsd <<-'END'
		#!/bin/sh
		echo what virtiofsd has to say >&2
		exit 3
	END
	RUNCH_VIRTIOFSD=$T/virtiofsd fails_in_vm "virtiofsd ended: exit status 3"
	[[ $stderr == *"what virtiofsd has to say"* ]]
}

@test "the VMM ends at once, with an error or without" {
	bundle
	fake vmm <<-'END'
		#!/bin/sh
		echo what the VMM has to say >&2
		exit 3
	END
	with_vmm "$T/vmm" fails_in_vm "exit status 3"
	[[ $stderr == *"start the VM"* && $stderr == *"what the VMM has to say"* ]]
	with_vmm /bin/true fails_in_vm "start the VM"
}

@test "the VMM does nothing" {
	bundle
	fake vmm <<-'END'
		#!/bin/sh
		exec sleep 1000
	END
	RUNCH_BOOT_TIMEOUT=2s with_vmm "$T/vmm" within 10000 fails_in_vm "start the VM: "
	[[ $stderr == *"not within 2s (boot_timeout)"* ]]
}

@test "the VMM is killed while the guest boots" {
	bundle
	fake vmm <<-END
		#!/bin/sh
		(sleep 1; kill -KILL \$\$) >/dev/null 2>&1 &
		exec $VMM_PROGRAM "\$@"
	END
	# On a slow machine the VMM is killed before the guest has started. The rest of the message differs then.
	with_vmm "$T/vmm" fails_in_vm "ended with signal: killed"
}

@test "the shim is killed while the guest boots" {
	bundle
	# The VMM's command line has the container's id; the shim is its parent.
	kill_shim() {
		local vmm
		eventually 20 pgrep -f "^[^ ]*${VMM_KIND:0:4}[^ ]* .*$ID" >/dev/null
		vmm=$(pgrep -n -f "^[^ ]*${VMM_KIND:0:4}[^ ]* .*$ID")
		kill -KILL "$(ps -o ppid= "$vmm" | xargs)"
	}
	helper kill_shim
	fails "the shim ended"
	wait "$helper"
}

@test "virtiofsd is killed while the guest boots" {
	bundle
	# The directory has the name of the real one's: runch recognizes the kind of virtiofsd by its path.
	local real place
	real=$(runch env --format json | jq -r '.virtiofsd.path // empty')
	[ -x "$real" ]
	place=$(basename "$(dirname "$real")")
	mkdir "$T/$place"
	fake "$place/virtiofsd" <<-END
		#!/bin/sh
		(sleep 1; kill -KILL \$\$) >/dev/null 2>&1 &
		exec $real "\$@"
	END
	RUNCH_VIRTIOFSD=$T/$place/virtiofsd fails_in_vm "virtiofsd ended: signal: killed"
}

# --- guests that do not come up ---

@test "a kernel that is none" {
	bundle
	head -c 1M /dev/urandom >"$T/kernel"
	RUNCH_KERNEL=$T/kernel fails_in_vm "start the VM: boot: "
}

@test "an initramfs that is none: the kernel's last words are shown" {
	bundle
	head -c 1M /dev/urandom >"$T/initramfs"
	RUNCH_INITRAMFS=$T/initramfs fails_in_vm "boot the guest: the VM ended"
	[[ $stderr == *"Kernel panic - not syncing: "* ]]
}

@test "a guest that turns itself off" {
	bundle
	guest '/bin/busybox poweroff -f'
	fails_in_vm "boot the guest: the VM ended"
}

@test "a guest whose agent never answers" {
	bundle
	guest 'echo the guest is up >/dev/console; while :; do /bin/busybox sleep 1000; done'
	RUNCH_BOOT_TIMEOUT=8s within 15000 fails_in_vm "boot the guest: the agent has not answered: not within 8s (boot_timeout)"
}

# --- the container ---

# bats test_tags=contract:14
@test "a command that the root file system does not have" {
	bundle
	args no-such-command
	fails_in_container 'executable file not found in $PATH'
}

@test "a directory to work in that the root file system cannot have" {
	bundle
	config '.process.cwd = "/etc/passwd/x"'
	fails_in_container "not a directory"
}

@test "a disk that is full, at the first step or at the last" {
	bundle
	args sleep 1000
	mkdir -p "$ROOT"
	local size
	for size in 4k 8k; do
		mount -t tmpfs -o "size=$size" tmpfs "$ROOT"
		try runch create --bundle "$B" --pid-file "$B/pid" "$ID"
		same "$(find "$ROOT" -mindepth 1)" ""
		umount "$ROOT"
		same "$status" 1
		[[ $stderr == *"write state: "*"no space left on device"* ]]
		same "$(wc -l <"$T/.err")" 1
		[ ! -e "$B/pid" ]
		clean
	done
	# With room for the records, and for a page of the VMM's log in case it has warnings about the host, create works.
	# If the disk is full after that, exec and delete still work.
	mount -t tmpfs -o size=16k tmpfs "$ROOT"
	launch
	! dd if=/dev/zero of="$ROOT/full" bs=4k status=none || return
	execute true
	runch delete --force "$ID"
	rm "$ROOT/full"
	gone
	same "$(find "$ROOT" -mindepth 1)" ""
}

# no_more: no process of the test is left.
no_more() {
	[ -z "$(new_orphans)" ]
}

made_or_no_more() {
	[ "$(runch state "$ID" 2>/dev/null | jq -r .status)" = created ] || no_more
}

# bats test_tags=contract:8
@test "a create that is killed at any moment leaves no process, and nothing at all after delete --force" {
	bundle
	args sleep 1000
	local round ms rounds=3 # not i, which is a variable of bats' run
	[ "$RUNCH_TEST_LONG" = 0 ] || rounds=50
	for ((round = 0; round < rounds; round++)); do
		ms=$((RANDOM % 5000))
		echo "killed after $ms ms"
		rm -f "$B/pid"
		helper "$RUNCH" --root "$ROOT" create --bundle "$B" --pid-file "$B/pid" "$ID" </dev/null >"$B/stdout" 2>"$B/stderr"
		sleep "$((ms / 1000)).$(printf %03d $((ms % 1000)))" # to kill it at a random moment
		kill -KILL "$helper" 2>/dev/null || true
		status=0
		wait "$helper" || status=$?
		if [ "$status" != 0 ] && [ -e "$B/pid" ]; then
			# create may have sent the commit before it was killed: the container then exists.
			eventually 5 made_or_no_more
		elif [ "$status" != 0 ]; then
			eventually 5 no_more
			run ! grep -F "$T/" /proc/self/mountinfo
		fi
		runch delete --force "$ID"
		clean || {
			leftovers
			return 1
		}
	done
}

@test "a console log that cannot be kept does not hide the error" {
	bundle
	: >"$T/file"
	RUNCH_LOG_DIR=$T/file with_vmm /bin/false fails "start the VM"
}

@test "of the logs of failed boots only the latest are kept" {
	bundle
	local i
	for ((i = 0; i < 18; i++)); do
		with_vmm /bin/false try runch create --bundle "$B" "$ID"
		same "$status" 1
	done
	same "$(find "$T/logs" -name '*.log' | wc -l)" 16
}
