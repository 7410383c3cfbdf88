package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"runch/oci"

	"golang.org/x/sys/unix"
)

// leaveBody shares and unshares after the view has covered the tree.
func leaveBody(dir string) error {
	if err := SlaveMounts(); err != nil {
		return err
	}
	t, err := NewTree(filepath.Join(dir, "tree"))
	if err != nil {
		return err
	}
	served, err := os.OpenRoot(t.Shared())
	if err != nil {
		return err
	}
	if _, err := shareClones(t, dir, nil); err != nil {
		return err
	}
	later, _, err := Clone(filepath.Join(dir, "rootfs"), binds(dir))
	if err != nil {
		return err
	}
	mounts, err := t.Clones("id")
	if err != nil {
		return err
	}
	if err := errors.Join(t.Leave(), t.EnterView(mounts, View{})); err != nil {
		return err
	}
	if err := t.Share("later", later); err != nil {
		return err
	}
	for name, want := range map[string]string{"id/rootfs/etc/name": "rootfs", "later/rootfs/etc/name": "rootfs", "later/mounts/0/volume/file": "volume"} {
		if got, err := served.ReadFile(name); err != nil || string(got) != want {
			return fmt.Errorf("%s has %q: %w", name, got, err)
		}
	}
	if err := errors.Join(t.Unshare("later"), t.Unshare("later")); err != nil {
		return err
	}
	if _, err := served.Stat("later"); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("what is shared no longer is still there: %w", err)
	}
	if _, err := t.Clones("later"); !errors.Is(err, ErrNoShare) {
		return fmt.Errorf("clones of what is shared no longer: %w", err)
	}
	if _, err := served.ReadFile("id/rootfs/etc/name"); err != nil {
		return fmt.Errorf("the other share went as well: %w", err)
	}
	return t.Share("later", nil)
}

func TestSharesComeAndGoWhileTheTreeLives(t *testing.T) {
	dir := inNamespaces(t, "leave")
	if err := contains(filepath.Join(dir, "volume/file"), "volume"); err != nil {
		t.Errorf("the user's files: %v", err)
	}
}

// halfBody shares what can be mounted, and then what cannot.
func halfBody(dir string) error {
	t, err := shared(dir)
	if err != nil {
		return err
	}
	none, err := os.Open(filepath.Join(dir, "hosts"))
	if err != nil {
		return err
	}
	defer none.Close()
	good, _, err := Clone(filepath.Join(dir, "rootfs"), nil)
	if err != nil {
		return err
	}
	defer CloseMounts(good)
	err = t.Share("half", append(good, Mount{Path: "mounts/0/hosts", File: none}, Mount{Path: "mounts/1/hosts", File: none}))
	if !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("a file that is no mount is shared: %w", err)
	}
	if err := t.Unshare("half"); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(t.Shared(), "half")); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("its directory is left: %w", err)
	}
	return nil
}

func TestAShareThatFailsHalfWayIsRemoved(t *testing.T) { inNamespaces(t, "half") }

// overlayBody shares an overlay of the volume as the lower directory and a tmpfs for the
// upper one, since not every file system can hold an upper directory.
func overlayBody(dir string) error {
	if err := SlaveMounts(); err != nil {
		return err
	}
	upper := filepath.Join(dir, "rootfs/data")
	if err := unix.Mount("tmpfs", upper, "tmpfs", 0, ""); err != nil {
		return err
	}
	for _, name := range []string{"upper", "work"} {
		if err := os.Mkdir(filepath.Join(upper, name), 0o700); err != nil {
			return err
		}
	}
	t, err := NewTree(filepath.Join(dir, "tree"))
	if err != nil {
		return err
	}
	overlay := oci.Bind{Source: "overlay", GuestSource: "mounts/0/overlay", Overlay: []string{
		"lowerdir=" + filepath.Join(dir, "volume"), "upperdir=" + upper + "/upper", "workdir=" + upper + "/work",
	}}
	if _, err := shareClones(t, dir, []oci.Bind{overlay}); err != nil {
		return err
	}
	shared := filepath.Join(t.Shared(), "id", overlay.GuestSource)
	err = errors.Join(
		contains(filepath.Join(shared, "file"), "volume"),
		os.WriteFile(filepath.Join(shared, "file"), []byte("changed"), 0o600),
		contains(filepath.Join(upper, "upper/file"), "changed"),
		contains(filepath.Join(dir, "rootfs/etc/name"), "rootfs"),
	)
	overlay.Overlay[0] = "lowerdir=" + filepath.Join(dir, "absent")
	if _, failed := shareClones(t, dir, []oci.Bind{overlay}); !errors.Is(failed, unix.ENOENT) {
		err = errors.Join(err, fmt.Errorf("an overlay of nothing: %w", failed))
	}
	return err
}

func TestAnOverlayIsMadeOnTheHost(t *testing.T) {
	dir := inNamespaces(t, "overlay")
	if err := contains(filepath.Join(dir, "volume/file"), "volume"); err != nil {
		t.Errorf("what is below: %v", err)
	}
}

func protectBody(dir string) error {
	t, err := shared(dir)
	if err != nil {
		return err
	}
	file := filepath.Join(t.Shared(), "id/rootfs/etc/name")
	if err := os.WriteFile(file, []byte("rootfs"), 0o600); err != nil {
		return err
	}
	if err := t.Protect("id"); err != nil {
		return err
	}
	if err := os.WriteFile(file, nil, 0o600); !errors.Is(err, unix.EROFS) {
		return fmt.Errorf("write to a read-only rootfs: %w", err)
	}
	return os.WriteFile(filepath.Join(t.Shared(), "id/mounts/0/volume/new"), nil, 0o600)
}

func TestProtectReachesTheSharedRootfsAlone(t *testing.T) { inNamespaces(t, "protect") }

// passageBody looks at the tree as another user than root: as the VMM, from
// the root of the namespace, and as the guest's users, from what is served.
func passageBody(dir string) error {
	t, err := shared(dir)
	if err != nil {
		return err
	}
	served, err := os.Open(t.Shared())
	if err != nil {
		return err
	}
	defer served.Close()
	runtime.LockOSThread()
	if err := unix.Setfsuid(65534); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Stat(t.Shared(), &st); !errors.Is(err, unix.EACCES) {
		return fmt.Errorf("the VMM's user reaches the shared directory: %w", err)
	}
	for _, name := range []string{"id/rootfs", "id/mounts/0/volume", "id/mounts/4/hosts"} {
		if err := unix.Fstatat(int(served.Fd()), name, &st, 0); err != nil {
			return fmt.Errorf("a user of the guest does not reach %s: %w", name, err)
		}
	}
	return nil
}

func TestPassageForTheGuestsUsersAlone(t *testing.T) { inNamespaces(t, "passage") }

// belowBody shares a volume that has a mount in it, read-only with that and without.
func belowBody(dir string) error {
	if err := SlaveMounts(); err != nil {
		return err
	}
	volume := filepath.Join(dir, "volume")
	if err := os.Mkdir(filepath.Join(volume, "below"), 0o750); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", filepath.Join(volume, "below"), "tmpfs", 0, ""); err != nil {
		return err
	}
	t, err := NewTree(filepath.Join(dir, "tree"))
	if err != nil {
		return err
	}
	submounts, err := shareClones(t, dir, []oci.Bind{
		{Source: volume, GuestSource: "mounts/0/ro", Recursive: true, ReadOnly: true},
		{Source: volume, GuestSource: "mounts/1/rro", Recursive: true, ReadOnly: true, ReadOnlyBelow: true},
	})
	if err != nil || len(submounts) != 2 || submounts[0] != "mounts/0/ro/below" || submounts[1] != "mounts/1/rro/below" {
		return fmt.Errorf("submounts %q, %w", submounts, err)
	}
	for name, want := range map[string]error{
		"0/ro/new": unix.EROFS, "0/ro/below/new": nil, "1/rro/new": unix.EROFS, "1/rro/below/new": unix.EROFS,
	} {
		if err := os.WriteFile(filepath.Join(t.Shared(), "id/mounts", name), nil, 0o600); !errors.Is(err, want) {
			return fmt.Errorf("write to %s: %w", name, err)
		}
	}
	return nil
}

func TestReadOnlyReachesBelowWhenAsked(t *testing.T) { inNamespaces(t, "below") }
