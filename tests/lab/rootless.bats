#!/usr/bin/env bats
# podman without root: runch runs in podman's user namespace, as root there and as nobody special outside.
# bats file_tags=lab

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

@test "podman without root: run, exec, stop; nothing is left" {
	try as_user timeout "$DEADLINE" podman --runtime "$RUNCH" run --network none --name "$NAME" --rm "$IMAGE" \
		sh -c 'id -u; uname -r >&2; exit 7' 3>&-
	same "$status" 7
	same "$output" 0
	[[ $stderr != *"$(uname -r)"* ]]

	as_user timeout "$DEADLINE" podman --runtime "$RUNCH" run --network none --name "$NAME" -d "$IMAGE" \
		sh -c 'trap "exit 3" TERM; while :; do sleep 0.1; done' 3>&-
	try as_user podman exec "$NAME" sh -c 'echo in exec; exit 5'
	same "$status $output" "5 in exec"
	as_user podman stop --time 60 "$NAME"
	same "$(as_user podman inspect --format '{{.State.ExitCode}}' "$NAME")" 3
	as_user podman rm "$NAME"
	same "$(as_user podman ps --all --quiet)" ""
	eventually 10 eval '! pgrep -u user "runch|qemu|virtiofsd|cloud-hyp|conmon"'
	same "$(find /run/user/1000/runch -mindepth 1 2>/dev/null)" ""
}
