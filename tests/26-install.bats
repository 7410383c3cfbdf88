#!/usr/bin/env bats
# `runch install` configures the callers on this machine, and `runch check` shows their configuration. Each test has an
# /etc of its own in a mount namespace: an overlay over the machine's.

load lab/callers
load containerd

setup_file() {
	if ! is_runch; then
		skip "this is about runch's own installation, and ${RUNCH##*/} is another runtime"
	fi
}

setup() {
	begin
	mkdir -p "$T/over" "$ROOT"
	# Callers pass no --root, so the test's state directory is mounted on the default one.
	# shellcheck disable=SC2016 # the namespace's shell expands it
	helper unshare --mount sh -ec '
		mount -t tmpfs none "$1/over"
		mkdir -p "$1/over/upper" "$1/over/work" /run/runch
		mount -t overlay -o "lowerdir=/etc,upperdir=$1/over/upper,workdir=$1/over/work" none /etc
		mount --bind "$2" /run/runch
		echo $$ >"$1/machine"
		exec sleep infinity' sh "$T" "$ROOT"
	eventually 10 [ -s "$T/machine" ]
	here mkdir -p /etc/containers /etc/containerd /etc/docker
	# What podman needs on a host that is a container itself.
	write /etc/containers/containers.conf <<-EOT
		[containers]
		default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
		[engine]
		cgroup_manager = "cgroupfs"
		events_logger = "file"
		lock_type = "file"
	EOT
	here mkdir -p /etc/runch
	write /etc/runch/config.toml <<<"log_dir = \"$T/logs\""
	inventory_of_etc >"$T/before"
}

teardown() {
	finish
}

# here COMMAND...: runs the command on the machine with the test's /etc.
here() {
	timeout --foreground --kill-after=5 "${DEADLINE:-120}" nsenter --target "$(<"$T/machine")" --mount -- "$@" 3>&-
}

# write FILE: writes stdin to the file.
write() {
	here tee "$1" >/dev/null
}

install() {
	here "$RUNCH" install "$@"
}

# inventory_of_etc: prints the files of /etc with types, modes, owners, link targets and checksums.
inventory_of_etc() {
	here sh -c 'find /etc -printf "%p %y %m %u %l\n" | sort; find /etc -type f -exec sha256sum {} + | sort'
}

etc_unchanged() {
	inventory_of_etc | diff "$T/before" -
}

# refused TEXT ARGUMENT...: expects install to fail with the text and to write nothing.
refused() {
	inventory_of_etc >"$T/then"
	try install "${@:2}"
	same "$status" 1
	[[ $stderr == *"$1"* ]]
	inventory_of_etc | diff "$T/then" -
	same "$(find /tmp -maxdepth 1 -name '*runch-install-*')" ""
}

# installs FILE ARGUMENT...: expects install to write the file, and to do nothing the second time.
installs() {
	local inode
	try install "${@:2}"
	same "$status $stderr" "0 "
	[[ $output == "wrote $1"* ]]
	inode=$(here stat -c '%i %Y' "$1")
	try install "${@:2}"
	same "$status $output" "0 nothing to do: $1 is as it should be"
	same "$(here stat -c '%i %Y' "$1")" "$inode"
}

# podman WORD...: runs podman with the test's own storage and networks, and the configuration in /etc. By default
# podman's first command would make locks of its networks in /etc.
podman() {
	here podman --root "$T/storage" --runroot "$T/run" --tmpdir "$T/tmp" --network-config-dir "$T/networks" --storage-driver vfs "$@"
}

# podmans_runtime WORD...: prints the path of the runtime that podman would call.
podmans_runtime() {
	podman "$@" info --format '{{.Host.OCIRuntime.Path}}'
}

# finding NAME: prints this finding of check, as JSON.
finding() {
	here "$RUNCH" check --format json | jq -c --arg name "$1" '.[] | select(.name == $name) | [.ok, .detail, .fix]'
}

@test "podman: after install it knows runch by its name and runs a container by it, after --remove it does not" {
	local kernel
	try podmans_runtime --runtime runch
	[ "$status" -ne 0 ]
	installs /etc/containers/containers.conf.d/runch.conf podman
	same "$(podmans_runtime --runtime runch)" "$RUNCH"
	[ "$(podmans_runtime)" != "$RUNCH" ]

	tar -C "$RUNCH_ROOTFS/busybox" -c . | podman import --quiet - "$IMAGE"
	kernel=$("$RUNCH" env --format json | jq -r .kernel.version)
	same "$(podman --runtime runch run --rm --network none "$IMAGE" uname -r)" "$kernel"
	# podman reads runch's errors, as runch is in the list runtime_supports_json.
	try podman --runtime runch run --rm --network none "$IMAGE" /no/such/command
	same "$status" 127

	installs /etc/containers/containers.conf.d/runch.conf podman --default
	same "$(podmans_runtime)" "$RUNCH"
	# The default lasts until it is taken back.
	try install podman
	[[ $output == "nothing to do"* ]]
	install podman --default=false
	[ "$(podmans_runtime)" != "$RUNCH" ]

	try install podman --remove
	same "$status $(head -n 1 <<<"$output")" "0 removed /etc/containers/containers.conf.d/runch.conf"
	try podmans_runtime --runtime runch
	[ "$status" -ne 0 ]
	try install podman --remove
	[[ $output == "nothing to do"* ]]
	same "$(podman ps --all --quiet)" ""
	etc_unchanged
}

@test "podman: what other files say of its lists of runtimes goes on to hold" {
	here mkdir -p /etc/containers/containers.conf.d
	write /etc/containers/containers.conf.d/10-mine.conf <<<$'[engine]\nruntime_supports_json = ["mine"]'
	install podman
	here cat /etc/containers/containers.conf.d/runch.conf >"$T/conf"
	says 'runtime_supports_json = ["mine", "runch"]' "$T/conf"
	# A later file overrides the list, and check reports that.
	write /etc/containers/containers.conf.d/zz.conf <<<$'[engine]\nruntime_supports_json = ["mine"]'
	[[ $(finding podman) == '[false,'*'runch is not in runtime_supports_json"'* ]]
}

# containerd_config: overrides the function that containerd_begin calls. It writes the suites' configuration without the
# runtime, and lets install add that.
eval "suites_$(declare -f containerd_config)"
containerd_config() {
	suites_containerd_config
	sed -i -e '/runtimes\.runch\]/,$d' -e 's/default_runtime_name = "runch"/default_runtime_name = "runc" # mine/' "$CRI/config.toml"
	cp "$CRI/config.toml" "$T/config.toml"
	here ln -sf "$CRI/config.toml" /etc/containerd/config.toml
	installs /etc/containerd/config.toml containerd
	installs /etc/containerd/config.toml containerd --default
}

@test "containerd: after install its CRI plugin knows runch and runs a pod by it; all else of config.toml stays" {
	[ -d /usr/lib/cni ] || skip "there are no CNI plugins: this is for a machine that scripts/deps test was run on"
	local pod
	containerd_begin "$T/cri"
	cri info >"$T/info"
	same "$(jq -r '.config.containerd.runtimes.runch | .runtimeType, .options.BinaryName' "$T/info")" "io.containerd.runc.v2"$'\n'"$RUNCH"
	same "$(jq -r '.config.containerd.defaultRuntimeName, .config.cni.binDir' "$T/info")" $'runch\n/usr/lib/cni'
	jq -n '{metadata: {name: "pod", namespace: "test", uid: "pod"}, linux: {cgroup_parent: "/runch-test/install"}}' >"$T/pod.json"
	pod=$(cri runp --runtime runch "$T/pod.json")
	runch --root /run/containerd/runc/k8s.io list --quiet | grep -x "$pod"
	cri rmp --force "$pod" >/dev/null
	containerd_end
	[ ! -e "/run/containerd/runc/k8s.io/$pod" ]
	find /sys/fs/cgroup -ignore_readdir_race -depth -type d -path '*/runch-test/install*' -exec rmdir {} + 2>/dev/null || true

	install containerd --remove
	cmp "$CRI/config.toml" "$T/config.toml"
}

@test "containerd: the machine's own config.toml, one that says everything, and none" {
	# containerd's own runtime stays, and stays the default: without it the CRI plugin would not be loaded.
	installs /etc/containerd/config.toml containerd
	here containerd config dump >"$T/dump"
	says 'default_runtime_name = "runc"' "$T/dump"
	says '.containerd.runtimes.runc]' "$T/dump"
	says '.containerd.runtimes.runch]' "$T/dump"
	installs /etc/containerd/config.toml containerd --default
	here containerd config dump >"$T/dump"
	says "BinaryName = \"$RUNCH\"" "$T/dump"
	says 'default_runtime_name = "runch"' "$T/dump"
	# What the file said is still there: an imported file would have replaced the plugin's section.
	here cat /etc/containerd/config.toml >"$T/config.toml"
	! grep -q '^ *bin_dir' "$T/config.toml" || same "$(grep -c 'bin_dir = "/usr/lib/cni"' "$T/dump")" 1
	install containerd --remove
	etc_unchanged
	# This file sets the default: install replaces the line, and --remove restores it.
	containerd config default | tee "$T/all.toml" | write /etc/containerd/config.toml
	installs /etc/containerd/config.toml containerd --default
	same "$(here containerd config dump | grep -c 'default_runtime_name = "runch"')" 1
	install containerd --remove
	here cmp /etc/containerd/config.toml "$T/all.toml"
	here rm -f /etc/containerd/config.toml
	installs /etc/containerd/config.toml containerd
	here containerd config dump >"$T/dump"
	says '.containerd.runtimes.runc]' "$T/dump"
	install containerd --remove
	here sh -c '[ ! -e /etc/containerd ]'
}

@test "docker: daemon.json is merged: other keys, numbers, their order and the mode stay; the default comes and goes" {
	printf '{\n  "mtu": 1450,\n  "runtimes": {\n    "crun": {"path": "/usr/bin/crun"}\n  },\n  "log-opts": {"max-size": "10m"}\n}\n' |
		write /etc/docker/daemon.json
	here chmod 640 /etc/docker/daemon.json
	inventory_of_etc >"$T/before"
	here cat /etc/docker/daemon.json >"$T/mine"
	installs /etc/docker/daemon.json docker --default
	here cat /etc/docker/daemon.json >"$T/merged"
	same "$(jq -c keys_unsorted "$T/merged")" '["mtu","runtimes","log-opts","default-runtime"]'
	same "$(jq -c --arg path "$RUNCH" '.runtimes == {crun: {path: "/usr/bin/crun"}, runch: {path: $path}}' "$T/merged")" true
	same "$(here stat -c %a /etc/docker/daemon.json)" 640
	# Nothing but runch's settings has changed.
	same "$(diff <(jq . "$T/mine") <(jq 'del(.runtimes.runch, ."default-runtime")' "$T/merged"))" ""
	install docker --default=false
	same "$(here jq 'has("default-runtime")' /etc/docker/daemon.json)" false
	install docker --default
	install docker --remove
	etc_unchanged
}

@test "docker: without a daemon.json there is one afterwards, and none after --remove" {
	here rm -rf /etc/docker
	inventory_of_etc >"$T/before"
	installs /etc/docker/daemon.json docker
	same "$(here jq -r .runtimes.runch.path /etc/docker/daemon.json)" "$RUNCH"
	install docker --remove
	etc_unchanged
}

@test "CRI-O: a handler, and a default that comes and goes with it" {
	# Debian has no package of CRI-O. This fake records the drop-ins that it is given to read; one of them is a link.
	here mkdir -p /etc/crio/crio.conf.d /etc/crio/templates
	write /etc/crio/templates/mine.conf <<<'# mine'
	here ln -s ../templates/mine.conf /etc/crio/crio.conf.d/10-mine.conf
	inventory_of_etc >"$T/before"
	mkdir "$T/bin"
	printf '#!/bin/sh\ncase $1 in --config-dir) cat "$2"/* >%s ;; *) echo crio version 1.30.0 ;; esac\n' "$T/read" >"$T/bin/crio"
	chmod +x "$T/bin/crio"
	PATH=$T/bin:$PATH installs /etc/crio/crio.conf.d/50-runch.conf crio
	says '# mine' "$T/read"
	says "runtime_path = \"$RUNCH\"" "$T/read"
	here cat /etc/crio/crio.conf.d/50-runch.conf >"$T/conf"
	says "runtime_path = \"$RUNCH\"" "$T/conf"
	same "$(grep -c default_runtime "$T/conf")" 0
	install crio --default
	here grep -q 'default_runtime = "runch"' /etc/crio/crio.conf.d/50-runch.conf
	install crio --remove
	etc_unchanged
}

@test "Kubernetes: a RuntimeClass whose overhead is that of the configuration" {
	install kubernetes >"$T/class"
	says 'handler: runch' "$T/class"
	says 'memory: 384Mi' "$T/class"
	RUNCH_OVERHEAD=200M install kubernetes >"$T/class"
	says 'memory: 456Mi' "$T/class"
	etc_unchanged
}

@test "--dry-run shows the change, which patch(1) could make, and writes nothing" {
	local caller
	for caller in podman containerd crio docker; do
		try install "$caller" --dry-run --default
		same "$status" 0
		[[ $output == *"+++ /etc/"*"+"*"$RUNCH"* ]]
	done
	etc_unchanged
	install docker
	try install docker --remove --dry-run
	[[ $output == *"--- /etc/docker/daemon.json"*"+++ /dev/null"* ]]
	here sh -c '[ -s /etc/docker/daemon.json ]'
}

@test "--sysroot: the files go into a directory, the path is that in it, and no program is started" {
	mkdir -p "$T/tree/usr/bin" "$T/bin"
	cp "$RUNCH" "$T/tree/usr/bin/"
	local caller
	for caller in podman containerd dockerd crio; do
		printf '#!/bin/sh\ntouch %s\n' "$T/started" >"$T/bin/$caller"
		chmod +x "$T/bin/$caller"
	done
	for caller in podman containerd docker crio; do
		PATH=$T/bin:$PATH "$T/tree/usr/bin/runch" install "$caller" --sysroot "$T/tree" >>"$T/said"
	done
	says "wrote $T/tree/etc/docker/daemon.json" "$T/said"
	same "$(grep -rlF '"/usr/bin/runch"' "$T/tree/etc" | wc -l)" 4
	[ ! -e "$T/started" ]
	for caller in podman containerd docker crio; do
		"$T/tree/usr/bin/runch" install "$caller" --sysroot "$T/tree" --remove >/dev/null
	done
	same "$(find "$T/tree" | sort)" "$(printf '%s\n' "$T/tree" "$T"/tree/{etc,usr,usr/bin,usr/bin/runch})"
	etc_unchanged
}

@test "what somebody else wrote for a runtime of this name is left alone" {
	here mkdir -p /etc/containers/containers.conf.d
	write /etc/containers/containers.conf.d/runch.conf <<<'[engine.runtimes]'
	refused "not written by runch install" podman
	refused "not written by runch install" podman --remove
	write /etc/docker/daemon.json <<<'{"runtimes": {"runch": {"path": "/opt/wrapper"}}}'
	refused "/opt/wrapper" docker
	refused "/opt/wrapper" docker --remove
	write /etc/containerd/config.toml <<<$'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runch]'
	refused "remove that table first" containerd
}

@test "what cannot be done is refused before anything is written" {
	refused "unknown caller" lxc
	refused "leave that out" podman --remove --default
	refused "requires exactly 0" podman now
	refused "not a directory" docker --sysroot /etc/passwd
	refused "no such file" docker --sysroot "$T/none"
	write /etc/docker/daemon.json <<<'{"mtu": 1450,}'
	refused "/etc/docker/daemon.json: it is not an object in JSON" docker
	write /etc/containerd/config.toml <<<'version = '
	refused "/etc/containerd/config.toml: line 1" containerd
	try here setpriv --reuid 65534 --regid 65534 --clear-groups "$RUNCH" install docker
	same "$status" 1
	[[ $stderr == *"run this as root"* ]]
}

@test "what the caller's own program does not take is not put in place" {
	write /etc/containerd/config.toml <<<$'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\nsandbox_image = 5'
	refused "containerd does not take this for /etc/containerd/config.toml" containerd
	write /etc/containerd/config.toml <<<$'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun]\nruntime_type = "x"'
	refused 'there is no such table in runtimes: add that first' containerd
	mkdir "$T/bin"
	printf '#!/bin/sh\ncase $* in *version) echo podman version 4.9.9 ;; *) echo some words; echo "Error: no good" >&2; exit 125 ;; esac\n' >"$T/bin/podman"
	chmod +x "$T/bin/podman"
	PATH=$T/bin:$PATH refused "Error: no good" podman
}

@test "a caller that does not answer is waited for until a signal comes, and nothing is left" {
	mkdir "$T/bin"
	printf '#!/bin/sh\ncase $* in *version) echo podman version 4.9.9 ;; *) touch %s; exec sleep 1000 ;; esac\n' "$T/asked" >"$T/bin/podman"
	chmod +x "$T/bin/podman"
	helper env PATH="$T/bin:$PATH" nsenter --target "$(<"$T/machine")" --mount -- "$RUNCH" install podman
	eventually 10 [ -e "$T/asked" ]
	kill -TERM "$helper"
	eventually 5 dead "$helper"
	same "$(find /tmp -maxdepth 1 -name '*runch-install-*')" ""
	etc_unchanged
}

@test "check says what each caller knows of this program, and what to do" {
	same "$(finding podman | jq -c '[.[0], .[2]]')" '[false,"runch install podman"]'
	[[ $(finding podman) == *"$(command podman --version | grep -oE '[0-9.]+' | head -n 1): its configuration does not have runch"* ]]
	# check does not mention callers that are not installed.
	command -v dockerd >/dev/null || same "$(finding docker)" ""
	command -v crio >/dev/null || same "$(finding crio)" ""
	install podman
	install containerd --default
	[[ $(finding podman) == '[true,'*": it calls $RUNCH"'",null]' ]]
	[[ $(finding containerd) == '[true,'*": it calls $RUNCH by default"'",null]' ]]
	# A caller that is configured for another program.
	cp "$RUNCH" "$T/runch"
	try here "$T/runch" check
	grep -E "^podman +absent .*it calls $RUNCH, which is not this program" <<<"$output"
	# A broken configuration of a caller does not make check fail.
	write /etc/containers/containers.conf.d/zz.conf <<<'['
	try here "$RUNCH" check
	same "$status" 0
	grep -E "^podman +absent .*zz.conf" <<<"$output"
}

@test "check --run runs a container without any image, and leaves nothing" {
	try here "$RUNCH" check --run
	same "$status $stderr" "0 "
	grep -E '^container +ok +one ran and is gone again, in [0-9.]+s$' <<<"$output"
	same "$(find "$ROOT" -mindepth 1)" ""
	RUNCH_KERNEL_PARAMS='panic=1 init=/none rdinit=/none' RUNCH_BOOT_TIMEOUT=20s try here "$RUNCH" check --run
	same "$status" 1
	grep -E '^container +FAILED ' <<<"$output"
	[[ $stderr == *"a container does not run"* ]]
	same "$(
		find "$ROOT" -mindepth 1
		find /tmp -maxdepth 1 -name 'runch-check-*'
	)" ""
}
