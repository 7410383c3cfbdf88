// Package guestports has the ports and commands by which the driver suite talks to its guest.
package guestports

// The ports that the guest serves.
const (
	// Echo sends back what it gets.
	Echo = 7
	// Source sends SourceBytes bytes and closes the connection.
	Source = 9
	// Command reads lines, and answers each with one: <nil>, an error, or a value.
	Command = 11
	// Nobody is a port without a listener.
	Nobody = 13
)

// SourceBytes is how many bytes Source sends.
const SourceBytes = 10 << 20

// The commands. Those that wait for something give up after a while.
const (
	// PowerOff, Reset and Panic end the guest.
	PowerOff = "poweroff"
	Reset    = "reset"
	Panic    = "panic"
	// Console writes as many bytes to the console as its argument says, or fewer if that
	// takes too long, and answers with how many it wrote.
	Console = "console"
	// Garbage writes bytes to the serial port that are no frame.
	Garbage = "garbage"
	// Streams opens streams to the host until that fails.
	Streams = "streams"
	// AwaitNIC waits until there is a network controller, AwaitNoNIC until there is none.
	AwaitNIC   = "await-nic"
	AwaitNoNIC = "await-no-nic"
	// ReadDisk waits for the disk with the serial number in its argument, and answers with
	// the disk's first line. WriteDisk writes the first line. AwaitNoDisk waits until the
	// disk is gone.
	ReadDisk    = "read-disk"
	WriteDisk   = "write-disk"
	AwaitNoDisk = "await-no-disk"
	// ReadShare mounts the share with the tag in its argument, and answers with the first
	// line of the file FileName in it. DropShare unmounts it.
	ReadShare = "read-share"
	DropShare = "drop-share"
	// ReadFile answers with the same line, for a share that is mounted already.
	ReadFile = "read-file"
	// CPUs brings new CPUs online, and waits until as many are as its argument says.
	CPUs = "cpus"
	// PossibleCPUs answers with the list of the CPUs that the kernel can have.
	PossibleCPUs = "possible-cpus"
	// MoreMemory waits until there are more MiB of memory than its argument says,
	// LessMemory until there are no more than that.
	MoreMemory = "more-memory"
	LessMemory = "less-memory"
	// Remember stores its argument, and Recall answers with it.
	Remember = "remember"
	Recall   = "recall"
)

// FileName is the file of a share that ReadShare reads.
const FileName = "hello"

// NoChannel is the answer to Garbage and Streams where the guest has a vsock.
const NoChannel = "no serial channel"
