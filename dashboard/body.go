package dashboard

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
)

// Media types of bodies.
const (
	typeJSON  = "application/json"
	typePatch = "application/merge-patch+json" // RFC 7396
)

// raw is the body as it came, bounded.
func (c *call) raw(types ...string) ([]byte, error) {
	media, params, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	ok := err == nil && len(c.r.Header["Content-Type"]) == 1 && (params["charset"] == "" || params["charset"] == "utf-8" || params["charset"] == "UTF-8")
	known := false
	for _, t := range types {
		known = known || t == media
	}
	if !ok || !known {
		if c.r.Method == http.MethodPatch {
			c.w.Header().Set("Accept-Patch", typePatch)
		}
		return nil, &problem{Status: 415, Code: codeMediaType, Detail: "Send the body as " + types[0] + "."}
	}
	if e := c.r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return nil, &problem{Status: 415, Code: codeMediaType, Detail: "Send the body without a content encoding."}
	}
	b, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxBody))
	if too := (*http.MaxBytesError)(nil); errors.As(err, &too) {
		return nil, &problem{Status: 413, Code: codeTooLarge, Detail: "The body is too large: 64 KiB are read at most."}
	}
	if err != nil {
		return nil, badRequest("The body could not be read.")
	}
	return b, nil
}

// read fills into, a pointer to a struct, from the body.
func (c *call) read(into any) error {
	b, err := c.raw(typeJSON)
	if err != nil {
		return err
	}
	c.sent = b
	tree, p := parseTree(b)
	if p == nil {
		p = decode(tree, into)
	}
	if p != nil {
		return p
	}
	return nil
}

// of is a route that reads a body first.
func of[T any](do func(c *call, in *T) (*reply, error)) func(*call) (*reply, error) {
	return func(c *call) (*reply, error) {
		var in T
		if err := c.read(&in); err != nil {
			return nil, err
		}
		return do(c, &in)
	}
}

// readMay is read of a body that may be left out.
func (c *call) readMay(into any) error {
	if c.r.ContentLength == 0 {
		return nil
	}
	return c.read(into)
}

// empty refuses a body where none is wanted; {} is none.
func (c *call) empty() error {
	if c.r.Body == nil || c.r.Body == http.NoBody || c.r.ContentLength == 0 {
		return nil
	}
	var none struct{}
	return c.read(&none)
}

// patch fills into, a pointer to a struct that holds what is there, with what
// the body's merge patch makes of it.
func patch[T any](body []byte, now T) (T, error) {
	var next T
	change, p := parseTree(body)
	if p != nil {
		return next, p
	}
	if _, ok := change.(map[string]any); !ok {
		return next, badFields(fieldError{Pointer: "#", Detail: "give an object"})
	}
	text, err := json.Marshal(now)
	if err != nil {
		return next, err
	}
	old, p := parseTree(text)
	if p != nil {
		return next, p
	}
	if p := decode(merge(old, change), &next); p != nil {
		return next, p
	}
	return next, nil
}
