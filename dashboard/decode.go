package dashboard

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keypurse/keypurse/saccount"
)

// decoder reads a tree into a struct and gathers what is wrong, each with its
// pointer. Unknown fields are refused, names are compared byte by byte.
type decoder struct{ errs []fieldError }

// decode fills into, a pointer to a struct, from a tree.
func decode(tree, into any) *problem {
	var d decoder
	d.value(tree, reflect.ValueOf(into).Elem(), "#")
	if len(d.errs) == 0 {
		return nil
	}
	slices.SortFunc(d.errs, func(a, b fieldError) int { return strings.Compare(a.Pointer, b.Pointer) })
	return badFields(d.errs[:min(len(d.errs), maxErrors)]...)
}

func (d *decoder) fail(at, format string, args ...any) {
	d.errs = append(d.errs, fieldError{Pointer: at, Detail: fmt.Sprintf(format, args...)})
}

var (
	timeType        = reflect.TypeFor[time.Time]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

func (d *decoder) value(tree any, v reflect.Value, at string) {
	if tree == nil {
		d.fail(at, "null is no value here: leave it out")
		return
	}
	t := v.Type()
	switch {
	case t == timeType:
		d.time(tree, v, at)
	case reflect.PointerTo(t).Implements(textUnmarshaler):
		s, ok := tree.(string)
		if !ok {
			d.fail(at, "give %s", stringOf(t))
		} else if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s)); err != nil {
			d.fail(at, "%s", plainText(err))
		}
	case t.Kind() == reflect.Pointer:
		p := reflect.New(t.Elem())
		d.value(tree, p.Elem(), at)
		v.Set(p)
	case t.Kind() == reflect.Struct:
		d.object(tree, v, at)
	case t.Kind() == reflect.Map:
		d.dict(tree, v, at)
	case t.Kind() == reflect.Slice:
		list, ok := tree.([]any)
		if !ok {
			d.fail(at, "give a list")
			return
		}
		s := reflect.MakeSlice(t, len(list), len(list))
		for i, x := range list {
			d.value(x, s.Index(i), at+"/"+strconv.Itoa(i))
		}
		v.Set(s)
	case t.Kind() == reflect.String:
		if s, ok := tree.(string); ok {
			v.SetString(s)
		} else {
			d.fail(at, "give a string")
		}
	case t.Kind() == reflect.Bool:
		if b, ok := tree.(bool); ok {
			v.SetBool(b)
		} else {
			d.fail(at, "give true or false")
		}
	default:
		d.number(tree, v, at)
	}
}

// stringOf says which string a type is read from.
func stringOf(t reflect.Type) string {
	if s, ok := formats[t]; ok {
		return s.what
	}
	return "a string"
}

func (d *decoder) time(tree any, v reflect.Value, at string) {
	s, ok := tree.(string)
	if !ok || len(s) > 64 {
		d.fail(at, "give an instant such as \"2026-01-31T00:00:00Z\" (RFC 3339)")
		return
	}
	x, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || x.IsZero() {
		d.fail(at, "give an instant such as \"2026-01-31T00:00:00Z\" (RFC 3339)")
		return
	}
	v.Set(reflect.ValueOf(saccount.Micro(x)))
}

func (d *decoder) number(tree any, v reflect.Value, at string) {
	n, ok := tree.(json.Number)
	switch {
	case v.CanInt():
		i, err := strconv.ParseInt(string(n), 10, 64)
		if !ok || err != nil || v.OverflowInt(i) {
			d.fail(at, "give a whole number")
			return
		}
		v.SetInt(i)
	case v.CanFloat():
		f, err := strconv.ParseFloat(string(n), 64)
		if !ok || err != nil || math.IsInf(f, 0) {
			d.fail(at, "give a number")
			return
		}
		v.SetFloat(f)
	default:
		panic("dashboard: a body has a field of type " + v.Type().String())
	}
}

func (d *decoder) dict(tree any, v reflect.Value, at string) {
	object, ok := tree.(map[string]any)
	if !ok {
		d.fail(at, "give an object")
		return
	}
	m := reflect.MakeMapWithSize(v.Type(), len(object))
	for name, x := range object {
		e := reflect.New(v.Type().Elem()).Elem()
		d.value(x, e, pointer(at, name))
		m.SetMapIndex(reflect.ValueOf(name), e)
	}
	v.Set(m)
}

func (d *decoder) object(tree any, v reflect.Value, at string) {
	object, ok := tree.(map[string]any)
	if !ok {
		d.fail(at, "give an object")
		return
	}
	known := 0
	for _, f := range fieldsOf(v.Type()) {
		x, given := object[f.name]
		if given {
			known++
			d.value(x, v.FieldByIndex(f.index), pointer(at, f.name))
		} else if !f.optional {
			d.fail(pointer(at, f.name), "it is missing")
		}
	}
	if known == len(object) {
		return
	}
	for name := range object {
		if !slices.ContainsFunc(fieldsOf(v.Type()), func(f field) bool { return f.name == name }) {
			d.fail(pointer(at, name), "there is no such field")
		}
	}
}

// field is one field of a body's struct. Those with omitempty or omitzero may
// be left out.
type field struct {
	name     string
	optional bool
	doc      string
	schema   string
	index    []int
	typ      reflect.Type
}

func fieldsOf(t reflect.Type) []field {
	var out []field
	for _, f := range reflect.VisibleFields(t) {
		if f.Anonymous || !f.IsExported() {
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		out = append(out, field{
			name: name, optional: options != "", doc: f.Tag.Get("doc"), schema: f.Tag.Get("schema"), index: f.Index, typ: f.Type,
		})
	}
	return out
}

// plainText is what an error says to whoever gave the bad input, without the
// packages and verbs in front.
func plainText(err error) string {
	var f *saccount.FieldError
	if errors.As(err, &f) {
		return f.Reason
	}
	s := err.Error()
	for _, p := range []string{"saccount: ", "quota: ", "usage: "} {
		if i := strings.LastIndex(s, p); i >= 0 {
			s = s[i+len(p):]
		}
	}
	return strings.TrimSuffix(strings.TrimPrefix(s, "invalid "), ": invalid")
}
