package lean

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	"runch/guest"
)

// source is Linux's source.
type source struct {
	path string
	// dir says that path is a tree, plain that it is the tar file and not a package with it.
	dir, plain bool
}

func openSource(where string) (*source, error) {
	st, err := os.Stat(where)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: source: %w", errInput, err)
	case st.IsDir():
		if _, err := os.Stat(filepath.Join(where, "Kconfig")); err != nil {
			return nil, fmt.Errorf("%w: %s is not the source of Linux: it has no Kconfig", errInput, where)
		}
		return &source{path: where, dir: true}, nil
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("%w: source %s is neither a file nor a directory", errInput, where)
	}
	return &source{path: where, plain: filepath.Ext(where) != ".deb"}, nil
}

// key is the digest of everything that determines the kernel's bytes.
func (s *source) key(ctx context.Context, t *tools, epoch time.Time) (string, error) {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%s\n%d\n%x\n", t.compiler, epoch.Unix(), sha256.Sum256(fragment))
	add := s.addFile
	if s.dir {
		add = s.addTree
	}
	if err := add(ctx, h); err != nil {
		return "", fmt.Errorf("%w: read the source: %w", errInput, err)
	}
	return hex.EncodeToString(h.Sum(nil))[:32], nil
}

func (s *source) addFile(_ context.Context, h hash.Hash) error {
	f, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(h, f)
	return err
}

// addTree adds the names, modes, sizes and times of the files. Like make, it does not
// read them: there are 80,000.
func (s *source) addTree(ctx context.Context, h hash.Hash) error {
	return filepath.WalkDir(s.path, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && !d.IsDir() {
			_, err = fmt.Fprintf(h, "%s %o %d %d\n", strings.TrimPrefix(file, s.path), info.Mode(), info.Size(), info.ModTime().UnixNano())
		}
		return errors.Join(err, ctx.Err())
	})
}

// unpack gives the directory of the source tree, which is dir if it has to be made.
func (s *source) unpack(ctx context.Context, dir string, say func(string, ...any)) (string, error) {
	if s.dir {
		return filepath.Abs(s.path)
	}
	say("unpacking")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", fmt.Errorf("make a directory for the source: %w", err)
	}
	f, err := os.Open(s.path)
	if err != nil {
		return "", fmt.Errorf("%w: source: %w", errInput, err)
	}
	defer f.Close()
	packed := io.Reader(f)
	if !s.plain {
		member, c, err := sourceMember(f)
		if err != nil {
			return "", fmt.Errorf("%w: %s is not a package of Linux's source: %w", errInput, s.path, err)
		}
		defer c.Close()
		packed = member
	}
	tar := exec.CommandContext(ctx, "tar", "-x", "--xz", "--strip-components=1", "-C", dir)
	stderr := &tail{}
	tar.Stdin, tar.Stderr = packed, stderr
	if err := tar.Run(); err != nil {
		return "", fmt.Errorf("%w: unpack %s: %w%s", errInput, s.path, err, stderr)
	}
	if _, err := os.Stat(filepath.Join(dir, "Kconfig")); err != nil {
		return "", fmt.Errorf("%w: %s is not the source of Linux: it has no Kconfig", errInput, s.path)
	}
	return dir, nil
}

// sourceMember gives the file with the source in a package, usr/src/linux-source-VERSION.tar.xz.
func sourceMember(r io.ReaderAt) (io.Reader, io.Closer, error) {
	t, c, err := guest.OpenPackage(r)
	if err != nil {
		return nil, nil, err
	}
	for {
		hdr, err := t.Next()
		if err != nil {
			_ = c.Close()
			return nil, nil, fmt.Errorf("no source in it: %w", err)
		}
		if ok, _ := path.Match("usr/src/linux-source-*.tar.xz", path.Clean(hdr.Name)); ok {
			return t, c, nil
		}
	}
}
