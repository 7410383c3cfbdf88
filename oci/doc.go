// Package oci reads what callers hand to the runtime (bundles, process files,
// ids, signals, annotations), refuses what a virtual machine cannot honour with an
// error that names the field, and splits a spec into the part that the host carries
// out and the part that the guest's libcontainer does.
//
// Nothing here makes, changes or mounts anything, so there is nothing to undo
// after an error of this package.
package oci
