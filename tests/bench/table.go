package main

import (
	"bufio"
	"fmt"
	"io"
	"slices"
)

// print writes the table: medians, and the medians of the pairs' ratios.
func (r *report) print(out io.Writer) error {
	w := &table{Writer: bufio.NewWriter(out), r: r}
	if other := r.Host.Runtimes[before]; other != "" {
		w.line("before: %s", other)
	}
	w.line("%s, %s, %s; guest %s; host %s, %d CPUs of %s", r.Host.Runtimes[ours], r.Host.VMM, r.Host.Accel,
		r.Host.GuestKernel, r.Host.Kernel, r.Host.CPUs, r.Host.CPU)
	if r.Part == partLife {
		w.line("%d rounds with %d execs each; medians, and the medians of the pairs' ratios", r.Rounds, r.Execs)
		w.life()
	} else {
		w.line("%d rounds; medians, and the medians of the pairs' ratios", r.Rounds)
		w.io()
	}
	w.targets()
	for _, m := range r.Missing {
		w.line("%s", m)
	}
	return w.Flush()
}

// life writes the sections of the part "life".
func (t *table) life() {
	t.comparison("time, ms", wall, "%.1f", boot, "create", "start", firstByte, "exec", "kill", "delete")
	t.comparison("CPU time of the command alone, ms", cpuOwn, "%.1f", verbs...)
	t.comparison("CPU time of all but the VMM, ms", cpuAll, "%.1f", "create", "exec")
	t.comparison("system calls of the command alone", syscalls, "%.0f", verbs...)
	t.parts("of create's CPU time, ms")
	t.comparison("CPU time of the VMM, ms", cpuVMM, "%.0f", boot, "create", "exec")
	t.comparison("exits of the VM", exits, "%.0f", boot, firstByte)
	t.comparison("the guest's start, ms", timeline, "%.1f", toClock, toAgent, toModules, toHello, toCreated, toStarted)
	t.usage()
}

// table writes lines. Flush returns the first error of all writes.
type table struct {
	*bufio.Writer
	r *report
}

func (t *table) line(format string, args ...any) {
	_, _ = fmt.Fprintf(t, format+"\n", args...)
}

// section begins a section with the names of its columns.
func (t *table) section(cells ...string) {
	t.line("")
	t.row(cells...)
}

// row aligns the first cell to the left and the others to the right.
func (t *table) row(cells ...string) {
	_, _ = fmt.Fprintf(t, "%-57s", cells[0])
	for _, c := range cells[1:] {
		_, _ = fmt.Fprintf(t, "%13s", c)
	}
	t.line("")
}

func (t *table) find(what, measure, of string) *series {
	return (&samples{t.r.Series}).find(what, measure, of)
}

// comparison writes a section with a column for each contender, and one for runch's ratio to each other contender.
func (t *table) comparison(title, measure, format string, whats ...string) {
	header := []string{title}
	columns := slices.DeleteFunc([]string{bareVMM, bareBefore, before, ours, runc, crun}, func(of string) bool {
		return !slices.ContainsFunc(whats, func(what string) bool { return t.find(what, measure, of) != nil })
	})
	if len(columns) == 0 {
		return
	}
	others := slices.DeleteFunc(slices.Clone(columns), func(of string) bool { return of == ours })
	header = append(header, columns...)
	for _, of := range others {
		header = append(header, "÷ "+of)
	}
	t.section(header...)
	for _, what := range whats {
		cells := []string{what}
		for _, of := range columns {
			cells = append(cells, number(t.find(what, measure, of), format))
		}
		for _, of := range others {
			cells = append(cells, t.ratio(what, measure, of))
		}
		t.row(cells...)
	}
}

// ratio divides runch's figure by the other's. The bare VMM's boot is the other figure for create and the first byte.
func (t *table) ratio(what, measure, of string) string {
	other := what
	if (of == bareVMM || of == bareBefore) && (what == "create" || what == firstByte) {
		other = boot
	}
	list := ratios(t.find(what, measure, ours), t.find(other, measure, of))
	if list == nil {
		return ""
	}
	return fmt.Sprintf("%.2f", median(list))
}

func number(s *series, format string) string {
	if s == nil {
		return ""
	}
	return fmt.Sprintf(format, median(s.Samples))
}

// parts writes a row for each part of create's CPU time.
func (t *table) parts(title string) {
	t.section(title)
	for _, s := range t.r.Series {
		if s.Measure == cpuPart {
			t.row(s.Of, number(s, "%.1f"))
		}
	}
}

func (t *table) usage() {
	const mib = 1 << 20
	columns := slices.DeleteFunc([]string{before, ours}, func(of string) bool { return t.r.Usage[of] == usage{} })
	t.section(append([]string{"an idle container, MiB"}, columns...)...)
	row := func(name string, show func(u usage) string) {
		cells := []string{name}
		for _, of := range columns {
			cells = append(cells, show(t.r.Usage[of]))
		}
		t.row(cells...)
	}
	for _, m := range []struct {
		name  string
		bytes func(u usage) int64
	}{
		{"shim (PSS)", func(u usage) int64 { return u.ShimPSS }},
		{"virtiofsd (PSS)", func(u usage) int64 { return u.VirtiofsdPSS }},
		{"VMM (PSS)", func(u usage) int64 { return u.VMMPSS }},
		{"VMM without the guest's memory (PSS)", func(u usage) int64 { return u.VMMOwnPSS }},
		{"agent (RSS)", func(u usage) int64 { return u.AgentRSS }},
		{"memory used in the guest", func(u usage) int64 { return u.GuestUsed }},
		{"of", func(u usage) int64 { return u.GuestMemory }},
	} {
		row(m.name, func(u usage) string { return fmt.Sprintf("%.1f", float64(m.bytes(u))/mib) })
	}
	row("host processes of it", func(u usage) string { return fmt.Sprint(u.Processes) })
	row("threads of the shim", func(u usage) string { return fmt.Sprint(u.ShimThreads) })
	s := t.r.Sizes
	t.section("on disk, MiB", ours)
	t.row("runch", fmt.Sprintf("%.1f", float64(s.Binary)/mib))
	t.row("agent", fmt.Sprintf("%.1f", float64(s.Agent)/mib))
	t.row("initramfs", fmt.Sprintf("%.1f", float64(s.Initramfs)/mib))
}

func (t *table) targets() {
	t.section("target", "limit", "is", "")
	for _, g := range t.r.Targets {
		verdict := "missed"
		switch {
		case g.Reached:
			verdict = "reached"
		case g.Figure == 0:
			verdict = "not measured"
		}
		sign := "≤"
		if g.Least {
			sign = "≥"
		}
		t.row(g.Name, fmt.Sprintf("%s %.2f", sign, g.Limit), fmt.Sprintf("%.2f", g.Figure), verdict)
	}
}
