package main

import (
	"time"

	"runch/tests/bench/measurement"
)

func (b *ioBench) report() *report {
	r := &report{
		Taken: time.Now().UTC(), Part: b.options.part, Host: b.host, Rounds: b.options.rounds,
		Series: b.samples.list, Missing: b.missing,
	}
	ratio := func(what, measure string) float64 {
		return median(ratios(b.samples.find(what, measure, ours), b.samples.find(what, measure, bareVMM)))
	}
	if b.options.part == partFiles {
		r.Targets = judged([]target{
			{Name: "sequential read on rootfs, of bare virtiofsd's", Least: true, Limit: 0.95, Figure: ratio(measurement.SequentialRead, onRootfs)},
			{Name: "open of small files on rootfs, of bare virtiofsd's", Limit: 1.1, Figure: ratio(measurement.Open, onRootfs)},
		})
	} else {
		r.Targets = judged([]target{
			{Name: "TCP, sent, of a bare tap's", Least: true, Limit: 0.95, Figure: ratio(measurement.Up, partNetwork)},
			{Name: "TCP, received, of a bare tap's", Least: true, Limit: 0.95, Figure: ratio(measurement.Down, partNetwork)},
		})
	}
	return r
}

// io writes the sections of the parts for files and network.
func (t *table) io() {
	for _, where := range []string{onRootfs, onVolume} {
		t.comparison("files on "+where, where, "%.0f", measurement.SequentialWrite, measurement.SequentialRead,
			measurement.RandomRead, measurement.RandomWrite, measurement.Open, measurement.OpenAgain, measurement.Mix)
	}
	t.comparison("network", partNetwork, "%.0f", measurement.Up, measurement.Down, measurement.RoundTrip)
}
