// Command testguest is the init of a guest that the driver suite talks to. It
// says hello as the real agent does and serves a few ports that a real agent has
// not: bytes back, many bytes, and ways to end. It is no part of runch.
package main

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/yamux"
	"golang.org/x/sys/unix"

	"runch/agentproto"
	"runch/hypervisor/vmmtest/guestports"
)

func main() {
	fmt.Fprintln(os.Stderr, "testguest:", run())
	// The end of init is a panic of the kernel, and that the end of the VM.
}

// run serves until it cannot; it always ends with an error.
func run() error {
	for _, m := range []struct{ kind, at string }{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}} {
		if err := os.MkdirAll(m.at, 0o755); err != nil { // #nosec G301 -- public directories
			return err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	port, err := serialPort()
	if err != nil {
		return err
	}
	config := yamux.DefaultConfig()
	config.EnableKeepAlive = false
	config.StreamCloseTimeout = 0
	config.StreamOpenTimeout = 0
	session, err := yamux.Server(port, config)
	if err != nil {
		return err
	}
	if err := hello(session); err != nil {
		return err
	}
	for {
		conn, err := session.Accept()
		if err != nil {
			return err
		}
		go serve(conn, port, session)
	}
}

// serialPort opens the port by its name. The driver for it is in the kernel and
// done before init runs.
func serialPort() (*os.File, error) {
	names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err == nil && strings.TrimSpace(string(text)) == agentproto.SerialPort {
			return os.OpenFile("/dev/"+filepath.Base(filepath.Dir(name)), os.O_RDWR, 0)
		}
	}
	return nil, fmt.Errorf("no port %s", agentproto.SerialPort)
}

func hello(session *yamux.Session) error {
	conn, err := session.Open()
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // it gives none
	if err := agentproto.WritePort(conn, agentproto.HelloPort); err != nil {
		return err
	}
	return agentproto.WriteHello(conn, &agentproto.Hello{Protocol: agentproto.Version, AgentVersion: "testguest"})
}

func serve(conn net.Conn, raw io.Writer, session *yamux.Session) {
	defer conn.Close() //nolint:errcheck // it gives none
	port, err := agentproto.ReadPort(conn)
	if err != nil {
		return
	}
	switch port {
	case guestports.Echo:
		_, _ = io.Copy(conn, conn)
	case guestports.Source:
		_, _ = io.CopyN(conn, rand.Reader, guestports.SourceBytes)
	case guestports.Command:
		in := bufio.NewScanner(conn)
		for in.Scan() {
			if _, err := fmt.Fprintln(conn, command(in.Text(), raw, session)); err != nil {
				return
			}
		}
	}
}

func command(line string, raw io.Writer, session *yamux.Session) string {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case guestports.PowerOff:
		return fmt.Sprint(unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF))
	case guestports.Reset:
		return fmt.Sprint(unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART))
	case guestports.Panic:
		return fmt.Sprint(os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0))
	case guestports.Console:
		return fmt.Sprint(flood(rest))
	case guestports.Garbage:
		_, err := raw.Write([]byte(strings.Repeat("garbage", 1000)))
		return fmt.Sprint(err)
	case guestports.Streams:
		for {
			if _, err := session.Open(); err != nil {
				return fmt.Sprint(err)
			}
		}
	case guestports.AwaitNIC:
		return fmt.Sprint(awaitPCI())
	default:
		return "unknown command"
	}
}

// flood writes n bytes to the console.
func flood(n string) error {
	count, err := strconv.Atoi(n)
	if err != nil {
		return err
	}
	console, err := os.OpenFile("/dev/console", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer console.Close() //nolint:errcheck // each write is checked
	line := strings.Repeat("x", 79) + "\n"
	for ; count > 0; count -= len(line) {
		if _, err := io.WriteString(console, line); err != nil {
			return err
		}
	}
	return nil
}

// awaitPCI waits for a network controller to come; its driver need not be here.
func awaitPCI() error {
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		classes, err := filepath.Glob("/sys/bus/pci/devices/*/class")
		if err != nil {
			return err
		}
		for _, file := range classes {
			if class, err := os.ReadFile(file); err == nil && strings.HasPrefix(string(class), "0x0200") {
				return nil
			}
		}
		select {
		case <-deadline:
			return errors.New("no network controller came")
		case <-tick.C:
		}
	}
}
