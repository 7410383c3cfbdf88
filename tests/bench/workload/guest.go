package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"runch/agentproto"
	"runch/hypervisor/vmmtest/guestimage"
)

// guest is the init of a guest whose root is the virtiofs share itself, and whose only network interface gets a fixed
// address. It always powers off: the host takes a missing result for a failure.
func guest(args []string) error {
	err := work(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "workload:", err)
	}
	return errors.Join(err, unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF))
}

func work(args []string) error {
	if len(args) < 2 {
		return errors.New("no work for the guest")
	}
	if err := mountSystem("/"); err != nil {
		return err
	}
	if err := guestimage.LoadList(guestimage.Boot); err != nil {
		return err
	}
	if cidr := args[0]; cidr != "-" {
		if err := setUpNetwork(cidr); err != nil {
			return fmt.Errorf("set the network up: %w", err)
		}
	}
	if err := enterShare(); err != nil {
		return err
	}
	if err := os.Setenv("PATH", "/usr/bin:/bin"); err != nil {
		return err
	}
	return measure(context.Background(), args[1:])
}

// mountSystem mounts the kernel's file systems that programs expect.
func mountSystem(root string) error {
	for _, m := range []struct{ kind, at string }{{"devtmpfs", "dev"}, {"proc", "proc"}, {"sysfs", "sys"}} {
		at := filepath.Join(root, m.at)
		if err := os.MkdirAll(at, 0o755); err != nil { // #nosec G301 -- public directories
			return err
		}
		if err := unix.Mount(m.kind, at, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", at, err)
		}
	}
	return nil
}

// enterShare mounts the share and makes it the root.
func enterShare() error {
	const root = "/share"
	if err := os.Mkdir(root, 0o700); err != nil {
		return err
	}
	if err := unix.Mount(agentproto.ShareTag, root, "virtiofs", 0, ""); err != nil {
		return fmt.Errorf("mount the share: %w", err)
	}
	if err := mountSystem(root); err != nil {
		return err
	}
	if err := unix.Chroot(root); err != nil {
		return err
	}
	return unix.Chdir("/")
}

// setUpNetwork gives the one interface its address.
func setUpNetwork(cidr string) error {
	for _, module := range []string{"failover", "net_failover", "virtio_net"} {
		if err := guestimage.Load(module); err != nil {
			return err
		}
	}
	address, err := netlink.ParseAddr(cidr)
	if err != nil {
		return err
	}
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	for _, link := range links {
		if len(link.Attrs().HardwareAddr) == 0 {
			continue
		}
		if err := netlink.AddrAdd(link, address); err != nil {
			return err
		}
		return netlink.LinkSetUp(link)
	}
	return errors.New("the guest has no interface")
}
