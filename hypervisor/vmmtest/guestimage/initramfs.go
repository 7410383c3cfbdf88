package guestimage

import (
	"errors"
	"fmt"
	"os"

	"github.com/cavaliergopher/cpio"
)

// WithInit writes an image's initramfs to path and appends an archive with the host's program init, which replaces the
// image's init: the kernel unpacks one archive after the other. The modules stay those of the image.
func WithInit(path, initramfs, init string) (err error) {
	body, err := os.ReadFile(init)
	if err != nil {
		return fmt.Errorf("read the guest's init: %w", err)
	}
	first, err := os.ReadFile(initramfs)
	if err != nil {
		return fmt.Errorf("read the image: %w", err)
	}
	out, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("make an initramfs: %w", err)
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	// An archive begins at a multiple of four bytes.
	if _, err := out.Write(append(first, make([]byte, (4-len(first)%4)%4)...)); err != nil {
		return fmt.Errorf("write the initramfs: %w", err)
	}
	archive := cpio.NewWriter(out)
	header := &cpio.Header{Name: "init", Mode: cpio.TypeReg | 0o755, Size: int64(len(body))}
	if err := archive.WriteHeader(header); err != nil {
		return fmt.Errorf("write the initramfs: %w", err)
	}
	if _, err := archive.Write(body); err != nil {
		return fmt.Errorf("write the initramfs: %w", err)
	}
	return archive.Close()
}
