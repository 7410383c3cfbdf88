package oci

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// fieldsPage has a row for every field of a spec.
const fieldsPage = "../docs/oci.md"

// fieldsOf are the paths of the values in a type, in the page's notation; with linux,
// only those that the specification has for Linux.
func fieldsOf(t reflect.Type, path string, linux bool) []string {
	switch t.Kind() {
	case reflect.Pointer:
		return fieldsOf(t.Elem(), path, linux)
	case reflect.Slice, reflect.Map:
		if below := fieldsOf(t.Elem(), path+"[]", linux); len(below) != 1 || below[0] != path+"[]" {
			return below
		}
		return []string{path}
	case reflect.Struct:
	default:
		return []string{path}
	}
	var fields []string
	for i := range t.NumField() {
		f := t.Field(i)
		if platforms, limited := f.Tag.Lookup("platform"); linux && limited && !slices.Contains(strings.Split(platforms, ","), "linux") {
			continue
		}
		below := path
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); !f.Anonymous {
			below = strings.TrimPrefix(path+"."+name, ".")
		}
		fields = append(fields, fieldsOf(f.Type, below, linux)...)
	}
	return fields
}

// fieldRow is a row of the page.
type fieldRow struct {
	fields, tests []string
	where         string
}

var fieldName = regexp.MustCompile("`([^`]+)`")

// fieldRows reads the tables.
func fieldRows(t *testing.T) []fieldRow {
	t.Helper()
	text, err := os.ReadFile(fieldsPage)
	if err != nil {
		t.Fatal(err)
	}
	var rows []fieldRow
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|\n"), "|")
		if len(cells) != 4 {
			t.Fatalf("a row of %d cells: %s", len(cells), line)
		}
		row := fieldRow{where: strings.TrimSpace(cells[1])}
		for _, match := range fieldName.FindAllStringSubmatch(cells[0], -1) {
			row.fields = append(row.fields, match[1])
		}
		for name := range strings.SplitSeq(cells[3], ",") {
			row.tests = append(row.tests, strings.TrimSpace(name))
		}
		rows = append(rows, row)
	}
	return rows
}

// matching are the fields that a row's name stands for.
func matching(name string, fields []string) []string {
	prefix, all := strings.CutSuffix(name, "*")
	return slices.DeleteFunc(slices.Clone(fields), func(f string) bool {
		return f != name && (!all || !strings.HasPrefix(f, prefix))
	})
}

func TestEveryFieldHasARow(t *testing.T) {
	spec := reflect.TypeFor[specs.Spec]()
	every := fieldsOf(spec, "", false)
	var told []string
	for _, row := range fieldRows(t) {
		for _, name := range row.fields {
			fields := matching(name, every)
			if len(fields) == 0 {
				t.Errorf("a row names %s, which is no field", name)
			}
			told = append(told, fields...)
		}
	}
	slices.Sort(told)
	for i := 1; i < len(told); i++ {
		if told[i] == told[i-1] {
			t.Errorf("%s has two rows", told[i])
		}
	}
	for _, field := range fieldsOf(spec, "", true) {
		if !slices.Contains(told, field) {
			t.Errorf("%s has no row in %s", field, fieldsPage)
		}
	}
}

// testFunction finds the unit tests in a file.
var testFunction = regexp.MustCompile(`(?m)^func (Test\w+)\(`)

// TestRowsNameTests checks the other columns: the place has to be a known one, and the
// tests have to exist.
func TestRowsNameTests(t *testing.T) {
	tests := make(map[string]bool)
	for _, pattern := range []string{"../*/*_test.go", "../tests/*.bats"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if name, isSuite := strings.CutSuffix(filepath.Base(file), ".bats"); isSuite {
				tests[name] = true
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, match := range testFunction.FindAllStringSubmatch(string(text), -1) {
				tests[match[1]] = true
			}
		}
	}
	places := []string{"guest", "host", "both", "refused", "none"}
	for _, row := range fieldRows(t) {
		if !slices.Contains(places, row.where) {
			t.Errorf("%s: acts where? %q", row.fields[0], row.where)
		}
		for _, name := range row.tests {
			if !tests[name] {
				t.Errorf("%s: there is no test %q", row.fields[0], name)
			}
		}
	}
}

// TestRefusedFieldsAreRefused sets each field that a row calls refused, alone.
func TestRefusedFieldsAreRefused(t *testing.T) {
	every := fieldsOf(reflect.TypeFor[specs.Spec](), "", false)
	for _, row := range fieldRows(t) {
		if row.where != "refused" {
			continue
		}
		for _, name := range row.fields {
			for _, field := range matching(name, every) {
				spec := testSpec()
				spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow}
				spec.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux}
				setField(reflect.ValueOf(spec).Elem(), strings.Split(field, "."))
				err := validate(spec, testEnvironment())
				if err == nil {
					t.Errorf("%s is accepted", field)
					continue
				}
				if got, _, _ := strings.Cut(err.Error(), ": "); !strings.HasPrefix(field, unindexed(got)) {
					t.Errorf("%s is refused as %s", field, err)
				}
			}
		}
	}
}

var elementIndex = regexp.MustCompile(`\[[^]]+\]`)

// unindexed is a field's name in the page's notation.
func unindexed(field string) string { return elementIndex.ReplaceAllString(field, "[]") }

// setField sets the value at the path to one that is not zero, and makes the values
// that contain it.
func setField(v reflect.Value, path []string) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		setField(v.Elem(), path)
	case reflect.Slice:
		if v.Len() == 0 {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		}
		setField(v.Index(0), path)
	case reflect.Map:
		element := reflect.New(v.Type().Elem()).Elem()
		setField(element, path)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("x").Convert(v.Type().Key()), element)
	case reflect.Struct:
		if len(path) > 0 {
			setField(fieldByJSON(v, strings.TrimSuffix(path[0], "[]")), path[1:])
		}
	case reflect.Interface:
		v.Set(reflect.ValueOf("x"))
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(1)
	default:
		panic("no value for a " + v.Kind().String())
	}
}

func fieldByJSON(v reflect.Value, name string) reflect.Value {
	for _, f := range reflect.VisibleFields(v.Type()) {
		if json, _, _ := strings.Cut(f.Tag.Get("json"), ","); json == name {
			return v.FieldByIndex(f.Index)
		}
	}
	panic(v.Type().String() + " has no field " + name)
}

// TestFieldsOf checks fieldsOf with the specification's unusual types.
func TestFieldsOf(t *testing.T) {
	fields := make(map[string]bool)
	for _, f := range fieldsOf(reflect.TypeFor[specs.Spec](), "", true) {
		fields[f] = true
	}
	var missing []string
	for _, f := range []string{
		"ociVersion", "annotations", "process.env", "process.user.umask", "linux.resources.unified", "linux.timeOffsets[].secs",
		"linux.resources.blockIO.weightDevice[].major", "linux.devices[].fileMode", "linux.resources.rdma[].hcaHandles",
	} {
		if !fields[f] {
			missing = append(missing, f)
		}
	}
	if len(missing) > 0 {
		t.Errorf("not found: %v", missing)
	}
	for f := range maps.Keys(fields) {
		if strings.HasPrefix(f, "windows") || strings.HasPrefix(f, "vm.") || f == "process.user.username" {
			t.Errorf("%s is none of Linux", f)
		}
	}
	want := []string{"a.b", "c[][].d"}
	got := fieldsOf(reflect.TypeFor[struct {
		A struct {
			B *[]string `json:"b"`
		} `json:"a"`
		C map[string][]struct {
			D int `json:"d"`
		} `json:"c"`
	}](), "", true)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
