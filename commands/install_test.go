package commands

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"runch/callers"
	"runch/config"
)

// The documents show the files exactly as install writes them.
func TestDocumentsShowWhatInstallWrites(t *testing.T) {
	c := config.Default()
	showsText(t, "kubernetes", callers.RuntimeClass(c.OverheadMiB+c.VMMOverheadMiB))
	for _, caller := range callers.All() {
		if caller.Name == "docker" {
			continue // it has no page yet
		}
		host := callers.Host{Root: t.TempDir()}
		plan, err := caller.Install(t.Context(), host, callers.Want{Program: "/usr/local/bin/runch"})
		if err != nil {
			t.Fatal(err)
		}
		if err := plan.Apply(); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(filepath.Join(host.Root, plan.File))
		if err != nil {
			t.Fatal(err)
		}
		text := string(content)
		if caller.Name == "containerd" {
			text = text[strings.Index(text, "# BEGIN"):]
		}
		showsText(t, caller.Name, text)
	}
}

// showsText fails unless a document has the text, indented as code.
func showsText(t *testing.T, document, text string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("../docs", document+".md"))
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for line := range strings.Lines(text) {
		if line != "\n" {
			code.WriteString("    ")
		}
		code.WriteString(line)
	}
	if !strings.Contains(string(data), code.String()) {
		t.Errorf("docs/%s.md does not show:\n%s", document, code.String())
	}
}
