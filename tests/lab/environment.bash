#!/bin/bash
# What the suites are told in the lab, and the tree they are run in. To be read in /runch, where the lab's commands begin.

# A processor emulated within an emulated one takes its time.
export RUNCH_BOOT_TIMEOUT=2m DEADLINE=300 BATS_TEST_TIMEOUT=900 RUNCH_TEST_SLOWER=4
# The lab has one, and a guest may grow to as many as its host has; a test has a second one come.
export RUNCH_MAX_CPUS=2
# KVM is there, or the suites fail: that it is found where nothing is said is a test of its own.
export RUNCH_ACCEL=kvm

for device in kvm vhost-vsock; do
	[ -e /dev/$device ] || {
		echo "not ok 0 the lab has no /dev/$device"
		exit 1
	}
done

# The tree as it was when the lab was booted, near: the one at /runch is far away. A user who is not root runs it as well.
exec {tree_lock}>/run/tree.lock
flock "$tree_lock"
[ -e /run/tree ] || {
	mkdir -p /run/tree.new
	tar -x -f /lab/tree.tar -C /run/tree.new
	chmod 755 /run/tree.new
	mv /run/tree.new /run/tree
	[ ! -e /lab/cloud-hypervisor ] || install -m 0755 /lab/cloud-hypervisor /run/ # /lab may be closed to the VMM, which runs without privileges
}
exec {tree_lock}>&-
cd /run/tree || exit
export RUNCH=$PWD/bin/runch RUNCH_GUEST=$PWD/bin/guest RUNCH_TESTGUEST=$PWD/build/tests/testguest # for the tests of the drivers

# The VMMs to run with: those that are there, or those of LAB_DRIVERS.
drivers=qemu
if [ -e /run/cloud-hypervisor ]; then
	export RUNCH_CLOUD_HYPERVISOR=/run/cloud-hypervisor
	drivers="qemu cloud-hypervisor"
fi
LAB_DRIVERS=${LAB_DRIVERS:-$drivers}
