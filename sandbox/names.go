package sandbox

import (
	"bufio"
	"io"
	"net/netip"
	"os"
	"strings"

	"runch/agentproto"
	"runch/oci"
	"runch/state"

	"golang.org/x/sys/unix"
)

// maxResolvConf bounds what is read of a resolv.conf, in bytes.
const maxResolvConf = 64 << 10

// resolvConfOf is the path of the host's file that is /etc/resolv.conf in the container:
// every engine writes one and bind-mounts it. It is empty if there is no such mount.
func resolvConfOf(binds []oci.Bind) string {
	for _, b := range binds {
		if b.Destination == "/etc/resolv.conf" {
			return b.Source
		}
	}
	return ""
}

// serveNames gives the guest the name servers that the container's resolv.conf names and
// that listen on the host's side of its network, as docker's does at 127.0.0.11. A failure
// is only logged: a container also runs without a name server.
func (r *Runtime) serveNames(c *state.Container, s *lockedSandbox) {
	for _, server := range localNameServers(c.ResolvConf) {
		if err := s.holder().ServeNames(server); err != nil {
			r.Log.Debug("a name server on the host's side of the network is not asked", "server", server, "reason", err)
		}
	}
}

// localNameServers are the IPv4 loopback addresses that a resolv.conf names, except
// 127.0.0.1, which is the container's own. A file that cannot be read names none.
func localNameServers(path string) []netip.Addr {
	if path == "" {
		return nil
	}
	// O_NONBLOCK: the path is the spec's and might be a FIFO.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil
	}
	servers, err := readNameServers(io.LimitReader(f, maxResolvConf))
	if err != nil {
		return nil
	}
	return servers
}

// maxNameServers is how many a resolver reads, MAXNS of resolv.h.
const maxNameServers = 3

func readNameServers(r io.Reader) ([]netip.Addr, error) {
	var servers []netip.Addr
	lines := bufio.NewScanner(r)
	for seen := 0; lines.Scan() && seen < maxNameServers; {
		words := strings.Fields(lines.Text())
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		seen++
		address, err := netip.ParseAddr(words[1])
		if err == nil && agentproto.IsRelayedServer(address) {
			servers = append(servers, address)
		}
	}
	return servers, lines.Err()
}
