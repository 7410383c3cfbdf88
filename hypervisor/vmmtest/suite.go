// Package vmmtest has the test suite that every driver of package hypervisor must pass. Its
// guests are real: runch's guest image, and the same image with a small init that the tests
// command (testguest).
package vmmtest

import (
	"testing"
	"time"

	"runch/hypervisor"
)

// Driver is the driver that the suite tests.
type Driver struct {
	// Program is the VMM's absolute path.
	Program string
	// Accel is the accelerator for its guests.
	Accel hypervisor.Accel
	// New is the driver's constructor.
	New func(cfg *hypervisor.Config) (hypervisor.VM, error)
}

// bootTimeout is how long a guest may take to say hello: translated code on a
// busy machine is slow.
const bootTimeout = 3 * time.Minute

// Run runs the suite. The guest image is in the directory RUNCH_GUEST, by default bin/guest
// of this repository. If there is none, Run skips the test and says what is missing.
func Run(t *testing.T, d Driver) {
	image := findImage(t)
	small := &Image{Kernel: image.Kernel, Initramfs: buildTestGuest(t, image)}
	for _, test := range []struct {
		name string
		run  func(*testing.T, *suite)
	}{
		{"Hello", testHello},
		{"Agent", testAgent},
		{"Talk", testTalk},
		{"HybridSocket", testHybridSocket},
		{"PowerOff", testPowerOff},
		{"Reset", testReset},
		{"Panic", testPanic},
		{"Close", testClose},
		{"KilledFromOutside", testKilledFromOutside},
		{"Console", testConsole},
		{"HostileChannel", testHostileChannel},
		{"AddNIC", testAddNIC},
		{"ColdNIC", testColdNIC},
		{"AddDisk", testAddDisk},
		{"ColdDisk", testColdDisk},
		{"AddShare", testAddShare},
		{"ColdShare", testColdShare},
		{"ResizeCPUs", testResizeCPUs},
		{"ResizeMemory", testResizeMemory},
		{"Pause", testPause},
		{"Stop", testStop},
		{"Snapshot", testSnapshot},
		{"SnapshotShare", testSnapshotShare},
		{"Template", testTemplate},
		{"Refusals", testRefusals},
		{"Gone", testGone},
		{"Unprivileged", testUnprivileged},
		{"BadKernel", testBadKernel},
		{"MissingKernel", testMissingKernel},
		{"MissingProgram", testMissingProgram},
		{"DyingProgram", testDyingProgram},
		{"SilentProgram", testSilentProgram},
		{"BootContext", testBootContext},
		{"Order", testOrder},
		{"Config", testConfig},
	} {
		t.Run(test.name, func(t *testing.T) {
			leaks := countLeaks(t)
			test.run(t, &suite{driver: d, image: image, small: small})
			leaks.check(t)
		})
	}
}

// suite is the driver and the images for a test.
type suite struct {
	driver Driver
	image  *Image // runch's guest image
	small  *Image // the same with the suite's own init
}
