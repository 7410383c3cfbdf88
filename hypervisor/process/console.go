package process

import "io"

// DrainConsole copies a guest's console to a writer until the console ends. If the writer is
// nil or fails, it still reads on, because a guest blocks when its console is not read.
func DrainConsole(console io.Reader, to io.Writer) {
	buf := make([]byte, 4096)
	for {
		n, err := console.Read(buf)
		if n > 0 && to != nil {
			_, _ = to.Write(buf[:n])
		}
		if err != nil {
			return
		}
	}
}
