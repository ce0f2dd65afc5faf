package dashboard

import (
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// format is how a type that is written as a string is described.
type format struct {
	what   string // "give ..."
	schema map[string]any
}

var kindType, stateType = reflect.TypeFor[alert.Kind](), reflect.TypeFor[alert.State]()

// formats are the types that JSON has as strings of a certain form.
var formats = map[reflect.Type]format{
	reflect.TypeFor[quota.Credits]():   {`a decimal string such as "2.05"`, map[string]any{"type": "string", "pattern": `^-?(0|[1-9][0-9]*)(\.[0-9]+)?$`, "examples": []string{"2.05"}}},
	reflect.TypeFor[quota.Threshold](): {`"80%", "left 20" or "overage"`, map[string]any{"type": "string", "examples": []string{"80%"}}},
	reflect.TypeFor[quota.Unit]():      {"never, hour, day, week, month, quarter or year", map[string]any{"type": "string", "enum": []string{"never", "hour", "day", "week", "month", "quarter", "year", "hourly", "daily", "weekly", "monthly", "quarterly", "yearly"}}},
	reflect.TypeFor[netip.Prefix]():    {"a range such as 203.0.113.0/24", map[string]any{"type": "string", "examples": []string{"203.0.113.0/24"}}},
	reflect.TypeFor[netip.Addr]():      {"an address such as 203.0.113.7", map[string]any{"type": "string", "examples": []string{"203.0.113.7"}}},
	reflect.TypeFor[time.Time]():       {"an instant (RFC 3339)", map[string]any{"type": "string", "format": "date-time"}},
	reflect.TypeFor[saccount.Role]():   {"view, manage or admin", map[string]any{"type": "string", "enum": []string{"view", "manage", "admin"}}},
	kindType:                           {"a kind of alert", map[string]any{"type": "string", "enum": alert.Kinds()}},
	stateType:                          {"pending, delivered or dead", map[string]any{"type": "string", "enum": []string{"pending", "delivered", "dead"}}},
	reflect.TypeFor[saccount.Status](): {"a status", map[string]any{"type": "string", "enum": []string{"active", "disabled", "expired", "deleted"}}},
}

// schemas gathers the schemas of structs by name.
type schemas struct {
	byName map[string]any
	types  map[string]reflect.Type // whose the names are
}

func newSchemas() schemas {
	return schemas{map[string]any{}, map[string]reflect.Type{}}
}

// take takes a name for a type; made says that it has its schema already.
func (s schemas) take(name string, t reflect.Type) (made bool) {
	if other, ok := s.types[name]; ok && other != t {
		panic("dashboard: two schemas are called " + name + ": " + t.String() + " and " + other.String())
	}
	_, made = s.types[name]
	s.types[name] = t // before its fields, which may hold it
	return made
}

// of describes a type.
func (s schemas) of(t reflect.Type) map[string]any {
	if f, ok := formats[t]; ok {
		return f.schema
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem())
	case reflect.Slice:
		return map[string]any{"type": "array", "items": s.of(t.Elem())}
	case reflect.Map:
		if t.Elem().Kind() == reflect.Interface {
			return map[string]any{"type": "object"}
		}
		return map[string]any{"type": "object", "additionalProperties": s.of(t.Elem())}
	case reflect.Interface:
		return map[string]any{"type": "object"}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return map[string]any{"type": "integer", "format": "int64"}
	case reflect.Float64:
		return map[string]any{"type": "number", "format": "double"}
	case reflect.Struct:
		return s.ref(t)
	}
	panic("dashboard: a body has a field of type " + t.String())
}

// ref names a struct's schema and sees that it is there.
func (s schemas) ref(t reflect.Type) map[string]any {
	name := schemaName(t)
	ref := map[string]any{"$ref": "#/components/schemas/" + name}
	if !s.take(name, t) {
		s.byName[name] = s.object(t, false)
	}
	return ref
}

// patchOf describes a type as a merge patch has it: what lies in it is merged too.
func (s schemas) patchOf(t reflect.Type) map[string]any {
	if _, ok := formats[t]; ok {
		return s.of(t)
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.patchOf(t.Elem())
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": nullable(s.patchOf(t.Elem()))}
	case reflect.Struct:
		name := schemaName(t) + "Patch"
		if !s.take(name, t) {
			s.byName[name] = s.object(t, true)
		}
		return map[string]any{"$ref": "#/components/schemas/" + name}
	}
	return s.of(t)
}

// object describes the fields of a struct. In a merge patch every field may be
// left out, and those that may be cleared may be null.
func (s schemas) object(t reflect.Type, patch bool) map[string]any {
	properties, required := map[string]any{}, []string{}
	for _, f := range fieldsOf(t) {
		p := map[string]any{}
		of := s.of
		if patch {
			of = s.patchOf
		}
		for k, v := range of(f.typ) {
			p[k] = v
		}
		for _, kv := range strings.Fields(f.schema) {
			k, v, _ := strings.Cut(kv, "=")
			n, err := strconv.Atoi(v)
			if err != nil {
				panic(err) // a tag of ours
			}
			p[k] = n
		}
		if patch && f.optional {
			p = nullable(p)
		}
		if f.doc != "" {
			p["description"] = f.doc
		}
		properties[f.name] = p
		if !f.optional && !patch {
			required = append(required, f.name)
		}
	}
	out := map[string]any{"type": "object", "properties": properties}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}

// nullable is a schema that null fits too, in the one form that every
// generator reads.
func nullable(p map[string]any) map[string]any {
	return map[string]any{"oneOf": []any{p, map[string]any{"type": "null"}}}
}

// schemaName is the name of a struct in the document: "Account" of
// accountView, "AccountSpec" of accountSpec, "AccountPage" of a page of them.
func schemaName(t reflect.Type) string {
	name := t.Name()
	if of, ok := strings.CutPrefix(name, "page["); ok {
		of = of[strings.LastIndexByte(of, '.')+1:]
		return exported(strings.TrimSuffix(of, "]")) + "Page"
	}
	return exported(name)
}

func exported(name string) string {
	r := []rune(strings.TrimSuffix(name, "View"))
	r[0] = unicode.ToUpper(r[0])
	return string(r)
}
