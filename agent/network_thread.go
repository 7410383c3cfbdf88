package agent

import (
	"fmt"
	"os"

	"runch/namespace"

	"github.com/vishvananda/netlink"
)

// inNetNS runs fn on a thread that is in the network namespace at path, the
// agent's own if it is empty, with a netlink handle of that namespace.
func inNetNS(path string, fn func(*netlink.Handle) error) error {
	if path == "" {
		return namespace.WithHandle(fn)
	}
	ns, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer ns.Close()
	return namespace.InNet(ns, fn)
}
