package agent

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"runch/agentproto"
)

// volumes are the directories of the host that containers of the sandbox share with
// it. The guest's kernel gives each place below the shared directory a file system and
// caches of its own. So containers with the same directory of the host all use the file
// system of one of them: what one changes, the others see at once. It is safe for
// concurrent use.
type volumes struct {
	dir string

	mu sync.Mutex
	// live are the places where each directory is, by its identity.
	live map[string][]place
}

// place is where a container has a directory of the host.
type place struct {
	share, path string
	// readOnly says that the host refuses to write there.
	readOnly bool
}

func newVolumes(dir string) *volumes {
	return &volumes{dir: dir, live: make(map[string][]place)}
}

// checkVolumes refuses paths that are not in the container's share.
func checkVolumes(share string, list []*agentproto.Volume) error {
	for _, v := range list {
		if !filepath.IsLocal(v.GetPath()) || !strings.HasPrefix(filepath.Clean(v.GetPath()), share+"/") {
			return invalidf("volumes: %q is not in the share", v.GetPath())
		}
	}
	return nil
}

// join binds, over each directory that another container has as well, that container's
// mount of it, so that both use one file system. The caller calls leave later, even after
// an error.
func (s *volumes) join(share string, list []*agentproto.Volume) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range list {
		own := place{share: share, path: filepath.Join(s.dir, v.GetPath()), readOnly: v.GetReadOnly()}
		others := s.live[v.GetIdentity()]
		// A container that writes has no use for a place that is read-only.
		i := slices.IndexFunc(others, func(p place) bool { return own.readOnly || !p.readOnly })
		if i >= 0 {
			if err := unix.Mount(others[i].path, own.path, "", unix.MS_BIND, ""); err != nil {
				return fmt.Errorf("bind a volume that another container has: %w", err)
			}
			own.readOnly = others[i].readOnly
		} else {
			// It is mounted here, once for all: otherwise the kernel would mount it anew
			// in each mount namespace, when it is first used there.
			mountBelow([]string{v.GetPath()})
		}
		s.live[v.GetIdentity()] = append(others, own)
	}
	return nil
}

// leave forgets the volumes of a share. The caller unmounts them only afterwards.
func (s *volumes) leave(share string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for identity, places := range s.live {
		places = slices.DeleteFunc(places, func(p place) bool { return p.share == share })
		s.live[identity] = places
		if len(places) == 0 {
			delete(s.live, identity)
		}
	}
}
