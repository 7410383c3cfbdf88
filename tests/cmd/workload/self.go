package main

import (
	"encoding/json"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// limits that self reports, by their OCI names.
var limits = map[string]int{
	"RLIMIT_CORE":   unix.RLIMIT_CORE,
	"RLIMIT_CPU":    unix.RLIMIT_CPU,
	"RLIMIT_FSIZE":  unix.RLIMIT_FSIZE,
	"RLIMIT_NOFILE": unix.RLIMIT_NOFILE,
	"RLIMIT_NPROC":  unix.RLIMIT_NPROC,
	"RLIMIT_STACK":  unix.RLIMIT_STACK,
}

// identity is what a process can learn about itself.
type identity struct {
	PID       int                  `json:"pid"`
	UID       int                  `json:"uid"`
	GID       int                  `json:"gid"`
	Groups    []int                `json:"groups"`
	Umask     int                  `json:"umask"`
	CWD       string               `json:"cwd"`
	Args      []string             `json:"args"`
	Env       []string             `json:"env"`
	Hostname  string               `json:"hostname"`
	Limits    map[string][2]uint64 `json:"limits"`
	Status    map[string]string    `json:"status"`
	OOMScore  string               `json:"oom_score_adj"`
	Namespace map[string]string    `json:"namespaces"`
}

// self prints the identity of this process.
func self() error {
	id := identity{
		PID: os.Getpid(), UID: os.Getuid(), GID: os.Getgid(), Args: os.Args, Env: os.Environ(),
		Limits: map[string][2]uint64{}, Status: map[string]string{}, Namespace: map[string]string{},
	}
	id.Umask = unix.Umask(0)
	var err error
	if id.Groups, err = os.Getgroups(); err != nil {
		return err
	}
	if id.CWD, err = os.Getwd(); err != nil {
		return err
	}
	if id.Hostname, err = os.Hostname(); err != nil {
		return err
	}
	for name, which := range limits {
		var r unix.Rlimit
		if err := unix.Getrlimit(which, &r); err != nil {
			return err
		}
		id.Limits[name] = [2]uint64{r.Cur, r.Max}
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for _, line := range strings.Split(string(status), "\n") {
		if key, value, ok := strings.Cut(line, ":"); ok {
			id.Status[key] = strings.TrimSpace(value)
		}
	}
	score, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return err
	}
	id.OOMScore = strings.TrimSpace(string(score))
	for _, ns := range []string{"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"} {
		if id.Namespace[ns], err = os.Readlink("/proc/self/ns/" + ns); err != nil {
			return err
		}
	}
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	return out.Encode(id)
}
