package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"runch/oci"
	"runch/sandbox"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// containerFinding names the finding about running a container. The other findings are
// about what is installed.
const containerFinding = "container"

// runTimeout bounds a container of check, in addition to the VM's boot timeout.
const runTimeout = time.Minute

// maxSaid bounds the output that is read from a container of check, in bytes.
const maxSaid = 4096

// runFinding runs a container. It needs no container image: the program is runch itself,
// which is static, and prints its version.
func runFinding(ctx context.Context, r *sandbox.Runtime) finding {
	f := finding{Name: containerFinding, Needed: true}
	ctx, cancel := context.WithTimeout(ctx, r.Config.BootTimeout+runTimeout)
	defer cancel()
	began := time.Now()
	said, err := runOnce(ctx, r)
	took := time.Since(began).Round(100 * time.Millisecond)
	switch {
	case err != nil:
		f.Detail = shorten(fmt.Sprintf("after %s: %s", took, err))
	case !strings.HasPrefix(said, name+" version "):
		f.Detail = shorten(fmt.Sprintf("after %s: it did not say its version but %q", took, said))
	default:
		f.OK, f.Detail = true, fmt.Sprintf("one ran and is gone again, in %s", took)
	}
	return f
}

// runOnce makes a bundle, runs it to its end, removes both and returns the output.
func runOnce(ctx context.Context, r *sandbox.Runtime) (said string, err error) {
	dir, err := os.MkdirTemp("", name+"-check-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	bundle, err := checkBundle(dir)
	if err != nil {
		return "", fmt.Errorf("make a bundle: %w", err)
	}
	stdin, err := os.Open(os.DevNull)
	if err != nil {
		return "", err
	}
	defer stdin.Close()
	output, stdout, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer output.Close()
	defer context.AfterFunc(ctx, func() { _ = output.SetDeadline(time.Now()) })()
	id := filepath.Base(dir)
	err = r.Create(ctx, sandbox.CreateOptions{ID: id, Bundle: bundle, Stdin: stdin, Stdout: stdout, Stderr: stdout})
	_ = stdout.Close()
	if err != nil {
		return "", fmt.Errorf("create: %w", err)
	}
	defer func() {
		err = errors.Join(err, r.Delete(context.WithoutCancel(ctx), id, true))
	}()
	if err := r.Start(ctx, id); err != nil {
		return "", fmt.Errorf("start: %w", err)
	}
	// The output ends when the container does.
	data, err := io.ReadAll(io.LimitReader(output, maxSaid))
	if err != nil {
		return "", fmt.Errorf("wait for the container's end: %w", errors.Join(ctx.Err(), err))
	}
	return string(data), nil
}

// checkBundle makes a bundle whose root holds nothing but this program, as a bind mount.
func checkBundle(dir string) (*oci.Bundle, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	spec := oci.DefaultSpec()
	inside := "/" + name
	spec.Hostname = name
	spec.Root.Readonly = false // for the mount point
	spec.Process.Terminal = false
	spec.Process.Args = []string{inside, "--version"}
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: inside, Type: "bind", Source: exe, Options: []string{"bind", "ro"}})
	data, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(filepath.Join(dir, spec.Root.Path), 0o755); err != nil { // #nosec G301 -- a container's root directory
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, oci.ConfigName), data, 0o600); err != nil {
		return nil, err
	}
	return oci.Load(dir)
}
