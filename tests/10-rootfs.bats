#!/usr/bin/env bats
# Root file systems of each kind: real ones, read-only ones, overlays, volumes, id-mapped ones, and hostile ones, whose
# links try to lead the runtime out of the tree.

load helpers

setup() {
	begin
}

teardown() {
	# Tests mount only below their own directory.
	awk -v under="$T/" 'index($5, under) == 1 { print $5 }' /proc/self/mountinfo | tac | xargs -r -n 1 umount --lazy
	finish
}

# ran STATUS: runs the container in the foreground and expects this exit status. Sets $output and $stderr.
ran() {
	try runch run --bundle "$B" "$ID"
	same "$status" "$1"
}

# bind SOURCE DESTINATION OPTION...: adds a bind mount to config.json.
bind() {
	config '.mounts += [{"type": "bind", "source": $ARGS.positional[0], "destination": $ARGS.positional[1],
		"options": (["bind"] + $ARGS.positional[2:])}]' --args -- "$@"
}

# tree DIR: lists a directory with types, modes, sizes and link targets, to see whether anything has changed.
tree() {
	(cd "$1" && find . -printf '%P %y %m %s %l\n' | sort)
}

# --- kinds of root file systems ---

@test "a Debian tree, with more files than the caller may open" {
	bundle debian
	script 'cat /etc/debian_version; perl -e "print 6 * 7"; find /usr/bin /usr/sbin -ls >/dev/null || exit; exit 3'
	ulimit -S -n 256
	ran 3
	same "$output" "$(<"$RUNCH_ROOTFS/debian/etc/debian_version")"$'\n'42
}

@test "a tree with one static program and nothing else, not even the directories for the mounts" {
	mkdir -p "$B/rootfs"
	cp "$RUNCH_ROOTFS/static/app" "$B/rootfs/"
	cp "$TESTS/config.json" "$B/"
	config --arg path "/runch-test/$ID" '.linux.cgroupsPath = $path'
	args /app self
	ran 0
	jq -e '.pid == 1 and .uid == 0 and .cwd == "/" and .hostname == "guest"' <<<"$output"
}

@test "a root file system on an overlay of the Debian tree: the lower tree does not change" {
	bundle
	local before
	before=$(tree "$RUNCH_ROOTFS/debian/etc")
	rm -r "$B/rootfs"
	mkdir "$T/disk" "$B/rootfs"
	mount -t tmpfs tmpfs "$T/disk" # an overlay's upper directory has to be on a plain file system
	mkdir "$T/disk/upper" "$T/disk/work"
	mount -t overlay -o "lowerdir=$RUNCH_ROOTFS/debian,upperdir=$T/disk/upper,workdir=$T/disk/work" overlay "$B/rootfs"
	script 'echo changed >>/etc/issue && rm /etc/hostname -f && mkdir /new && mv /etc/motd /new/ 2>/dev/null; rm -r /usr/share/perl; ls / | grep -c new'
	ran 0
	same "$output" 1
	same "$(tail -n 1 "$T/disk/upper/etc/issue")" changed
	[ -d "$T/disk/upper/new" ]
	[ ! -d "$B/rootfs/usr/share/perl" ]
	[ -d "$RUNCH_ROOTFS/debian/usr/share/perl" ]
	same "$(tree "$RUNCH_ROOTFS/debian/etc")" "$before"
	umount "$B/rootfs"
}

@test "a read-only root: nothing can be written, but for what is mounted to be" {
	bundle
	mkdir "$T/volume"
	config '.root.readonly = true'
	bind "$T/volume" /mnt
	mkdir "$B/rootfs/mnt"
	script 'for f in /file /etc/passwd /bin/busybox; do (: >>$f) 2>/dev/null && echo "wrote $f"; done
		mkdir /dir 2>/dev/null && echo "made /dir"; mount -o remount,rw / 2>/dev/null && echo remounted
		echo yes >/mnt/file && echo yes >/dev/shm/file && echo done'
	local before
	before=$(tree "$B/rootfs")
	ran 0
	same "$output" "done"
	same "$(<"$T/volume/file")" yes
	same "$(tree "$B/rootfs")" "$before"
}

@test "a root file system that the host has mounted read-only" {
	bundle
	mkdir -p "$B/rootfs/proc" "$B/rootfs/dev" "$B/rootfs/sys"
	mount --bind "$B/rootfs" "$B/rootfs"
	mount -o remount,bind,ro "$B/rootfs"
	script '(: >/file) 2>/dev/null || echo read-only'
	ran 0
	same "$output" read-only
}

# --- volumes ---

@test "a directory read-write: both sides see what the other writes, and owners and modes are what they are" {
	bundle
	mkdir "$T/volume"
	echo from the host >"$T/volume/host"
	bind "$T/volume" /data/volume rw
	script 'cat /data/volume/host; echo from the guest >/data/volume/guest; chmod 640 /data/volume/guest; chown 12:34 /data/volume/guest
		until [ -e /data/volume/go ]; do sleep 0.1; done; cat /data/volume/go'
	launch
	eventually 10 test -s "$T/volume/guest"
	same "$(<"$T/volume/guest")" "from the guest"
	eventually 5 owned
	echo and again >"$T/volume/going"
	mv "$T/volume/going" "$T/volume/go" # a rename, so that it appears with its content
	same "$(exit_status "$PID")" 0
	same "$(<"$B/stdout")" "from the host"$'\n'"and again"
}

owned() {
	[ "$(stat -c '%u:%g %a' "$T/volume/guest")" = "12:34 640" ]
}

@test "a directory read-only: the guest's root cannot write it, remount it, or reach it another way" {
	bundle
	mkdir "$T/volume"
	echo text >"$T/volume/file"
	bind "$T/volume" /volume ro
	# CAP_SYS_ADMIN does not help, as the mount is read-only on the host.
	config '.process.capabilities |= with_entries(.value += ["CAP_SYS_ADMIN"])'
	script '(echo x >>/volume/file) 2>/dev/null && echo written; (: >/volume/new) 2>/dev/null && echo made
		mount -o remount,bind,rw /volume 2>/dev/null; (echo x >>/volume/file) 2>/dev/null && echo "written after remount"
		mkdir /other && mount --bind /volume /other 2>/dev/null; (echo x >>/other/file) 2>/dev/null && echo "written elsewhere"
		cat /volume/file'
	ran 0
	same "$output" text
	same "$(<"$T/volume/file")" text
	same "$(ls "$T/volume")" file
}

@test "single files, over what is there and where nothing is" {
	bundle
	echo name >"$T/hosts"
	echo secret >"$T/key"
	chmod 400 "$T/key"
	bind "$T/hosts" /etc/hosts rw
	bind "$T/key" /run/secrets/deep/key ro
	echo the image\'s >"$B/rootfs/etc/hosts"
	script 'cat /etc/hosts /run/secrets/deep/key; echo more >>/etc/hosts; (echo x >>/run/secrets/deep/key) 2>/dev/null || echo read-only'
	ran 0
	same "$output" $'name\nsecret\nread-only'
	same "$(<"$T/hosts")" $'name\nmore'
	same "$(<"$B/rootfs/etc/hosts")" "the image's"
	same "$(<"$T/key")" secret
}

@test "an overlay among the mounts: what the container writes is in its upper directory, and what is below does not change" {
	bundle
	mkdir "$T/lower" "$T/disk"
	echo below >"$T/lower/file"
	mount -t tmpfs tmpfs "$T/disk" # an overlay's upper directory has to be on a plain file system
	mkdir "$T/disk/upper" "$T/disk/work"
	config --arg t "$T" '.mounts += [{destination: "/over", type: "overlay", source: "overlay",
		options: ["lowerdir=\($t)/lower", "upperdir=\($t)/disk/upper", "workdir=\($t)/disk/work", "nodev"]}]'
	script 'cat /over/file; echo changed >/over/file; mkdir /over/new'
	ran 0
	same "$output" below
	same "$(<"$T/lower/file")" below
	same "$(<"$T/disk/upper/file")" changed
	[ -d "$T/disk/upper/new" ]
	[ ! -e "$T/lower/new" ]

	config --arg t "$T" '(.mounts[] | select(.type == "overlay")).options = ["lowerdir=\($t)/absent:\($t)/lower"]'
	try create
	same "$status" 1
	[[ $stderr$output == *"lowerdir=$T/absent"*"no such file or directory"* ]]
}

@test "volumes in volumes, and a mount of the host's below a volume with rbind" {
	bundle
	mkdir -p "$T/outer/inner" "$T/inner" "$T/outer/mounted"
	echo hidden >"$T/outer/inner/file"
	echo inner >"$T/inner/file"
	mount -t tmpfs tmpfs "$T/outer/mounted"
	echo mounted >"$T/outer/mounted/file"
	bind "$T/outer" /v rw
	config '.mounts[-1].options = ["rbind", "rw"]'
	bind "$T/inner" /v/inner ro
	script 'cat /v/inner/file /v/mounted/file; (: >/v/inner/new) 2>/dev/null || echo read-only; echo outer >/v/new; echo deep >/v/mounted/new'
	ran 0
	same "$output" $'inner\nmounted\nread-only'
	same "$(<"$T/outer/new")" outer
	same "$(<"$T/outer/mounted/new")" deep
	same "$(<"$T/outer/inner/file")" hidden
}

@test "the same directory at two places, read-only at one of them" {
	bundle
	mkdir "$T/volume"
	bind "$T/volume" /rw rw
	bind "$T/volume" /ro ro
	script 'echo one >/rw/file; cat /ro/file; (echo two >/ro/file) 2>/dev/null || echo read-only'
	ran 0
	same "$output" $'one\nread-only'
}

@test "the host's mount table never shows anything of the container" {
	bundle
	mkdir "$T/volume"
	bind "$T/volume" /v rw
	args sleep 1000
	launch
	run ! grep -F "$T" /proc/self/mountinfo
	run ! grep -F "$T" /proc/1/mountinfo
	runch delete --force "$ID"
}

# --- hostile trees ---

# trap_in DIR: makes a directory of the host with content, which nothing may touch.
trap_in() {
	mkdir -p "$1/sub"
	echo untouched >"$1/file"
	chmod 711 "$1"
}

# unharmed DIR: expects the directory as trap_in made it.
unharmed() {
	same "$(tree "$1")" "$TRAPPED"
	same "$(<"$1/file")" untouched
}

@test "a root file system whose /dev, /proc, /sys, /etc and mount points are links out of it: the host is not touched" {
	bundle
	local place
	trap_in "$T/trap"
	TRAPPED=$(tree "$T/trap")
	for place in dev proc sys run; do
		rm -rf "${B:?}/rootfs/$place"
		ln -s "$T/trap" "$B/rootfs/$place"
	done
	mkdir "$T/volume"
	ln -s "$T/trap" "$B/rootfs/volume"
	ln -s "../../../../../../../..$T/trap" "$B/rootfs/relative"
	ln -s "$T/trap/file" "$B/rootfs/link-to-file"
	bind "$T/volume" /volume/new rw
	bind "$T/volume" /relative/new rw
	script 'echo x >/volume/new/guest; echo y >/relative/new/guest2'
	# create may refuse this, or resolve the links inside the tree.
	try runch run --bundle "$B" "$ID"
	unharmed "$T/trap"
	[ ! -e "$T/trap/new" ]
	if [ "$status" = 0 ]; then
		[ -e "$T/volume/guest" ]
		[ -e "$T/volume/guest2" ]
	fi
}

@test "a file that is mounted on a link which leads to the host's file" {
	bundle
	trap_in "$T/trap"
	TRAPPED=$(tree "$T/trap")
	echo volume >"$T/source"
	ln -s "$T/trap/file" "$B/rootfs/etc/link"
	ln -s "$T/trap/made" "$B/rootfs/etc/dangling"
	bind "$T/source" /etc/link rw
	bind "$T/source" /etc/dangling rw
	script 'cat /etc/link; echo more >>/etc/dangling'
	try runch run --bundle "$B" "$ID"
	unharmed "$T/trap"
	[ ! -e "$T/trap/made" ]
}

@test "a working directory, a program and a passwd file that are links out of the tree are looked for inside" {
	bundle
	trap_in "$T/trap"
	cp "$WORKLOAD" "$T/trap/program"
	TRAPPED=$(tree "$T/trap")
	ln -s "$T/trap/program" "$B/rootfs/bin/outside"
	args outside exit 0
	try runch run --bundle "$B" "$ID"
	[ "$status" -ne 0 ]
	[[ $stderr == *"not found"* || $stderr == *"no such file"* ]]
	args pwd
	ln -s "$T/trap" "$B/rootfs/cwd"
	config '.process.cwd = "/cwd/made"'
	try runch run --bundle "$B" "$ID"
	unharmed "$T/trap"
	[ ! -e "$T/trap/made" ]
}

@test "links that a running container plants do not lead the host's side of it, nor execs, out of the tree" {
	bundle
	trap_in "$T/trap"
	TRAPPED=$(tree "$T/trap")
	script "rm -rf /tmp /etc; ln -s $T/trap /tmp; ln -s $T/trap /etc; ln -s / /self; echo ready; sleep 1000"
	launch
	eventually 10 says ready "$B/stdout"
	try runch exec --cwd /tmp "$ID" sh -c 'echo x >/tmp/file; echo x >/etc/file'
	[ "$status" -ne 0 ]
	# podman cp enters the mount namespace of the pid like this.
	nsenter --target "$PID" --mount sh -c 'echo x >/tmp/file' 2>/dev/null || true
	unharmed "$T/trap"
	runch delete --force "$ID"
	unharmed "$T/trap"
}

# as_seen: prints the command lines of the processes visible in the container's view, sorted.
as_seen() {
	nsenter --target "$PID" --mount /bin/busybox sh -c 'for p in /proc/[0-9]*; do
		[ ! -e "$p/cmdline" ] || echo $(tr "\0" " " <"$p/cmdline")
	done' | sort
}

# `podman top` lists processes like this.
@test "who lists the processes in that view sees what stands for the container and its execs, and nothing of the VM" {
	needs_vm
	bundle
	args sleep 1000
	launch
	background one "$ID" sleep 2000
	same "$(as_seen)" "runch shim -- sleep 1000
runch shim -- sleep 2000"
	same "$(cat "/proc/$PID/comm" "/proc/$EXEC/comm")" $'runch\nrunch'
	kill -KILL "$EXEC"
	exit_status "$EXEC"
	same "$(as_seen)" "runch shim -- sleep 1000"
	runch delete --force "$ID"
}

# bats test_tags=contract:26
@test "the view of the pid's mount namespace is the container's: what is copied there arrives in it" {
	needs_vm
	bundle
	mkdir "$T/volume"
	bind "$T/volume" /volume rw
	args sleep 1000
	launch
	nsenter --target "$PID" --mount /bin/busybox sh -c 'echo copied >/root/file; echo copied >/volume/file; ls -d /proc/1 && ! ls /home/../lib/systemd 2>/dev/null'
	same "$(execute cat /root/file /volume/file)" $'copied\ncopied'
	same "$(<"$B/rootfs/root/file")" copied
	same "$(<"$T/volume/file")" copied
	# A directory that is mounted only in the guest cannot be written in the view: the file would be lost.
	run ! nsenter --target "$PID" --mount /bin/busybox sh -c 'echo lost >/dev/shm/file'
	runch delete --force "$ID"
}

@test "special files in the tree: devices are those of the spec, fifos and sockets do no harm" {
	bundle
	mknod "$B/rootfs/disk" b 7 0
	mknod "$B/rootfs/memory" c 1 1
	mkfifo "$B/rootfs/fifo"
	script 'head -c 1 /disk 2>/dev/null && echo "read a disk"; head -c 1 /memory 2>/dev/null && echo "read memory"
		(echo through >/fifo &) ; cat /fifo; ls /dev | xargs'
	ran 0
	[[ $output == "through"* ]]
	[[ $output == *"null"*"zero"* ]]
}

@test "what the host mounts in a volume later appears in the container where that is to be (rslave), and goes again" {
	bundle
	mkdir "$T/volume" "$T/volume/slave" "$T/volume/private" "$B/rootfs/slave" "$B/rootfs/private"
	mount --bind "$T/volume" "$T/volume"
	mount --make-shared "$T/volume"
	config --arg dir "$T/volume" '.linux.rootfsPropagation = "rslave" | .mounts += [
		{destination: "/slave", type: "bind", source: $dir, options: ["rbind", "rslave"]},
		{destination: "/private", type: "bind", source: $dir, options: ["rbind", "rprivate"]}
	]'
	args sleep 1000
	launch
	mount -t tmpfs later "$T/volume/slave"
	echo later >"$T/volume/slave/file"
	eventually 5 execute cat /slave/slave/file
	run ! execute cat /private/slave/file
	# The host can still unmount it.
	umount --lazy "$T/volume/slave"
	gone_inside() { ! execute cat /slave/slave/file; }
	eventually 5 gone_inside
	runch delete --force "$ID"
	umount "$T/volume"
}

# --- id-mapped mounts ---

# owner FILE...: prints uid and gid of the files.
owner() {
	stat -c '%u:%g' "$@"
}

# id_mappable: skips where the bundle is on a file system that cannot be id-mapped.
id_mappable() {
	[ "$(stat -f -c %T "$T")" != overlayfs ] || skip "$T is on overlayfs, which no kernel id-maps"
}

# bats test_tags=lab
@test "id-mapped mounts: the files of a user of the host are root's in the container, and root's are that user's on the host" {
	needs_vm # with another runtime, the host's kernel may lack id-mapped mounts
	id_mappable
	bundle
	mkdir "$B/mapped"
	echo text >"$B/mapped/file"
	echo text >"$B/mapped/unmapped"
	chown 1000:1001 "$B/mapped" "$B/mapped/file"
	config --arg source "$B/mapped" '{uidMappings: [{containerID: 1000, hostID: 0, size: 1}, {containerID: 3000, hostID: 5, size: 2}],
			gidMappings: [{containerID: 1001, hostID: 0, size: 1}, {containerID: 4000, hostID: 6, size: 1}]} as $map
		| .mounts += [
			$map + {destination: "/mapped", type: "bind", source: $source, options: ["bind"]},
			$map + {destination: "/mapped-ro", source: $source, options: ["bind", "ro", "idmap"]},
			{destination: "/plain", source: $source, options: ["bind"]}]
		| .process.capabilities[] += ["CAP_CHOWN"]'
	args sleep 10000
	launch
	same "$(execute stat -c '%u:%g' /mapped /mapped/file /mapped/unmapped /mapped-ro/file /plain/file)" \
		"$(printf '%s\n' 0:0 0:0 65534:65534 0:0 1000:1001)"
	execute sh -c 'echo new >/mapped/new && mkdir /mapped/dir && cp /mapped/new /mapped/given && chown 6:6 /mapped/given'
	same "$(owner "$B"/mapped/{new,dir,given})" "$(printf '%s\n' 1000:1001 1000:1001 3001:4000)"
	# A file cannot belong to an id that is not mapped (EOVERFLOW).
	try execute chown 7 /mapped/new
	[[ $stderr == *"alue too large"* ]]
	try execute sh -c 'echo >/mapped-ro/new'
	[[ $stderr == *"Read-only file system"* ]]
	# In the container's view on the host the owners are the same as in the container.
	same "$(owner "/proc/$PID/root/mapped/file")" 0:0
}

@test "id-mapped mounts: with a user namespace, by mappings of their own and by the namespace's, and what is mounted below" {
	needs_vm
	id_mappable
	bundle
	chown -R 100000:100000 "$B/rootfs"
	mkdir -p "$B"/{mapped/below,other}
	echo text | tee "$B/mapped/file" >"$B/other/file"
	chown 3:4 "$B/other/file"
	mount --bind "$B/other" "$B/mapped/below"
	config --arg source "$B/mapped" '.linux.namespaces += [{type: "user"}]
		| .linux.uidMappings = [{containerID: 0, hostID: 100000, size: 1000}] | .linux.gidMappings = .linux.uidMappings
		| .mounts += [
			{destination: "/mapped", source: $source, options: ["rbind", "idmap"]},
			{destination: "/all", source: $source, options: ["rbind", "ridmap"]},
			{destination: "/own", source: $source, options: ["rbind", "ridmap"],
				uidMappings: [{containerID: 0, hostID: 100011, size: 10}], gidMappings: [{containerID: 0, hostID: 100022, size: 10}]}]'
	args sleep 10000
	try create
	umount "$B/mapped/below" # in any case, so that no mount is left
	same "$status" 0
	runch start "$ID"
	same "$(execute stat -c '%u:%g' /mapped/file /mapped/below/file /all/file /all/below/file /own/file /own/below/file)" \
		"$(printf '%s\n' 0:0 65534:65534 0:0 3:4 11:22 14:26)"
	execute sh -c 'echo new >/all/new && echo new >/all/below/new'
	same "$(owner "$B/mapped/new" "$B/other/new")" "$(printf '%s\n' 0:0 0:0)"
}
