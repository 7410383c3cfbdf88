#!/bin/bash
# A containerd with its CRI plugin that shares nothing with another one on the machine: configuration, state, sockets,
# network, images and runtime are its own. The suites that run pods by crictl use it, and critest.
#
#	containerd_images DIR            makes the images for pods
#	containerd_begin DIR [IMAGES]    starts it, and a registry with the images
#	cri ARGUMENT...                  crictl
#	containerd_end                   ends both, and fails if anything is left

# crictl is built with critest (make critest-build).
CRICTL=${CRICTL:-$(echo "${EXTERNAL:-$(dirname "${BASH_SOURCE[0]}")/../build/external}"/cri-tools-*/crictl)}

# The names of the two images.
BUSYBOX=localhost/runch/busybox:latest
PAUSE=localhost/runch/pause:latest

# containerd_image NAME CONFIG NAMES...: makes an image of the busybox tree. containerd_layer can add a layer.
containerd_image() {
	local image=$IMAGES/$1
	mkdir -p "$image"
	ln -f "$IMAGES/busybox.tar" "$image/0.tar"
	printf '%s\n' "$2" >"$image/config.json"
	printf '%s\n' "${@:3}" >"$image/names"
}

# containerd_layer IMAGE TREE: adds a layer to an image. Its files belong to root.
containerd_layer() {
	tar -c -C "$2" --owner=0 --group=0 --numeric-owner --sort=name --mtime=@0 -f "$IMAGES/$1/1.tar" .
}

# containerd_images DIR: makes a directory for each image, in the form that tests/cmd/registry reads. As in busybox's
# own image, its programs are hard links, not symbolic ones.
containerd_images() {
	local link
	IMAGES=$1
	mkdir -p "$IMAGES"
	cp -a "$RUNCH_ROOTFS/busybox" "$IMAGES/tree"
	while read -r link; do
		ln -f "$IMAGES/tree/bin/busybox" "$link"
	done < <(find "$IMAGES/tree" -type l -lname /bin/busybox)
	tar -c -C "$IMAGES/tree" --owner=0 --group=0 --numeric-owner --sort=name --mtime=@0 -f "$IMAGES/busybox.tar" .
	rm -rf "$IMAGES/tree"
	containerd_image pause '{"Entrypoint": ["/usr/bin/tail", "-f", "/dev/null"]}' "${PAUSE#*/}"
	containerd_image busybox '{"Cmd": ["sh"], "Env": ["PATH=/bin:/sbin:/usr/bin:/usr/sbin"]}' "${BUSYBOX#*/}"
}

# containerd_config: writes the configuration of containerd, crictl and CNI.
containerd_config() {
	cat >"$CRI/config.toml" <<-CONFIG
		version = 2
		root = "$CRI/root"
		state = "$CRI/state"
		disabled_plugins = ["io.containerd.internal.v1.restart", "io.containerd.snapshotter.v1.aufs",
			"io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]

		[grpc]
		address = "$CRI/sock"

		[plugins."io.containerd.internal.v1.opt"]
		path = "$CRI/opt"

		[plugins."io.containerd.grpc.v1.cri"]
		sandbox_image = "$PAUSE"
		netns_mounts_under_state_dir = true
		restrict_oom_score_adj = ${RESTRICT_OOM_SCORE:-false}

		[plugins."io.containerd.grpc.v1.cri".cni]
		bin_dir = "/usr/lib/cni"
		conf_dir = "$CRI/cni"

		[plugins."io.containerd.grpc.v1.cri".registry.mirrors."*"]
		endpoint = ["http://$REGISTRY"]

		[plugins."io.containerd.grpc.v1.cri".containerd]
		default_runtime_name = "runch"

		[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runch]
		runtime_type = "io.containerd.runc.v2"
		privileged_without_host_devices = true

		[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runch.options]
		BinaryName = "$RUNCH"
		Root = "$CRI/runch"
	CONFIG
	printf '%s: "unix://%s/sock"\n' runtime-endpoint "$CRI" image-endpoint "$CRI" >"$CRI/crictl.yaml"
	echo 'timeout: 60' >>"$CRI/crictl.yaml"
	mkdir -p "$CRI/cni"
	cat >"$CRI/cni/10-runch.conflist" <<-CONFIG
		{
			"cniVersion": "0.4.0",
			"name": "pods",
			"plugins": [
				{
					"type": "bridge", "bridge": "pods", "isGateway": true, "ipMasq": true, "hairpinMode": true,
					"ipam": {
						"type": "host-local", "dataDir": "$CRI/ipam",
						"ranges": [[{"subnet": "10.88.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]
					}
				},
				{"type": "portmap", "capabilities": {"portMappings": true}}
			]
		}
	CONFIG
}

# containerd_begin DIR [IMAGES]: starts containerd and the registry. All their files are in DIR.
containerd_begin() {
	CRI=$1
	local images=${2:-$CRI/images} deadline=$((SECONDS + 60))
	REGISTRY_PID='' CONTAINERD_PID=''
	mkdir -p "$CRI"
	[ -d "$images" ] || containerd_images "$images"
	mkfifo "$CRI/registry"
	unshare --net sh -c 'ip link set lo up && exec "$@"' sh "$TOOLS/registry" "$images" >"$CRI/registry" 2>"$CRI/registry.log" </dev/null 3>&- &
	REGISTRY_PID=$!
	read -r -t 60 REGISTRY <"$CRI/registry"
	containerd_config
	nsenter --net="/proc/$REGISTRY_PID/ns/net" containerd --config "$CRI/config.toml" >"$CRI/log" 2>&1 </dev/null 3>&- &
	CONTAINERD_PID=$!
	until cri info >/dev/null 2>&1; do
		if [ $SECONDS -ge $deadline ] || [ ! -e "/proc/$CONTAINERD_PID" ]; then
			tail -n 20 "$CRI/log" >&2
			return 1
		fi
		sleep 0.1
	done
}

# containerd_end: removes the pods first, as otherwise their shims would not end. Then it ends containerd and the
# registry. If anything is left it lists that, removes it, and fails.
containerd_end() {
	local left id pid
	for id in $(cri pods --quiet 2>/dev/null); do
		cri rmp --force "$id" >/dev/null 2>&1 || true
	done
	for pid in $CONTAINERD_PID $REGISTRY_PID; do
		kill "$pid" || true
		# Not wait: the process may be another shell's child.
		timeout 10 tail --pid="$pid" -f /dev/null || true
	done
	left=$(containerd_left)
	[ -n "$left" ] || return 0
	printf 'left by containerd:\n%s\n' "$left"
	for id in $("$RUNCH" --root "$CRI/runch/k8s.io" list --quiet 2>/dev/null); do
		"$RUNCH" --root "$CRI/runch/k8s.io" delete --force "$id" || true
	done
	pgrep -f -- "-address $CRI/sock" | xargs -r kill
	awk -v dir="$CRI/" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo | tac | xargs -r umount
	return 1
}

# containerd_left: lists its shims, and the containers and mounts of its pods.
containerd_left() {
	pgrep -a -f -- "-address $CRI/sock" | sed 's/^/process /'
	find "$CRI/runch" -mindepth 2 -maxdepth 2 2>/dev/null | sed 's/^/state /'
	grep -F "$CRI/" /proc/self/mountinfo | sed 's/^/mount /'
	return 0
}

# in_network COMMAND...: runs the command in the network namespace of containerd, from which pods can be reached. It is
# that of the registry process: its addresses, bridge and NAT rules disappear with it.
in_network() {
	nsenter --net="/proc/$REGISTRY_PID/ns/net" "$@"
}

# cri ARGUMENT...: runs crictl, with a deadline.
cri() {
	in_network timeout --kill-after=5 "${DEADLINE:-120}" "$CRICTL" --config "$CRI/crictl.yaml" "$@" 3>&-
}
