// Package guestports is what the driver suite and its guest agree on.
package guestports

// The ports that the guest serves.
const (
	// Echo sends back what it gets.
	Echo = 7
	// Source sends SourceBytes bytes and ends.
	Source = 9
	// Command takes a line and answers with one: <nil>, an error, or what was asked for.
	Command = 11
	// Nobody is a port without a listener.
	Nobody = 13
)

// SourceBytes is how many bytes Source sends.
const SourceBytes = 10 << 20

// The commands. Those that wait for something do so for a while only.
const (
	// PowerOff, Reset and Panic end the guest.
	PowerOff = "poweroff"
	Reset    = "reset"
	Panic    = "panic"
	// Console writes as many bytes to the console as its argument says, for a
	// while, and answers with how many it wrote.
	Console = "console"
	// Garbage writes bytes to the serial port that are no frame.
	Garbage = "garbage"
	// Streams opens streams to the host until that fails.
	Streams = "streams"
	// AwaitNIC answers when there is a network controller, AwaitNoNIC when there is none.
	AwaitNIC   = "await-nic"
	AwaitNoNIC = "await-no-nic"
	// ReadDisk waits for the disk of a serial number and answers with its first
	// line; WriteDisk writes one. AwaitNoDisk answers when it is gone.
	ReadDisk    = "read-disk"
	WriteDisk   = "write-disk"
	AwaitNoDisk = "await-no-disk"
	// ReadShare mounts the share of a tag and answers with the first line of the
	// file FileName in it; DropShare unmounts it.
	ReadShare = "read-share"
	DropShare = "drop-share"
	// ReadFile answers with that line again, in a share that is mounted.
	ReadFile = "read-file"
	// CPUs uses every CPU that comes and answers when as many as its argument says work.
	CPUs = "cpus"
	// PossibleCPUs answers with the list of those that the kernel has prepared for.
	PossibleCPUs = "possible-cpus"
	// MoreMemory and LessMemory answer when there is more, or less, than as many
	// MiB as the argument says.
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
