package callers

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Configured is what a caller's configuration says of runch.
type Configured struct {
	// Program is what the caller would call, empty where it knows no runch.
	Program string
	// Default says that runch is its default runtime.
	Default bool
	// Lacks are settings that should name runch as well, and do not.
	Lacks []string
}

// Found is a caller that is installed on this machine.
type Found struct {
	Configured
	// Version is its version, and Tried whether runch was tried with that.
	Version string
	Tried   bool
}

// Look finds out what a caller of this machine knows of runch: nil where the caller is
// not installed. Its program is started, with a deadline.
func (c *Caller) Look(ctx context.Context, h Host) (*Found, error) {
	v, err := c.version(ctx, h)
	if v == nil || err != nil {
		return nil, err
	}
	f := &Found{Version: v.Number, Tried: slices.Contains(c.tried, fmt.Sprintf("%d.%d", v.major, v.minor))}
	f.Configured, err = c.look(ctx, h, v)
	return f, err
}

// Tried are the caller's versions that runch was tried with, for people.
func (c *Caller) Tried() string {
	if len(c.tried) == 0 {
		return "no version"
	}
	return strings.Join(c.tried, " and ")
}
