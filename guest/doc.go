// Package guest builds and describes the image that a sandbox's VM boots: a
// distribution's own kernel, taken as it is, and an initramfs that holds the
// agent as /init and just the modules it needs.
//
// The kernel comes from a Debian package (unpacked in memory, never installed),
// from a directory, or from the running system. What a module depends on is
// read out of the module itself (its .modinfo section), because a package that
// was never installed has no modules.dep. Modules are packed uncompressed, as
// the agent hands them to finit_module(2), and listed in load order.
//
// The same input makes the same bytes: entries are sorted, owners are root,
// times are the epoch given, and compression runs on one thread.
package guest
