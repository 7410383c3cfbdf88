package hypervisor

// KernelParams are the parameters that every driver gives the guest's kernel before
// those of the configuration: of two that are the same, the kernel takes the later.
func (c *Config) KernelParams() []string {
	params := []string{
		"quiet", "loglevel=3",
		// A panic resets the machine at once, and the VMM ends at a reset.
		"panic=-1",
		"net.ifnames=0", "cryptomgr.notests", "no_timer_check", "tsc=reliable",
		// Every PCI bus is behind bus 0. Otherwise Linux probes 255 other numbers for
		// a root bus, and each access to PCI configuration space is a VM exit. There is
		// no chipset either whose faults would have to be looked for before that.
		"pci=lastbus=0,noearly",
		// Linux reaches the first 256 bytes of a device's configuration by two I/O ports,
		// and each access to either is a VM exit. Where the ports are reserved, it uses
		// PCI Express's memory-mapped configuration for these too: a third fewer exits in
		// a boot.
		"reserve=0xcf8,8",
		// What is plugged comes by ACPI, with every VMM, and a virtual port has neither
		// errors nor power to tell of.
		"pcie_ports=compat",
		// Virtual devices reach all of the guest's memory. For a VM that may grow
		// beyond 4 GiB Linux would reserve, and clear, 64 MiB of bounce buffers.
		"swiotlb=noforce",
		// Of the security modules those that need no policy, as in the lean kernel. Nobody
		// loads one into a guest for AppArmor, TOMOYO, IPE or IMA, and each of them is
		// asked about every file that is opened.
		"lsm=landlock,yama",
		// Nearly half of what a distribution's kernel executes before its first process
		// prepares tracing: it replaces constants' names by numbers in the formats of
		// events, and looks for functions in its list that others override. Without the
		// first, the formats keep the names; as for the second, Debian's list has no such
		// function.
		"initcall_blacklist=trace_eval_init,ftrace_check_for_weak_functions",
	}
	if c.MaxMemoryMiB > c.MemoryMiB {
		// Memory that is plugged in is online at once, and may hold any page. If it took
		// movable pages only, what the kernel needs to manage it would have to come out
		// of the memory that it has booted with.
		params = append(params, "memhp_default_state=online")
	}
	return params
}
