package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"runch/tests/bench/measurement"
)

// The parts of the bench.
const (
	partLife    = "life"
	partFiles   = "files"
	partNetwork = "network"
)

// ioTimeout bounds the work of one contender in one round: in the lab it takes minutes.
const ioTimeout = 20 * time.Minute

// contender does the same work as the others, in its own root. It leaves its results there.
type contender struct {
	name string
	root string
	// works are done one after another, and each writes a result.
	works []func(ctx context.Context) error
	// remove removes what a failed round has left behind.
	remove func(ctx context.Context) error
}

// ioBench is a run of the part "files" or "network". The program workload does the same work in turn in a container of
// runch, in one of another build of runch if one is given, in a guest without runch, and in a container of crun.
type ioBench struct {
	options    options
	dir        string
	host       host
	env        *environment
	contenders []*contender
	links      *links
	samples    samples
	missing    []string
}

func runIO(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	b := &ioBench{options: o, dir: dir}
	defer func() { err = errors.Join(err, b.close(context.WithoutCancel(ctx))) }()
	if b.env, err = readEnvironment(ctx, o.runch); err != nil {
		return err
	}
	b.host = describeHost(b.env)
	if err := b.prepare(ctx); err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	for n := range o.rounds {
		fmt.Fprintf(os.Stderr, "round %d of %d\n", n+1, o.rounds)
		if err := b.round(ctx); err != nil {
			return fmt.Errorf("round %d: %w", n+1, err)
		}
	}
	return b.report().publish(o.json)
}

// prepare makes all contenders.
func (b *ioBench) prepare(ctx context.Context) error {
	if b.options.part == partNetwork {
		var err error
		if b.links, err = newLinks(ctx, b.options.rootfs, b.options.workload); err != nil {
			return err
		}
	}
	programs := map[string]string{ours: b.options.runch, crun: crun, before: b.options.before}
	for _, name := range []string{ours, before, bareVMM, crun} {
		if name == before && b.options.before == "" {
			continue
		}
		if name == bareVMM {
			if err := b.addBare(ctx); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			continue
		}
		err := b.addRuntime(ctx, name, programs[name])
		if err != nil && name == crun {
			b.missing = append(b.missing, fmt.Sprintf("%s is not measured: %v", name, err))
		} else if err != nil {
			return err
		}
	}
	return nil
}

// addRuntime adds containers of a runtime.
func (b *ioBench) addRuntime(ctx context.Context, name, program string) error {
	dir := filepath.Join(b.dir, dirName(name))
	c := contents{spec: b.options.spec, rootfs: b.options.rootfs}
	// Each directory is measured in a container of its own: virtiofsd's limit of open files may be too low for both.
	works := [][]string{b.fileWork(name != crun, onRootfs), b.fileWork(name != crun, onVolume)}
	if b.options.part == partFiles {
		c.volume = filepath.Join(dir, "volume")
	} else {
		end, err := b.links.join(ctx, name)
		if err != nil {
			return err
		}
		c.network = end.namespace
		works = [][]string{{partNetwork, end.server}}
	}
	r, err := newRuntime(ctx, name, program, dir, c)
	if err != nil {
		return err
	}
	if err := b.fill(r.rootfs(), c.volume); err != nil {
		return err
	}
	b.host.Runtimes[name] = r.version
	added := &contender{name: name, root: r.rootfs(), remove: r.remove}
	for _, args := range works {
		c := c
		c.args = append([]string{workloadPath}, args...)
		added.works = append(added.works, func(ctx context.Context) error {
			if err := r.writeSpec(c); err != nil {
				return err
			}
			_, err := measure(ctx, r.start, nil, r.argv("run")...)
			return err
		})
	}
	b.contenders = append(b.contenders, added)
	return nil
}

// workloadPath is the program's path in each root.
const workloadPath = "/workload"

// fill copies the program into a root, and makes the trees to measure for the part "files".
func (b *ioBench) fill(root, volume string) error {
	program, err := os.ReadFile(b.options.workload)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, workloadPath), program, 0o755); err != nil {
		return err
	}
	if b.options.part != partFiles {
		return nil
	}
	err = b.makeTrees(filepath.Join(root, rootfsDir))
	if err == nil && volume != "" {
		err = b.makeTrees(volume)
	}
	return err
}

// round lets each contender do its work once. Each round begins with another contender.
func (b *ioBench) round(ctx context.Context) error {
	for _, c := range b.contenders {
		for _, work := range c.works {
			list, err := turn(ctx, c.root, work)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			b.keep(c.name, list)
		}
	}
	b.contenders = append(b.contenders[1:], b.contenders[0])
	return nil
}

// keep adds results to the samples. A guest without runch has no volume: its root is the same kind of share, so its
// figures count for both.
func (b *ioBench) keep(of string, list []measurement.Measurement) {
	for _, m := range list {
		if m.Where == "" {
			m.Where = b.options.part
		}
		b.samples.number(m.What, m.Where, of, m.Value)
		if of == bareVMM && m.Where == onRootfs {
			b.samples.number(m.What, onVolume, of, m.Value)
		}
	}
}

// turn does one piece of work and returns its results.
func turn(ctx context.Context, root string, work func(context.Context) error) ([]measurement.Measurement, error) {
	ctx, cancel := context.WithTimeout(ctx, ioTimeout)
	defer cancel()
	result := filepath.Join(root, measurement.ResultFile)
	if err := os.Remove(result); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := work(ctx); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(result)
	if err != nil {
		return nil, fmt.Errorf("no result: %w", err)
	}
	var list []measurement.Measurement
	return list, json.Unmarshal(text, &list)
}

// close removes all that the bench has made.
func (b *ioBench) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	var errs []error
	for _, c := range b.contenders {
		errs = append(errs, c.remove(ctx))
	}
	return errors.Join(append(errs, b.links.close(ctx), removeCgroups(), os.RemoveAll(b.dir))...)
}
