package process

import "io"

// DrainConsole copies a guest's console to its end, and reads on when the writer
// fails: a guest stops when nobody reads its console. A nil writer drops it.
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
