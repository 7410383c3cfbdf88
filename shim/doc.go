// Package shim is the processes that stay after the commands that start them. A shim is
// what the caller sees of a container's process, its init or an exec: it carries the
// process's input and output, passes signals on to it, owns its terminal, and ends as it
// ended. A holder keeps a sandbox's VM: the VMM, virtiofsd, the shared tree and the taps.
// If the sandbox has an owner, one process is the owner's shim and the holder. All of them
// run this program, and commands set them up by the protocol of package shimproto.
package shim
