package guest

import (
	"bytes"
	"compress/gzip"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// Compression is how an initramfs is packed, which the kernel recognizes by itself.
type Compression string

// The compressions that a kernel of any distribution unpacks.
const (
	compressionNone Compression = "none"
	compressionGzip Compression = "gzip"
	compressionZstd Compression = "zstd"
)

// DefaultCompression is what an empty Options.Compression means. It is none: the disk has
// room, while each boot would have to unpack the image, and zstd needs memory of the guest
// for its window.
const DefaultCompression = compressionNone

// zstdWindow is the largest window used, in bytes: the kernel refuses more than
// 128 MiB, and allocates the window in addition to the unpacked image while it boots.
const zstdWindow = 8 << 20

func (c Compression) check() error {
	switch c {
	case compressionNone, compressionGzip, compressionZstd:
		return nil
	}
	return fmt.Errorf("%w: unknown compression %q, known are %s, %s and %s", errInput, string(c), compressionNone, compressionGzip, compressionZstd)
}

// compress returns data packed; the same data makes the same bytes.
func (c Compression) compress(data []byte) ([]byte, error) {
	switch c {
	case compressionGzip:
		var b bytes.Buffer
		w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(data); err != nil {
			return nil, err
		}
		if err := w.Close(); err != nil {
			return nil, err
		}
		return b.Bytes(), nil
	case compressionZstd:
		e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(zstdWindow),
			zstd.WithEncoderLevel(zstd.SpeedBestCompression))
		if err != nil {
			return nil, err
		}
		return e.EncodeAll(data, nil), e.Close()
	case compressionNone:
		return data, nil
	}
	return nil, c.check()
}
