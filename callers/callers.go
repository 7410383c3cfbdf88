// Package callers configures the programs that run OCI runtimes (podman, containerd,
// CRI-O, docker) to use runch. It writes the configuration file that each of them reads,
// removes what it wrote, and reports what is configured. Each caller has a source file
// here, whose functions turn a file's content into its new content. A Plan applies them
// to the files of a Host. The package makes no containers and does not know runch's own
// configuration.
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

// ErrForeign is wrapped by errors about configuration for runch that install did not
// write. Such configuration is neither changed nor removed.
var ErrForeign = errors.New("not written by runch install")

// Want is what a caller's configuration is to say.
type Want struct {
	// Program is runch's absolute path, as the caller sees it.
	Program string
	// Default says whether runch is the caller's default runtime; nil leaves that as it is.
	Default *bool
}

// Caller is a program that runs OCI runtimes, with the one file in which it finds runch.
type Caller struct {
	// Name is podman, containerd, crio or docker.
	Name string
	// Use tells the user how to run a container with runch.
	Use string
	// next tells the user what to do after the configuration has changed. afterLoss, if
	// not empty, replaces next after something was removed from it.
	next, afterLoss string
	// program is the name of the program that reads the file. The caller is installed if
	// the host has that program.
	program string
	// tried are the versions that runch was tried with, as "major.minor".
	tried []string
	// file is the path of the file on a host, below its root.
	file func(Host) string
	// install and remove make the file's new content out of the present one.
	install func(source, Want) (edited, error)
	remove  func(s source, program string) (edited, error)
	// validate lets the caller read content before it is put in place. It fails with
	// errNotValidated where the program has no way to do that.
	validate func(ctx context.Context, v *Version, content []byte) error
	// look reads what all files of the host's configuration together say of runch.
	look func(ctx context.Context, h Host, v *Version) (Configured, error)
}

// source is what a file's new content is made from.
type source struct {
	host Host
	// before is the file's content, nil if there is no file.
	before []byte
	// version is nil where the caller's program is not on the host.
	version *Version
}

// edited is a file's new content, nil for no file, with notes for the user.
type edited struct {
	after []byte
	notes []string
	// lost says that something was removed, so that Caller.afterLoss applies.
	lost bool
}

// errNotValidated says that a caller's program cannot validate a configuration.
var errNotValidated = errors.New("it has no way to validate a configuration")

// All returns the callers, in the order in which they are shown.
func All() []*Caller {
	return []*Caller{podman(), containerd(), crio(), docker()}
}

// checkProgram refuses a path that would have to be escaped in some configuration file.
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

// isOurs tells whether a configured path is this program's or ends with runch's name.
func isOurs(configured, program string) bool {
	return configured == program || path.Base(configured) == runtimeName
}

// ownership returns the beginning of the files that install writes, by which it recognizes
// them. It must not change in later versions.
func ownership(caller string) string { return fmt.Sprintf("# Written by `runch install %s`", caller) }

// marker is the first line of those files.
func marker(caller string) string {
	return fmt.Sprintf("%s, which changes it again; `runch install %s --remove` takes it away.\n", ownership(caller), caller)
}

// dropIn replaces the content of a file that install wrote, and refuses any other file.
func dropIn(s source, caller, content string) (edited, error) {
	if err := checkDropIn(s, caller); err != nil {
		return edited{}, err
	}
	return edited{after: []byte(marker(caller) + content)}, nil
}

// removeDropIn removes such a file.
func removeDropIn(caller string) func(source, string) (edited, error) {
	return func(s source, _ string) (edited, error) { return edited{}, checkDropIn(s, caller) }
}

func checkDropIn(s source, caller string) error {
	if s.before != nil && !bytes.HasPrefix(s.before, []byte(ownership(caller))) {
		return ErrForeign
	}
	return nil
}

// whether returns the wanted value of a setting, or its present one if wanted is nil.
func whether(wanted *bool, now bool) bool {
	if wanted == nil {
		return now
	}
	return *wanted
}
