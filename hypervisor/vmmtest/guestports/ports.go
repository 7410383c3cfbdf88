// Package guestports is what the driver suite and its guest agree on.
package guestports

// The ports that the guest serves.
const (
	// Echo sends back what it gets.
	Echo = 7
	// Source sends SourceBytes bytes and ends.
	Source = 9
	// Command takes a line and answers with one: <nil>, or an error.
	Command = 11
	// Nobody is a port that nobody serves.
	Nobody = 13
)

// SourceBytes is how many bytes Source sends.
const SourceBytes = 10 << 20

// The commands.
const (
	// PowerOff, Reset and Panic end the guest.
	PowerOff = "poweroff"
	Reset    = "reset"
	Panic    = "panic"
	// Console writes as many bytes to the console as its argument says.
	Console = "console"
	// Garbage writes into the channel what is no frame.
	Garbage = "garbage"
	// Streams opens streams to the host until it is stopped.
	Streams = "streams"
	// AwaitNIC answers when there is a network controller.
	AwaitNIC = "await-nic"
)
