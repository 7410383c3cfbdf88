package schematest

import (
	"encoding/json"
	"slices"
	"testing"
)

func TestChecker(t *testing.T) {
	c := &checker{dir: schemaDir(t), files: make(map[string]any)}
	root, err := c.load("state-schema.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, document string
		want           []string
	}{
		{"good", `{"ociVersion": "1.0.2", "id": "a", "status": "running", "pid": 7, "bundle": "/b", "annotations": {"a": "b"}}`, nil},
		{"missing", `{"ociVersion": "1.0.2", "status": "running", "bundle": "/b"}`, []string{"$: no id"}},
		{"status", `{"ociVersion": "1.0.2", "id": "a", "status": "odd", "bundle": "/b"}`, []string{"$.status: odd is none of [creating created running stopped]"}},
		{"pid", `{"ociVersion": "1.0.2", "id": "a", "status": "stopped", "pid": -1, "bundle": "/b"}`, []string{"$.pid: -1 is less than 0"}},
		{"integer", `{"ociVersion": "1.0.2", "id": "a", "status": "stopped", "pid": 1.5, "bundle": "/b"}`, []string{"$.pid: 1.5 is not of type integer"}},
		{"type", `[]`, []string{"$: [] is not of type object"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var value any
			if err := json.Unmarshal([]byte(test.document), &value); err != nil {
				t.Fatal(err)
			}
			c.problems = nil
			c.check("$", place{"state-schema.json", root}, value)
			if !slices.Equal(c.problems, test.want) {
				t.Errorf("problems %q, want %q", c.problems, test.want)
			}
		})
	}
}
