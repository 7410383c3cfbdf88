#!/usr/bin/env bats
# The Debian package that `make deb` makes: it has what `make install` installs, follows Debian's policy, and can be
# installed in a clean Debian, upgraded under running containers, removed and purged. Each of the last tests continues
# with the state that the one before has left.

load helpers
load package

REPO=${TESTS%/*}

# make_deb TREE: makes the package, and shows make's output only if it fails.
make_deb() {
	local log status=0
	# Another suite may be running `make install` in the same tree.
	log=$(flock "$1/Makefile" make --no-print-directory -C "$1" deb 2>&1 3>&-) || status=$?
	[ $status = 0 ] || echo "$log"
	return $status
}

setup_file() {
	if ! is_runch; then
		skip "this is about runch's own package, and ${RUNCH##*/} is another runtime"
	fi
	if [ ! -d "$REPO/build/goroot/" ]; then
		skip "there is nothing to make a package of: this tree was not built here"
	fi
	PACKAGE=$REPO/$("$REPO/scripts/deb" --name)
	export PACKAGE
	if [ ! -e "$PACKAGE" ]; then
		make_deb "$REPO"
	fi
	"$REPO/scripts/rootfs" host "$RUNCH_ROOTFS/host" 3>&-
	echo "# ${PACKAGE##*/} of $(date --reference="$PACKAGE" +%H:%M:%S)" >&3
	machine_start
	cp "$PACKAGE" "$MACHINE/new.deb"
	older_package
}

teardown_file() {
	machine_stop
}

setup() {
	begin
}

teardown() {
	finish
}

# older_package: makes the same package with a lower version, to be upgraded. dpkg replaces all of its files.
older_package() {
	dpkg-deb --raw-extract "$PACKAGE" "$MACHINE/older"
	sed -i 's/^Version: .*/Version: 0.0.1/' "$MACHINE/older/DEBIAN/control"
	dpkg-deb --root-owner-group -Znone --build "$MACHINE/older" "$MACHINE/old.deb" >/dev/null
	rm -rf "$MACHINE/older"
}

# field NAME: prints a field of the package's control file.
field() {
	dpkg-deb --field "$PACKAGE" "$1"
}

# shipped FILE...: expects the files in the package.
shipped() {
	local file
	for file in "$@"; do
		grep -qxF ".$file" "$T/files" || {
			echo "$file is not in the package"
			return 1
		}
	done
}

@test "it has program, agent, guest image, manual pages, completions, configuration, changelog and copyright" {
	dpkg-deb --fsys-tarfile "$PACKAGE" >"$T/tar"
	tar -tf "$T/tar" >"$T/files"
	shipped /usr/bin/runch /usr/libexec/runch/runch-agent /usr/share/runch/guest/{kernel,initramfs,manifest.json} \
		/usr/share/bash-completion/completions/runch /usr/share/zsh/site-functions/_runch \
		/usr/share/fish/vendor_completions.d/runch.fish /etc/runch/config.toml \
		/usr/share/doc/runch/{copyright,changelog.gz,examples/config.toml}
	local page
	for page in "$REPO"/docs/man/*.md; do
		page=${page##*/}
		page=${page%.md}
		shipped "/usr/share/man/man${page##*.}/$page.gz"
	done
	same "$(dpkg-deb --info "$PACKAGE" conffiles)" /etc/runch/config.toml
	# All files belong to root, nobody else may write them, and the newest time is the commit's.
	same "$(tar -tvf "$T/tar" --numeric-owner | awk '$2 != "0/0" || ($1 !~ /^l/ && $1 ~ /^.....w|^........w/)')" ""
	local newest
	newest=$(tar -tvf "$T/tar" --full-time --utc | awk '{ print $4 "T" $5 "Z" }' | sort | tail -n 1)
	same "$newest" "$(TZ=UTC0 git -C "$REPO" log -1 --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ)"
}

@test "it depends on what runch executes, and says where the source of what is in it can be had" {
	same "$(field Package)" runch
	same "$(field Architecture)" "$(dpkg --print-architecture)"
	says "qemu-system-x86 | cloud-hypervisor" <(field Depends)
	says "virtiofsd | qemu-system-common (<< 1:8.0~)" <(field Depends)
	field Built-Using | grep -qE 'linux[^ ]* \(= [^)]+\), glibc \(= [^)]+\), libseccomp \(= [^)]+\)'
	local kernel
	kernel=$(field Built-Using | grep -oE 'linux[^ ]* \(= [^)]+\)')
	dpkg-deb --fsys-tarfile "$PACKAGE" | tar -xO ./usr/share/doc/runch/copyright >"$T/copyright"
	says "$kernel" "$T/copyright"
	# Every Go module that is in a program is listed with its license.
	local module
	for module in $("$REPO/build/goroot/bin/go" version -m "$REPO/bin/runch" "$REPO/bin/runch-agent" | awk '$1 == "dep" { print $2 }'); do
		grep -q "^$module v" "$T/copyright"
	done
}

@test "its version rises with the commits, and the release that is tagged is above all before it" {
	local tree=$T/tree release version last=0
	release=$(<"$REPO/VERSION")
	mkdir -p "$tree/scripts"
	cp "$REPO/scripts/deb" "$tree/scripts/"
	cp "$REPO/VERSION" "$tree/"
	git -C "$tree" init --quiet
	# rises: expects the version to be higher than the one before.
	rises() {
		version=$("$tree/scripts/deb" --name)
		version=${version#build/runch_}
		version=${version%_*.deb}
		dpkg --compare-versions "$version" gt "$last" || {
			echo "$version is not above $last"
			return 1
		}
		last=$version
	}
	# commit TIME: commits a change at this time.
	commit() {
		echo "$1" >"$tree/file"
		git -C "$tree" add .
		GIT_COMMITTER_DATE=$1 git -C "$tree" -c user.name=a -c user.email=b commit --quiet --message "at $1"
	}
	commit 2026-01-01T01:00:00+02:00
	rises
	[[ $version == "$release~git20251231.230000."* ]]
	commit 2026-01-01T00:30:00+01:00 # half an hour later
	rises
	echo else >"$tree/file"
	rises
	[[ $version == "$release~git20251231.233000."*+changed ]]
	git -C "$tree" checkout --quiet file
	git -C "$tree" tag "v$release"
	rises
	same "$version" "$release"
}

@test "lintian has nothing to say that the package does not explain" {
	same "$(lintian --allow-root --fail-on none "$PACKAGE" 2>&1)" ""
}

@test "made again out of a tree elsewhere, it is the same, byte by byte" {
	[ "$RUNCH_TEST_LONG" = 1 ] || skip "it takes as long as the rest of the suite (RUNCH_TEST_LONG=1, make test-all)"
	git clone --quiet "$REPO" "$T/tree"
	# Copy what is not committed, too.
	(cd "$REPO" && git ls-files -co --exclude-standard -z | xargs -0 cp -a --parents -t "$T/tree")
	# The kernels are inputs of the build, as the compilers are.
	mkdir "$T/tree/build"
	local kernel
	for kernel in "$REPO"/build/kernel{.deb,s}; do
		[ ! -e "$kernel" ] || cp -a --link "$kernel" "$T/tree/build/"
	done
	(umask 077 && make_deb "$T/tree")
	cmp "$T/tree/build/${PACKAGE##*/}" "$PACKAGE"
}

@test "installed in a clean Debian it runs, has its manual pages, and lacks nothing" {
	machine_files >"$MACHINE/before"
	machine_dpkg --install /tmp/old.deb
	inside runch --version | grep -qx "runch version $("$RUNCH" --version | sed -n '1s/.* //p')"
	inside runch check --run >"$T/check" || {
		cat "$T/check"
		return 1
	}
	grep -qE '^container +ok' "$T/check"
	inside man runch-create >"$T/page"
	says "runch create" "$T/page"
	inside man 5 runch-config >"$T/page"
	says /etc/runch/config.toml "$T/page"
	inside runch env --format json >"$T/env"
	same "$(jq -r .initramfs.path "$T/env")" /usr/share/runch/guest/initramfs
}

@test "upgraded under a container that runs, the container goes on, and the new runch has it in hand" {
	inside sh -c 'echo "cpus = 2" >>/etc/runch/config.toml'
	machine_bundle
	script 'trap "exit 7" TERM; echo up; while :; do sleep 0.1; done'
	machine_launch
	machine_dpkg --install /tmp/new.deb
	same "$(inside dpkg-query -W -f '${Version}' runch)" "$(field Version)"
	# The shim still runs the old program, whose file is deleted.
	same "$(inside readlink "/proc/$PID/exe")" "/usr/bin/runch (deleted)"
	same "$(inside runch state "$ID" | jq -r .status)" running
	same "$(inside runch exec "$ID" nproc)" 2
	same "$(inside runch exec "$ID" uname -r)" "$(inside runch env --format json | jq -r .kernel.version)"
	inside runch ps "$ID" | grep -q sleep
	inside runch kill "$ID" TERM
	inside_stopped() { [ "$(inside runch state "$ID" | jq -r .status)" = stopped ]; }
	eventually 20 inside_stopped
	reaped() { [ "$(jq -r --argjson pid "$PID" 'select(.pid == $pid).status' "$MACHINE/reaped")" = 7 ]; }
	eventually 5 reaped
	inside runch delete "$ID"
	# Local changes of the configuration are kept.
	inside tail -n 1 /etc/runch/config.toml | grep -qx "cpus = 2"
	rm -rf "$B"
}

@test "removed under a container that runs, the container goes on, and a runch that is installed again ends it" {
	machine_bundle
	script 'echo up; while :; do sleep 0.1; done'
	machine_launch
	machine_dpkg --remove runch
	inside test ! -e /usr/bin/runch
	inside test -e /etc/runch/config.toml
	inside sh -c "kill -0 $PID"
	machine_dpkg --install /tmp/new.deb
	same "$(inside runch state "$ID" | jq -r .status)" running
	inside runch delete --force "$ID"
	eventually 5 inside sh -c "! kill -0 $PID 2>/dev/null"
	rm -rf "$B"
}

@test "purged it leaves nothing" {
	# A virtual machine that does not boot in time leaves a log.
	machine_bundle
	args true
	try inside RUNCH_BOOT_TIMEOUT=1s RUNCH_KERNEL_PARAMS=init=/none runch run --bundle "/tmp/$ID" "$ID"
	[ "$status" -ne 0 ]
	rm -rf "$B"
	inside find /var/log/runch -type f | grep -q .
	machine_dpkg --purge runch
	machine_files >"$MACHINE/after"
	diff "$MACHINE/before" "$MACHINE/after"
}
