// Package measurement is what the bench and its workload agree on.
package measurement

// Measurement is one figure.
type Measurement struct {
	// What was measured, with its unit.
	What string `json:"what"`
	// Where is a directory's name, or empty.
	Where string  `json:"where,omitempty"`
	Value float64 `json:"value"`
}

// ResultFile is where the workload writes a list of them, in its root.
const ResultFile = "/result.json"

// What is measured of files: rates, of which more is better, and times, of which less is.
const (
	SequentialWrite = "sequential write, MiB/s"
	SequentialRead  = "sequential read, MiB/s"
	RandomRead      = "random read of 4 KiB, 1/s"
	RandomWrite     = "random write of 4 KiB, 1/s"
	Open            = "open, read and close a small file, us"
	OpenAgain       = "the same again, us"
	Mix             = "like a compiler, for a file, us"
)

// What is measured of the network; up is what the container sends.
const (
	Up        = "TCP, sent, Mbit/s"
	Down      = "TCP, received, Mbit/s"
	RoundTrip = "request and response, us"
)

// The ports of the server on the host.
const (
	IperfPort = "5201"
	EchoPort  = "5202"
)

// The trees of a measured directory, which are there before: small files in SmallDir, in directories that have a
// number, and what a compiler includes in IncludeDir. ObjectDir is for what it writes.
const (
	SmallDir   = "small"
	IncludeDir = "include"
	ObjectDir  = "object"

	// SmallFiles are in each directory.
	SmallFiles = 100
	Includes   = 200
)

// SmallSize and IncludeSize are the sizes of such files, in bytes.
const (
	SmallSize   = 1 << 10
	IncludeSize = 4 << 10
)
