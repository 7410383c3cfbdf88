package config

import (
	"errors"
	"fmt"
	"os"

	"github.com/BurntSushi/toml"

	"runch/plaintext"
)

// readFile reads a TOML file's keys and values.
func readFile(path string) (map[string]any, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration file: %w", err)
	}
	values := make(map[string]any)
	if _, err := toml.Decode(string(data), &values); err != nil {
		var parse toml.ParseError
		if errors.As(err, &parse) {
			return nil, fmt.Errorf("configuration file %s: line %d: %s", path, parse.Position.Line, plaintext.Line(parse.Message))
		}
		return nil, fmt.Errorf("configuration file %s: %s", path, plaintext.Line(err.Error()))
	}
	return values, nil
}
