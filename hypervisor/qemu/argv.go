package qemu

import (
	"fmt"
	"strconv"
	"strings"

	"runch/hypervisor"
	"runch/hypervisor/process"
)

// plan is everything QEMU's command line depends on: the configuration, what the
// host has, and QEMU's descriptors.
type plan struct {
	cfg      *hypervisor.Config
	firmware string // path of a BIOS, empty for QEMU's own choice

	memory            int // a file that becomes the guest's memory
	qmp, console      int // sockets: the monitor's listener, the serial line
	kernel, initramfs int // files; initramfs 0 when there is none
	share             int // a connection to virtiofsd, 0 when there is none
	channel           int // a socket for the virtio-serial port, 0 with a vsock
	vsock             int // an open /dev/vhost-vsock, 0 without a vsock
	cid               uint32
	announced         []string   // kernel parameters: how the guest reaches the host
	taps              [][]int    // for each of cfg.NICs
	disks             []planDisk // for each of cfg.Disks
	// bare says that share and interfaces are plugged in later: the guest becomes a template, or
	// goes on from one. incoming says that QEMU waits for a saved state, listening that
	// channel is a socket to which nobody connects.
	bare, incoming, listening bool
}

// arguments gives QEMU's command line without the program's name.
func (p *plan) arguments() []string {
	a := []string{
		"-name", "guest=" + escape(p.cfg.Name) + ",debug-threads=on",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		// QEMU's seccomp filter: it needs no new privileges and starts no program.
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
	}
	a = append(a, p.machine()...)
	a = append(a, p.payload()...)
	// A descriptor that listens already: a client can connect before QEMU runs.
	a = append(a,
		"-chardev", fmt.Sprintf("socket,id=qmp,fd=%d,server=on,wait=off", p.qmp),
		"-mon", "chardev=qmp,mode=control",
		"-chardev", fmt.Sprintf("socket,id=console,fd=%d", p.console),
		"-serial", "chardev:console",
		"-object", "rng-builtin,id=rng",
		"-device", "virtio-rng-pci,rng=rng"+noROM,
		// The balloon is never inflated. The guest reports its free pages by it, and QEMU
		// gives them back to the host.
		"-device", "virtio-balloon-pci,free-page-reporting=on"+noROM)
	a = append(a, p.transport()...)
	if s := p.cfg.Share; s != nil && !p.bare {
		a = append(a,
			"-chardev", fmt.Sprintf("socket,id=%s,fd=%d", shareName(s.Tag), p.share),
			"-device", options(shareDevice(*s)))
	}
	// Only devices in slots can be unplugged, so the interfaces of the boot are in slots too.
	for i := range p.slots() {
		a = append(a, "-device", fmt.Sprintf("pcie-root-port,id=%s,chassis=%d,slot=%d", slotName(i), i+1, i+1))
	}
	if !p.bare {
		a = append(a, p.interfaces()...)
	}
	for i, disk := range p.cfg.Disks {
		d := p.disks[i]
		a = append(a,
			"-add-fd", fmt.Sprintf("fd=%d,set=%d", d.fd, d.fd),
			"-blockdev", options(diskNode(disk, d.kind, d.fd)),
			"-device", options(diskDevice(disk)))
	}
	if p.incoming {
		a = append(a, "-incoming", "defer")
	}
	return a
}

// slots is the number of slots: for devices that come later, for the first interfaces, and
// for a share that is plugged in.
func (p *plan) slots() int {
	n := len(p.cfg.NICs) + p.cfg.HotplugSlots
	if p.bare && p.cfg.Share != nil {
		n++
	}
	return n
}

func (p *plan) interfaces() []string {
	var a []string
	for i, nic := range p.cfg.NICs {
		device := nicDevice(nic)
		device["bus"] = slotName(i)
		a = append(a,
			"-netdev", fmt.Sprintf("tap,id=net-%s,%s", nic.ID, fdList(p.taps[i])),
			"-device", options(device))
	}
	return a
}

// noROM leaves out a device's boot ROM, because nothing boots from the device.
const noROM = ",romfile="

// tcg is QEMU's translator. By default its cache of translated code may grow to 1 GiB,
// too much for the sandbox's cgroup on the host.
const tcg = "tcg,tb-size=128"

// tcgCPU is every feature of the translator except fast string instructions: Linux
// would clear and copy memory with them, and the translator executes them byte by
// byte.
const tcgCPU = "max,erms=off,fsrm=off"

// slotPrefix begins the names of the slots: the PCIe ports that devices can be plugged into
// and out of while the guest runs.
const slotPrefix = "slot"

func slotName(i int) string { return slotPrefix + strconv.Itoa(i) }

func (p *plan) machine() []string {
	cpus := max(p.cfg.CPUs, 1)
	maxCPUs := max(p.cfg.MaxCPUs, cpus)
	memory := strconv.Itoa(p.cfg.MemoryMiB) + "M"
	most := memory
	if p.cfg.MaxMemoryMiB > p.cfg.MemoryMiB {
		most = fmt.Sprintf("%s,slots=1,maxmem=%dM", memory, p.cfg.MaxMemoryMiB)
	}
	a := []string{
		// Devices that no container needs are off: the guest takes time to find each.
		"-machine", "q35,sata=off,smbus=off,i8042=off,vmport=off,smm=off,usb=off,graphics=off," +
			"dump-guest-core=off,mem-merge=off,memory-backend=ram",
	}
	if p.cfg.Accel == hypervisor.AccelKVM {
		a = append(a, "-accel", "kvm", "-cpu", "host")
	} else {
		accel := tcg
		if cpus > 1 {
			// With a thread for each CPU, one sometimes executes a function of the
			// guest's kernel while another is patching it, and the kernel crashes.
			accel += ",thread=single"
		}
		a = append(a, "-accel", accel, "-cpu", tcgCPU)
	}
	a = append(a,
		"-smp", fmt.Sprintf("%d,maxcpus=%d,sockets=%d,cores=1,threads=1", cpus, maxCPUs, maxCPUs),
		"-m", most,
		// virtiofsd maps the guest's memory, so it has to be shared. With this
		// alignment, which QEMU's own memfd does not have, the host can use huge
		// pages, and a page fault brings 2 MiB and not 4 KiB.
		"-object", "memory-backend-file,id=ram,share=on,align=2M,mem-path="+process.FilePath(p.memory)+",size="+memory)
	if more := p.cfg.MaxMemoryMiB - p.cfg.MemoryMiB; more > 0 {
		a = append(a,
			"-object", fmt.Sprintf("memory-backend-memfd,id=%s,share=on,size=%dM", moreMemory, more),
			"-device", fmt.Sprintf("virtio-mem-pci,id=%s,memdev=%s,requested-size=0%s", moreMemory, moreMemory, noROM))
	}
	if p.firmware != "" {
		a = append(a, "-bios", p.firmware)
	}
	return a
}

func (p *plan) payload() []string {
	// By descriptor, since QEMU's user may be unable to reach the files.
	a := []string{"-kernel", process.FilePath(p.kernel)}
	if p.initramfs != 0 {
		a = append(a, "-initrd", process.FilePath(p.initramfs))
	}
	return append(a, "-append", p.cmdline())
}

// cmdline gives the kernel's command line: console, tuning and transport, then the
// configured parameters, which override them.
func (p *plan) cmdline() string {
	// The VM has one serial line; Linux looks for four.
	params := append([]string{"console=ttyS0", "8250.nr_uarts=1"}, p.cfg.KernelParams()...)
	if p.cfg.Accel == hypervisor.AccelTCG {
		params = append(params,
			// Relocating the kernel takes seconds of translated code. It protects nothing,
			// because the translator's timing reveals the address.
			"nokaslr",
			// On a busy host the kernel calibrates the translator's TSC wrong, and the
			// guest's clock runs several times too fast. It then uses the HPET, which
			// follows the host's clock.
			"tsc=unstable",
			// Calibrating the local APIC's timers takes 0.2 s, a tenth of the boot. The HPET
			// replaces them.
			"nolapic_timer",
			// QEMU 7.2 computes wrong flags for cmpxchg16b. If an interrupt follows before they
			// are set again, the kernel restores them: TF, NT and others, which ends in a
			// panic, at one boot in some 2000. Without the instruction the kernel's allocator
			// has another way; programs still find it by CPUID.
			"clearcpuid=cx16",
			// With one CPU the kernel would remove its lock prefixes, and put them back when
			// a second one comes. Each patched place has to be translated again.
			"noreplace-smp",
			// Two self-tests, a tenth of the boot: of the entropy in the processor's timing,
			// which a translator does not have, and of a key derivation.
			"initcall_blacklist=jent_mod_init,crypto_kdf108_init")
	}
	params = append(params, p.announced...)
	return strings.Join(append(params, p.cfg.Cmdline...), " ")
}

func (p *plan) transport() []string {
	if p.vsock != 0 {
		return []string{"-device", fmt.Sprintf("vhost-vsock-pci,guest-cid=%d,vhostfd=%d%s", p.cid, p.vsock, noROM)}
	}
	chardev := fmt.Sprintf("socket,id=%s,fd=%d", agentChardev, p.channel)
	if p.listening {
		chardev += ",server=on,wait=off"
	}
	return []string{
		"-device", "virtio-serial-pci,id=serial,max_ports=2" + noROM,
		"-chardev", chardev,
		"-device", "virtserialport,bus=serial.0,id=" + agentPort + ",chardev=" + agentChardev + ",name=" + p.cfg.SerialPort,
	}
}

// fdList gives a tap's descriptors as options of QEMU: one as fd, more as fds.
func fdList(fds []int) string {
	if len(fds) == 1 {
		return "fd=" + strconv.Itoa(fds[0])
	}
	list := make([]string, len(fds))
	for i, fd := range fds {
		list[i] = strconv.Itoa(fd)
	}
	return "fds=" + strings.Join(list, ":")
}

// escape doubles the commas of a value, since commas separate QEMU's options.
func escape(s string) string { return strings.ReplaceAll(s, ",", ",,") }

// agentChardev is QEMU's id for the socket behind the virtio-serial port, agentPort that of
// the port.
const (
	agentChardev = "agent"
	agentPort    = "agent-port"
)
