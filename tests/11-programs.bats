#!/usr/bin/env bats
# Real programs in a real distribution's tree. All tests share one container of a minimal Debian, which runs a tree of
# processes that ignore TERM.

load helpers

setup_file() {
	share
	bundle debian
	args bash -c 'trap "" TERM INT HUP; for i in 1 2 3; do (sleep 100000 & sleep 100000; wait) & done; wait'
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

# told TEXT: whether the terminal has shown the text.
told() {
	says "$1" "$T/screen"
}

@test "a shell session on a terminal: job control, line editing, a window that changes its size, and the shell's own status" {
	mkfifo "$T/orders"
	exec 9<>"$T/orders"
	helper "$TOOLS/terminal" run --out "$T/screen" --report "$T/report" -- \
		"$RUNCH" --root "$ROOT" exec --tty --env "PS1=here: " "$ID" bash --norc <"$T/orders" 9>&-
	eventually 20 told "here: "
	echo 'type tty' >&9
	eventually 10 told /dev/pts/0
	# SIGWINCH goes to the foreground process group. Its program first says that it is ready for the signal.
	echo "type bash -c 'trap \"stty size; kill %1; exit 0\" WINCH; stty size; sleep 1000 & echo wai\\ting; wait'" >&9
	eventually 10 told "24 80"
	eventually 10 told waiting
	echo 'size 40 132' >&9
	eventually 10 told "40 132"
	# ^C ends the foreground program, not the shell.
	echo "type sh -c 'echo in fr\\ont; exec sleep 1000'" >&9
	eventually 10 told "in front"
	echo 'send 03' >&9
	echo 'type echo interrupted $?' >&9
	eventually 10 told "interrupted 130"
	# ^Z stops the foreground program, and the shell continues it.
	echo "type sh -c 'echo in t\\he front; exec sleep 1000'" >&9
	eventually 10 told "in the front"
	echo 'send 1a' >&9
	eventually 10 told "Stopped"
	echo 'type bg; jobs; kill %1; wait %1; echo ended with $?; exit 7' >&9
	eventually 10 told "ended with 143"
	eventually 20 test -s "$T/report"
	same "$(jq .status "$T/report")" 7
	same "$(jq .restored "$T/report")" true
	exec 9>&-
}

@test "lines of a terminal end once: as they are in a file, with one carriage return on the caller's terminal" {
	try "$TOOLS/terminal" run --out "$T/screen" --report "$T/report" -- \
		sh -c '"$0" --root "$1" exec --tty "$2" printf "one\ntwo\n"; "$0" --root "$1" exec --tty "$2" printf "one\ntwo\n" >"$3"' \
		"$RUNCH" "$ROOT" "$ID" "$T/file"
	same "$(jq .status "$T/report")" 0
	same "$(od -An -c "$T/file")" "$(printf 'one\ntwo\n' | od -An -c)"
	same "$(od -An -c "$T/screen")" "$(printf 'one\r\ntwo\r\n' | od -An -c)"
}

@test "apt-get and dpkg know their distribution" {
	try execute apt-get --version
	same "$status" 0
	[[ $output =~ ^apt\ [0-9] ]]
	try execute dpkg-query --show --showformat '${Status}' perl
	same "$output" "install ok installed"
	same "$(execute cat /etc/debian_version)" "$(<"$B/rootfs/etc/debian_version")"
}

@test "perl: modules, pipes and children" {
	try execute perl -MDigest::SHA=sha256_hex -e 'print sha256_hex("abc")'
	same "$output" "$(printf abc | sha256sum | cut -d ' ' -f 1)"
	try execute perl -e '
		pipe(my $r, my $w);
		for my $i (1 .. 10) { unless (fork) { syswrite $w, "$i\n"; exit $i } }
		close $w;
		my $sum = 0;
		$sum += $_ while <$r>;
		my $codes = 0;
		while ((my $pid = wait) > 0) { $codes += $? >> 8 }
		print "$sum $codes\n"'
	same "$output" "55 55"
}

@test "a file of 100 MiB is written in the container and read by the host with the same checksum, and the other way round" {
	local size=$((100 << 20)) sum
	sum=$("$WORKLOAD" pattern "$size" | sha256sum | cut -d ' ' -f 1)
	execute sh -c "workload pattern $size >/big && sync /big"
	same "$(stat -c %s "$B/rootfs/big")" "$size"
	same "$(sha256sum <"$B/rootfs/big")" "$sum  -"
	# A copy made on the host, which the guest has not cached.
	cp "$B/rootfs/big" "$B/rootfs/copy"
	same "$(execute sha256sum /copy)" "$sum  /copy"
	same "$(execute sha256sum /big)" "$sum  /big"
	execute rm /big /copy
	[ ! -e "$B/rootfs/big" ]
}

@test "files: links, modes, owners, times, sparse files, locks and renames are those of a file system" {
	try execute bash -ec '
		mkdir /files && cd /files
		echo text >a && ln a hard && ln -s a soft && chmod 4750 a && touch -d @1000000000 a
		mkfifo pipe && truncate -s 1G sparse
		stat -c "%h %a %Y %F" a; readlink soft; stat -c "%s %b" sparse
		flock a sh -c "flock --nonblock a true || echo locked"
		mv a b && cat hard && rm b && cat hard
		ls'
	same "$status" 0
	same "$output" "$(printf '%s\n' '2 4750 1000000000 regular file' a '1073741824 0' locked text text hard pipe soft sparse)"
	same "$(stat -c '%h %a %Y %U' "$B/rootfs/files/hard")" "1 4750 1000000000 root"
}

# bats test_tags=contract:4
@test "10 MiB on stdout and stderr at once arrive complete, each in its order" {
	# The lines are numbered, which shows where one is lost, doubled or moved.
	try execute sh -c 'seq 1450000 & seq 1450000 >&2; wait'
	same "$status" 0
	[ "$(stat -c %s "$T/.out")" -gt 10485760 ]
	cmp "$T/.out" <(seq 1450000)
	cmp "$T/.err" <(seq 1450000)
}

# bats test_tags=contract:19
@test "20 execs at once, each with its own input, output and status" {
	local i pids=()
	for ((i = 0; i < 20; i++)); do
		helper "$RUNCH" --root "$ROOT" exec "$ID" sh -c "read -r word; echo \$word; echo err $i >&2; exit $i" \
			<<<"word $i" >"$T/$i.out" 2>"$T/$i.err"
		pids+=("$helper")
	done
	for ((i = 0; i < 20; i++)); do
		status=0
		wait "${pids[i]}" || status=$?
		same "$status" "$i"
		same "$(<"$T/$i.out")" "word $i"
		same "$(<"$T/$i.err")" "err $i"
	done
}

# Keep this test last: it ends the shared container.
# bats test_tags=contract:18
@test "a tree of processes that ignore TERM: TERM leaves all of them, KILL none" {
	same "$(processes)" 10
	runch kill "$ID" TERM
	runch kill --all "$ID" TERM
	kill -TERM "$PID"
	# An exec is a round trip to the guest: every process that TERM ends has ended by then. (sleep inherits from the
	# shell that TERM is ignored.)
	execute true
	same "$(processes)" 10
	state_is running
	within 1000 runch kill "$ID" KILL
	same "$(exit_status "$PID" 5)" 137
	state_is stopped
}
