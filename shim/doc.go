// Package shim is the processes that stay. A task shim is what the caller sees of a
// container's process, its init or an exec: it carries the process's input and
// output, passes signals on to it, owns its terminal, and ends as it ended. A holder
// keeps a sandbox's VM: the VMM, virtiofsd, the shared tree and the taps. Where a
// sandbox is a container's own, one process does both. All of them are this program
// again, which commands start and set up as package shimproto says.
package shim
