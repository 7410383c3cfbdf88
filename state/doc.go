// Package state keeps the runtime's records below the root directory: a directory with a
// JSON file for each container, and one for each sandbox.
//
// Whoever changes a container or a sandbox holds the lock of its directory; reading needs
// none, because a record is replaced as a whole. A record says what was made, never what
// is the case: whether a container runs is derived from its shim, which is known by pid
// and start time.
package state
