package main

import (
	"fmt"
	"slices"
	"time"

	"runch/agentproto"
)

// The kinds of measure.
const (
	wall = "time"
	// cpuOwn is user and system time of the command's process alone, cpuAll that of all processes except the VMM.
	cpuOwn = "cpu"
	cpuAll = "cpu_all"
	// cpuPart are the parts of cpuAll. cpuVMM is the VMM's CPU time.
	cpuPart  = "cpu_part"
	cpuVMM   = "cpu_vmm"
	syscalls = "syscalls"
	timeline = "timeline"
	exits    = "exits" // of a VM
)

// series are the samples of one measurement, in the order of the rounds. Times are in milliseconds, system calls and
// exits are counts.
type series struct {
	What    string    `json:"what"`
	Measure string    `json:"measure"`
	Of      string    `json:"of"`
	Samples []float64 `json:"samples"`
}

type samples struct{ list []*series }

func (s *samples) find(what, measure, of string) *series {
	i := slices.IndexFunc(s.list, func(e *series) bool { return e.What == what && e.Measure == measure && e.Of == of })
	if i < 0 {
		return nil
	}
	return s.list[i]
}

func (s *samples) number(what, measure, of string, value float64) {
	e := s.find(what, measure, of)
	if e == nil {
		e = &series{What: what, Measure: measure, Of: of}
		s.list = append(s.list, e)
	}
	e.Samples = append(e.Samples, value)
}

func (s *samples) duration(what, measure, of string, d time.Duration) {
	s.number(what, measure, of, float64(d)/float64(time.Millisecond))
}

func (s *samples) cost(what, of string, c cost) {
	s.duration(what, wall, of, c.wall)
	s.duration(what, cpuOwn, of, c.own)
	if what == "exec" {
		s.duration(what, cpuAll, of, c.all)
	}
}

// The phases from the VMM's start to the user's program.
const (
	toClock   = "VMM, firmware and kernel, until the guest's clock runs"
	toAgent   = "kernel, until the agent's first line"
	toModules = "agent: mounts and modules"
	toHello   = "agent: way to the host, until the hello"
	toCreated = "from the hello until the container waits for start"
	toStarted = "from there until the program runs"
)

// addBoot keeps a boot of a bare VMM.
func (s *samples) addBoot(of string, b *booted) {
	s.duration(boot, wall, of, b.took)
	s.duration(boot, cpuVMM, of, b.cpu)
	s.duration("delete", wall, of, b.ended)
	if b.exits > 0 {
		s.number(boot, exits, of, b.exits)
	}
	s.duration(toClock, timeline, of, b.took-nanoseconds(b.timeline.GetHelloNs()))
	s.addTimeline(of, b.timeline)
}

// addTimeline keeps the phases of a guest's start up to the hello.
func (s *samples) addTimeline(of string, t *agentproto.Timeline) {
	s.duration(toAgent, timeline, of, nanoseconds(t.GetAgentStartNs()))
	s.duration(toModules, timeline, of, nanoseconds(t.GetModulesLoadedNs()-t.GetAgentStartNs()))
	s.duration(toHello, timeline, of, nanoseconds(t.GetHelloNs()-t.GetModulesLoadedNs()))
}

// addContainer keeps the timeline of a container's VM.
func (s *samples) addContainer(of string, t *agentproto.Timeline) {
	s.addTimeline(of, t)
	s.duration(toCreated, timeline, of, nanoseconds(t.GetContainerCreatedNs()-t.GetHelloNs()))
	s.duration(toStarted, timeline, of, nanoseconds(t.GetContainerStartedNs()-t.GetContainerCreatedNs()))
}

func nanoseconds(n uint64) time.Duration { return time.Duration(n) }

// median does not reorder the samples: it sorts a copy. It is 0 without samples.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	switch {
	case n == 0:
		return 0
	case n%2 == 1:
		return sorted[n/2]
	default:
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
}

// ratios divides each of a's samples by b's of the same round. It returns nil if one of them was not measured.
func ratios(a, b *series) []float64 {
	if a == nil || b == nil || len(a.Samples) != len(b.Samples) {
		return nil
	}
	list := make([]float64, len(a.Samples))
	for i := range list {
		list[i] = a.Samples[i] / b.Samples[i]
	}
	return list
}

// String describes the series for error messages.
func (e *series) String() string { return fmt.Sprintf("%s of %s (%s)", e.What, e.Of, e.Measure) }
