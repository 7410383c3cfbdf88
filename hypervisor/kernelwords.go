package hypervisor

// KernelWords are the words for the guest's kernel that every driver gives it
// before those of the configuration, which win where a word is said twice.
func (c *Config) KernelWords() []string {
	words := []string{
		"quiet", "loglevel=3",
		// A panic resets the machine at once, and a driver makes that the end.
		"panic=-1",
		"net.ifnames=0", "cryptomgr.notests", "no_timer_check", "tsc=reliable",
		// All buses hang off the first: without this Linux asks 255 more, in vain,
		// for each device that they might have, and each question stops the VM.
		"pci=lastbus=0",
		// No device of a VM's needs its data bounced; for a VM that may grow beyond
		// 4 GiB Linux would set 64 MiB aside for that, and clear them.
		"swiotlb=noforce",
	}
	if c.MaxMemoryMiB > c.MemoryMiB {
		// Memory that comes is used, and only for what can be moved away again.
		words = append(words, "memhp_default_state=online_movable")
	}
	return words
}
