#!/usr/bin/env bats
# podman without root: runch runs in podman's user namespace, as root there and as nobody special outside.

load callers

setup_file() {
	getent passwd user >/dev/null || skip "there is no user \"user\": this is for the lab"
	loginctl enable-linger user
	eventually 60 test -S /run/user/1000/bus
	install -d -o user "$BATS_FILE_TMPDIR/user"
	as_user podman image exists "$IMAGE" ||
		tar -C "$RUNCH_ROOTFS/busybox" -c . | as_user podman import --quiet - "$IMAGE"
}

setup() {
	begin
	NAME=c${T##*.}
}

teardown() {
	as_user timeout 120 podman rm --force --time 0 "$NAME" >/dev/null 2>&1 || true
	rm -rf "$T"
}

# as_user COMMAND...: by a user who has a session, as after a login.
as_user() {
	setpriv --reuid user --regid user --init-groups --reset-env env -C /home/user \
		XDG_RUNTIME_DIR=/run/user/1000 DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus PATH="$PATH" \
		RUNCH_ACCEL="${RUNCH_ACCEL:-auto}" RUNCH_BOOT_TIMEOUT="${RUNCH_BOOT_TIMEOUT:-1m}" "$@"
}

# podman_run ARGUMENT...: podman run with our runtime and without a network, in good time.
podman_run() {
	as_user timeout --foreground "$DEADLINE" podman --runtime "$RUNCH" run --network none --name "$NAME" "$@" 3>&-
}

none_left() {
	same "$(as_user podman ps --all --quiet)" ""
	eventually 10 eval '! pgrep -u user "runch|qemu|virtiofsd|cloud-hyp|conmon"'
	same "$(find /run/user/1000/runch -mindepth 1 2>/dev/null)" ""
	same "$(find /sys/fs/cgroup -name 'libpod-*.scope')" ""
}

@test "podman run without root: output, the exit code, another kernel; nothing is left" {
	try podman_run --rm "$IMAGE" sh -c 'id -u; uname -r >&2; exit 7'
	same "$status" 7
	same "$output" 0
	[[ $stderr != *"$(uname -r)"* ]]
	none_left
}

@test "podman run without root: inspect says OOMKilled where the guest was short of memory" {
	try podman_run --memory 32m "$IMAGE" dd if=/dev/zero of=/dev/null bs=100M count=1
	same "$status" 137
	same "$(as_user podman inspect --format '{{.State.OOMKilled}}' "$NAME")" true
	as_user podman rm "$NAME"
	none_left
}

@test "podman run -d without root: a scope of the user's, exec, cp both ways, pause, stop; nothing is left" {
	podman_run -d "$IMAGE" sh -c 'echo started; trap "exit 3" TERM; while :; do sleep 0.1; done'
	local pid id
	pid=$(as_user podman inspect --format '{{.State.Pid}}' "$NAME")
	id=$(as_user podman inspect --format '{{.Id}}' "$NAME")
	same "$(stat -c %U "/proc/$pid")" user
	[[ $(<"/proc/$pid/cgroup") == 0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-$id.scope ]]
	eventually 30 eval "as_user podman logs $NAME | grep -q started"

	try as_user podman exec "$NAME" sh -c 'echo in exec; exit 5'
	same "$status $output" "5 in exec"
	echo in >"$T/in"
	chmod 0755 "$T"
	as_user podman cp "$T/in" "$NAME:/etc/lab-in"
	same "$(as_user podman exec "$NAME" cat /etc/lab-in)" in
	as_user podman cp "$NAME:/etc/lab-in" - | tar -xO | diff "$T/in" -

	as_user podman pause "$NAME"
	same "$(as_user podman inspect --format '{{.State.Status}}' "$NAME")" paused
	as_user podman unpause "$NAME"
	as_user podman stop --time 60 "$NAME"
	same "$(as_user podman inspect --format '{{.State.ExitCode}}' "$NAME")" 3
	as_user podman rm "$NAME"
	none_left
}
