# runch: `make help` lists the targets. Every target installs what it lacks
# from Debian's packages and the Go module proxy, and can be repeated at any time.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PREFIX ?= /usr/local
DESTDIR ?=

VERSION := $(shell cat VERSION)
COMMIT := $(shell git rev-parse --short=12 HEAD 2>/dev/null)
FULL_VERSION := $(VERSION)$(if $(COMMIT),+$(COMMIT))

# Go need not be installed: scripts/go finds or fetches the version in go.mod.
GO := $(CURDIR)/build/goroot/bin/go
export GOTOOLCHAIN := local
export GOFLAGS := -buildvcs=false -mod=readonly
unexport GOROOT
TOOLS := $(CURDIR)/build/tools

LDFLAGS := -s -w -X main.version=$(FULL_VERSION)
# Leave the generation of documents out of the command line's library (urfave/cli): its initialization would take a
# seventh of the processor time of each start of runch.
TAGS := urfave_cli_no_docs
AGENT_LDFLAGS := $(LDFLAGS) -linkmode external -extldflags -static
AGENT_TAGS := netgo osusergo seccomp

GOFUMPT := $(TOOLS)/gofumpt-v0.12.0
GOLANGCI := $(TOOLS)/golangci-lint-v2.15.0
SHFMT := $(TOOLS)/shfmt-v3.14.1
PROTOC_GEN_GO := $(TOOLS)/protoc/protoc-gen-go
PROTOC_GEN_TTRPC := $(TOOLS)/protoc/protoc-gen-go-ttrpc

# All shell code: files with a shell in their first line, and those that the suites load.
SCRIPTS = $(sort $(shell git ls-files -co --exclude-standard -- scripts packaging .ci tests | xargs grep -lE '^\#!.*(/|env )(sh|bash|bats)$$' 2>/dev/null) $(wildcard tests/*.bash))

FUZZ_INPUTS ?= 2000
E2E ?= tests

.PHONY: all
all: build guest ## the runtime and its guest image (the default)

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z][a-z0-9_-]*:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Variables: CMD (lab-run), LAB_DIR (lab), PREFIX, DESTDIR (install), FUZZ_INPUTS (unit), E2E (a suite or directory for e2e), KERNEL (debian or lean), LINUX_SOURCE (guest, install, deb), RUNCH_KERNEL_PACKAGE (guest, until build/kernel.deb is there)"

# --- building ---

build/goroot: scripts/go go.mod
	@mkdir -p build
	@root=$$(scripts/go) && ln -sfn "$$root" $@

.PHONY: deps-build deps-vm deps-test deps-lab deps-conformance
deps-build:
	@scripts/deps build
deps-vm:
	@scripts/deps vm
deps-test:
	@scripts/deps test
deps-lab:
	@scripts/deps lab
deps-conformance:
	@scripts/deps conformance

.PHONY: build
build: bin/runch bin/runch-agent ## bin/runch and bin/runch-agent

.PHONY: FORCE
FORCE:

bin/runch: FORCE | build/goroot
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -tags '$(TAGS)' -ldflags '$(LDFLAGS)' -o $@ .

.PHONY: agent
agent: bin/runch-agent ## bin/runch-agent, the static first process of the guest

# Replaced only if it has changed, so that the guest image is not rebuilt for nothing.
bin/runch-agent: FORCE | build/goroot deps-build
	@mkdir -p bin build
	CGO_ENABLED=1 $(GO) build -trimpath -tags '$(AGENT_TAGS)' -ldflags '$(AGENT_LDFLAGS)' -o build/runch-agent ./agent/cmd/runch-agent
	@cmp -s build/runch-agent $@ || install -m 0755 build/runch-agent $@

build/kernel.deb: | scripts/kernel
	@scripts/kernel $@

# The guest's kernel: Debian's package, or a lean one built from Debian's source; see docs/guest.md.
KERNEL ?= debian
LINUX_SOURCE ?= /usr/src/linux-source-6.12.tar.xz

KERNEL_OPTIONS_debian := --kernel build/kernel.deb --vmlinux
KERNEL_OPTIONS_lean := --kernel-source $(LINUX_SOURCE) --kernel-cache build/kernels
KERNEL_OPTIONS := $(or $(KERNEL_OPTIONS_$(KERNEL)),$(error KERNEL is debian or lean, not $(KERNEL)))

.PHONY: guest
guest: bin/guest/manifest.json ## bin/guest: the kernel and initramfs that VMs boot; with KERNEL=lean the kernel is built

.PHONY: kernel-debian kernel-lean
kernel-debian: build/kernel.deb
kernel-lean:
	@scripts/deps kernel

# Replaced only if another kernel is selected.
build/kernel.options: FORCE | kernel-$(KERNEL)
	@mkdir -p build
	@echo '$(KERNEL_OPTIONS)' | cmp -s - $@ || echo '$(KERNEL_OPTIONS)' >$@

bin/guest/manifest.json: bin/runch-agent build/kernel.options $(wildcard guest/*.go guest/lean/*) | bin/runch
	bin/runch guest build $(KERNEL_OPTIONS) --agent bin/runch-agent --agent-version '$(FULL_VERSION)' --output bin/guest

.PHONY: rootfs
rootfs: | build/goroot ## build/rootfs/{debian,busybox,static}: real root file systems
	@scripts/deps rootfs
	@for kind in debian busybox static; do scripts/rootfs $$kind build/rootfs/$$kind; done

.PHONY: rootfs-host
rootfs-host:
	@scripts/deps rootfs
	@scripts/rootfs host build/rootfs/host

.PHONY: proto
proto: $(PROTOC_GEN_GO) $(PROTOC_GEN_TTRPC) ## generate agentproto's Go code
	@scripts/deps lint
	PATH=$(TOOLS)/protoc:$$PATH protoc --go_out=. --go_opt=paths=source_relative \
		--go-ttrpc_out=. --go-ttrpc_opt=paths=source_relative agentproto/agent.proto

# --- running ---

.PHONY: run
run: all rootfs deps-vm ## show a container in a VM from create to delete, step by step
	@scripts/demo

# --- testing ---

.PHONY: test
test: ## everything that CI runs, in half an hour
	@scripts/test

.PHONY: test-all
test-all: ## test, everything in the lab, the long repetitions and the benchmark
	@scripts/test all

.PHONY: unit
unit: all deps-vm ## unit tests with the race detector, and each fuzz target for a moment
	@scripts/unit $(FUZZ_INPUTS)

.PHONY: e2e
e2e: all rootfs deps-vm deps-test critest-build ## the bats suites: containers in real VMs
	@scripts/e2e $(E2E)

.PHONY: e2e-drivers
e2e-drivers: all deps-vm ## the suite of the VMMs' drivers, with real guests on this machine
	@scripts/drivers

.PHONY: conformance
conformance: all rootfs deps-vm deps-test deps-conformance ## suites that others wrote: runtime-tools, runc's own, critest
	@tests/external/run

.PHONY: critest
critest: all rootfs deps-vm deps-test deps-conformance ## of these, what Kubernetes' runtimes are validated by, with containerd
	@tests/external/run critest

# This builds crictl too.
.PHONY: critest-build
critest-build: rootfs deps-test
	@CONFORMANCE_SCOPE=build tests/external/run critest

.PHONY: conformance-build
conformance-build: rootfs deps-test deps-conformance
	@CONFORMANCE_SCOPE=build tests/external/run

.PHONY: suites
suites: all rootfs deps-vm deps-test deps-conformance critest-build ## e2e, e2e-drivers and conformance, two at a time
	@scripts/suites $(E2E)

.PHONY: test-long
test-long: all rootfs deps-vm deps-test ## the suites that can repeat what they do, with many more repetitions
	@RUNCH_TEST_LONG=1 scripts/e2e $(shell grep -l RUNCH_TEST_LONG tests/*.bats)

# --- the lab: see docs/lab.md ---

export LAB_DIR ?= $(CURDIR)/build/lab
export CMD

.PHONY: lab
lab: deps-lab ## build/lab: a Debian 13 with KVM, cgroup v2 and systemd, to be booted by QEMU
	@tests/lab/build $(LAB_DIR)

.PHONY: lab-shell
lab-shell: all lab ## a shell in the lab, this tree at /runch
	@tests/lab/boot --terminal 'exec bash -l'

.PHONY: lab-run
lab-run: all lab ## CMD='…' in the lab
	@tests/lab/boot "$$CMD"

.PHONY: test-lab
test-lab: all rootfs deps-test deps-conformance lab ## all suites and the callers (podman, containerd) in the lab, which takes hours
	@tests/lab/test

.PHONY: test-lab-ci
test-lab-ci: all rootfs deps-test deps-conformance lab ## of these what no other place can tell, in ten minutes
	@LAB_STEPS=ci tests/lab/test

.PHONY: conformance-lab
conformance-lab: all rootfs deps-test deps-conformance lab ## conformance in the lab: cgroup v2, cgroups by systemd, each VMM
	@LAB_STEPS=external tests/lab/test

.PHONY: test-lab-drivers
test-lab-drivers: all lab ## the driver suite in the lab: QEMU with KVM and vsock, cloud-hypervisor where there is one
	@tests/lab/drivers

.PHONY: bench
bench: all rootfs deps-vm deps-test ## figures beside the bare VM, runc and crun
	@tests/bench/run

# runch uses the guest image beside itself, so there is a copy of runch for each kernel's image.
.PHONY: bench-kernels
bench-kernels: all rootfs deps-vm deps-test kernel-debian kernel-lean ## figures with the lean kernel beside those with Debian's
	@for kernel in 'debian $(KERNEL_OPTIONS_debian)' 'lean $(KERNEL_OPTIONS_lean)'; do \
		set -- $$kernel; dir=build/bench-$$1; shift; \
		install -D -m 0755 bin/runch $$dir/runch; \
		bin/runch guest build "$$@" --agent bin/runch-agent --agent-version '$(FULL_VERSION)' --output $$dir/guest; \
	done
	@RUNCH=build/bench-lean/runch BENCH_BEFORE=build/bench-debian/runch tests/bench/run

.PHONY: rootfs-bench
rootfs-bench:
	@scripts/deps bench
	@scripts/rootfs bench build/rootfs/bench

.PHONY: bench-files bench-network
bench-files: all rootfs rootfs-bench deps-vm deps-test ## files beside virtiofsd in a guest without runch, and beside crun
	@tests/bench/run files
bench-network: all rootfs rootfs-bench deps-vm deps-test ## the network beside a tap of a guest without runch, and beside crun
	@tests/bench/run network

# --- checking ---

.PHONY: lint
lint: lint-go lint-shell lint-mod lint-proto ## every static check

.PHONY: lint-go
lint-go: $(GOFUMPT) $(GOLANGCI) deps-build
	@out=$$(git ls-files -co --exclude-standard -- '*.go' | grep -v '\.pb\.go$$' | xargs $(GOFUMPT) -l); \
		[ -z "$$out" ] || { echo "not formatted as gofumpt does (make fmt):"; echo "$$out"; exit 1; }
	$(GO) vet ./...
	@# The linter's lock is for the whole machine. The cache is this tree's own, so it may run in parallel with others.
	PATH=$(dir $(GO)):$$PATH GOLANGCI_LINT_CACHE=$(CURDIR)/build/golangci-cache $(GOLANGCI) run --allow-parallel-runners ./...

.PHONY: lint-shell
lint-shell: $(SHFMT)
	@scripts/deps lint
	shellcheck $(filter-out %.bash %.bats,$(SCRIPTS))
	@# The suites share variables across files, which shellcheck cannot follow.
	shellcheck --shell=bats --severity=warning --exclude=SC2034,SC2154 $(filter %.bash %.bats,$(SCRIPTS))
	$(SHFMT) -d $(SCRIPTS)

.PHONY: lint-mod
lint-mod: | build/goroot
	$(GO) mod tidy -diff
	$(GO) mod verify

.PHONY: lint-proto
lint-proto: $(PROTOC_GEN_GO) $(PROTOC_GEN_TTRPC)
	@scripts/deps lint
	@rm -rf build/.proto && mkdir -p build/.proto
	PATH=$(TOOLS)/protoc:$$PATH protoc --go_out=build/.proto --go_opt=paths=source_relative \
		--go-ttrpc_out=build/.proto --go-ttrpc_opt=paths=source_relative agentproto/agent.proto
	@for f in build/.proto/agentproto/*.go; do \
		diff -q "$$f" "agentproto/$${f##*/}" >/dev/null || { echo "agentproto/$${f##*/} is not what agent.proto makes (make proto)"; exit 1; }; done

.PHONY: fmt
fmt: $(GOFUMPT) $(SHFMT) ## format Go and shell code
	git ls-files -co --exclude-standard -- '*.go' | grep -v '\.pb\.go$$' | xargs $(GOFUMPT) -w
	$(SHFMT) -w $(SCRIPTS)

.PHONY: tools
tools: $(GOFUMPT) $(GOLANGCI) $(SHFMT) $(PROTOC_GEN_GO) $(PROTOC_GEN_TTRPC) ## what the checks need besides packages

# Tools are built from source at pinned versions, which Go's checksum database
# verifies. Their names have the version, so that a new version is built.
define tool
$(1): | build/goroot
	@mkdir -p $$(TOOLS)
	GOFLAGS= GOBIN=$$(TOOLS)/tmp-$$(notdir $(1)) CGO_ENABLED=0 $$(GO) install $(2)
	@mv $$(TOOLS)/tmp-$$(notdir $(1))/* $$@ && rmdir $$(TOOLS)/tmp-$$(notdir $(1))
endef
$(eval $(call tool,$(GOFUMPT),mvdan.cc/gofumpt@v0.12.0))
$(eval $(call tool,$(GOLANGCI),github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0))
$(eval $(call tool,$(SHFMT),mvdan.cc/sh/v3/cmd/shfmt@v3.14.1))

# The generators have the versions in go.mod, as their output depends on the version.
$(PROTOC_GEN_GO): go.mod | build/goroot
	@mkdir -p $(@D)
	GOBIN=$(@D) CGO_ENABLED=0 $(GO) install google.golang.org/protobuf/cmd/protoc-gen-go
$(PROTOC_GEN_TTRPC): go.mod | build/goroot
	@mkdir -p $(@D)
	GOBIN=$(@D) CGO_ENABLED=0 $(GO) install github.com/containerd/ttrpc/cmd/protoc-gen-go-ttrpc

# --- installing ---

MAN_SOURCES = $(wildcard docs/man/*.md)
MAN_PAGES = $(MAN_SOURCES:docs/man/%.md=build/man/%)

.PHONY: man
man: $(MAN_PAGES) ## the manual pages, in build/man

build/man/%: docs/man/%.md
	@mkdir -p $(@D)
	@scripts/deps man
	go-md2man -in $< -out $@

.PHONY: install
install: all man ## runtime, agent, guest image, manual pages, completions, an example configuration to $(DESTDIR)$(PREFIX)
	install -D -m 0755 bin/runch $(DESTDIR)$(PREFIX)/bin/runch
	install -D -m 0755 bin/runch-agent $(DESTDIR)$(PREFIX)/libexec/runch/runch-agent
	install -d $(DESTDIR)$(PREFIX)/share/runch/guest
	install -m 0644 bin/guest/* $(DESTDIR)$(PREFIX)/share/runch/guest/
	for page in $(MAN_PAGES); do install -D -m 0644 $$page $(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/}; done
	mkdir -p build/completion
	for shell in bash fish zsh; do bin/runch completion $$shell > build/completion/$$shell; done
	install -D -m 0644 build/completion/bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/runch
	install -D -m 0644 build/completion/fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/runch.fish
	install -D -m 0644 build/completion/zsh $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_runch
	install -D -m 0644 config/config.toml $(DESTDIR)$(PREFIX)/share/doc/runch/examples/config.toml

.PHONY: deb
deb: all man ## a Debian package of what install installs, in build
	@scripts/deps deb
	@KERNEL='$(KERNEL)' LINUX_SOURCE='$(LINUX_SOURCE)' scripts/deb

.PHONY: uninstall
uninstall: ## remove what install put there
	rm -f $(DESTDIR)$(PREFIX)/bin/runch $(DESTDIR)$(PREFIX)/libexec/runch/runch-agent
	rm -f $(foreach page,$(notdir $(MAN_PAGES)),$(DESTDIR)$(PREFIX)/share/man/man$(subst .,,$(suffix $(page)))/$(page))
	rm -f $(DESTDIR)$(PREFIX)/share/bash-completion/completions/runch
	rm -f $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/runch.fish $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_runch
	rm -rf $(DESTDIR)$(PREFIX)/share/runch $(DESTDIR)$(PREFIX)/share/doc/runch
	rmdir --ignore-fail-on-non-empty $(DESTDIR)$(PREFIX)/libexec/runch 2>/dev/null || true

.PHONY: clean
clean: ## remove what was built, not what was fetched: tools, Debian's kernel, the lab
	rm -rf bin build/rootfs build/man build/.proto build/runch-agent build/completion build/results build/tests build/deb build/runch_*.deb

.PHONY: distclean
distclean: ## remove what was fetched as well
	rm -rf bin build
