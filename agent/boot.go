package agent

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"runch/agentproto"
)

// newRoot is where the initial ramfs is bound to before it is moved to /.
const newRoot = "/run"

// leaveInitramfs mounts the initial ramfs over itself. The original mount has no
// parent mount, so pivot_root(2), by which containers get their root, refuses it as
// the old root.
func leaveInitramfs() error {
	if err := os.MkdirAll(newRoot, 0o755); err != nil { // #nosec G301 -- every user looks for sockets in /run
		return fmt.Errorf("leave the initramfs: %w", err)
	}
	if err := unix.Mount("/", newRoot, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("leave the initramfs: bind: %w", err)
	}
	if err := unix.Chdir(newRoot); err != nil {
		return fmt.Errorf("leave the initramfs: %w", err)
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("leave the initramfs: move: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("leave the initramfs: chroot: %w", err)
	}
	return nil
}

type mount struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
}

const (
	quiet  = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	cgroot = "/sys/fs/cgroup"
)

// guestMounts are the agent's own; containers get theirs by their specs.
var guestMounts = []mount{
	{"proc", "/proc", "proc", quiet, ""},
	{"sysfs", "/sys", "sysfs", quiet, ""},
	{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=0755"},
	{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=0620,gid=5,ptmxmode=0666"},
	{"shm", "/dev/shm", "tmpfs", quiet, "mode=1777"},
	{"mqueue", "/dev/mqueue", "mqueue", quiet, ""},
	{"cgroup2", cgroot, "cgroup2", quiet, "nsdelegate,memory_recursiveprot"},
	{"run", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
}

// mountGuest mounts the file systems that the agent and libcontainer work with.
func mountGuest() error {
	for _, m := range guestMounts {
		if err := os.MkdirAll(m.target, 0o755); err != nil { // #nosec G301 -- containers' users pass through them
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
		if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	for _, dir := range []string{stateDir, agentproto.GuestSharedDir} {
		if err := os.MkdirAll(dir, 0o711); err != nil { // #nosec G301 -- a container's init passes through as its own user
			return fmt.Errorf("make %s: %w", dir, err)
		}
	}
	return tuneKernel()
}

// minFreeKiB is a little more than the kernel's own choice for a guest of some GiB
// without huge pages: four times the square root of the memory in KiB.
const minFreeKiB = 8 << 10

// maxOpenFiles is the largest value that fs.nr_open takes (sysctl_nr_open_max of the
// kernel's fs/file.c): what an int holds, rounded down to a multiple of 64.
const maxOpenFiles = math.MaxInt32 &^ 63

// tuneKernel sets the kernel's tunables for a guest that runs containers.
func tuneKernel() error {
	for _, f := range []struct{ path, value string }{
		// The kernel starts the agent as modprobe when a container needs a module.
		{"/proc/sys/kernel/modprobe", modprobeSelf + "\n"},
		// A container's limit of open files is what the host gives it, and may be more than
		// the kernel allows by default. This is the most that it can be told to allow.
		{"/proc/sys/fs/nr_open", strconv.Itoa(maxOpenFiles) + "\n"},
		// Joining namespaces and cgroups waits for RCU grace periods. To expedite
		// them is cheap in a guest with few CPUs.
		{"/sys/kernel/rcu_expedited", "1\n"},
		// A kernel with tunnels built in makes a device for each kind of them in each new
		// network namespace, which a container has no use for.
		{"/proc/sys/net/core/fb_tunnels_only_for_init_net", "2\n"},
		// For huge pages the kernel would keep more memory free than the guest has
		// beside its container's, and the container could never use all of its own.
		{"/proc/sys/vm/min_free_kbytes", strconv.Itoa(minFreeKiB) + "\n"},
		// With the multi-gen LRU the kernel kills no process at a container's memory limit
		// for as long as it can evict pages of the container's programs, which are read
		// again at once. Without swap that can last for minutes.
		{"/sys/kernel/mm/lru_gen/enabled", "n\n"},
	} {
		if err := writeTunable(f.path, f.value); err != nil {
			return fmt.Errorf("tune the kernel: %w", err)
		}
	}
	return nil
}

// writeTunable writes to a file that a kernel may have been built without.
func writeTunable(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// mountBelow opens the directories below the shared one on which the host has mounted
// something. The open makes the guest's kernel mount each of them too. One that cannot be
// opened is skipped: whoever uses it later gets the error.
func mountBelow(submounts []string) {
	for _, name := range submounts {
		if !filepath.IsLocal(name) {
			continue
		}
		fd, err := unix.Open(filepath.Join(agentproto.GuestSharedDir, name), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == nil {
			_ = unix.Close(fd)
		}
	}
}

// mountShare mounts the sandbox's shared directory, and waits for its device, which may be
// plugged in after the boot.
func mountShare(ctx context.Context) error {
	err := awaitDevice(ctx, func() (bool, error) {
		err := unix.Mount(agentproto.ShareTag, agentproto.GuestSharedDir, "virtiofs", 0, "")
		if errors.Is(err, unix.EINVAL) { // no device has this tag
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("mount the shared directory: %w", err)
	}
	if err := readAhead(agentproto.GuestSharedDir); err != nil {
		return fmt.Errorf("set how far to read ahead: %w", err)
	}
	return nil
}

// readAheadKiB is the most that one virtiofs request can read. With the kernel's default of 128 KiB, reading a file
// from its beginning to its end takes eight times as many requests.
const readAheadKiB = 1 << 10

// readAhead sets readAheadKiB for a virtiofs mount and its submounts, which use the same setting.
func readAhead(dir string) error {
	var st unix.Stat_t
	// stat(2) waits for virtiofsd's first answer, at which the kernel sets its default.
	if err := unix.Stat(dir, &st); err != nil {
		return err
	}
	return writeTunable(fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(st.Dev), unix.Minor(st.Dev)), strconv.Itoa(readAheadKiB))
}
