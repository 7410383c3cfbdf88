// Package schematest checks JSON documents against the runtime spec's own schemas in
// tests. The schemas are those of the runtime-spec module in the module cache; only
// the keywords of JSON schema that they use are implemented.
package schematest

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// module is the Go module that has the schemas.
const module = "github.com/opencontainers/runtime-spec"

// Check compares a document with a schema, a file of the module's schema directory
// such as "state-schema.json", and reports what does not match. It skips the test if
// the go command or the module is missing.
func Check(t *testing.T, schema string, document []byte) {
	t.Helper()
	var value any
	if err := json.Unmarshal(document, &value); err != nil {
		t.Errorf("the document is not JSON: %v", err)
		return
	}
	c := &checker{dir: schemaDir(t), files: make(map[string]any)}
	root, err := c.load(schema)
	if err != nil {
		t.Fatal(err)
	}
	c.check("$", place{schema, root}, value)
	for _, problem := range c.problems {
		t.Errorf("%s: %s", schema, problem)
	}
}

func schemaDir(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	dir := filepath.Join(strings.TrimSpace(string(out)), "schema")
	if err != nil || dir == "schema" {
		t.Skipf("SKIPPED: the module %s is not to be found: %v", module, err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("SKIPPED: no schemas: %v", err)
	}
	return dir
}

// checker walks a document along a schema.
type checker struct {
	dir      string
	files    map[string]any
	problems []string
}

// place is a schema and the file that its references are relative to.
type place struct {
	file   string
	schema any
}

func (c *checker) load(file string) (any, error) {
	if schema, ok := c.files[file]; ok {
		return schema, nil
	}
	data, err := os.ReadFile(filepath.Join(c.dir, file))
	if err != nil {
		return nil, err
	}
	var schema any
	if err := json.Unmarshal(data, &schema); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	c.files[file] = schema
	return schema, nil
}

// resolve follows a $ref: file#/path/in/it. Either part may be missing.
func (c *checker) resolve(from place, ref string) (place, error) {
	file, pointer, _ := strings.Cut(ref, "#")
	if file == "" {
		file = from.file
	}
	schema, err := c.load(file)
	if err != nil {
		return place{}, err
	}
	for name := range strings.SplitSeq(strings.Trim(pointer, "/"), "/") {
		if name == "" {
			continue
		}
		object, ok := schema.(map[string]any)
		if !ok || object[name] == nil {
			return place{}, fmt.Errorf("%s: %s leads nowhere", from.file, ref)
		}
		schema = object[name]
	}
	return place{file, schema}, nil
}

func (c *checker) complain(path, format string, args ...any) {
	c.problems = append(c.problems, path+": "+fmt.Sprintf(format, args...))
}

func (c *checker) check(path string, at place, value any) {
	schema, ok := at.schema.(map[string]any)
	if !ok {
		c.complain(path, "the schema is no object")
		return
	}
	if ref, ok := schema["$ref"].(string); ok {
		target, err := c.resolve(at, ref)
		if err != nil {
			c.complain(path, "%v", err)
			return
		}
		c.check(path, target, value)
		return
	}
	if typ, ok := schema["type"]; ok && !hasType(typ, value) {
		c.complain(path, "%v is not of type %v", value, typ)
		return
	}
	if enum, ok := schema["enum"].([]any); ok && !slices.Contains(enum, value) {
		c.complain(path, "%v is none of %v", value, enum)
	}
	c.checkScalar(path, schema, value)
	c.checkMembers(path, at.file, schema, value)
	c.checkCombined(path, at.file, schema, value)
}

func hasType(typ, value any) bool {
	if list, ok := typ.([]any); ok {
		return slices.ContainsFunc(list, func(t any) bool { return hasType(t, value) })
	}
	switch v := value.(type) {
	case nil:
		return typ == "null"
	case bool:
		return typ == "boolean"
	case string:
		return typ == "string"
	case float64:
		return typ == "number" || typ == "integer" && v == math.Trunc(v)
	case []any:
		return typ == "array"
	case map[string]any:
		return typ == "object"
	}
	return false
}

func (c *checker) checkScalar(path string, schema map[string]any, value any) {
	switch v := value.(type) {
	case float64:
		if limit, ok := schema["minimum"].(float64); ok && v < limit {
			c.complain(path, "%v is less than %v", v, limit)
		}
		if limit, ok := schema["maximum"].(float64); ok && v > limit {
			c.complain(path, "%v is more than %v", v, limit)
		}
	case string:
		if pattern, ok := schema["pattern"].(string); ok && !regexp.MustCompile(pattern).MatchString(v) {
			c.complain(path, "%q does not match %s", v, pattern)
		}
	}
}

func (c *checker) checkMembers(path, file string, schema map[string]any, value any) {
	switch v := value.(type) {
	case []any:
		if least, ok := schema["minItems"].(float64); ok && float64(len(v)) < least {
			c.complain(path, "fewer than %v items", least)
		}
		for i, item := range v {
			if items, ok := schema["items"]; ok {
				c.check(fmt.Sprintf("%s[%d]", path, i), place{file, items}, item)
			}
		}
	case map[string]any:
		required, _ := schema["required"].([]any)
		for _, name := range required {
			if _, ok := v[fmt.Sprint(name)]; !ok {
				c.complain(path, "no %v", name)
			}
		}
		properties, _ := schema["properties"].(map[string]any)
		patterns, _ := schema["patternProperties"].(map[string]any)
		for name, member := range v {
			known := false
			if s, ok := properties[name]; ok {
				known = true
				c.check(path+"."+name, place{file, s}, member)
			}
			for pattern, s := range patterns {
				if regexp.MustCompile(pattern).MatchString(name) {
					known = true
					c.check(path+"."+name, place{file, s}, member)
				}
			}
			if allowed, ok := schema["additionalProperties"].(bool); ok && !allowed && !known {
				c.complain(path, "%s is not allowed", name)
			}
		}
	}
}

func (c *checker) checkCombined(path, file string, schema map[string]any, value any) {
	for _, s := range list(schema["allOf"]) {
		c.check(path, place{file, s}, value)
	}
	alternatives := list(schema["anyOf"])
	if len(alternatives) == 0 {
		return
	}
	for _, s := range alternatives {
		sub := &checker{dir: c.dir, files: c.files}
		if sub.check(path, place{file, s}, value); len(sub.problems) == 0 {
			return
		}
	}
	c.complain(path, "fits no alternative")
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}
