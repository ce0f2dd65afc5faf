package dashboard

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds on what is read.
const (
	maxBody   = 64 << 10
	maxDepth  = 16
	maxErrors = 20
)

// parseTree reads one JSON value into maps, slices, strings, json.Numbers,
// booleans and nil. Stricter than encoding/json: names given twice, invalid
// UTF-8 and anything after the value are refused, and so is what is nested too
// deep. problem is nil where it was read.
func parseTree(data []byte) (v any, p *problem) {
	if !utf8.Valid(data) {
		return nil, badRequest("The body is not UTF-8.")
	}
	if !json.Valid(data) {
		return nil, badRequest("The body is not JSON.")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	v, p = readTree(dec, "#", 0)
	if p != nil {
		return nil, p
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, badRequest("The body is more than one JSON value.")
	}
	return v, nil
}

func readTree(dec *json.Decoder, at string, depth int) (any, *problem) {
	if depth > maxDepth {
		return nil, badRequest("The body is nested more than %d deep.", maxDepth)
	}
	tok, err := dec.Token()
	if err != nil {
		return nil, badRequest("The body is not JSON.")
	}
	open, isOpen := tok.(json.Delim)
	if !isOpen {
		return tok, nil
	}
	if open == '[' {
		list := []any{}
		for dec.More() {
			x, p := readTree(dec, at+"/"+strconv.Itoa(len(list)), depth+1)
			if p != nil {
				return nil, p
			}
			list = append(list, x)
		}
		_, _ = dec.Token() // json.Valid has seen it
		return list, nil
	}
	object := map[string]any{}
	for dec.More() {
		tok, err := dec.Token()
		name, isName := tok.(string)
		if err != nil || !isName {
			return nil, badRequest("The body is not JSON.")
		}
		below := pointer(at, name)
		if _, twice := object[name]; twice {
			return nil, &problem{Status: 400, Code: codeInvalidRequest, Detail: "A field is given twice.", Errors: []fieldError{{Pointer: below, Detail: "it is given twice"}}}
		}
		x, p := readTree(dec, below, depth+1)
		if p != nil {
			return nil, p
		}
		object[name] = x
	}
	_, _ = dec.Token() // json.Valid has seen it
	return object, nil
}

// pointer is a JSON pointer below another, as a URI fragment (RFC 6901, 6).
func pointer(at, name string) string {
	var b strings.Builder
	b.WriteString(at)
	b.WriteByte('/')
	for i := range len(name) {
		switch c := name[i]; {
		case c == '~':
			b.WriteString("~0")
		case c == '/':
			b.WriteString("~1")
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._!$&'()*+,;=:@?", c) >= 0:
			b.WriteByte(c)
		default:
			const hex = "0123456789ABCDEF"
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String()
}

// fragment turns a JSON pointer into a URI fragment.
func fragment(p string) string {
	at := "#"
	if p == "" {
		return at
	}
	for _, name := range strings.Split(p[1:], "/") {
		at = pointer(at, strings.NewReplacer("~1", "/", "~0", "~").Replace(name))
	}
	return at
}

// merge applies a JSON merge patch (RFC 7396, 2). It may use up both.
func merge(target, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	object, ok := target.(map[string]any)
	if !ok {
		object = map[string]any{}
	}
	for name, v := range changes {
		if v == nil {
			delete(object, name)
		} else {
			object[name] = merge(object[name], v)
		}
	}
	return object
}
