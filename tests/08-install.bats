#!/usr/bin/env bats
# `make install` installs everything needed: it works from its prefix without the tree it was built in. `make uninstall`
# removes all of it.

load helpers

REPO=${TESTS%/*}

# make_quietly ARGUMENT...: runs make in the tree, and shows its output only if it fails.
make_quietly() {
	local log status=0
	# The package's suite may be running make in the same tree.
	log=$(flock "$REPO/Makefile" make --no-print-directory -C "$REPO" "$@" 2>&1 3>&-) || status=$?
	[ $status = 0 ] || echo "$log"
	return $status
}

setup_file() {
	if ! is_runch; then
		skip "this is about runch's own installation, and ${RUNCH##*/} is another runtime"
	fi
	if [ ! -e "$REPO/build/kernel.deb" ] || [ ! -d "$REPO/build/goroot/" ]; then
		skip "there is nothing to install from: this tree was not built here"
	fi
	DEST=$(mktemp -d /tmp/rt-install.XXXXXX)
	export DEST
	make_quietly install "DESTDIR=$DEST" PREFIX=/usr
}

teardown_file() {
	[ -z "${DEST:-}" ] || rm -rf "$DEST"
}

setup() {
	begin
	RUNCH=$DEST/usr/bin/runch # the installed one from here on
}

teardown() {
	finish
}

@test "the installed binary finds guest image and agent under its prefix" {
	runch env --format json >"$T/env"
	# TCG boots the unpacked kernel (vmlinux), KVM the packed one.
	[[ $(jq -r .kernel.path "$T/env") == "$DEST/usr/share/runch/guest/"@(kernel|vmlinux) ]]
	same "$(jq -r .initramfs.path "$T/env")" "$DEST/usr/share/runch/guest/initramfs"
	same "$(jq -r .version "$T/env")" "$(jq -r .initramfs.version "$T/env")"
	runch guest show | grep -q "^image *$DEST/usr/share/runch/guest$"
	runch guest build --kernel "$REPO/build/kernel.deb" --compression none --output "$T/guest" 2>"$T/said"
	says "agent $DEST/usr/libexec/runch/runch-agent" "$T/said"
	same "$(jq -r .kernelRelease "$T/guest/manifest.json")" "$(jq -r .kernel.version "$T/env")"
}

@test "a copy of the binary elsewhere finds the image that is installed" {
	mkdir "$T/bin"
	cp "$RUNCH" "$T/bin/"
	# In a mount namespace of its own, to hide what is installed on this host.
	in_prefix() {
		unshare --mount sh -c 'mkdir -p "$0" && mount --bind "$1" "$0" && shift && exec "$@"' "$1" "$DEST/usr/share" "$T/bin/runch" "${@:2}"
	}
	local prefix
	for prefix in /usr/local/share /usr/share; do
		in_prefix "$prefix" env --format json >"$T/env"
		[[ $(jq -r .kernel.path "$T/env") == "$prefix/runch/guest/"@(kernel|vmlinux) ]]
		same "$(jq -r .initramfs.path "$T/env")" "$prefix/runch/guest/initramfs"
		same "$(jq -r '.kernel.error' "$T/env")" null
		in_prefix "$prefix" guest show | grep -q "^image *$prefix/runch/guest$"
	done
}

@test "the installed binary runs a container" {
	bundle
	args echo hello
	same "$(runch run --bundle "$B" "$ID" </dev/null)" hello
}

@test "there is a manual page for each command, and all render without a warning" {
	local command page name
	for command in $(RUNCH_COMPLETE=1 "$RUNCH" --generate-bash-completion); do
		[ "$command" = help ] || [ "$command" = h ] || [ -s "$DEST/usr/share/man/man8/runch-$command.8" ]
	done
	for page in "$DEST"/usr/share/man/man8/runch.8 "$DEST"/usr/share/man/man5/runch-config.5 "$DEST"/usr/share/man/man8/*; do
		name=${page##*/}
		groff -man -Tutf8 -ww -P-cbou "$page" >"$T/page" 2>"$T/warnings"
		same "$(<"$T/warnings")" ""
		says "${name%.*}(${name##*.})" "$T/page"
		says "SEE ALSO" "$T/page"
	done
}

# complete_bash WORD...: prints what bash offers for the last word of a command line.
complete_bash() {
	PATH=$DEST/usr/bin:$PATH bash -c '
		. "$1"
		shift
		COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
		_runch
		echo "${COMPREPLY[*]}"' - "$DEST/usr/share/bash-completion/completions/runch" "$@" 3>&-
}

@test "completion offers commands, flags and containers, and runs nothing" {
	same "$(complete_bash runch cre)" "create"
	same "$(complete_bash runch kill --a)" "--all"
	same "$(complete_bash runch kill some --)" "--all --help"
	mkdir -p "$ROOT/one" "$ROOT/two"
	same "$(complete_bash runch --root "$ROOT" delete t)" "two"
	same "$(complete_bash runch --root "$ROOT" exec -t '')" "--tty one two"
	same "$(complete_bash runch --root "$ROOT" delete --)" "--force --help"
	same "$(complete_bash runch --root "$ROOT" exec one -- t)" ""
	[ -d "$ROOT/one" ] && [ -d "$ROOT/two" ]
	rmdir "$ROOT/one" "$ROOT/two"
	for shell in bash fish zsh; do
		runch completion "$shell" >"$T/$shell"
		if command -v "$shell" >/dev/null; then
			"$shell" -n "$T/$shell"
		else
			echo "# the script for $shell was not parsed: there is no $shell" >&3
		fi
	done
	cmp "$T/fish" "$DEST/usr/share/fish/vendor_completions.d/runch.fish"
	cmp "$T/zsh" "$DEST/usr/share/zsh/site-functions/_runch"
}

@test "uninstall leaves no file and no directory of ours" {
	make_quietly uninstall "DESTDIR=$DEST" PREFIX=/usr
	same "$(find "$DEST" ! -type d)" ""
	same "$(find "$DEST" -name '*runch*' ! -path "$DEST")" ""
}
