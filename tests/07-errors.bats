#!/usr/bin/env bats
# Bad input gets one clear message and runc's exit code, and nothing is made.

load helpers

setup() {
	begin
}

teardown() {
	finish
}

# refused TEXT WORD...: create fails with status 1 and a message with this text, and makes nothing.
refused() {
	local text=$1
	shift
	rm -f "$T/pid"
	try runch create --bundle "$B" --pid-file "$T/pid" "$@" "$ID"
	same "$status" 1
	if [[ $stderr != *"$text"* ]]; then
		echo "these words are missing: $text"
		return 1
	fi
	[ "$(wc -l <"$T/.err")" -le 1 ] && [ "${#stderr}" -lt 8192 ]
	[ ! -e "$T/pid" ]
	same "$(new_orphans)" ""
	clean
}

# broken JQ-FILTER TEXT: create refuses a spec changed by the filter, with this text.
broken() {
	cp "$TESTS/config.json" "$B/config.json"
	config "$1"
	refused "$2"
}

# bats test_tags=contract:13
@test "an id that is unknown: state, kill, start, delete and others fail, delete --force succeeds twice" {
	local verb
	for verb in state kill start delete pause resume ps; do
		try runch "$verb" "$ID"
		same "$status" 1
		[[ $stderr == *"container does not exist"* ]]
	done
	try runch exec "$ID" true
	same "$status" 255
	[[ $stderr == *"container does not exist"* ]]
	for _ in 1 2; do
		try runch delete --force "$ID"
		same "$status" 0
		same "$output$stderr" ""
	done
}

@test "an id that is none" {
	bundle
	local long
	long=$(printf 'a%.0s' $(seq 1100))
	for ID in ../x a/b .. . 'a b' 'a%b' '' "$long"; do
		if ! is_runch && [ "$ID" = "$long" ]; then continue; fi
		try runch create --bundle "$B" "$ID"
		same "$status" 1
		[[ $stderr == *"invalid container ID format"* || $stderr == *"container id cannot be empty"* ]]
	done
	for ID in ../x a/b ..; do
		try runch delete --force "$ID"
		[ "$status" = 1 ] || [ "$status" = 0 ]
		try runch state "$ID"
		same "$status" 1
	done
}

@test "a bundle that is not there, or has no config.json" {
	B=$T/nowhere
	refused "no such file or directory"
	mkdir "$B"
	refused "config.json"
}

@test "a config.json that is no JSON, or not that of a container" {
	bundle
	printf '{"ociVersion": ' >"$B/config.json"
	refused ""
	echo 'this is not JSON' >"$B/config.json"
	refused "invalid character"
	echo '{"ociVersion": "1.0.2", "process": []}' >"$B/config.json"
	refused "process"
	: >"$B/config.json"
	refused ""
}

@test "a spec without what every container needs" {
	bundle
	broken '.process.args = []' "args"
	broken 'del(.process.cwd)' "wd"
	broken '.process.cwd = "relative"' "wd"
	broken 'del(.root)' "root"
	broken '.root.path = "no-such-rootfs"' "no-such-rootfs"
}

@test "a value that makes no sense is named" {
	bundle
	broken '.mounts += [{"destination": "/x", "type": "bind", "source": "/no/such/source", "options": ["bind"]}]' "/no/such/source"
	broken '.linux.namespaces += [{"type": "pid"}]' "pid"
	broken '.linux.namespaces += [{"type": "galaxy"}]' "galaxy"
	broken '.linux.sysctl = {"kernel.hostname.no": "1"}' "kernel.hostname.no"
	broken '.process.rlimits = [{"type": "RLIMIT_NOSUCH", "hard": 1, "soft": 1}]' "RLIMIT_NOSUCH"
	broken '.linux.seccomp = {"defaultAction": "SCMP_ACT_NOSUCH"}' "SCMP_ACT_NOSUCH"
}

# bats test_tags=contract:31
@test "a field that a VM cannot honour is named" {
	needs_vm
	bundle
	broken '.linux.intelRdt = {"closID": "x"}' "intelRdt"
	broken '.linux.netDevices = {"eth7": {}}' "netDevices"
	broken '.linux.namespaces |= map(select(.type != "network"))' "network"
	broken '.linux.namespaces |= map(if .type == "pid" then .path = "/proc/1/ns/pid" else . end)' "pid"
	broken '.vm = {"kernel": {"path": "/boot/vmlinuz"}}' "vm"
	broken '.windows = {"layerFolders": []}' "windows"
}

@test "a flag that does not exist is named; a verb that does not exist fails" {
	local verb
	for verb in create start state kill delete exec run list ps pause resume spec; do
		try runch "$verb" --no-such-flag "$ID"
		[ "$status" -ne 0 ]
		[[ $stderr$output == *no-such-flag* ]]
	done
	try runch --no-such-flag list
	[ "$status" -ne 0 ]
	[[ $stderr$output == *no-such-flag* ]]
	try runch no-such-verb
	[ "$status" -ne 0 ]
}

@test "a verb without its argument, or with too many" {
	local verb
	for verb in create start state kill delete exec run ps pause resume; do
		try runch "$verb"
		[ "$status" -ne 0 ]
		[ -n "$stderr" ]
	done
	for verb in state start pause resume create run; do
		try runch "$verb" one two
		same "$status" 1
		[[ $stderr == *"requires exactly 1 argument"* ]]
	done
}

# bats test_tags=contract:14
@test "a command that the root file system does not have, or may not execute" {
	bundle
	args no-such-command
	refused 'executable file not found in $PATH'
	args /bin/no-such-command
	refused "no such file or directory"
	echo text >"$B/rootfs/etc/text"
	args /etc/text
	refused "permission denied"
	args /etc
	# runc's words depend on its version: "permission denied", later "is a directory".
	refused /etc
	[[ $stderr == *"permission denied"* || $stderr == *"is a directory"* ]]
}

@test "a tty without a socket for it, and a socket without a tty" {
	bundle
	args true
	config '.process.terminal = true'
	refused "will detach without setting console socket"
	refused "" --console-socket "$T/no-such-socket"
	config '.process.terminal = false'
	refused "will not detach or allocate tty" --console-socket "$T/no-such-socket"
}

@test "a pid-file that cannot be written" {
	bundle
	args sleep 1000
	try runch create --bundle "$B" --pid-file "$T/no/such/dir/pid" "$ID"
	same "$status" 1
	[ -n "$stderr" ]
	clean
}

@test "a damaged record of a container fails state with a clear line, and delete --force cleans it up" {
	bundle
	args sleep 1000
	create
	runch start "$ID"
	local file
	file=$(find "$ROOT/$ID" -maxdepth 1 -name container.json -o -maxdepth 1 -name state.json)
	local pid=$PID
	cp "$file" "$T/kept"
	local text
	for text in '' '{"version":' '[]' '{"id": 7}'; do
		printf %s "$text" >"$file"
		try runch state "$ID"
		same "$status" 1
		[ -n "$stderr" ] && [ "$(wc -l <"$T/.err")" -le 1 ]
		# list still works, for the other containers.
		try runch list
		[[ $output == *STATUS* ]]
	done
	if ! is_runch; then
		cp "$T/kept" "$file"
	fi
	runch delete --force "$ID"
	gone
	exit_status "$pid"
}

@test "a bundle or a config.json that is something else than a directory and a file" {
	: >"$T/file"
	B=$T/file
	refused "not a directory"
	B=$T/bundle
	bundle
	rm "$B/config.json"
	mkdir "$B/config.json"
	refused "config.json"
	rmdir "$B/config.json"
	# Opening it for reading would block until a writer opens it, which never happens.
	mkfifo "$B/config.json"
	DEADLINE=20 refused "config.json"
	rm "$B/config.json"
	ln -s config.json "$B/config.json"
	refused "too many levels of symbolic links"
	rm "$B/config.json"
	truncate -s 1G "$B/config.json"
	DEADLINE=20 refused "config.json"
	rm "$B/config.json"
	rm -r "$B/rootfs"
	: >"$B/rootfs"
	cp "$TESTS/config.json" "$B/config.json"
	refused "rootfs"
}

@test "an exec's process file that is missing, malformed or makes no sense, and flags that do not" {
	bundle
	args sleep 1000
	launch
	local file=$T/process.json filter text flags
	no_exec() {
		local text=$1
		shift
		rm -f "$T/pid"
		DEADLINE=20 try runch exec --detach --pid-file "$T/pid" "$@"
		same "$status" 255
		if [[ $stderr != *"$text"* ]]; then
			echo "these words are missing: $text"
			return 1
		fi
		same "$(wc -l <"$T/.err")" 1
		[ ! -e "$T/pid" ]
	}
	no_exec "no such file or directory" --process "$T/none" "$ID"
	no_exec "$T" --process "$T" "$ID"
	printf '{"args": ["true"' >"$file"
	no_exec "process file" --process "$file" "$ID"
	: >"$file"
	no_exec "process file" --process "$file" "$ID"
	while IFS='|' read -r filter text; do
		process true | jq "$filter" >"$file"
		no_exec "$text" --process "$file" "$ID"
	done <<-'END'
		.args = []|args
		.args = "true"|args
		.cwd = "relative"|wd
		del(.cwd)|wd
		.rlimits = [{"type": "RLIMIT_NOSUCH", "hard": 1, "soft": 1}]|RLIMIT_NOSUCH
		.user.uid = -1|uid
		.terminal = true|console socket
	END
	while IFS='|' read -r flags text; do
		# shellcheck disable=SC2086 # the flags and their values
		no_exec "$text" $flags "$ID" true
	done <<-'END'
		--user no:one|bad uid
		--env NOVALUE|missing '='
		--cwd relative|wd must be an absolute path
	END
	state_is running
	# The process file may be a pipe.
	same "$(runch exec --process <(process echo yes) "$ID" </dev/null)" yes
}

@test "a damaged record: no verb but delete --force does anything, each says so in one line" {
	needs_vm
	bundle
	args sleep 1000
	launch
	local pid=$PID file verb text
	for file in "$ID/container.json" "@$ID/sandbox.json"; do
		cp "$ROOT/$file" "$T/record"
		for text in '' '{"version":' '{"version": 999}' '[]'; do
			printf %s "$text" >"$ROOT/$file"
			for verb in start kill pause resume ps delete "exec true"; do
				# shellcheck disable=SC2086 # the verb and its argument
				set -- $verb
				try runch "$1" "$ID" "${@:2}"
				[ "$status" -ne 0 ]
				same "$(wc -l <"$T/.err")" 1
			done
			alive "$pid"
		done
		cp "$T/record" "$ROOT/$file"
	done
	state_is running
	printf '{' >"$ROOT/$ID/container.json"
	printf '{' >"$ROOT/@$ID/sandbox.json"
	# Now no record tells which process is the container's.
	runch delete --force "$ID"
	gone
	same "$(exit_status "$pid" 5)" 137
}
