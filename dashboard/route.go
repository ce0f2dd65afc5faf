package dashboard

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/keypurse/keypurse/saccount"
)

// base is where the API lies below the mount path.
const base = "api/v1"

// route is one operation: what the handler matches, and what the OpenAPI
// document says of it.
type route struct {
	method string
	path   string // below base, without a slash in front: "orgs/{org}/accounts"
	id     string // the operation's name in the document
	about  string // one sentence
	role   saccount.Role
	host   bool // of the host's own staff only
	query  []param
	body   any      // a zero value of what is read; nil: no body
	result any      // a zero value of what is answered; nil: no body
	files  []string // media types of what is answered instead of JSON
	status int      // of success
	match  precondition
	once   bool // takes an Idempotency-Key
	again  bool // a POST that needs none: the same again does nothing
	tagged bool // the answer has an ETag
	do     func(*call) (*reply, error)

	segments []string
}

// precondition says what a route does with If-Match.
type precondition uint8

const (
	matchNone   precondition = iota // it is refused
	matchMay                        // heeded where it is given
	matchNeeded                     // 428 without it
)

// changes reports whether the route may change anything.
func (r *route) changes() bool { return r.method != http.MethodGet }

// fits matches the segments of a path with those of a pattern, and gives the
// values of wildcards.
func fits(pattern, segments []string) (map[string]string, bool) {
	if len(segments) != len(pattern) {
		return nil, false
	}
	params := map[string]string{}
	for i, s := range pattern {
		if name, ok := strings.CutPrefix(s, "{"); ok {
			v, err := url.PathUnescape(segments[i])
			if err != nil || v == "" {
				return nil, false
			}
			params[strings.TrimSuffix(name, "}")] = v
		} else if s != segments[i] {
			return nil, false
		}
	}
	return params, true
}

// below is what the request's path may be below the mount path: with that taken
// off, where the pattern of a http.ServeMux says which it is, and as it stands,
// where http.StripPrefix took it off already.
func (c *call) below() []string {
	path := strings.TrimPrefix(c.r.URL.EscapedPath(), "/")
	if rest, ok := unmount(c.r.Pattern, path); ok {
		return []string{rest, path}
	}
	return []string{path}
}

// isAPI reports whether some route of the API has the path, whatever the method.
func (c *call) isAPI(path string) bool {
	path, ok := strings.CutPrefix(path, base+"/")
	return ok && slices.ContainsFunc(c.routes, func(r *route) bool {
		_, ok := fits(r.segments, strings.Split(path, "/"))
		return ok
	})
}

func (r *route) shape() (method string, segments []string) { return r.method, r.segments }

// pick finds the one of a path and a method; allow are the methods that the path
// knows where it is not among them.
func pick[R interface {
	shape() (method string, segments []string)
}](all []R, method, path string) (found R, params map[string]string, allow []string) {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	segments := strings.Split(path, "/")
	for _, r := range all {
		m, pattern := r.shape()
		params, ok := fits(pattern, segments)
		switch {
		case !ok:
		case m == method:
			return r, params, nil
		default:
			allow = append(allow, m)
		}
	}
	return found, nil, allow
}

// find sets the call's route and its parameters.
func (c *call) find() error {
	var allow []string
	for _, p := range c.below() {
		if p, ok := strings.CutPrefix(p, base+"/"); ok && allow == nil {
			if c.route, c.params, allow = pick(c.routes, c.r.Method, p); c.route != nil {
				return nil
			}
		}
	}
	if allow == nil {
		return &problem{Status: 404, Code: codeNotFound, Detail: "There is nothing at this path."}
	}
	if slices.Contains(allow, http.MethodGet) {
		allow = append(allow, http.MethodHead)
	}
	slices.Sort(allow)
	return &problem{Status: 405, Code: codeMethod, Detail: "This path does not know the method.", allow: strings.Join(slices.Compact(allow), ", ")}
}

// unmount takes the path of a subtree pattern of http.ServeMux ("/keys/",
// "example.com/t/{tenant}/keys/") off a path without its first slash. Where
// http.StripPrefix has been at work, the pattern does not fit any more.
func unmount(pattern, path string) (string, bool) {
	i := strings.IndexByte(pattern, '/')
	if i < 0 || !strings.HasSuffix(pattern, "/") {
		return "", false
	}
	for _, s := range strings.Split(strings.Trim(pattern[i:], "/"), "/") {
		if s == "" {
			continue
		}
		first, rest, ok := strings.Cut(path, "/")
		if !ok || first != s && !strings.HasPrefix(s, "{") {
			return "", false
		}
		path = rest
	}
	return path, true
}
