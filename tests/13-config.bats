#!/usr/bin/env bats
# runch's configuration: defaults, which need no file, then /etc/runch/config.toml, the files of config.d in the order
# of their names, the environment, and flags. Each overrides those before it. `env` shows each setting and its source,
# `check` what the host lacks.

load helpers

setup() {
	begin
	# Unset all of runch's variables. Those that remain are for the suites.
	local variable
	for variable in "${!RUNCH_@}"; do
		[[ $variable =~ ^RUNCH_(ROOTFS|REPEAT|TEST_.*)$ ]] || unset "$variable"
	done
}

setup_file() {
	if ! is_runch; then
		skip "this is about runch's own configuration, and ${RUNCH##*/} is another runtime"
	fi
}

teardown() {
	finish
}

# setting KEY [WORD...]: prints the setting's value and source, as env shows them with these global flags.
setting() {
	local key=$1
	shift
	runch "$@" env --format json | jq -r --arg key "$key" '.settings[] | select(.key == $key) | "\(.value) \(.source)"'
}

# file NAME: makes a configuration file below $T from stdin.
file() {
	mkdir -p "$T/$(dirname "$1")"
	cat >"$T/$1"
}

# refused TEXT WORD...: expects the command to fail with status 1 and one line with this text.
refused() {
	local text=$1
	shift
	try "$@"
	same "$status" 1
	same "$output" ""
	same "$(wc -l <"$T/.err")" 1
	if [[ $stderr != *"$text"* ]]; then
		echo "these words are missing: $text"
		return 1
	fi
}

# with_etc COMMAND...: runs the command with $T/etc as an overlay over the machine's /etc.
with_etc() {
	unshare --mount sh -c 'mount -t overlay -o "lowerdir=$0/etc:/etc" overlay /etc && exec "$@"' "$T" "$@"
}

@test "without a file every setting has its default" {
	mkdir -p "$T/etc/runch"
	with_etc "$RUNCH" env --format json >"$T/env"
	same "$(jq -r '[.settings[].source] | unique | join(" ")' "$T/env")" default
	same "$(jq -r '.settings[] | select(.key == "log_dir") | .value' "$T/env")" /var/log/runch
}

@test "each source is over the one before: default, file, drop-ins by name, environment, flag" {
	file config.toml <<<'boot_timeout = "50s"'
	same "$(setting memory --config "$T/config.toml")" "1024M default"
	file config.toml <<<'memory = "201M"'
	same "$(setting memory --config "$T/config.toml")" "201M $T/config.toml"
	file config.d/20-second.toml <<<'memory = "203M"'
	file config.d/10-first.toml <<-'END'
		memory = "202M"
		cpus = 2
	END
	file config.d/30-not-ours.conf <<<'memory = "204M"'
	same "$(setting memory --config "$T/config.toml")" "203M $T/config.d/20-second.toml"
	same "$(setting cpus --config "$T/config.toml")" "2 $T/config.d/10-first.toml"
	export RUNCH_MEMORY=205M
	same "$(setting memory --config "$T/config.toml")" "205M RUNCH_MEMORY"
	same "$(setting memory --config "$T/config.toml" --memory 206M)" "206M --memory"
	same "$(setting memory --memory=1G --config="$T/config.toml")" "1024M --memory"
}

@test "the file is /etc/runch/config.toml, with its config.d beside it, or the one that is named" {
	file etc/runch/config.toml <<-'END'
		memory = "301M"
		cpus = 2
	END
	file etc/runch/config.d/90-local.toml <<<'memory = "302M"'
	with_etc "$RUNCH" env >"$T/env"
	grep -E '^memory +302M +/etc/runch/config.d/90-local.toml$' "$T/env"
	grep -E '^cpus +2 +/etc/runch/config.toml$' "$T/env"
	# A file that is named replaces these files.
	file other.toml <<<'cpus = 1'
	with_etc "$RUNCH" --config "$T/other.toml" env >"$T/env"
	grep -E '^memory +1024M +default$' "$T/env"
	grep -E "^cpus +1 +$T/other.toml$" "$T/env"
	RUNCH_CONFIG=$T/other.toml with_etc "$RUNCH" env >"$T/env"
	grep -E "^cpus +1 +$T/other.toml$" "$T/env"
}

@test "a relative path is taken from where it was written" {
	file config.toml <<<'kernel = "images/kernel"'
	same "$(setting kernel --config "$T/config.toml")" "$T/images/kernel $T/config.toml"
	cd "$T" || return
	same "$(RUNCH_KERNEL=here/kernel setting kernel)" "$T/here/kernel RUNCH_KERNEL"
	same "$(setting kernel --kernel there)" "$T/there --kernel"
}

@test "what is set is what a container gets" {
	bundle
	file config.toml <<-'END'
		memory = "300M"
		kernel_params = ["runch_test=1", "quiet"]
	END
	script 'cat /proc/cmdline; awk "/MemTotal/ { print \$2 }" /proc/meminfo'
	try runch --config "$T/config.toml" run --bundle "$B" "$ID"
	same "$status" 0
	[[ $output == *"runch_test=1"* ]]
	# 300 MiB and the guest's overhead of 128, less what its kernel takes for itself.
	local kib=${output##*$'\n'}
	[ "$kib" -gt $((300 << 10)) ] && [ "$kib" -lt $((428 << 10)) ]
}

@test "with huge_pages set to never the kernel gives a VM no huge pages" {
	bundle
	RUNCH_HUGE_PAGES=never create
	local program
	for program in "${VMM_KIND:0:15}" virtiofsd; do # comm has at most 15 characters
		same "$(awk '/^THP_enabled/ { print $2 }' "/proc/$(below "$PID" "$program")/status")" 0
	done
}

@test "a file that is wrong is one line with its name, the line or the key, and what is wrong" {
	refused "$T/none.toml: no such file" runch --config "$T/none.toml" env
	mkdir "$T/dir.toml"
	refused "$T/dir.toml" runch --config "$T/dir.toml" env
	file bad.toml <<-'END'
		memory = "512M"
		cpus = = 2
	END
	refused "$T/bad.toml: line 2" runch --config "$T/bad.toml" env
	head -c 4096 /dev/urandom >"$T/random.toml"
	refused "$T/random.toml" runch --config "$T/random.toml" env
	local line text
	while IFS='|' read -r line text; do
		file wrong.toml <<<"$line"
		refused "$T/wrong.toml: $text" runch --config "$T/wrong.toml" env
	done <<-'END'
		no_such_key = 1|unknown key \"no_such_key\"
		memory = true|memory: the value is neither a string nor a whole number
		memory = "much"|memory: \"much\" is not a size
		memory = "1M"|memory: \"1M\" is not between
		cpus = 0|cpus: \"0\" is not
		boot_timeout = "soon"|boot_timeout: \"soon\" is not a time
		accel = "warp"|accel: \"warp\" is not one of auto, kvm, tcg
		hypervisor = "bochs"|hypervisor: \"bochs\" is not one of
		kernel_params = true|kernel_params: the value is not an array of strings
		kernel_params = ["a b"]|kernel_params: a b is not a word
	END
}

@test "a variable or a flag that is wrong is named" {
	RUNCH_CPUS=many refused 'RUNCH_CPUS: cpus: \"many\"' runch env
	RUNCH_BOOT_TIMEOUT=10 refused 'RUNCH_BOOT_TIMEOUT: boot_timeout: \"10\"' runch env
	refused '--memory: memory: \"lots\"' runch --memory lots env
	refused '--accel: accel: \"warp\"' runch --accel warp env
}

@test "a broken configuration makes no container, and does not keep the verbs from those that there are" {
	bundle
	args sleep 1000
	launch
	file bad.toml <<<'no_such_key = 1'
	export RUNCH_CONFIG=$T/bad.toml
	ID=other refused 'unknown key' runch create --bundle "$B" --pid-file "$T/pid" other
	[ ! -e "$T/pid" ]
	state_is running
	same "$(execute echo yes)" yes
	same "$(runch list --quiet)" "$ID"
	runch kill "$ID" KILL
	same "$(exit_status "$PID")" 137
	runch delete "$ID"
	gone
}

# --- where the state is ---

# root_of COMMAND...: prints the root directory that env shows if it is run by this command.
root_of() {
	"$@" env --format json | jq -r .root
}

@test "the state is in /run/runch, for others than root below XDG_RUNTIME_DIR, or where --root says" {
	same "$(root_of env -i "$RUNCH")" /run/runch
	same "$(root_of env -i XDG_RUNTIME_DIR="$T/run" "$RUNCH")" /run/runch
	same "$(root_of env -i XDG_RUNTIME_DIR=/run/user/65534 setpriv --reuid 65534 --regid 65534 --clear-groups "$RUNCH")" \
		/run/user/65534/runch
	# As under rootless podman: root in a user namespace counts as an ordinary user.
	same "$(root_of env -i XDG_RUNTIME_DIR="$T/run" unshare --user --map-root-user "$RUNCH")" "$T/run/runch"
	same "$(root_of env -i XDG_RUNTIME_DIR="$T/run" "$RUNCH" --root "$T/other")" "$T/other"
	cd "$T" || return
	same "$(root_of "$RUNCH" --root relative)" "$T/relative"
	refused "--root" "$RUNCH" --root / list
}

@test "a state directory may have a path of any length" {
	# The address of a unix socket has room for 107 characters.
	ROOT=$T/$(printf 'r%.0s' {1..200})
	bundle
	args sleep 100000
	launch
	same "$(runch exec "$ID" echo yes </dev/null)" yes
	runch kill "$ID" KILL
	same "$(exit_status "$PID")" 137
	runch delete "$ID"
	gone
	# Without records, the sandbox's process is found by the sockets on which it listens.
	create
	echo '{' | tee "$ROOT/$ID/container.json" >"$ROOT/$ID/sandbox.json"
	runch delete --force "$ID"
	eventually 5 dead "$PID"
	gone
}

@test "a state directory below XDG_RUNTIME_DIR is kept from being cleaned away, and is its owner's alone" {
	bundle
	args true
	mkdir -m 700 "$T/run"
	ROOT=$T/run/runch
	XDG_RUNTIME_DIR=$T/run create
	same "$(stat -c %a "$ROOT")" 1700
	runch delete --force "$ID"
	gone
}

# --- check ---

# finding NAME: prints this finding of check, as JSON.
finding() {
	jq -e --arg name "$1" '.[] | select(.name == $name)' "$T/.out"
}

@test "check passes on a host that runs containers" {
	try runch check
	same "$status" 0
	same "$stderr" ""
	for what in hypervisor virtiofsd "guest image" cgroup tun; do
		grep -E "^$what +ok " <<<"$output"
	done
}

@test "check says what is missing and how to fix it, and fails" {
	try runch --hypervisor qemu check --format json
	same "$status" 0
	same "$(jq -r 'map(select(.needed and (.ok | not))) | length' "$T/.out")" 0

	RUNCH_QEMU=$T/none try runch --hypervisor qemu check
	same "$status" 1
	[[ $output =~ hypervisor\ +MISSING.*$T/none.*"fix with: apt-get install qemu-system-x86" ]]
	[[ $stderr == *"this host lacks: hypervisor"* ]]

	RUNCH_VIRTIOFSD=$T/none RUNCH_KERNEL=$T/none try runch check --format json
	same "$status" 1
	[[ $stderr == *"this host lacks: virtiofsd, guest image"* ]]
	same "$(finding virtiofsd | jq '.needed and (.ok | not) and (.fix | startswith("apt-get install "))')" true
	same "$(finding "guest image" | jq '.needed and (.ok | not) and (.fix | contains("guest build"))')" true
}

@test "check tells what is missing from what is merely slow" {
	try runch check --format json
	same "$status" 0
	[ "$(finding kvm | jq .ok)" = false ] || skip "this host has a KVM that runs guests"
	same "$(finding kvm | jq '[.ok, .needed] | map(tostring) | join(" ")' -r)" "false false"
	# KVM is needed if the configuration requires it.
	RUNCH_ACCEL=kvm try runch check --format json
	same "$status" 1
	[[ $stderr == *"this host lacks: "*kvm* ]]
	same "$(finding kvm | jq .needed)" true
}

@test "check works without privileges, and says that they are what is missing" {
	try env -i setpriv --reuid 65534 --regid 65534 --clear-groups "$RUNCH" check
	same "$status" 1
	[[ $output =~ privileges\ +MISSING.*"fix with: podman unshare runch check, or sudo runch check" ]]
	[[ $stderr == *"this host lacks: privileges"* ]]
}

@test "env says what it cannot find, and does not fail for it" {
	RUNCH_QEMU=$T/none RUNCH_VIRTIOFSD=$T/none RUNCH_KERNEL=$T/none try runch --hypervisor qemu env --format json
	same "$status" 0
	same "$(jq -r '[.hypervisor.error, .virtiofsd.error, .kernel.error] | map(contains("no such file")) | all' "$T/.out")" true
	refused "format" runch env --format yaml
}
