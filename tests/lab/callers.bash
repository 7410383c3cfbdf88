#!/bin/bash
# For the suites of callers: a container image, and a check that nothing is left on the host.

load "$(dirname "${BASH_SOURCE[0]}")/../helpers"

IMAGE=localhost/busybox:lab

# image: imports the busybox tree as an image into podman's storage, unless it has it. The image sets PATH, as podman
# kube play sets none.
image() {
	podman image exists "$IMAGE" ||
		tar -C "$RUNCH_ROOTFS/busybox" -c . | podman import --quiet --change 'ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin' - "$IMAGE"
}

# on_terminal TEXT: runs a line of shell on a new terminal, which has no size until the line sets one.
on_terminal() {
	command script --quiet --return --command "$1" /dev/null
}

# record NAME: stores the present inventory of the host. unchanged NAME: whether the inventory is the same again.
record() {
	inventory >"$BATS_FILE_TMPDIR/$1"
}

unchanged() {
	inventory | diff "$BATS_FILE_TMPDIR/$1" -
}

# inventory: lists the processes, mounts, cgroups, sockets and files that a container could leave. Processes are only
# those of runch, and those that callers have for each container.
inventory() {
	ps -eo comm=,args= | grep -E '^(runch|qemu-system|cloud-hyperviso|virtiofsd|conmon|containerd-shim)' | sort
	cut -d ' ' -f 3- /proc/self/mountinfo | sed 's/ master:[0-9]*\| shared:[0-9]*//g' | sort
	find /sys/fs/cgroup -type d | grep -E 'libpod|runch|crio|/default/' | sort
	find /run/runch -mindepth 1 2>/dev/null | sort
	find /run/containerd/runc -mindepth 2 2>/dev/null | sort
	ss -Hxl | awk '{ print $5 }' | grep -E 'runch|conmon|/shim' | sort
	ip -o link | awk -F ': ' '{ print $2 }' | sort
	return 0
}

# soon_unchanged NAME: expects the inventory to be the same again within 10 s, and shows the difference otherwise.
soon_unchanged() {
	eventually 10 unchanged "$1" >/dev/null 2>&1 || unchanged "$1"
}
