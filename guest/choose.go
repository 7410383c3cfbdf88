package guest

import (
	"fmt"
	"strings"
)

// wanted is one module that the guest needs.
type wanted struct {
	name     string
	required bool // without it there is no sandbox
}

// bootModules are loaded by the agent before anything else: the bus, the shared
// directory and the channel to the host. Where a distribution builds them in,
// there is nothing to load.
var bootModules = []wanted{
	{"virtio_pci", true},
	{"virtio_console", true},
	{"virtiofs", true},
}

// vsockModules are loaded at boot where the channel to the host is vsock and
// not a serial port: a module costs tens of milliseconds where there is no KVM.
var vsockModules = []wanted{
	{"vmw_vsock_virtio_transport", false},
}

// lazyModules are loaded on demand: for network cards, disks and memory that are
// added while the guest runs, and for what programs in containers commonly use.
var lazyModules = []wanted{
	{"ipv6", false},
	{"af_packet", false},
	{"virtio_net", false},
	{"virtio_blk", false},
	{"virtio_mem", false},
	{"virtio_balloon", false},
	{"overlay", false},
	{"tun", false},
	{"loop", false},
	{"bridge", false},
}

// selection are the modules of a kernel that go into the image.
type selection struct {
	boot    []*module // in load order
	vsock   []*module // in load order, after boot
	lazy    []*module // in load order, after boot and vsock
	builtin []string  // asked for, but part of the kernel
}

// choose picks the usual modules and the extra ones, with all that they depend
// on before them.
func (k *kernel) choose(extra []string) (*selection, error) {
	r := resolver{kernel: k, state: map[string]visit{}}
	sel := &selection{builtin: []string{}}
	lazy := lazyModules
	for _, name := range extra {
		lazy = append(lazy[:len(lazy):len(lazy)], wanted{canonical(name), true})
	}
	for _, group := range []struct {
		wanted []wanted
		order  *[]*module
	}{{bootModules, &sel.boot}, {vsockModules, &sel.vsock}, {lazy, &sel.lazy}} {
		for _, w := range group.wanted {
			if err := r.want(w, sel); err != nil {
				return nil, err
			}
		}
		*group.order, r.order = r.order, nil
	}
	return sel, nil
}

type visit int

const (
	visiting visit = iota + 1
	visited
)

// resolver orders modules so that each comes after what it depends on.
type resolver struct {
	kernel *kernel
	state  map[string]visit
	order  []*module
}

func (r *resolver) want(w wanted, sel *selection) error {
	switch _, exists := r.kernel.modules[w.name]; {
	case exists:
		return r.add(w.name, nil)
	case r.kernel.builtin[w.name]:
		sel.builtin = append(sel.builtin, w.name)
		return nil
	case w.required:
		return fmt.Errorf("%w: kernel %s has no module %s", errInput, r.kernel.release, w.name)
	}
	return nil
}

func (r *resolver) add(name string, path []string) error {
	switch r.state[name] {
	case visited:
		return nil
	case visiting:
		return fmt.Errorf("%w: modules depend on each other: %s", errInput, strings.Join(append(path, name), " → "))
	}
	src, ok := r.kernel.modules[name]
	if !ok {
		if r.kernel.builtin[name] {
			return nil
		}
		return fmt.Errorf("%w: kernel %s has no module %s, which %s needs", errInput, r.kernel.release, name, path[len(path)-1])
	}
	r.state[name] = visiting
	m, err := src.load(r.kernel.release)
	if err != nil {
		return err
	}
	path = append(path[:len(path):len(path)], name)
	for _, d := range m.soft {
		// A soft dependency that is missing, or would close a circle, is no error.
		if _, ok := r.kernel.modules[d]; ok && r.state[d] != visiting {
			if err := r.add(d, path); err != nil {
				return err
			}
		}
	}
	for _, d := range m.depends {
		if err := r.add(d, path); err != nil {
			return err
		}
	}
	r.state[name] = visited
	r.order = append(r.order, m)
	return nil
}
