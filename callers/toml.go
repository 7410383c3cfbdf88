package callers

import (
	"errors"
	"fmt"
	"strings"

	"github.com/BurntSushi/toml"
)

// table is a table of a TOML file.
type table = map[string]any

// decode reads a TOML file's content.
func decode(content []byte) (table, error) {
	t := make(table)
	if _, err := toml.Decode(string(content), &t); err != nil {
		var parse toml.ParseError
		if errors.As(err, &parse) {
			return nil, fmt.Errorf("line %d: %s", parse.Position.Line, strings.Join(strings.Fields(parse.Message), " "))
		}
		return nil, err
	}
	return t, nil
}

// at returns the value at a path of keys, nil if there is none.
func at(t table, keys ...string) any {
	for i, key := range keys {
		value := t[key]
		if i == len(keys)-1 {
			return value
		}
		var ok bool
		if t, ok = value.(table); !ok {
			return nil
		}
	}
	return nil
}

// text returns the string at a path of keys, empty if there is none.
func text(t table, keys ...string) string {
	s, _ := at(t, keys...).(string)
	return s
}

// merge copies the values of from into into, recursively. They override those of into.
func merge(into, from table) {
	for key, value := range from {
		inner, isTable := value.(table)
		if old, ok := into[key].(table); ok && isTable {
			merge(old, inner)
			continue
		}
		into[key] = value
	}
}

// readAll reads files, each of which overrides those before it. It skips missing files.
func (h Host) readAll(files []string) (table, error) {
	all := make(table)
	for _, name := range files {
		content, err := h.read(name)
		if err != nil {
			return nil, err
		}
		t, err := decode(content)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		merge(all, t)
	}
	return all, nil
}
