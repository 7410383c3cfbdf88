#!/bin/bash
# What the suites of callers share: an image of their own making, and a look for what is left.

load "$(dirname "${BASH_SOURCE[0]}")/../helpers"

IMAGE=localhost/busybox:lab

# image: the busybox tree as an image in podman's storage, once for whoever runs this. Where podman knows no other PATH
# (kube play), it is the image's.
image() {
	podman image exists "$IMAGE" ||
		tar -C "$RUNCH_ROOTFS/busybox" -c . | podman import --quiet --change 'ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin' - "$IMAGE"
}

# on_terminal TEXT: a line of shell on a terminal of its own, which has no size until the line sets one.
on_terminal() {
	command script --quiet --return --command "$1" /dev/null
}

# record NAME: notes what there is of the host now; `unchanged NAME` compares.
record() {
	inventory >"$BATS_FILE_TMPDIR/$1"
}

unchanged() {
	inventory | diff "$BATS_FILE_TMPDIR/$1" -
}

# inventory: the processes, mounts, cgroups, sockets and files that a container could leave. Of processes only
# those count that are ours or a caller's for one container.
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

# soon_unchanged NAME: what was made is gone within 10 s, or is shown.
soon_unchanged() {
	eventually 10 unchanged "$1" >/dev/null 2>&1 || unchanged "$1"
}
