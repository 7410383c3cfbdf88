// Package state keeps the runtime's records: one directory for each container
// below the root directory, with a JSON file for the container and, where it
// owns a VM, one for the sandbox.
//
// Whoever changes a container holds the lock of its directory; reading needs
// none, because records are replaced whole. A record says what was made, never
// what is the case: whether a container runs is derived from its shim, which is
// known by pid and start time. The package imports no sibling.
package state
