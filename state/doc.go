// Package state keeps the runtime's records below the root directory: a directory with a
// JSON file for each container, and one for each sandbox.
//
// A command that changes a container or a sandbox holds the lock of its directory; reading
// needs no lock, because a record is replaced as a whole. A record says what was made, not
// what still exists: whether a container runs is derived from its shim, which is known by
// pid and start time.
package state
