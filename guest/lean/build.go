package lean

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// sayEvery is how often a build says how far it is.
const sayEvery = 10 * time.Second

// tools are the programs that build a kernel.
type tools struct {
	// compiler is its name and version: another one makes other bytes.
	compiler string
}

func findTools(ctx context.Context) (*tools, error) {
	var missing []string
	for _, name := range []string{"make", "gcc", "ld", "strip", "flex", "bison", "bc", "perl", "tar", "xz"} {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("%w: these programs are missing: %s", errInput, strings.Join(missing, ", "))
	}
	version, err := exec.CommandContext(ctx, "gcc", "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("ask gcc for its version: %w", err)
	}
	first, _, _ := strings.Cut(string(version), "\n")
	return &tools{compiler: first}, nil
}

// build is one build of a kernel.
type build struct {
	source, objects string
	epoch           time.Time
	say             func(string, ...any)
}

// run builds the kernel into the directory, which must not exist.
func (b *build) run(ctx context.Context, kernel string) error {
	if err := os.Mkdir(b.objects, 0o755); err != nil {
		return fmt.Errorf("make a directory for the build: %w", err)
	}
	if err := b.configure(ctx); err != nil {
		return err
	}
	b.say("compiling, which takes some minutes")
	if err := b.make(ctx, "vmlinux"); err != nil {
		return err
	}
	return b.collect(ctx, kernel)
}

// configure sets what the fragment says, and nothing else.
func (b *build) configure(ctx context.Context) error {
	file := filepath.Join(b.objects, "fragment")
	if err := os.WriteFile(file, fragment, 0o600); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	if err := b.make(ctx, "KCONFIG_ALLCONFIG="+file, "allnoconfig"); err != nil {
		return err
	}
	config, err := os.ReadFile(filepath.Join(b.objects, ".config"))
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	if lost := lostOptions(fragment, config); len(lost) > 0 {
		return fmt.Errorf("%w: this source does not take %s", errInput, strings.Join(lost, ", "))
	}
	return nil
}

// lostOptions are the lines of a fragment that are not in a configuration: what an option
// depends on is off, or the source has no such option.
func lostOptions(fragment, config []byte) []string {
	has := map[string]bool{}
	for line := range bytes.Lines(config) {
		has[strings.TrimSpace(string(line))] = true
	}
	var lost []string
	for line := range bytes.Lines(fragment) {
		line := strings.TrimSpace(string(line))
		off, isOff := strings.CutSuffix(strings.TrimPrefix(line, "# "), " is not set")
		switch {
		case strings.HasPrefix(line, "CONFIG_") && !has[line]:
			lost = append(lost, line)
		case isOff && has[off+"=y"]:
			lost = append(lost, line)
		}
	}
	return lost
}

// make runs make in the tree. It sets the builder's name, the host's and the time, which
// the kernel would otherwise take from this machine.
func (b *build) make(ctx context.Context, args ...string) error {
	const builder = "runch"
	cmd := exec.CommandContext(ctx, "make", append([]string{
		"-C", b.source, "O=" + b.objects, "ARCH=x86_64", fmt.Sprintf("-j%d", runtime.NumCPU()),
		"KBUILD_BUILD_USER=" + builder, "KBUILD_BUILD_HOST=" + builder, "KBUILD_BUILD_VERSION=1",
		"KBUILD_BUILD_TIMESTAMP=" + b.epoch.UTC().Format(time.UnixDate),
	}, args...)...)
	// Variables of the caller's make or shell must not change the build.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TMPDIR=" + b.objects}
	stderr := &tail{}
	cmd.Stderr = stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("run make: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run make: %w", err)
	}
	b.count(out)
	if err := cmd.Wait(); err != nil {
		return errors.Join(ctx.Err(), fmt.Errorf("make %s: %w%s", args[len(args)-1], err, stderr))
	}
	return nil
}

// count reads make's output, and reports from time to time how many files are compiled.
func (b *build) count(out io.Reader) {
	compiled, said := 0, time.Now()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if kind, _, ok := strings.Cut(strings.TrimSpace(lines.Text()), " "); ok && (kind == "CC" || kind == "AS") {
			compiled++
		}
		if time.Since(said) > sayEvery {
			b.say("%d files compiled", compiled)
			said = time.Now()
		}
	}
	_, _ = io.Copy(io.Discard, out) // the scanner stops at a line that is too long
}

// collect puts together what is kept of the build: the kernel without its symbols,
// System.map to look up addresses in it, its configuration, and the list of built-in
// modules.
func (b *build) collect(ctx context.Context, kernel string) error {
	data, err := os.ReadFile(filepath.Join(b.objects, "include/config/kernel.release"))
	if err != nil {
		return fmt.Errorf("read the kernel's release: %w", err)
	}
	release := strings.TrimSpace(string(data))
	vmlinux := filepath.Join(b.objects, "vmlinux")
	strip := exec.CommandContext(ctx, "strip", "--strip-all", vmlinux)
	stderr := &tail{}
	strip.Stderr = stderr
	if err := strip.Run(); err != nil {
		return fmt.Errorf("strip the kernel: %w%s", err, stderr)
	}
	modules := filepath.Join("lib/modules", release)
	for from, to := range map[string]string{
		"vmlinux": "boot/vmlinux-" + release, "System.map": "boot/System.map-" + release, ".config": "boot/config-" + release,
		"modules.builtin": filepath.Join(modules, "modules.builtin"),
	} {
		to = filepath.Join(kernel, to)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return fmt.Errorf("keep the kernel: %w", err)
		}
		if err := os.Rename(filepath.Join(b.objects, from), to); err != nil {
			return fmt.Errorf("keep the kernel: %w", err)
		}
	}
	b.say("Linux %s", release)
	return nil
}

// tail keeps the end of a program's stderr.
type tail struct{ data []byte }

// tailSize is how much is kept, in bytes: some lines of a compiler.
const tailSize = 1 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.data = append(t.data, p...)
	t.data = t.data[max(0, len(t.data)-tailSize):]
	return len(p), nil
}

func (t *tail) String() string {
	if text := strings.TrimSpace(string(t.data)); text != "" {
		return ": " + text
	}
	return ""
}
