package main

import (
	"io"
	"strconv"
	"strings"

	"github.com/hashicorp/yamux"
	"github.com/mdlayher/vsock"

	"runch/agentproto"
	"runch/hypervisor/vmmtest/guestimage"
	"runch/hypervisor/vmmtest/guestports"
	"runch/transport/serial"
)

// runVsock serves on a vsock.
func runVsock(helloPort string) error {
	if err := guestimage.LoadList(guestimage.Vsock); err != nil {
		return err
	}
	for _, port := range []uint32{guestports.Echo, guestports.Source, guestports.Command} {
		l, err := vsock.ListenContextID(1<<32-1, port, nil)
		if err != nil {
			return err
		}
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go serve(conn, port, nil)
			}
		}()
	}
	port := uint64(agentproto.HelloPort)
	if helloPort != "" {
		var err error
		if port, err = strconv.ParseUint(helloPort, 10, 32); err != nil {
			return err
		}
	}
	conn, err := vsock.Dial(vsock.Host, uint32(port), nil)
	if err != nil {
		return err
	}
	if err := hello(conn); err != nil {
		return err
	}
	select {}
}

// runSerial serves on the virtio-serial port that replaces a vsock.
func runSerial() error {
	// Its driver is built into the kernel, so the port exists before init runs.
	path, err := serial.FindDevice(agentproto.SerialPort)
	if err != nil {
		return err
	}
	device, err := serial.OpenDevice(path)
	if err != nil {
		return err
	}
	config := yamux.DefaultConfig()
	config.EnableKeepAlive = false
	config.StreamCloseTimeout = 0
	config.StreamOpenTimeout = 0
	session, err := yamux.Server(device, config)
	if err != nil {
		return err
	}
	conn, err := session.Open()
	if err != nil {
		return err
	}
	if err := serial.WritePort(conn, agentproto.HelloPort); err != nil {
		return err
	}
	if err := hello(conn); err != nil {
		return err
	}
	breaker := &breaker{raw: device, session: session}
	for {
		conn, err := session.Accept()
		if err != nil {
			return err
		}
		go func() {
			port, err := serial.ReadPort(conn)
			if err != nil {
				_ = conn.Close()
				return
			}
			serve(conn, port, breaker)
		}()
	}
}

// breaker breaks the protocol of the serial channel on purpose.
type breaker struct {
	raw     io.Writer
	session *yamux.Session
}

func (b *breaker) do(how string) error {
	if how == guestports.Garbage {
		_, err := b.raw.Write([]byte(strings.Repeat("garbage", 1000)))
		return err
	}
	for {
		if _, err := b.session.Open(); err != nil {
			return err
		}
	}
}
