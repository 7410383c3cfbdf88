package network

import (
	"bytes"
	"errors"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// vnetHeader is the length of the virtio header before a frame on the tap.
const vnetHeader = 10

// attached makes a namespace whose link eth0 has a tap. The other end of the veth pair,
// peer0, is in the namespace outside.
func attached(t *testing.T) (pod, outside *testNamespace, link Link, tap Tap) {
	t.Helper()
	pod, outside = newNamespace(t), newNamespace(t)
	pod.addVeth(t, "eth0", "peer0", "10.88.0.5/16")
	pod.move(t, "peer0", outside)
	outside.in(t, func(h *netlink.Handle) error {
		peer, err := h.LinkByName("peer0")
		if err != nil {
			return err
		}
		return h.LinkSetUp(peer)
	})
	links, _, err := Scan(within(t), pod.path)
	if err != nil {
		t.Fatal(err)
	}
	if len(links) != 1 {
		t.Fatalf("got links %v, want eth0 alone", links)
	}
	tap, err = Attach(within(t), pod.path, links[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tap.Close() })
	return pod, outside, links[0], tap
}

func TestFramesFlowBothWays(t *testing.T) {
	pod, outside, link, tap := attached(t)
	if len(tap.Files) != 1 || tap.Name != TapName(link) || tap.MTU != 1400 {
		t.Fatalf("got tap %+v for link %+v", tap, link)
	}
	sock := outside.packetSocket(t, "peer0")
	var peerMAC net.HardwareAddr
	outside.in(t, func(h *netlink.Handle) error {
		peer, err := h.LinkByName("peer0")
		if err == nil {
			peerMAC = peer.Attrs().HardwareAddr
		}
		return err
	})

	in := frame(link.MAC, peerMAC, "from the wire")
	if err := unix.Send(sock, in, 0); err != nil {
		t.Fatal(err)
	}
	expectOnTap(t, tap.Files[0], in)

	out := frame(peerMAC, link.MAC, "from the guest")
	if _, err := tap.Files[0].Write(append(make([]byte, vnetHeader), out...)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2048)
	for {
		n, err := unix.Read(sock, buf)
		if err != nil {
			t.Fatalf("wait for the guest's frame on the wire: %v", err)
		}
		if bytes.Equal(buf[:n], out) {
			break
		}
	}

	pod.in(t, func(h *netlink.Handle) error {
		got, err := h.LinkByName(tap.Name)
		if err != nil {
			return err
		}
		if got.Attrs().MTU != 1400 || got.Attrs().Flags&net.FlagUp == 0 {
			t.Errorf("got tap with MTU %d and flags %v", got.Attrs().MTU, got.Attrs().Flags)
		}
		return nil
	})
}

// expectOnTap reads frames until want comes.
func expectOnTap(t *testing.T, f *os.File, want []byte) {
	t.Helper()
	expectFrame(t, f, "the frame", func(frame []byte) bool {
		return len(frame) > vnetHeader && bytes.Equal(frame[vnetHeader:], want)
	})
}

// expectFrame reads frames until the one that is wanted comes.
func expectFrame(t *testing.T, f *os.File, what string, wanted func(frame []byte) bool) {
	t.Helper()
	if err := f.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for {
		n, err := f.Read(buf)
		if err != nil {
			t.Fatalf("wait for %s on the tap: %v", what, err)
		}
		if wanted(buf[:n]) {
			return
		}
	}
}

func TestScanAfterAttachIsTheSame(t *testing.T) {
	pod, _, link, _ := attached(t)
	links, guest, err := Scan(within(t), pod.path)
	if err != nil {
		t.Fatal(err)
	}
	if len(links) != 1 || links[0].Index != link.Index || len(guest.GetInterfaces()) != 1 {
		t.Errorf("got links %+v and network %v", links, guest)
	}
}

func TestDetachLeavesNothing(t *testing.T) {
	pod, _, link, tap := attached(t)
	if err := tap.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Detach(within(t), pod.path); err != nil {
			t.Fatal(err)
		}
	}
	expectClean(t, pod, link, tap)
}

// TestDetachLinkLeavesNothing: a VMM may close a tap some time after it has reported the
// removal, so DetachLink works with an open tap and with a closed one.
func TestDetachLinkLeavesNothing(t *testing.T) {
	pod, _, link, tap := attached(t)
	for _, there := range []bool{true, false} {
		if got, err := HasTap(within(t), pod.path, tap.Name); err != nil || got != there {
			t.Errorf("the tap is there: %v, %v, want %v", got, err, there)
		}
		if err := DetachLink(within(t), pod.path, tap.Name); err != nil {
			t.Fatal(err)
		}
		if there {
			if err := tap.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	expectClean(t, pod, link, tap)
	pod.in(t, func(h *netlink.Handle) error {
		l, err := h.LinkByIndex(link.Index)
		if err != nil {
			return err
		}
		return h.LinkDel(l)
	})
	if err := DetachLink(within(t), pod.path, tap.Name); err != nil {
		t.Errorf("a link that is gone: %v", err)
	}
	if err := DetachLink(within(t), pod.path, "eth0"); err == nil {
		t.Error("a tap that is none of ours")
	}
}

// TestScanTellsWhatIsAttached: a link is attached only while its tap is open.
func TestScanTellsWhatIsAttached(t *testing.T) {
	pod, _, link, tap := attached(t)
	is := func(want bool) {
		t.Helper()
		links, _, err := Scan(within(t), pod.path)
		if err != nil || len(links) != 1 || links[0].Attached != want {
			t.Errorf("links %+v, %v, want attached %v", links, err, want)
		}
		all, err := Links(within(t), pod.path)
		if err != nil || len(all) < 2 {
			t.Fatalf("all links: %+v, %v", all, err)
		}
		for _, l := range all {
			if l.Attached != (want && l.Index == link.Index) {
				t.Errorf("among all links: %+v", l)
			}
		}
	}
	is(true)
	if err := tap.Close(); err != nil {
		t.Fatal(err)
	}
	is(false)
}

func TestDetachAfterLinkIsGone(t *testing.T) {
	pod, _, link, tap := attached(t)
	pod.in(t, func(h *netlink.Handle) error {
		l, err := h.LinkByIndex(link.Index)
		if err != nil {
			return err
		}
		return h.LinkDel(l)
	})
	if err := tap.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Detach(within(t), pod.path); err != nil {
		t.Fatal(err)
	}
}

// TestDetachSparesTheTapOfAnotherVM: Detach for an earlier VM of a namespace may come when
// a later VM already uses the link.
func TestDetachSparesTheTapOfAnotherVM(t *testing.T) {
	pod, outside, link, tap := attached(t)
	if err := tap.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Attach(within(t), pod.path, link)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Close() }()
	if err := Detach(within(t), pod.path); err != nil {
		t.Fatal(err)
	}
	in := frame(link.MAC, net.HardwareAddr{2, 0, 0, 0, 0, 9}, "still there")
	if err := unix.Send(outside.packetSocket(t, "peer0"), in, 0); err != nil {
		t.Fatal(err)
	}
	expectOnTap(t, again.Files[0], in)
}

func TestDetachSparesForeignTrafficControl(t *testing.T) {
	pod := newNamespace(t)
	pod.addVeth(t, "eth0", "peer0", "10.88.0.5/16")
	links, _, err := Scan(within(t), pod.path)
	if err != nil {
		t.Fatal(err)
	}
	pod.in(t, func(h *netlink.Handle) error {
		if err := h.QdiscAdd(ingress(links[1].Index)); err != nil { // without a filter
			return err
		}
		return redirect(within(t), h, links[0].Index, links[1].Index)
	})
	if err := Detach(within(t), pod.path); err != nil {
		t.Fatal(err)
	}
	pod.in(t, func(h *netlink.Handle) error {
		for _, link := range links {
			l, err := h.LinkByIndex(link.Index)
			if err != nil {
				return err
			}
			qdiscs, err := h.QdiscList(l)
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(qdiscs, func(q netlink.Qdisc) bool { return q.Type() == "ingress" }) {
				t.Errorf("the discipline of %s is gone", link.Name)
			}
		}
		return nil
	})
}

func TestDetachWithoutNamespace(t *testing.T) {
	file := t.TempDir() + "/netns"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, file + "-gone", file + "/below", "/proc/self/ns/net", "/proc/self/ns/mnt"} {
		if err := Detach(within(t), path); err != nil {
			t.Errorf("detach in %s: %v", path, err)
		}
	}
}

func TestAttachAgainAfterACrash(t *testing.T) {
	pod, _, link, tap := attached(t)
	if err := tap.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Attach(within(t), pod.path, link)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAttachTwiceFailsAndKeepsTheFirst(t *testing.T) {
	pod, outside, link, tap := attached(t)
	if _, err := Attach(within(t), pod.path, link); !errors.Is(err, unix.EBUSY) {
		t.Fatalf("got %v, want EBUSY", err)
	}
	sock := outside.packetSocket(t, "peer0")
	in := frame(link.MAC, net.HardwareAddr{2, 0, 0, 0, 0, 9}, "still there")
	if err := unix.Send(sock, in, 0); err != nil {
		t.Fatal(err)
	}
	expectOnTap(t, tap.Files[0], in)
}

func TestAttachSparesForeignTrafficControl(t *testing.T) {
	pod := newNamespace(t)
	pod.addVeth(t, "eth0", "peer0", "10.88.0.5/16")
	links, _, err := Scan(within(t), pod.path)
	if err != nil {
		t.Fatal(err)
	}
	link := links[0]
	pod.in(t, func(h *netlink.Handle) error { return redirect(within(t), h, link.Index, links[1].Index) })
	if _, err := Attach(within(t), pod.path, link); !errors.Is(err, ErrTrafficControl) {
		t.Fatalf("got %v, want ErrTrafficControl", err)
	}
	pod.in(t, func(h *netlink.Handle) error {
		if _, err := h.LinkByName(TapName(link)); !isGone(err) {
			t.Errorf("tap is left: %v", err)
		}
		l, err := h.LinkByIndex(link.Index)
		if err != nil {
			return err
		}
		filters, err := h.FilterList(l, netlink.MakeHandle(0xffff, 0))
		if len(filters) == 0 {
			t.Error("the foreign filter is gone")
		}
		return err
	})
}

func TestAttachToMissingLinkLeavesNothing(t *testing.T) {
	pod := newNamespace(t)
	link := Link{Name: "eth9", Index: 99, MTU: 1500}
	if _, err := Attach(within(t), pod.path, link); err == nil {
		t.Fatal("attach to a missing link succeeded")
	}
	pod.in(t, func(h *netlink.Handle) error {
		if _, err := h.LinkByName(TapName(link)); !isGone(err) {
			t.Errorf("tap is left: %v", err)
		}
		return nil
	})
}

func TestHostNamespaceIsRefused(t *testing.T) {
	for _, path := range []string{"/proc/self/ns/net", "/proc/1/ns/net"} {
		if _, _, err := Scan(within(t), path); !errors.Is(err, ErrHostNetwork) && !errors.Is(err, fs.ErrPermission) {
			t.Errorf("scan of %s: got %v, want ErrHostNetwork", path, err)
		}
	}
	if _, err := Attach(within(t), "/proc/self/ns/net", Link{Index: 1}); !errors.Is(err, ErrHostNetwork) {
		t.Errorf("attach: got %v, want ErrHostNetwork", err)
	}
}

// expectClean checks that the tap, the ingress discipline and the multicast mode are gone.
func expectClean(t *testing.T, pod *testNamespace, link Link, tap Tap) {
	t.Helper()
	pod.in(t, func(h *netlink.Handle) error {
		if _, err := h.LinkByName(tap.Name); !isGone(err) {
			t.Errorf("tap %s is left: %v", tap.Name, err)
		}
		l, err := h.LinkByIndex(link.Index)
		if err != nil {
			return err
		}
		if l.Attrs().RawFlags&unix.IFF_ALLMULTI != 0 {
			t.Errorf("%s still takes all multicast", link.Name)
		}
		qdiscs, err := h.QdiscList(l)
		if err != nil {
			return err
		}
		for _, q := range qdiscs {
			if q.Type() == "ingress" {
				t.Errorf("discipline %v is left on %s", q, link.Name)
			}
		}
		return nil
	})
}

// TestTunRemedies: an error from opening /dev/net/tun says what to do about it.
func TestTunRemedies(t *testing.T) {
	for err, want := range map[error]string{unix.EACCES: "chmod 0666 /dev/net/tun", unix.ENOENT: "modprobe tun", unix.EMFILE: ""} {
		if got := tunRemedy(err); !strings.Contains(got, want) || (want == "") != (got == "") {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}
