package oci

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxListValue is the highest number in a list of CPUs or memory nodes: unix.CPUSet,
// like the C library's cpu_set_t, has 1024 bits.
const maxListValue = 1023

// validateList checks a list of CPUs or memory nodes.
func validateList(list string) error {
	_, err := parseList(list)
	return err
}

// parseList reads a list such as "0-3,7", in the kernel's format (cpuset(7)). Like
// runc, it accepts blanks around elements, and empty elements.
func parseList(list string) (*unix.CPUSet, error) {
	set := new(unix.CPUSet)
	for element := range strings.SplitSeq(list, ",") {
		element = strings.TrimSpace(element)
		if element == "" {
			continue
		}
		first, last, isRange := strings.Cut(element, "-")
		start, err := listNumber(first)
		if err != nil {
			return nil, err
		}
		end := start
		if isRange {
			if end, err = listNumber(last); err != nil {
				return nil, err
			}
		}
		if start > end {
			return nil, errors.New("invalid range: " + element)
		}
		for n := start; n <= end; n++ {
			set.Set(n)
		}
	}
	return set, nil
}

func listNumber(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number", s)
	}
	if n > maxListValue {
		return 0, fmt.Errorf("values larger than %d are not supported", maxListValue)
	}
	return int(n), nil
}
