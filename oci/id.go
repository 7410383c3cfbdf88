package oci

import "golang.org/x/sys/unix"

// ValidateID checks a container's or exec's id by runc's rule: one or more of
// A-Z a-z 0-9 _ + - and ., but neither "." nor "..". It has at most 254 bytes: the
// directory of its sandbox is named "@" and the id, and NAME_MAX is 255. The error is
// ErrInvalidID.
func ValidateID(id string) error {
	if id == "" || id == "." || id == ".." || len(id) > unix.NAME_MAX-1 {
		return ErrInvalidID
	}
	for i := range len(id) {
		switch c := id[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case c == '_', c == '+', c == '-', c == '.':
		default:
			return ErrInvalidID
		}
	}
	return nil
}
