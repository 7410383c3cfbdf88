#!/bin/bash
# Sets the suites' variables for the lab, and changes to the tree in which they run. To be sourced in /runch, the
# initial directory of the lab's commands.

# Everything is slower in a VM on an emulated processor.
export RUNCH_BOOT_TIMEOUT=2m DEADLINE=300 BATS_TEST_TIMEOUT=900 RUNCH_TEST_SLOWER=4
# The lab has one CPU, which would be the maximum for guests. One test adds a second CPU.
export RUNCH_MAX_CPUS=2
# The suites fail without KVM. Another test checks that KVM is found without this setting.
export RUNCH_ACCEL=kvm

for device in kvm vhost-vsock; do
	[ -e /dev/$device ] || {
		echo "not ok 0 the lab has no /dev/$device"
		exit 1
	}
done

# Unpack the copy of the tree that was made when the lab was booted: /runch is slow. Ordinary users have to read it.
exec {tree_lock}>/run/tree.lock
flock "$tree_lock"
[ -e /run/tree ] || {
	mkdir -p /run/tree.new
	tar -x -f /lab/tree.tar -C /run/tree.new
	chmod 755 /run/tree.new
	mv /run/tree.new /run/tree
	[ ! -e /lab/cloud-hypervisor ] || install -m 0755 /lab/cloud-hypervisor /run/ # the VMM, which runs without privileges, may not be able to read /lab
}
exec {tree_lock}>&-
cd /run/tree || exit
export RUNCH=$PWD/bin/runch RUNCH_GUEST=$PWD/bin/guest RUNCH_TESTGUEST=$PWD/build/tests/testguest # for the tests of the drivers

# The VMMs to run with: those of LAB_DRIVERS, or all that are there.
drivers=qemu
if [ -e /run/cloud-hypervisor ]; then
	export RUNCH_CLOUD_HYPERVISOR=/run/cloud-hypervisor
	drivers="qemu cloud-hypervisor"
fi
LAB_DRIVERS=${LAB_DRIVERS:-$drivers}
