package serial

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// FindDevice returns the path of the virtio-serial port called name, in the guest. The error
// is fs.ErrNotExist if there is none, or none yet: the ports are made while their driver
// talks to the VMM.
func FindDevice(name string) (string, error) {
	names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return "", fmt.Errorf("list the virtio-serial ports: %w", err)
	}
	for _, file := range names {
		data, err := os.ReadFile(file)
		if err == nil && strings.TrimSpace(string(data)) == name {
			return filepath.Join("/dev", filepath.Base(filepath.Dir(file))), nil
		}
	}
	return "", fmt.Errorf("virtio-serial port %s: %w", name, fs.ErrNotExist)
}

// Device is the guest's end of a virtio-serial port. While the host's end is not open, the
// kernel gives readers the end of the file at once, and lets writers wait. So reads wait for
// the first write, which is the hello's.
type Device struct {
	*os.File
	written chan struct{}
	once    sync.Once
}

// OpenDevice opens the port at path.
func OpenDevice(path string) (*Device, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open the virtio-serial port: %w", err)
	}
	return &Device{File: f, written: make(chan struct{})}, nil
}

// Read implements io.Reader.
func (d *Device) Read(b []byte) (int, error) {
	<-d.written
	return d.File.Read(b)
}

// Write implements io.Writer.
func (d *Device) Write(b []byte) (int, error) {
	n, err := d.File.Write(b)
	d.once.Do(func() { close(d.written) })
	return n, err
}

// Close implements io.Closer. Reads that wait end.
func (d *Device) Close() error {
	d.once.Do(func() { close(d.written) })
	return d.File.Close()
}
