package callers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const crioDropIns = "/etc/crio/crio.conf.d"

func crio() *Caller {
	return &Caller{
		Name:     "crio",
		next:     "restart CRI-O, whose containers go on: systemctl restart crio",
		Use:      "use it by a RuntimeClass: runch install kubernetes",
		program:  "crio",
		file:     func(Host) string { return filepath.Join(crioDropIns, "50-runch.conf") },
		install:  installCRIO,
		remove:   removeDropIn("crio"),
		validate: validateCRIO,
		look:     lookAtCRIO,
	}
}

func installCRIO(s source, w Want) (edited, error) {
	now, err := decode(s.before)
	if err != nil {
		return edited{}, err
	}
	isDefault := whether(w.Default, text(now, "crio", "runtime", "default_runtime") == runtimeName)
	return dropIn(s, "crio", crioConf(w.Program, isDefault))
}

// crioConf returns the drop-in's content below the marker. The runtime type is "oci", for
// runtimes with a command line; "vm" is for containerd's shim API.
func crioConf(program string, isDefault bool) string {
	var b strings.Builder
	if isDefault {
		fmt.Fprintf(&b, "\n[crio.runtime]\ndefault_runtime = \"%s\"\n", runtimeName)
	}
	fmt.Fprintf(&b, "\n[crio.runtime.runtimes.%s]\n", runtimeName)
	fmt.Fprintf(&b, "runtime_path = \"%s\"\nruntime_type = \"oci\"\nruntime_root = \"/run/runch-crio\"\n", program)
	return b.String()
}

// validateCRIO lets CRI-O read the new file together with copies of the other drop-ins.
func validateCRIO(ctx context.Context, v *Version, content []byte) error {
	return withDir(func(dir string) error {
		dropIns := filepath.Join(dir, "crio.conf.d")
		if err := os.Mkdir(dropIns, 0o700); err != nil {
			return err
		}
		if err := copyDropIns(dropIns); err != nil {
			return fmt.Errorf("copy %s: %w", crioDropIns, err)
		}
		own := filepath.Join(dropIns, filepath.Base(crio().file(Host{})))
		if err := os.WriteFile(own, content, 0o600); err != nil {
			return err
		}
		_, err := output(ctx, os.Environ(), v.Path, "--config-dir", dropIns, "config")
		return err
	})
}

// copyDropIns copies the drop-ins that CRI-O reads. It copies a symbolic link's target, as a
// relative link would be wrong in dir.
func copyDropIns(dir string) error {
	names, err := Host{}.glob(filepath.Join(crioDropIns, "*"))
	if err != nil {
		return err
	}
	for _, name := range names {
		data, err := Host{}.read(name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// lookAtCRIO reads the files that CRI-O reads.
func lookAtCRIO(_ context.Context, h Host, _ *Version) (Configured, error) {
	dropIns, err := h.glob(filepath.Join(crioDropIns, "*"))
	if err != nil {
		return Configured{}, err
	}
	t, err := h.readAll(append([]string{"/etc/crio/crio.conf"}, dropIns...))
	if err != nil {
		return Configured{}, err
	}
	return Configured{
		Program: text(t, "crio", "runtime", "runtimes", runtimeName, "runtime_path"),
		Default: text(t, "crio", "runtime", "default_runtime") == runtimeName,
	}, nil
}
