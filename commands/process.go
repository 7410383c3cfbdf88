package commands

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"runch/oci"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"
)

// bundleProcess returns the process of a bundle's config.json. It does not check the rest
// of the file again: files that it names may have been removed since create.
func bundleProcess(bundle string) (*specs.Process, error) {
	path := filepath.Join(bundle, oci.ConfigName)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("JSON specification file %s not found: %w", path, err)
	}
	if err != nil {
		return nil, err
	}
	var spec struct {
		Process json.RawMessage `json:"process"`
	}
	if err := json.Unmarshal(data, &spec); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if spec.Process == nil {
		spec.Process = json.RawMessage("null")
	}
	process, err := oci.LoadProcess(bytes.NewReader(spec.Process))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return process, nil
}

// applyFlags changes the container's process into the one that exec's flags
// describe.
func applyFlags(c *cli.Context, p *specs.Process) error {
	if cwd := c.String("cwd"); cwd != "" {
		p.Cwd = cwd
	}
	if profile := c.String("apparmor"); profile != "" {
		p.ApparmorProfile = profile
	}
	if label := c.String("process-label"); label != "" {
		p.SelinuxLabel = label
	}
	addCapabilities(p, c.StringSlice("cap"))
	p.Env = append(p.Env, c.StringSlice("env")...)
	// As in runc, only --tty gives the process a terminal, even if the container has one.
	p.Terminal = c.Bool("tty")
	if !p.Terminal {
		p.ConsoleSize = nil
	}
	if c.IsSet("no-new-privs") {
		p.NoNewPrivileges = c.Bool("no-new-privs")
	}
	if user := c.String("user"); user != "" {
		if err := setUser(&p.User, user); err != nil {
			return err
		}
	}
	for _, gid := range c.Int64Slice("additional-gids") {
		id, err := parseID(strconv.FormatInt(gid, 10))
		if err != nil {
			return fmt.Errorf("additional-gids must be a positive number %d", gid)
		}
		p.User.AdditionalGids = append(p.User.AdditionalGids, id)
	}
	return nil
}

// addCapabilities adds to the bounding, effective and permitted sets. As in runc, it adds
// to the ambient set only if there are inheritable capabilities: an ambient capability has
// to be inheritable (capabilities(7)).
func addCapabilities(p *specs.Process, names []string) {
	if len(names) == 0 {
		return
	}
	if p.Capabilities == nil {
		p.Capabilities = &specs.LinuxCapabilities{}
	}
	caps := p.Capabilities
	caps.Bounding = append(caps.Bounding, names...)
	caps.Effective = append(caps.Effective, names...)
	caps.Permitted = append(caps.Permitted, names...)
	if caps.Inheritable != nil {
		caps.Ambient = append(caps.Ambient, names...)
	}
}

// setUser reads UID or UID:GID. It refuses names, as runc does: they would have to be
// looked up in the container's /etc/passwd.
func setUser(u *specs.User, text string) error {
	uids, gids, both := strings.Cut(text, ":")
	uid, err := parseID(uids)
	if err != nil {
		return fmt.Errorf("bad uid: %w", err)
	}
	u.UID = uid
	if !both {
		return nil
	}
	if u.GID, err = parseID(gids); err != nil {
		return fmt.Errorf("bad gid: %w", err)
	}
	return nil
}

// parseID reads a uid or gid. It refuses the highest number, which means "do not change"
// to chown(2).
func parseID(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, err
	}
	if n == 1<<32-1 {
		return 0, fmt.Errorf("%d is no id", n)
	}
	return uint32(n), nil
}
