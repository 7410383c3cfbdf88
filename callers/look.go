package callers

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Configured is what a caller's configuration says of runch.
type Configured struct {
	// Program is the path that the caller would execute, empty if runch is not configured.
	Program string
	// Default says that runch is the caller's default runtime.
	Default bool
	// Lacks are the names of settings that should include runch and do not.
	Lacks []string
}

// Found is a caller that is installed on this machine.
type Found struct {
	Configured
	// Version is its version. Tried says whether runch was tried with that version.
	Version string
	Tried   bool
}

// Look reads what the configuration of a caller on this machine says of runch. It returns
// nil if the caller is not installed. It starts the caller's program, with a deadline.
func (c *Caller) Look(ctx context.Context, h Host) (*Found, error) {
	v, err := c.version(ctx, h)
	if v == nil || err != nil {
		return nil, err
	}
	f := &Found{Version: v.Number, Tried: slices.Contains(c.tried, fmt.Sprintf("%d.%d", v.major, v.minor))}
	f.Configured, err = c.look(ctx, h, v)
	return f, err
}

// Tried returns the versions of the caller that runch was tried with, as text for people.
func (c *Caller) Tried() string {
	if len(c.tried) == 0 {
		return "no version"
	}
	return strings.Join(c.tried, " and ")
}
