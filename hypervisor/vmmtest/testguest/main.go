// Command testguest is the init of the driver suite's guest. It says hello like the agent,
// and serves the ports of package guestports: an echo, a source of many bytes, and commands
// that examine devices or end the guest. It is not a part of runch.
package main

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"runch/agentproto"
	"runch/hypervisor/vmmtest/guestports"
)

func main() {
	fmt.Fprintln(os.Stderr, "testguest:", run())
	// When init ends, the kernel panics and the VM ends.
}

// run serves until something fails. It always returns an error.
func run() error {
	for _, m := range []struct{ kind, at string }{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}} {
		if err := os.MkdirAll(m.at, 0o755); err != nil { // #nosec G301 -- public directories
			return err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	params, err := kernelParams()
	if err != nil {
		return err
	}
	if params[agentproto.TransportParam] == agentproto.TransportVsock {
		return runVsock(params[agentproto.HelloPortParam])
	}
	return runSerial()
}

func kernelParams() (map[string]string, error) {
	text, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return nil, err
	}
	params := make(map[string]string)
	for _, word := range strings.Fields(string(text)) {
		name, value, _ := strings.Cut(word, "=")
		params[name] = value
	}
	return params, nil
}

func hello(conn net.Conn) error {
	defer conn.Close()
	return agentproto.WriteHello(conn, &agentproto.Hello{Protocol: agentproto.Version, AgentVersion: "testguest"})
}

// serve serves a connection to a port. breaker is nil if the guest has a vsock.
func serve(conn net.Conn, port uint32, breaker *breaker) {
	defer conn.Close()
	switch port {
	case guestports.Echo:
		_, _ = io.Copy(conn, conn)
	case guestports.Source:
		_, _ = io.CopyN(conn, rand.Reader, guestports.SourceBytes)
	case guestports.Command:
		in := bufio.NewScanner(conn)
		for in.Scan() {
			if _, err := fmt.Fprintln(conn, command(in.Text(), breaker)); err != nil {
				return
			}
		}
	}
}

var remembered string

func command(line string, breaker *breaker) string {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case guestports.PowerOff:
		return fmt.Sprint(unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF))
	case guestports.Reset:
		return fmt.Sprint(unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART))
	case guestports.Panic:
		return fmt.Sprint(os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0))
	case guestports.Console:
		wrote, err := flood(rest)
		return answer(strconv.Itoa(wrote), err)
	case guestports.Garbage, guestports.Streams:
		if breaker == nil {
			return guestports.NoChannel
		}
		return fmt.Sprint(breaker.do(word))
	case guestports.Remember:
		remembered = rest
		return fmt.Sprint(nil)
	case guestports.Recall:
		return remembered
	default:
		return device(word, rest)
	}
}

// floodTime is how long flood writes at most.
const floodTime = 10 * time.Second

// flood writes n bytes to the console, or fewer if that takes too long. It returns how many.
func flood(n string) (int, error) {
	count, err := strconv.Atoi(n)
	if err != nil {
		return 0, err
	}
	console, err := os.OpenFile("/dev/console", os.O_WRONLY, 0)
	if err != nil {
		return 0, err
	}
	defer console.Close()
	line := strings.Repeat("x", 79) + "\n"
	wrote := 0
	for begin := time.Now(); wrote < count && time.Since(begin) < floodTime; wrote += len(line) {
		if _, err := io.WriteString(console, line); err != nil {
			return wrote, err
		}
	}
	return wrote, nil
}
