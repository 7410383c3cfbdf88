package storage

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// covered runs a body with mounts on top of the host's root, as a live system has. They
// must be detached together with that root.
func covered(body func(string) error) func(string) error {
	return func(dir string) error {
		if os.Getenv(insideTest+"_PID") != "" {
			return body(dir) // the second process has its root from the first
		}
		if err := SlaveMounts(); err != nil {
			return err
		}
		for range 2 {
			if err := unix.Mount("/", "/", "", unix.MS_BIND, ""); err != nil {
				return err
			}
		}
		return body(dir)
	}
}

func TestNothingOfACoveredRootIsLeft(t *testing.T) {
	for _, body := range []string{"covered", "covered-shim", "covered-exec"} {
		t.Run(body, func(t *testing.T) { inNamespaces(t, body) })
	}
}

// servedBody tries in the shared directory, as virtiofsd does for the guest, the steps that
// would put a link in the place of a share.
func servedBody(dir string) error {
	t, err := shared(dir)
	if err != nil {
		return err
	}
	served, err := os.OpenRoot(t.Shared())
	if err != nil {
		return err
	}
	defer served.Close()
	for what, err := range map[string]error{
		"rename": served.Rename("id", "other"),
		"mkdir":  served.Mkdir("new", 0o700),
		"link":   served.Symlink("/", "id/mounts/link"),
		"remove": served.Remove("id/mounts"),
	} {
		if !errors.Is(err, unix.EROFS) {
			return fmt.Errorf("%s in what is served: %w", what, err)
		}
	}
	return errors.Join(served.WriteFile("id/rootfs/new", nil, 0o600), t.Unshare("id"))
}

func TestTheGuestCannotChangeWhereSharesAre(t *testing.T) { inNamespaces(t, "served") }
