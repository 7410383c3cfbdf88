package commands

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"

	"runch/oci"

	"github.com/docker/go-units"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"
)

func (p *program) updateCommand() *cli.Command {
	return &cli.Command{
		Name:      "update",
		Usage:     "update container resource constraints",
		ArgsUsage: "<container-id>",
		Description: "The update command changes the limits of a container. With --resources they are read as JSON, in the form of\n" +
			"linux.resources in config.json, and the other options are ignored. What is not given stays as it is.",
		Flags: updateFlags(),
		Action: func(c *cli.Context) error {
			id, err := onlyID(c)
			if err != nil {
				return err
			}
			// As in runc, an unknown container is reported before a wrong value.
			r := p.runtime(c)
			if _, err := r.State(id); err != nil {
				return err
			}
			change, err := p.change(c)
			if err != nil {
				return err
			}
			return r.Update(c.Context, id, change)
		},
	}
}

func updateFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "resources", Aliases: []string{"r"}, Usage: "`FILE` with the resources to update, or - for the standard input"},
		&cli.IntFlag{Name: "blkio-weight", Usage: "specifies per cgroup weight, range is from 10 to 1000"},
		&cli.StringFlag{Name: "cpu-period", Usage: "CPU CFS period to be used for hardcapping (in usecs); 0 to use system default"},
		&cli.StringFlag{Name: "cpu-quota", Usage: "CPU CFS hardcap limit (in usecs): allowed cpu time in a given period"},
		&cli.StringFlag{Name: "cpu-burst", Usage: "CPU CFS hardcap burst limit (in usecs): allowed accumulated cpu time additionally for burst a given period"},
		&cli.StringFlag{Name: "cpu-share", Usage: "CPU shares (relative weight vs. other containers)"},
		&cli.StringFlag{Name: "cpu-rt-period", Usage: "CPU realtime period to be used for hardcapping (in usecs); 0 to use system default"},
		&cli.StringFlag{Name: "cpu-rt-runtime", Usage: "CPU realtime hardcap limit (in usecs): allowed cpu time in a given period"},
		&cli.StringFlag{Name: "cpuset-cpus", Usage: "CPU(s) of the host to use"},
		&cli.StringFlag{Name: "cpuset-mems", Usage: "memory node(s) of the host to use"},
		&cli.StringFlag{Name: "cpu-idle", Usage: "set cgroup SCHED_IDLE or not, 0: default behavior, 1: SCHED_IDLE"},
		&cli.StringFlag{Name: "kernel-memory", Hidden: true, Usage: "obsolete: accepted and ignored"},
		&cli.StringFlag{Name: "kernel-memory-tcp", Hidden: true, Usage: "obsolete: accepted and ignored"},
		&cli.StringFlag{Name: "memory", Usage: "memory limit (in bytes)"},
		&cli.StringFlag{Name: "memory-reservation", Usage: "memory reservation or soft limit (in bytes)"},
		&cli.StringFlag{Name: "memory-swap", Usage: "total memory usage (memory + swap); -1 for unlimited swap"},
		&cli.IntFlag{Name: "pids-limit", Usage: "maximum number of pids allowed in the container"},
		&cli.StringFlag{Name: "l3-cache-schema", Usage: "the string of Intel RDT/CAT L3 cache schema: not supported"},
		&cli.StringFlag{Name: "mem-bw-schema", Usage: "the string of Intel RDT/MBA memory bandwidth schema: not supported"},
	}
}

// change returns the resources that the command line, or the file of --resources, asks for.
func (p *program) change(c *cli.Context) (*specs.LinuxResources, error) {
	if c.String("l3-cache-schema") != "" || c.String("mem-bw-schema") != "" {
		return nil, errors.New("updating a non-existent Intel RDT configuration is not supported")
	}
	var change *specs.LinuxResources
	var err error
	if file := c.String("resources"); file != "" {
		change, err = readResources(file)
	} else {
		change, err = resourcesOf(c)
	}
	if err != nil {
		return nil, err
	}
	if m := change.Memory; m != nil && (m.Kernel != nil || m.KernelTCP != nil) {
		slog.New(p.log).Warn("Kernel memory settings are ignored and will be removed")
		m.Kernel, m.KernelTCP = nil, nil
	}
	return change, nil
}

func readResources(file string) (*specs.LinuxResources, error) {
	if file == "-" {
		return oci.DecodeResources(os.Stdin)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return oci.DecodeResources(f)
}

// resourcesOf returns the resources that the flags set.
func resourcesOf(c *cli.Context) (*specs.LinuxResources, error) {
	cpu, memory := &specs.LinuxCPU{Cpus: c.String("cpuset-cpus"), Mems: c.String("cpuset-mems")}, &specs.LinuxMemory{}
	r := &specs.LinuxResources{CPU: cpu, Memory: memory}
	if weight := c.Int("blkio-weight"); weight != 0 {
		if weight < 0 || weight > maxWeight {
			return nil, fmt.Errorf("invalid value for blkio-weight: %d", weight)
		}
		w := uint16(weight)
		r.BlockIO = &specs.LinuxBlockIO{Weight: &w}
	}
	if c.IsSet("pids-limit") {
		limit := int64(c.Int("pids-limit"))
		r.Pids = &specs.LinuxPids{Limit: &limit}
	}
	for name, to := range map[string]**uint64{
		"cpu-period": &cpu.Period, "cpu-burst": &cpu.Burst, "cpu-share": &cpu.Shares, "cpu-rt-period": &cpu.RealtimePeriod,
	} {
		if err := number(c, name, to, func(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) }); err != nil {
			return nil, err
		}
	}
	for name, to := range map[string]**int64{
		"cpu-quota": &cpu.Quota, "cpu-rt-runtime": &cpu.RealtimeRuntime, "cpu-idle": &cpu.Idle,
	} {
		if err := number(c, name, to, func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) }); err != nil {
			return nil, err
		}
	}
	for name, to := range map[string]**int64{
		"memory": &memory.Limit, "memory-reservation": &memory.Reservation, "memory-swap": &memory.Swap,
		"kernel-memory": &memory.Kernel, "kernel-memory-tcp": &memory.KernelTCP,
	} {
		if err := number(c, name, to, bytesOf); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// maxWeight is the greatest blkio weight that runc takes.
const maxWeight = 1000

// number stores the value of a flag in to, if the flag is set and not empty.
func number[T any](c *cli.Context, name string, to **T, parse func(string) (T, error)) error {
	text := c.String(name)
	if text == "" {
		return nil
	}
	n, err := parse(text)
	if err != nil {
		return fmt.Errorf("invalid value for %s: %w", name, err)
	}
	*to = &n
	return nil
}

// bytesOf reads an amount of memory: bytes, with a unit such as M, or -1 for no limit.
func bytesOf(s string) (int64, error) {
	if s == "-1" {
		return -1, nil
	}
	return units.RAMInBytes(s)
}
