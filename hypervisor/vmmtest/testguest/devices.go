package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"runch/hypervisor/vmmtest/guestimage"
	"runch/hypervisor/vmmtest/guestports"
)

// device answers the commands about devices.
func device(word, arg string) string {
	switch word {
	case guestports.AwaitNIC:
		return fmt.Sprint(await(func() error { return wantNIC(true) }))
	case guestports.AwaitNoNIC:
		return fmt.Sprint(await(func() error { return wantNIC(false) }))
	case guestports.ReadDisk:
		return answer(withDisk(arg, func(path string) (string, error) { return firstLine(path) }))
	case guestports.WriteDisk:
		serial, text, _ := strings.Cut(arg, " ")
		return answer(withDisk(serial, func(path string) (string, error) { return "<nil>", writeLine(path, text) }))
	case guestports.AwaitNoDisk:
		return fmt.Sprint(await(func() error {
			if _, err := disk(arg); err == nil {
				return errors.New("the disk is there")
			}
			return nil
		}))
	case guestports.ReadShare:
		return answer(readShare(arg))
	case guestports.ReadFile:
		return answer(firstLine(filepath.Join("/mnt-"+arg, guestports.FileName)))
	case guestports.DropShare:
		return fmt.Sprint(unix.Unmount("/mnt-"+arg, 0))
	case guestports.CPUs:
		return fmt.Sprint(await(func() error { return wantCPUs(arg) }))
	case guestports.PossibleCPUs:
		return answer(firstLine("/sys/devices/system/cpu/possible"))
	case guestports.MoreMemory, guestports.LessMemory:
		if err := guestimage.Load("virtio_mem"); err != nil {
			return err.Error()
		}
		return fmt.Sprint(await(func() error { return wantMemory(word, arg) }))
	default:
		return "unknown command"
	}
}

func answer(text string, err error) string {
	if err != nil {
		return err.Error()
	}
	return text
}

// await repeats look until it returns no error. It gives up after 30 s, with look's error.
func await(look func() error) error {
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := look()
		if err == nil {
			return nil
		}
		select {
		case <-deadline:
			return err
		case <-tick.C:
		}
	}
}

// wantNIC looks for a network controller on the PCI bus. The guest needs no driver for it.
func wantNIC(want bool) error {
	classes, err := filepath.Glob("/sys/bus/pci/devices/*/class")
	if err != nil {
		return err
	}
	for _, file := range classes {
		if class, err := os.ReadFile(file); err == nil && strings.HasPrefix(string(class), "0x0200") {
			if !want {
				return errors.New("there is a network controller")
			}
			return nil
		}
	}
	if want {
		return errors.New("no network controller came")
	}
	return nil
}

// disk finds a disk by its serial number.
func disk(serial string) (string, error) {
	files, err := filepath.Glob("/sys/block/*/serial")
	if err != nil {
		return "", err
	}
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(text)) == serial {
			return "/dev/" + filepath.Base(filepath.Dir(file)), nil
		}
	}
	return "", fmt.Errorf("no disk %s came", serial)
}

func withDisk(serial string, do func(string) (string, error)) (string, error) {
	if err := guestimage.Load("virtio_blk"); err != nil {
		return "", err
	}
	path := ""
	err := await(func() (err error) {
		path, err = disk(serial)
		return err
	})
	if err != nil {
		return "", err
	}
	return do(path)
}

func firstLine(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	line, err := bufio.NewReaderSize(f, 512).ReadString('\n')
	return strings.TrimSpace(line), err
}

func writeLine(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, 512)
	copy(block, text+"\n")
	if _, err := f.Write(block); err != nil {
		return err
	}
	return f.Sync()
}

func readShare(tag string) (string, error) {
	at := "/mnt-" + tag
	if err := os.MkdirAll(at, 0o750); err != nil {
		return "", err
	}
	if err := await(func() error { return unix.Mount(tag, at, "virtiofs", 0, "") }); err != nil {
		return "", fmt.Errorf("mount: %w", err)
	}
	return firstLine(filepath.Join(at, guestports.FileName))
}

// wantCPUs brings all CPUs online and counts them.
func wantCPUs(want string) error {
	offs, err := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*/online")
	if err != nil {
		return err
	}
	for _, file := range offs {
		if text, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(text)) == "0" {
			_ = os.WriteFile(file, []byte("1"), 0)
		}
	}
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return err
	}
	// /proc/stat has one line for each CPU, and one for all.
	if n := strings.Count("\n"+string(text), "\ncpu") - 1; strconv.Itoa(n) != want {
		return fmt.Errorf("%d CPUs", n)
	}
	return nil
}

func wantMemory(word, mib string) error {
	want, err := strconv.Atoi(mib)
	if err != nil {
		return err
	}
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return err
	}
	var kib int
	if _, err := fmt.Sscanf(string(text), "MemTotal: %d", &kib); err != nil {
		return err
	}
	if have := kib >> 10; (word == guestports.MoreMemory) != (have > want) {
		return fmt.Errorf("%d MiB of memory", have)
	}
	return nil
}
