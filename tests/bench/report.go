package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"runch/guest"
	"runch/hypervisor"
)

// report is the content of the JSON file.
type report struct {
	Taken  time.Time `json:"taken"`
	Part   string    `json:"part"`
	Host   host      `json:"host"`
	Rounds int       `json:"rounds"`
	Execs  int       `json:"execs_per_round,omitempty"`
	// Series are all samples.
	Series []*series `json:"series"`
	// Usage, by the name of the build of runch, and Sizes are set for the part "life" only.
	Usage map[string]usage `json:"usage,omitempty"`
	Sizes *sizes           `json:"sizes,omitempty"`
	// Targets are the figures to reach.
	Targets []target `json:"targets"`
	// Missing is what could not be measured, and why.
	Missing []string `json:"missing,omitempty"`
}

// host describes the machine on which the figures were measured.
type host struct {
	Kernel      string            `json:"kernel"`
	CPU         string            `json:"cpu"`
	CPUs        int               `json:"cpus"`
	Accel       string            `json:"accel"`
	VMM         string            `json:"vmm"`
	Virtiofsd   string            `json:"virtiofsd"`
	GuestKernel string            `json:"guest_kernel"`
	Runtimes    map[string]string `json:"runtimes"`
}

func describeHost(env *environment) host {
	h := host{
		CPU: "unknown", CPUs: goruntime.NumCPU(), Accel: env.Accel.Kind, VMM: env.Hypervisor.Version,
		Virtiofsd: env.Virtiofsd.Version, GuestKernel: env.Kernel.Version, Runtimes: make(map[string]string),
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		h.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				h.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	return h
}

// sizes are the sizes of the shipped files, in bytes.
type sizes struct {
	Binary    int64 `json:"binary"`
	Agent     int64 `json:"agent"`
	Initramfs int64 `json:"initramfs"`
}

func (b *bench) sizes() (sizes, error) {
	info, err := os.Stat(b.runtimes[0].program)
	if err != nil {
		return sizes{}, err
	}
	m, err := guest.Inspect(filepath.Dir(b.runtimes[0].bare.env.Initramfs.Path))
	if err != nil {
		return sizes{}, err
	}
	return sizes{Binary: info.Size(), Agent: m.Agent.Size, Initramfs: m.Initramfs.Size}, nil
}

// target is a limit that a measured figure should keep.
type target struct {
	Name  string  `json:"name"`
	Limit float64 `json:"limit"`
	// Least says that Limit is the least allowed figure; otherwise it is the greatest.
	Least   bool    `json:"least,omitempty"`
	Figure  float64 `json:"figure"`
	Reached bool    `json:"reached"`
}

func (b *bench) targets(s sizes) []target {
	const mib = 1 << 20
	find := b.samples.find
	ratio := func(a, b *series) float64 { return median(ratios(a, b)) }
	idle := b.runtimes[0].usage
	kvm := b.host.Accel == string(hypervisor.AccelKVM)
	execLimit := 3.0 // TCG translates the code of each new process again
	if kvm {
		execLimit = 1.2
	}
	list := []target{
		{
			Name: "create+start to the first byte, of the bare VMM's boot", Limit: 1.5,
			Figure: ratio(find(firstByte, wall, ours), find(boot, wall, bareVMM)),
		},
		{Name: "exec of true, of runc's", Limit: execLimit, Figure: ratio(find("exec", wall, ours), find("exec", wall, runc))},
		{
			Name: "CPU time of create without the VMM, of runc's create", Limit: 0.9,
			Figure: ratio(find("create", cpuAll, ours), find("create", cpuAll, runc)),
		},
		{
			Name: "delete, of the bare VMM's SIGKILL and its reaping", Limit: 2,
			Figure: ratio(find("delete", wall, ours), find("delete", wall, bareVMM)),
		},
		{Name: "shim's memory (PSS), MiB", Limit: 8, Figure: float64(idle.ShimPSS) / mib},
		{Name: "agent's memory (RSS), MiB", Limit: 16, Figure: float64(idle.AgentRSS) / mib},
		{Name: "initramfs, MiB", Limit: 12, Figure: float64(s.Initramfs) / mib},
	}
	if kvm { // TCG's memory for translated code is not limited here
		list = append(list, target{
			Name: "memory of an idle container (PSS), MiB", Limit: 72,
			Figure: float64(idle.ShimPSS+idle.VirtiofsdPSS+idle.VMMPSS) / mib,
		})
	}
	if b.options.before != "" {
		list = append(list,
			target{
				Name: "bare VMM's boot, of the one before", Limit: 0.4,
				Figure: ratio(find(boot, wall, bareVMM), find(boot, wall, bareBefore)),
			},
			target{
				Name: "create+start to the first byte, of that before", Limit: 0.5,
				Figure: ratio(find(firstByte, wall, ours), find(firstByte, wall, before)),
			},
			target{
				Name: "before: create+start to the first byte, of the bare VMM's boot", Limit: 1.2,
				Figure: ratio(find(firstByte, wall, before), find(boot, wall, bareBefore)),
			})
	}
	if b.runtimes[0].bare.env.Hypervisor.Kind == hypervisor.DriverCloudHypervisor {
		list = append(list, target{
			Name: "exits until the first byte, of the bare VMM's boot", Limit: 1.3,
			Figure: ratio(find(firstByte, exits, ours), find(boot, exits, bareVMM)),
		})
	}
	return judged(list)
}

// judged sets Reached in each target. A figure of 0 was not measured, and does not reach its target.
func judged(list []target) []target {
	for i, t := range list {
		if t.Least {
			list[i].Reached = t.Figure >= t.Limit
		} else {
			list[i].Reached = t.Figure > 0 && t.Figure <= t.Limit
		}
	}
	return list
}

func (b *bench) report() (*report, error) {
	s, err := b.sizes()
	if err != nil {
		return nil, err
	}
	used := make(map[string]usage)
	for _, r := range b.runtimes {
		b.host.Runtimes[r.name] = r.version
		if r.bare != nil {
			b.host.Runtimes[r.name] += ", guest " + r.bare.env.Kernel.Version
			used[r.name] = r.usage
		}
	}
	return &report{
		Taken: time.Now().UTC(), Part: partLife, Host: b.host, Rounds: b.options.rounds, Execs: b.options.execs,
		Series: b.samples.list, Usage: used, Sizes: &s, Targets: b.targets(s), Missing: b.missing,
	}, nil
}

// publish prints the table and, if path is not empty, saves the samples there.
func (r *report) publish(path string) error {
	if err := r.print(os.Stdout); err != nil || path == "" {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return r.save(path)
}

func (r *report) save(path string) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("encode the results: %w", err)
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
