// Package callers tells the programs that run OCI runtimes (podman, containerd, CRI-O,
// docker) of runch: it writes the configuration that each of them reads, takes away
// what it wrote, and says what of it is there. Each caller has a file here, whose
// functions make content out of content; a Plan ties them to the files of a Host. It
// makes no containers and knows nothing of runch's own configuration.
package callers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// runtimeName is what the callers call the runtime.
const runtimeName = "runch"

// ErrForeign is wrapped by errors about configuration for runch that somebody else
// wrote: it is neither changed nor removed.
var ErrForeign = errors.New("not written by runch install")

// Want is what a caller's configuration is to say.
type Want struct {
	// Program is runch's absolute path, as the caller sees it.
	Program string
	// Default says whether runch is the caller's default runtime; nil leaves that as it is.
	Default *bool
}

// Caller is a program that runs OCI runtimes, with the one file that tells it of runch.
type Caller struct {
	// Name is podman, containerd, crio or docker.
	Name string
	// Use is how runch is chosen.
	Use string
	// next is what has to be done after the configuration has changed, afterLoss after
	// something was taken out of it, where that is more.
	next, afterLoss string
	// program is the one that reads the file; where a host has it, it has the caller.
	program string
	// tried are the versions that runch was tried with, as "major.minor".
	tried []string
	// file is the path of the file on a host, below its root.
	file func(Host) string
	// install and remove make the file's content out of what it is; nil stands for no file.
	install func(source, Want) (edited, error)
	remove  func(s source, program string) (edited, error)
	// validate lets the caller read content before it is put in place. It fails with
	// errNotValidated where the program has no way to do that.
	validate func(ctx context.Context, v *Version, content []byte) error
	// look says what the host's configuration has, all files of it taken together.
	look func(ctx context.Context, h Host, v *Version) (Configured, error)
}

// source is what a new content is made of.
type source struct {
	host Host
	// before is the file's content, nil where there is none.
	before []byte
	// version is nil where the caller's program is not on the host.
	version *Version
}

// edited is a file's new content, nil for no file, and what the user should know of it.
type edited struct {
	after []byte
	notes []string
	// lost says that something was taken out.
	lost bool
}

// errNotValidated says that a caller's program cannot validate a configuration.
var errNotValidated = errors.New("it has no way to validate a configuration")

// All are the callers, in the order in which they are shown.
func All() []*Caller {
	return []*Caller{podman(), containerd(), crio(), docker()}
}

// checkProgram refuses a path that cannot be written into every configuration file as it is.
func checkProgram(program string) error {
	if !path.IsAbs(program) {
		return fmt.Errorf("the path of the program, %q, is not absolute", program)
	}
	odd := func(r rune) bool { return r == '"' || r == '\\' || !unicode.IsPrint(r) }
	if !utf8.ValidString(program) || strings.ContainsFunc(program, odd) {
		return fmt.Errorf("the path of the program, %q, cannot be written into a configuration file: move the program", program)
	}
	return nil
}

// isOurs tells whether a configured path is this program or another one of its name.
func isOurs(configured, program string) bool {
	return configured == program || path.Base(configured) == runtimeName
}

// ownership begins the files that install writes, so that it knows them again: it stays
// the same in later versions.
func ownership(caller string) string { return fmt.Sprintf("# Written by `runch install %s`", caller) }

// marker is the first line of those files.
func marker(caller string) string {
	return fmt.Sprintf("%s, which changes it again; `runch install %s --remove` takes it away.\n", ownership(caller), caller)
}

// dropIn gives a file that is all ours its new content, and refuses one that is not.
func dropIn(s source, caller, content string) (edited, error) {
	if err := checkDropIn(s, caller); err != nil {
		return edited{}, err
	}
	return edited{after: []byte(marker(caller) + content)}, nil
}

// removeDropIn takes such a file away.
func removeDropIn(caller string) func(source, string) (edited, error) {
	return func(s source, _ string) (edited, error) { return edited{}, checkDropIn(s, caller) }
}

func checkDropIn(s source, caller string) error {
	if s.before != nil && !bytes.HasPrefix(s.before, []byte(ownership(caller))) {
		return ErrForeign
	}
	return nil
}

// whether is the value of a setting that nil leaves as it is.
func whether(wanted *bool, now bool) bool {
	if wanted == nil {
		return now
	}
	return *wanted
}
