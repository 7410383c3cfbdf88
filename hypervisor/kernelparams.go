package hypervisor

// KernelParams returns the parameters that every driver gives the guest's kernel. They come
// before those of the configuration, which override them: the kernel takes the later value.
func (c *Config) KernelParams() []string {
	params := []string{
		"quiet", "loglevel=3",
		// A panic resets the machine at once, and the VMM ends at a reset.
		"panic=-1",
		"net.ifnames=0", "cryptomgr.notests", "no_timer_check", "tsc=reliable",
		// lastbus=0: every PCI bus is behind bus 0. Otherwise Linux probes 255 other
		// numbers for a root bus, and each access to PCI configuration space is a VM
		// exit. noearly: Linux does not look for chipsets with faults before that.
		"pci=lastbus=0,noearly",
		// Linux reads the first 256 bytes of a device's configuration space by two I/O
		// ports, and each access to either is a VM exit. If the ports are reserved, it uses
		// the memory-mapped configuration space of PCI Express for these bytes too: a third
		// fewer exits in a boot.
		"reserve=0xcf8,8",
		// No port services: every VMM announces hot-plugged devices by ACPI, and a
		// virtual port reports neither errors nor power management events.
		"pcie_ports=compat",
		// Virtual devices reach all of the guest's memory. For a VM that may grow
		// beyond 4 GiB Linux would reserve, and clear, 64 MiB of bounce buffers.
		"swiotlb=noforce",
		// Only the security modules that need no policy, as in the lean kernel. A guest has
		// no policy for AppArmor, TOMOYO, IPE or IMA, and the kernel would still call each
		// of them for every file that is opened.
		"lsm=landlock,yama",
		// Nearly half of what a distribution's kernel executes before its first process
		// prepares tracing. trace_eval_init replaces the names of constants by numbers in
		// the formats of events; without it, the formats keep the names. The other one
		// removes weak functions that are overridden from ftrace's list; Debian's has none.
		"initcall_blacklist=trace_eval_init,ftrace_check_for_weak_functions",
	}
	if c.MaxMemoryMiB > c.MemoryMiB {
		// Added memory is online at once, for every kind of page. If it took movable
		// pages only, the kernel's data structures for it would have to be in the memory
		// of the boot.
		params = append(params, "memhp_default_state=online")
	}
	return params
}
