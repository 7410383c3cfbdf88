#!/usr/bin/env bats
# What callers read: the pid-file, the log, state and list, --version and features. And what they pass: flags in
# every form and an almost empty environment.

load helpers

setup_file() {
	share
	bundle
	args sleep 100000
	config '.annotations = {"org.example.key": "a value"}'
	launch
	shared
}

teardown_file() {
	unshare_all
}

setup() {
	begin
}

teardown() {
	finish
}

# unprivileged WORD...: the runtime as nobody, with an empty environment.
unprivileged() {
	env -i setpriv --reuid 65534 --regid 65534 --clear-groups "$RUNCH" "$@"
}

# logged FILE TEXT: the file has exactly one line, in the log's JSON format, and its message contains the text.
logged() {
	cat "$1"
	same "$(wc -l <"$1")" 1
	jq -e --arg want "$2" '.level == "error" and (.msg | contains($want)) and
		(.time | test("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|[+-][0-9]{2}:[0-9]{2})$")) and
		(keys == ["level", "msg", "time"])' "$1"
}

# bats test_tags=contract:10
@test "the pid-file holds digits and nothing else, no newline either" {
	[[ $(od -An -c "$B/pid" | tr -d ' ') =~ ^[0-9]+$ ]]
	same "$(<"$B/pid")" "$PID"
}

# bats test_tags=contract:10
@test "the pid-file appears at once with all of its content" {
	own
	args true
	# A reader that polls sees either no file or the complete one.
	(
		while [ ! -e "$T/done" ]; do
			if text=$(cat "$B/pid" 2>/dev/null); then echo "<$text>"; fi
		done | sort -u >"$T/seen"
	) &
	create
	touch "$T/done"
	wait $!
	[ -s "$T/seen" ] || echo "<$PID>" >"$T/seen"
	same "$(<"$T/seen")" "<$PID>"
	same "$(find "$B" -maxdepth 1 -name '*pid*')" "$B/pid"
}

# bats test_tags=contract:10
@test "an exec's pid-file holds digits and nothing else, and no exec has the pid of another process" {
	background one "$ID" sleep 1000
	local one=$EXEC
	background two "$ID" sleep 1000
	[[ $(od -An -c "$T/one.pid" | tr -d ' ') =~ ^[0-9]+$ ]]
	[ "$one" != "$EXEC" ]
	[ "$one" != "$PID" ]
	same "$(parent "$one")" "$REAPER_PID"
	kill -KILL "$one" "$EXEC"
	exit_status "$one"
	exit_status "$EXEC"
}

# bats test_tags=contract:12
@test "state is JSON with ociVersion, id, pid, status, bundle, rootfs, created, annotations and owner" {
	try runch state "$ID"
	same "$status" 0
	same "$stderr" ""
	jq -e --arg id "$ID" --argjson pid "$PID" --arg bundle "$B" '
		(.ociVersion | test("^[0-9]+\\.[0-9]+\\.[0-9]+")) and .id == $id and .pid == $pid and .status == "running" and
		.bundle == $bundle and .rootfs == $bundle + "/rootfs" and .annotations["org.example.key"] == "a value" and
		(.created | test("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,9})?Z$")) and (.owner | type == "string")
	' "$T/.out"
	# Some callers search the text: indented JSON has a space after the colon.
	[[ $output == *'"status": "running"'* ]]
}

# bats test_tags=contract:15
@test "a bundle that was given by a relative path is told by its absolute one" {
	own
	args true
	cd "$T"
	runch create --bundle bundle --pid-file pid "$ID" </dev/null >out 2>err
	PID=$(<pid)
	same "$(runch state "$ID" | jq -r .bundle)" "$B"
	# The container does not depend on its caller's working directory.
	cd /
	runch start "$ID"
	same "$(exit_status "$PID")" 0
	same "$(runch state "$ID" | jq .pid)" 0
	runch delete "$ID"
}

@test "without --bundle the bundle is the current directory" {
	own
	script 'echo here'
	cd "$B"
	try runch run "$ID"
	same "$status" 0
	same "$output" here
}

# bats test_tags=contract:11
@test "a successful call says nothing on stdout and stderr, and nothing to its log" {
	own
	args sleep 1000
	local verb log=$T/log
	for verb in "create --bundle $B $ID" "start $ID" "exec $ID true" "pause $ID" "resume $ID" "kill $ID 0" "kill $ID KILL" \
		"delete --force $ID" "delete --force $ID" "delete --force no-such"; do
		# shellcheck disable=SC2086 # the verb and its arguments
		try runch --log "$log" --log-format json $verb
		same "$status" 0
		same "$output$stderr" ""
	done
	[ ! -s "$log" ]
}

# bats test_tags=contract:11
@test "a failing call writes one line of JSON to its log, and says the same on stderr" {
	local verb
	for verb in state start kill delete pause resume ps; do
		rm -f "$T/log"
		try runch --log "$T/log" --log-format json "$verb" no-such
		same "$status" 1
		[[ $stderr == *"container does not exist"* ]]
		same "$output" ""
		logged "$T/log" "container does not exist"
	done
	rm "$T/log"
	try runch --log="$T/log" --log-format=json exec no-such true
	same "$status" 255
	logged "$T/log" "container does not exist"
}

@test "the log is appended to, and its default format is text" {
	echo first >"$T/log"
	try runch --log "$T/log" state no-such
	same "$(head -n 1 "$T/log")" first
	same "$(wc -l <"$T/log")" 2
	grep -E 'level=error msg="?.*container does not exist' "$T/log"
	try runch --log-format xml --log "$T/log" list
	same "$status" 1
}

# bats test_tags=contract:10,contract:11
@test "a failed create or exec leaves no pid-file, exits 1 or 255, and says in less than 8 KiB and one log line why" {
	own
	args no-such-command
	try runch --log "$T/log" --log-format json create --bundle "$B" --pid-file "$T/pid" "$ID"
	same "$status" 1
	[ -n "$stderr" ] && [ "${#stderr}" -lt 8192 ]
	logged "$T/log" 'executable file not found in $PATH'
	[ ! -e "$T/pid" ]

	rm "$T/log"
	try runch --log "$T/log" --log-format json exec --detach --pid-file "$T/pid" "$SHARED_ID" no-such-command
	same "$status" 255
	[ -n "$stderr" ] && [ "${#stderr}" -lt 8192 ]
	logged "$T/log" 'executable file not found in $PATH'
	[ ! -e "$T/pid" ]
}

# bats test_tags=contract:12
@test "--version works without privileges, with an empty environment" {
	try unprivileged --version
	same "$status" 0
	[[ ${output%%$'\n'*} =~ ^[a-z]+\ version\ [0-9] ]]
	[[ $output =~ commit:\  && $output =~ spec:\ [0-9] ]]
	same "$(unprivileged -v)" "$output"
}

# bats test_tags=contract:12
@test "features is JSON, works without privileges and with an empty environment" {
	try unprivileged features
	same "$status" 0
	same "$stderr" ""
	[ -n "$output" ] # jq -e succeeds with empty input
	jq -e '(.ociVersionMin | type == "string") and (.ociVersionMax | type == "string") and
		(.hooks | index("prestart") and index("createRuntime") and index("poststop")) and
		(.mountOptions | index("ro") and index("nosuid") and index("rbind")) and
		(.linux.namespaces | index("network") and index("mount")) and (.linux.capabilities | index("CAP_CHOWN")) and
		(.linux.cgroup | type == "object") and (.linux.seccomp.enabled | type == "boolean")' "$T/.out"
}

@test "help lists the verbs, and each verb explains itself" {
	local verb help
	help=$(unprivileged help)
	for verb in create delete exec features kill list pause ps resume run spec start state; do
		grep -Eq "^ +${verb}[, ]" <<<"$help"
		try unprivileged "$verb" --help
		same "$status" 0
		[[ $output == *USAGE* ]]
	done
	try unprivileged
	same "$status" 0
}

@test "list of a root directory that was never used is empty" {
	ROOT=$T/empty
	mkdir "$ROOT"
	try runch list
	same "$status" 0
	same "$(wc -l <"$T/.out")" 1
	try runch list --quiet
	same "$output" ""
	try runch list --format json
	same "$output" null
	try runch list --format yaml
	same "$status" 1
}

# bats test_tags=contract:15
@test "global flags are taken in both forms and more than once; the environment may hold XDG_RUNTIME_DIR alone" {
	own
	args sleep 1000
	local bare=(env -i "XDG_RUNTIME_DIR=$T" timeout 120 "$RUNCH")
	cd /
	"${bare[@]}" --root="$ROOT" --root "$ROOT" create --bundle="$B" --pid-file="$B/pid" --no-pivot --no-new-keyring \
		"$ID" </dev/null >"$B/stdout" 2>"$B/stderr" 3>&-
	PID=$(<"$B/pid")
	"${bare[@]}" --debug=false --root "$ROOT" start "$ID"
	same "$("${bare[@]}" --root "$ROOT" exec "$ID" echo yes </dev/null 3>&-)" yes
	"${bare[@]}" --root "$ROOT" --log /dev/null --log-format json state "$ID" >"$T/out"
	"${bare[@]}" --root "$ROOT" kill "$ID" KILL
	same "$(exit_status "$PID")" 137
	"${bare[@]}" --root "$ROOT" delete "$ID"
	gone
}

# numbers NUMBER...: prints the numbers as a sorted JSON array.
numbers() {
	printf '%s\n' "$@" | jq -sc sort
}

@test "ps in JSON has the pids of container and execs on the host, where callers look for them; guest-json has the guest's" {
	own
	args sleep 1000
	launch
	same "$(runch ps --format json "$ID" | jq -c sort)" "$(numbers "$PID")"
	background one "$ID" sleep 2000
	local first=$EXEC
	background two "$ID" sleep 3000
	same "$(runch ps --format json "$ID" | jq -c sort)" "$(numbers "$PID" "$first" "$EXEC")"
	try runch ps --format yaml "$ID"
	same "$status" 1
	[[ $stderr == *"invalid format option"* ]]
	kill -KILL "$EXEC"
	exit_status "$EXEC"
	same "$(runch ps --format json "$ID" | jq -c sort)" "$(numbers "$PID" "$first")"
	if is_runch; then
		# The guest's process ends within a second after its shim.
		two_are_left() { [ "$(runch ps "$ID" -o pid | tail -n +2 | wc -l)" = 2 ]; }
		eventually 5 two_are_left
		# shellcheck disable=SC2046 # one pid per word
		same "$(runch ps --format guest-json "$ID" | jq -c sort)" "$(numbers $(runch ps "$ID" -o pid | tail -n +2))"
	fi
	runch kill "$ID" KILL
	exit_status "$PID"
	same "$(runch ps --format json "$ID" 2>/dev/null || echo '[]')" '[]'
	runch delete "$ID"
}

# bats test_tags=contract:15
@test "short flags mean what the long ones do" {
	own
	args sleep 1000
	runch create -b "$B" "$ID" </dev/null >"$B/stdout" 2>"$B/stderr"
	runch start "$ID"
	runch exec -d --pid-file "$T/pid" "$ID" sleep 1000 </dev/null >"$T/out" 2>"$T/err"
	same "$(runch list -q | sort | xargs)" "$(printf '%s\n' "$ID" "$SHARED_ID" | sort | xargs)"
	runch list -f json | jq -e 'length == 2'
	runch ps -f json "$ID" | jq -e 'length == 2'
	same "$(processes)" 2
	same "$(runch exec -e A=b -e C=d --cwd /tmp -u 1:2 "$ID" sh -c 'echo $A $C $PWD $(id -u) $(id -g)')" "b d /tmp 1 2"
	runch kill -a "$ID" KILL
	runch delete -f "$ID"
	gone
}

@test "an environment variable keeps its commas and its spaces at both ends" {
	try runch exec --env 'A= b, c=d ' --env B= "$ID" sh -c 'echo "<$A><${B-unset}>"'
	same "$output" "< b, c=d ><>"
}

@test "spec writes a bundle's config.json that can be run, and does not overwrite one" {
	own
	rm "$B/config.json"
	cd "$B"
	runch spec
	try runch spec
	same "$status" 1
	[[ $stderr == *"config.json"*exist* ]]
	jq -e '.process.args == ["sh"] and .root.path == "rootfs" and .process.terminal == true' config.json
	config '.process.terminal = false'
	script 'echo it runs'
	# runc's spec mounts cgroup, which not every host allows. Other tests are about that mount.
	is_runch || config '.mounts |= map(select(.type != "cgroup"))'
	try runch run "$ID"
	same "$output" "it runs"
}

# bats test_tags=contract:31
@test "verbs that are not supported fail, checkpoint's help as well, by which callers ask for it" {
	is_runch || skip "${RUNCH##*/} has these verbs"
	local verb
	for verb in "checkpoint --help" "checkpoint $ID" "restore --help" "restore $ID" "frobnicate"; do
		# shellcheck disable=SC2086 # the verb and its arguments
		try runch $verb
		[ "$status" -ne 0 ]
		[ -n "$stderr$output" ]
	done
	state_is running
}
