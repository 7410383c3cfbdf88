// Package measurement has the names, sizes and file formats that the bench and its workload share.
package measurement

// Measurement is one figure.
type Measurement struct {
	// What was measured, with its unit.
	What string `json:"what"`
	// Where is a directory's name, or empty.
	Where string  `json:"where,omitempty"`
	Value float64 `json:"value"`
}

// ResultFile is the file in the workload's root to which it writes a list of measurements.
const ResultFile = "/result.json"

// The measurements of files. Of rates more is better, of times less.
const (
	SequentialWrite = "sequential write, MiB/s"
	SequentialRead  = "sequential read, MiB/s"
	RandomRead      = "random read of 4 KiB, 1/s"
	RandomWrite     = "random write of 4 KiB, 1/s"
	Open            = "open, read and close a small file, us"
	OpenAgain       = "the same again, us"
	Mix             = "like a compiler, for a file, us"
)

// The measurements of the network. Up is the direction in which the container sends.
const (
	Up        = "TCP, sent, Mbit/s"
	Down      = "TCP, received, Mbit/s"
	RoundTrip = "request and response, us"
)

// The ports of the servers on the host.
const (
	IperfPort = "5201"
	EchoPort  = "5202"
)

// The trees that the bench makes in a measured directory: small files in numbered directories below SmallDir, and the
// files that a compiler includes in IncludeDir. ObjectDir is for the files that it writes.
const (
	SmallDir   = "small"
	IncludeDir = "include"
	ObjectDir  = "object"

	// SmallFiles is the number of files in each numbered directory, Includes that in IncludeDir.
	SmallFiles = 100
	Includes   = 200
)

// SmallSize and IncludeSize are the sizes of these files, in bytes.
const (
	SmallSize   = 1 << 10
	IncludeSize = 4 << 10
)
