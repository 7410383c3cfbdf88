#!/bin/bash
# A clean Debian to install the package in, called the machine. It has mount, pid and network namespaces of its own and
# its own root, an overlay on build/rootfs/host. Its /tmp is $MACHINE, a directory of this host. It has no network.

# machine_start: starts the machine, and sets MACHINE and MACHINE_PID, the pid of its first process.
machine_start() {
	MACHINE=$(mktemp -d /tmp/rt-machine.XXXXXX)
	cp "$TOOLS/subreaper" "$MACHINE/"
	# shellcheck disable=SC2016 # the machine's shell expands it
	unshare --mount --propagation private --pid --net --fork --kill-child bash -euc '
		disk=$(mktemp -d "$0/disk.XXXXXX")
		mount -t tmpfs -o size=1G disk "$disk"
		mkdir "$disk"/{upper,work,root}
		mount -t overlay -o "lowerdir=$1,upperdir=$disk/upper,workdir=$disk/work" machine "$disk/root"
		cd "$disk/root"
		mount -t proc proc proc
		mount --rbind /sys sys
		mount --rbind /dev dev
		mount -t tmpfs run run
		mount --bind "$0" tmp
		pivot_root . mnt
		umount --lazy /mnt
		cd /
		touch /tmp/up
		exec /tmp/subreaper watch --log /tmp/reaped -- sleep infinity' \
		"$MACHINE" "$RUNCH_ROOTFS/host" </dev/null >"$MACHINE/log" 2>&1 3>&- &
	MACHINE_PARENT=$!
	eventually 20 [ -e "$MACHINE/up" ] || {
		cat "$MACHINE/log"
		return 1
	}
	MACHINE_PID=$(pgrep --parent "$MACHINE_PARENT")
	export MACHINE MACHINE_PARENT MACHINE_PID
}

# machine_stop: kills the machine's first process, and with it all other processes and mounts in it.
machine_stop() {
	[ -n "${MACHINE:-}" ] || return 0
	kill -KILL "$MACHINE_PARENT" 2>/dev/null || true
	wait "$MACHINE_PARENT" 2>/dev/null || true
	rm -rf "$MACHINE"
}

# inside COMMAND...: runs the command in the machine, with the environment of root after a login.
inside() {
	timeout --foreground --kill-after=5 120 nsenter --target "$MACHINE_PID" --mount --pid --net --root --wd \
		env -i HOME=/root LC_ALL=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@" 3>&-
}

# machine_dpkg ARGUMENT...: runs dpkg in the machine, and shows its output only if it fails.
machine_dpkg() {
	inside dpkg --force-confdef --force-confold "$@" >"$T/dpkg" 2>&1 </dev/null || {
		cat "$T/dpkg"
		return 1
	}
}

# machine_files: prints type and name of all files in the machine, without the databases of dpkg and man-db.
machine_files() {
	inside find / /run -xdev \( -path /tmp -o -path /var/lib/dpkg -o -path /var/cache/man \) -prune -o -printf '%y %p\n' |
		grep -vxE 'f /var/log/dpkg.log' | LC_ALL=C sort
}

# machine_bundle: makes a bundle in $B, which is /tmp/$ID in the machine.
machine_bundle() {
	B=$MACHINE/$ID
	bundle
}

# machine_launch: creates and starts $ID from its bundle by the machine's runch. Sets PID to its pid there.
machine_launch() {
	inside runch create --bundle "/tmp/$ID" --pid-file "/tmp/$ID/pid" "$ID" </dev/null >"$B/stdout" 2>"$B/stderr" || {
		cat "$B/stderr"
		return 1
	}
	PID=$(<"$B/pid")
	inside runch start "$ID"
}
