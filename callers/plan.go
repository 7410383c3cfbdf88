package callers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/aymanbagabas/go-udiff"
	"golang.org/x/sys/unix"
)

// Plan is a change of a caller's configuration that was not made yet.
type Plan struct {
	// File is the path of the one file that changes, below the host's root.
	File string
	// Notes are for the user, a sentence each.
	Notes []string

	caller *Caller
	host   Host
	source source
	after  []byte
	lost   bool
}

// Install plans the change that adds runch to a caller's configuration. It changes nothing
// yet, and starts the caller's program only to get its version.
func (c *Caller) Install(ctx context.Context, h Host, w Want) (*Plan, error) {
	if err := checkProgram(w.Program); err != nil {
		return nil, err
	}
	return c.plan(ctx, h, func(s source) (edited, error) { return c.install(s, w) })
}

// Remove plans the removal of what Install has written, and of nothing else. program is the
// path of the running runch.
func (c *Caller) Remove(ctx context.Context, h Host, program string) (*Plan, error) {
	return c.plan(ctx, h, func(s source) (edited, error) {
		if s.before == nil {
			return edited{}, nil
		}
		return c.remove(s, program)
	})
}

func (c *Caller) plan(ctx context.Context, h Host, edit func(source) (edited, error)) (*Plan, error) {
	p := &Plan{File: c.file(h), caller: c, host: h, source: source{host: h}}
	var err error
	if p.source.version, err = c.version(ctx, h); err != nil {
		return nil, err
	}
	if p.source.before, err = h.read(p.File); err != nil {
		return nil, err
	}
	e, err := edit(p.source)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.File, err)
	}
	p.after, p.lost, p.Notes = e.after, e.lost, e.notes
	return p, nil
}

// Changes tells whether the plan changes the file.
func (p *Plan) Changes() bool {
	return (p.source.before == nil) != (p.after == nil) || !bytes.Equal(p.source.before, p.after)
}

// Removes tells whether the plan removes the file.
func (p *Plan) Removes() bool { return p.after == nil }

// Next tells the user what to do for the change to take effect.
func (p *Plan) Next() string {
	if p.lost && p.caller.afterLoss != "" {
		return p.caller.afterLoss
	}
	return p.caller.next
}

// Diff returns the change in the form that patch(1) reads, empty if there is none.
func (p *Plan) Diff() string {
	from, to := p.File, p.File
	if p.source.before == nil {
		from = os.DevNull
	}
	if p.after == nil {
		to = os.DevNull
	}
	return udiff.Unified(from, to, string(p.source.before), string(p.after))
}

// Validate lets the caller's own program read the new content before it is put in place.
// If that is not possible, unchecked says why.
func (p *Plan) Validate(ctx context.Context) (unchecked string, err error) {
	if p.after == nil {
		return "", nil
	}
	v := p.source.version
	if v == nil {
		if p.host.Root != "" {
			return "", nil
		}
		return p.caller.program + " is not on this machine, so it has not read it", nil
	}
	err = p.caller.validate(ctx, v, p.after)
	if errors.Is(err, errNotValidated) {
		return fmt.Sprintf("%s %s has not read it: %s", p.caller.Name, v.Number, err), nil
	}
	if err != nil {
		return "", fmt.Errorf("%s does not take this for %s, which is as it was: %w", p.caller.Name, p.File, err)
	}
	return "", nil
}

// Apply writes the new content, atomically. An existing file keeps its owner and mode. After
// it has removed the file, it also removes directories that are empty then.
func (p *Plan) Apply() error {
	full, err := p.host.path(p.File)
	if err != nil {
		return err
	}
	if p.after == nil {
		if err := os.Remove(full); err != nil {
			return err
		}
		return p.removeEmpty()
	}
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil { // #nosec G301 -- a directory in /etc, which its callers read as any user
		return err
	}
	return replace(full, p.after)
}

// removeEmpty removes the directories above the file that are empty, below /etc or a user's
// own directory for configuration.
func (p *Plan) removeEmpty() error {
	top := "/etc"
	if p.host.ConfigHome != "" {
		top = p.host.ConfigHome
	}
	for dir := path.Dir(p.File); dir != top && len(dir) > len(top); dir = path.Dir(dir) {
		above, err := p.host.path(path.Dir(dir))
		if err != nil {
			return err
		}
		full := filepath.Join(above, path.Base(dir))
		err = unix.Rmdir(full)
		// A symbolic link to a directory (ENOTDIR) stays: somebody made it on purpose.
		if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTDIR) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("remove the empty directory %s: %w", full, err)
		}
	}
	return nil
}

// replace writes a temporary file in the same directory and renames it to full.
func replace(full string, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(full), ".runch-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(content); err != nil {
		return err
	}
	if err := likeBefore(f, full); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), full)
}

// likeBefore gives f the owner and mode of the file that it replaces. If there is none, all
// users can read f, as is usual for configuration in /etc.
func likeBefore(f *os.File, full string) error {
	var st unix.Stat_t
	if err := unix.Stat(full, &st); errors.Is(err, fs.ErrNotExist) {
		return f.Chmod(0o644)
	} else if err != nil {
		return fmt.Errorf("stat %s: %w", full, err)
	}
	if err := f.Chown(int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	return f.Chmod(fs.FileMode(st.Mode & 0o777))
}
