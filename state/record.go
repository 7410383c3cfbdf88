package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// maxRecord bounds a record, in bytes: annotations are the caller's and may be
// large, but not larger than the config.json that they came from.
const maxRecord = 16 << 20

// Save writes the container's record, or leaves the former one as it is.
func (d *Dir) Save(c *Container) error {
	c.Version = Version
	return d.write(c)
}

// Load reads the container's record.
func (d *Dir) Load() (*Container, error) { return loadContainer(d.path, d.id) }

// Save writes the sandbox's record, or leaves the former one as it is.
func (d *SandboxDir) Save(s *Sandbox) error {
	s.Version = Version
	return d.write(s)
}

// Load reads the sandbox's record.
func (d *SandboxDir) Load() (*Sandbox, error) { return loadSandbox(d.path, d.id) }

// write replaces a record as a whole. It is not synced to disk: no container
// outlives the machine's next boot, and nothing else reads records.
func (d *directory) write(record any) error {
	data, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	temp, err := os.CreateTemp(d.path, "."+d.record+".*")
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	_, err = temp.Write(append(data, '\n'))
	// A full disk may show only here.
	err = errors.Join(err, temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), filepath.Join(d.path, d.record))
	}
	if err != nil {
		_ = os.Remove(temp.Name())
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}

func loadContainer(dir, id string) (*Container, error) {
	path := filepath.Join(dir, containerFile)
	data, err := readRecord(path)
	if err != nil {
		return nil, err
	}
	c, err := decodeContainer(data, id)
	if err != nil {
		return nil, explain(err, path, id)
	}
	return c, nil
}

func loadSandbox(dir, id string) (*Sandbox, error) {
	path := filepath.Join(dir, sandboxFile)
	data, err := readRecord(path)
	if err != nil {
		return nil, err
	}
	s, err := decodeSandbox(data, id)
	if err != nil {
		return nil, explain(err, path, id)
	}
	return s, nil
}

func readRecord(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		if notThere(err) {
			return nil, ErrNotExist
		}
		return nil, fmt.Errorf("read state: %w", err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	return data, nil
}

// explain says which file is bad and what helps.
func explain(err error, path, id string) error {
	return fmt.Errorf("%s: %w (`runch delete --force %s` removes what is left of the container)", path, err, id)
}

// decode reads one record into v, a pointer to a struct.
func decode(data []byte, v any) error {
	if len(data) == 0 {
		return fmt.Errorf("%w: the file is empty", ErrMalformed)
	}
	if len(data) > maxRecord {
		return fmt.Errorf("%w: larger than %d bytes", ErrMalformed, maxRecord)
	}
	// The version comes first: other fields of a newer record may not fit v.
	var header struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &header); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	switch {
	case header.Version > Version:
		return fmt.Errorf("%w: %d, this runch knows %d", ErrVersion, header.Version, Version)
	case header.Version < 1:
		return fmt.Errorf("%w: no version", ErrMalformed)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}

func decodeContainer(data []byte, id string) (*Container, error) {
	var c Container
	if err := decode(data, &c); err != nil {
		return nil, err
	}
	switch {
	case c.ID != id:
		return nil, fmt.Errorf("%w: it is of container %.64q", ErrMalformed, c.ID)
	case c.Fallback != "" && !filepath.IsAbs(c.Fallback):
		return nil, fmt.Errorf("%w: %.64q is no absolute path", ErrMalformed, c.Fallback)
	case c.Shim.PID < 0 || c.Creator.PID < 0:
		return nil, fmt.Errorf("%w: negative pid", ErrMalformed)
	}
	return &c, nil
}

func decodeSandbox(data []byte, id string) (*Sandbox, error) {
	var s Sandbox
	if err := decode(data, &s); err != nil {
		return nil, err
	}
	switch {
	case s.ID != id:
		return nil, fmt.Errorf("%w: it is of sandbox %.64q", ErrMalformed, s.ID)
	case s.Holder.PID < 0:
		return nil, fmt.Errorf("%w: negative pid", ErrMalformed)
	}
	return &s, nil
}
