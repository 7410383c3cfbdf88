package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"runch/tests/bench/measurement"
)

// files measures in the directory of NAME=DIR. With --cold, fio drops its file from the page cache before it reads it.
func files(ctx context.Context, args []string) ([]measurement.Measurement, error) {
	flags := flag.NewFlagSet("files", flag.ContinueOnError)
	cold := flags.Bool("cold", false, "")
	dirs := flags.Int("dirs", 0, "how many directories of small files there are")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	where, dir, ok := strings.Cut(flags.Arg(0), "=")
	if !ok {
		return nil, fmt.Errorf("%q names no directory", flags.Args())
	}
	var list []measurement.Measurement
	keep := func(what string, value float64) {
		list = append(list, measurement.Measurement{What: what, Where: where, Value: value})
	}
	// Before fio, while the guest has none of these files cached.
	for _, part := range []struct {
		what string
		do   func(dir string, dirs int) (files int, err error)
	}{
		{measurement.Open, openSmall}, {measurement.OpenAgain, openSmall}, {measurement.Mix, compile},
	} {
		began := time.Now()
		files, err := part.do(dir, *dirs)
		if err != nil {
			return nil, err
		}
		keep(part.what, float64(time.Since(began))/float64(time.Microsecond)/float64(files))
	}
	err := fio(ctx, dir, *cold, keep)
	return list, err
}

// openSmall opens, reads and closes every small file.
func openSmall(dir string, dirs int) (int, error) {
	buf := make([]byte, 2*measurement.SmallSize)
	for d := range dirs {
		for f := range measurement.SmallFiles {
			if err := read(filepath.Join(dir, measurement.SmallDir, strconv.Itoa(d), strconv.Itoa(f)), buf); err != nil {
				return 0, err
			}
		}
	}
	return dirs * measurement.SmallFiles, nil
}

func read(path string, buf []byte) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Read(buf)
	return err
}

// compile uses a file system as a compiler does, for as many source files as there are directories. It looks for each
// included file in two directories without it, then reads it, and writes an object under a temporary name.
func compile(dir string, dirs int) (int, error) {
	const included, pieces = 30, 4
	buf := make([]byte, 2*measurement.IncludeSize)
	for unit := range dirs {
		for i := range included {
			if err := include(dir, strconv.Itoa((unit*7+i*13)%measurement.Includes)+".h", buf); err != nil {
				return 0, err
			}
		}
		object := filepath.Join(dir, measurement.ObjectDir, strconv.Itoa(unit)+".o")
		if err := write(object+".tmp", buf[:measurement.IncludeSize], pieces); err != nil {
			return 0, err
		}
		if err := os.Rename(object+".tmp", object); err != nil {
			return 0, err
		}
	}
	return dirs, nil
}

func include(dir, name string, buf []byte) error {
	for _, missing := range []string{measurement.ObjectDir, measurement.SmallDir} {
		if _, err := os.Stat(filepath.Join(dir, missing, name)); err == nil {
			return fmt.Errorf("%s is in %s", name, missing)
		}
	}
	path := filepath.Join(dir, measurement.IncludeDir, name)
	if _, err := os.Stat(path); err != nil {
		return err
	}
	return read(path, buf)
}

func write(path string, piece []byte, times int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for range times {
		if _, err := f.Write(piece); err != nil {
			return err
		}
	}
	return f.Close()
}

// jobs are fio's jobs in their order, all with the same file.
var jobs = []struct{ what, pattern, block, amount string }{
	{measurement.SequentialWrite, "write", "1m", "128m"},
	{measurement.SequentialRead, "read", "1m", "128m"},
	{measurement.RandomRead, "randread", "4k", "8m"},
	{measurement.RandomWrite, "randwrite", "4k", "8m"},
}

// fio runs the jobs, without fsync: the path to the host is measured, not its disk.
func fio(ctx context.Context, dir string, cold bool, keep func(what string, value float64)) error {
	args := []string{
		"--output-format=json", "--directory=" + dir, "--filename=data", "--size=128m", "--ioengine=psync", "--thread", "--invalidate=0",
	}
	if cold {
		args[len(args)-1] = "--invalidate=1"
	}
	for _, j := range jobs {
		args = append(args, "--name="+j.what, "--rw="+j.pattern, "--bs="+j.block, "--io_size="+j.amount, "--stonewall")
	}
	cmd := exec.CommandContext(ctx, "fio", args...)
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("fio: %w: %s", err, text)
	}
	type direction struct {
		Bytes float64 `json:"bw_bytes"`
		IOPS  float64 `json:"iops"`
	}
	var result struct {
		Jobs []struct {
			Name        string    `json:"jobname"`
			Read, Write direction // one of them is zero
		}
	}
	if err := json.Unmarshal(text, &result); err != nil {
		return fmt.Errorf("fio's result: %w", err)
	}
	for _, j := range result.Jobs {
		value := j.Read.IOPS + j.Write.IOPS
		if strings.HasSuffix(j.Name, "MiB/s") {
			value = (j.Read.Bytes + j.Write.Bytes) / (1 << 20)
		}
		keep(j.Name, value)
	}
	return os.Remove(filepath.Join(dir, "data"))
}
