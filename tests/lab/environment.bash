#!/bin/bash
# What the suites are told in the lab. To be read in the tree, which is where the lab's commands begin.

# A processor emulated within an emulated one takes its time.
export RUNCH_BOOT_TIMEOUT=5m DEADLINE=300 BATS_TEST_TIMEOUT=900
# KVM is there, or the suites fail: that it is found where nothing is said is a test of its own.
export RUNCH_ACCEL=kvm

for device in kvm vhost-vsock; do
	[ -e /dev/$device ] || {
		echo "not ok 0 the lab has no /dev/$device"
		exit 1
	}
done

# Copied: the tree is far away, and these are read again with every VM. A user who is not root runs them as well.
[ -e /run/runch-bin ] || cp -a bin /run/runch-bin
export RUNCH=/run/runch-bin/runch
export RUNCH_GUEST=/run/runch-bin/guest RUNCH_TESTGUEST=/runch/build/tests/testguest # for the tests of the drivers

# The VMMs to run with: those that are there, or those of LAB_DRIVERS.
drivers=qemu
if [ -e /lab/cloud-hypervisor ]; then
	install -m 0755 /lab/cloud-hypervisor /run/ # /lab may be closed to the VMM, which runs without privileges
	export RUNCH_CLOUD_HYPERVISOR=/run/cloud-hypervisor
	drivers="qemu cloud-hypervisor"
fi
LAB_DRIVERS=${LAB_DRIVERS:-$drivers}
