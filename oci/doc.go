// Package oci reads what callers hand to the runtime (bundles, process files,
// ids, signals, annotations), refuses what cannot be honoured in a virtual
// machine by the field's name, and splits a spec into the part that the host
// carries out and the part that the guest's libcontainer does.
//
// Nothing here makes, changes or mounts anything, so that there is nothing to undo
// after an error of this package.
package oci
