package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// bench is one run.
type bench struct {
	options options
	dir     string
	host    host
	// runtimes are runch, another build of it if one is given, and runc and crun if this host has them.
	runtimes []*runtime
	exits    *exitCounter
	samples  samples
	missing  []string
}

// What is measured, by the names of the results.
const (
	boot      = "boot to the agent's hello"
	firstByte = "create+start to the first byte"
	bareVMM   = "bare VMM"
	// before names another build of runch, or one beside another guest image. bareBefore names the VMM with the guest
	// image of that build.
	before     = "runch before"
	bareBefore = "bare before"
)

func newBench(ctx context.Context, o options) (*bench, error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	b := &bench{options: o, dir: dir}
	if b.exits, err = countExits(); err == nil {
		err = b.prepare(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, b.exits.close(), os.RemoveAll(dir))
	}
	return b, nil
}

func (b *bench) prepare(ctx context.Context) error {
	for _, c := range []struct{ name, program, bare string }{
		{ours, b.options.runch, bareVMM}, {before, b.options.before, bareBefore}, {runc, runc, ""}, {crun, crun, ""},
	} {
		if c.program == "" {
			continue
		}
		r, err := newRuntime(ctx, c.name, c.program, filepath.Join(b.dir, dirName(c.name)), contents{
			spec: b.options.spec, rootfs: b.options.rootfs, args: []string{"sh", "-c", "echo; exec sleep 100000"},
		})
		switch {
		case err != nil && c.bare == "":
			b.missing = append(b.missing, fmt.Sprintf("%s is not measured: %v", c.name, err))
			continue
		case err == nil && c.bare != "":
			r.bare, err = b.newRawVM(ctx, c.bare, r)
		}
		if err != nil {
			return err
		}
		b.runtimes = append(b.runtimes, r)
	}
	b.host = describeHost(b.runtimes[0].bare.env)
	return nil
}

// newRawVM describes a bare VMM with the same programs and image as the runtime's VMs.
func (b *bench) newRawVM(ctx context.Context, name string, r *runtime) (*rawVM, error) {
	env, err := readEnvironment(ctx, r.program)
	return &rawVM{name: name, env: env, dir: filepath.Join(r.dir, "raw"), exits: b.exits}, err
}

// warmUp does everything once and drops the samples, as the first time includes reading files from the disk. It keeps
// the record of the container's VM, so that the bare VMM can be made like it.
func (b *bench) warmUp(ctx context.Context) error {
	for _, r := range b.runtimes {
		err := b.launch(ctx, r)
		if err == nil && r.bare != nil {
			r.bare.record, err = r.sandboxRecord()
		}
		if err == nil {
			err = b.end(ctx, r)
		}
		if err != nil {
			return err
		}
	}
	b.samples = samples{}
	return nil
}

// close removes all that the bench has made.
func (b *bench) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	var errs []error
	for _, r := range b.runtimes {
		errs = append(errs, r.remove(ctx))
	}
	return errors.Join(append(errs, removeCgroups(), b.exits.close(), os.RemoveAll(b.dir))...)
}

// removeCgroups removes the parent of the containers' cgroups, in each hierarchy.
func removeCgroups() error {
	parents, err := filepath.Glob(filepath.Join("/sys/fs/cgroup", "*", cgroupParent))
	errs := []error{err}
	for _, dir := range append(parents, filepath.Join("/sys/fs/cgroup", cgroupParent)) {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// logs is an error with the content of the logs of runch's VM, nil where they are empty.
func (b *bench) logs() error {
	logs, err := filepath.Glob(filepath.Join(b.runtimes[0].state(), "*", "*.log"))
	for _, log := range logs {
		if text, readErr := os.ReadFile(log); readErr == nil && len(text) > 0 {
			err = errors.Join(err, fmt.Errorf("%s: %s", filepath.Base(log), text))
		}
	}
	return err
}
