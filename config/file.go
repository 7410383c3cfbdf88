package config

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/BurntSushi/toml"
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
			return nil, fmt.Errorf("configuration file %s: line %d: %s", path, parse.Position.Line, oneLine(parse.Message))
		}
		return nil, fmt.Errorf("configuration file %s: %s", path, oneLine(err.Error()))
	}
	return values, nil
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
