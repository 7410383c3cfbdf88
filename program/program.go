// Package program finds programs of the host, also without a good PATH: some callers start
// a runtime with an empty environment, and an ordinary user's PATH may lack sbin.
package program

import (
	"os/exec"
	"path/filepath"
	"strings"
)

// places are where distributions and administrators put programs.
var places = []string{"/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/usr/libexec"}

// Find gives the absolute path of the program that has this name in PATH, or else in
// /usr/bin, /usr/sbin, /usr/local/bin, /usr/local/sbin or /usr/libexec. An absolute path is
// taken as it is; a relative one is never found. "" says that there is no such program, or
// none that may be executed. No process is started.
func Find(name string) string {
	candidates := []string{name}
	if !strings.Contains(name, "/") {
		for _, dir := range places {
			candidates = append(candidates, filepath.Join(dir, name))
		}
	}
	for _, candidate := range candidates {
		// A relative path, such as that of a relative directory in PATH, depends on the
		// working directory.
		if found, err := exec.LookPath(candidate); err == nil && filepath.IsAbs(found) {
			return found
		}
	}
	return ""
}
