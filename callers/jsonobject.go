package callers

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/tailscale/hujson"
)

// object changes members of an object in a JSON file. All other bytes stay the same.
type object struct {
	*hujson.Object
	// indent is a newline and the indentation of the object's closing brace. A member is
	// indented by unit in addition.
	indent, unit string
	// flat says that the object is on one line.
	flat bool
}

// inner returns the object at a key, which it adds if there is none.
func (o *object) inner(key string) (*object, error) {
	value := o.get(key)
	isNew := value == nil
	if isNew {
		value = o.add(key, &hujson.Object{})
	}
	found, ok := value.Value.(*hujson.Object)
	if !ok {
		return nil, fmt.Errorf("%s is not an object", key)
	}
	flat := len(found.Members) > 0 && !bytes.Contains(found.AfterExtra, []byte("\n"))
	return &object{Object: found, indent: o.indent + o.unit, unit: o.unit, flat: flat || isNew && o.flat}, nil
}

func (o *object) index(key string) int {
	return slices.IndexFunc(o.Members, func(m hujson.ObjectMember) bool {
		name, ok := m.Name.Value.(hujson.Literal)
		return ok && name.String() == key
	})
}

func (o *object) get(key string) *hujson.Value {
	if i := o.index(key); i >= 0 {
		return &o.Members[i].Value
	}
	return nil
}

func (o *object) empty() bool { return len(o.Members) == 0 }

// set sets a member to a string.
func (o *object) set(key, value string) {
	if v := o.get(key); v != nil {
		v.Value = hujson.String(value)
		return
	}
	o.add(key, hujson.String(value))
}

// add adds a member at the end: on a line of its own, unless the whole object is on one line.
func (o *object) add(key string, value hujson.ValueTrimmed) *hujson.Value {
	before := o.indent + o.unit
	if o.flat && o.empty() {
		before = ""
	} else if o.flat {
		before = " "
	} else if len(o.AfterExtra) == 0 {
		o.AfterExtra = hujson.Extra(o.indent)
	}
	o.Members = append(o.Members, hujson.ObjectMember{
		Name:  hujson.Value{BeforeExtra: hujson.Extra(before), Value: hujson.String(key)},
		Value: hujson.Value{BeforeExtra: hujson.Extra(" "), Value: value},
	})
	return &o.Members[len(o.Members)-1].Value
}

// remove removes a member, which must be there.
func (o *object) remove(key string) {
	o.Members = slices.Delete(o.Members, o.index(key), o.index(key)+1)
	if o.empty() {
		o.AfterExtra = nil
	}
}
