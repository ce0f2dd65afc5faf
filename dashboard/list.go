package dashboard

import (
	"encoding/base64"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/keypurse/keypurse/saccount"
)

// param is a query parameter.
type param struct {
	name     string
	doc      string
	schema   map[string]any
	required bool
	repeated bool
}

var (
	text = map[string]any{"type": "string"}
	when = map[string]any{"type": "string", "format": "date-time"}
)

// listParams are those of every list of records.
var listParams = []param{
	{name: "limit", doc: "how many items a page has at most; 100 where it is not given", schema: map[string]any{"type": "integer", "minimum": 1, "maximum": saccount.MaxPage}},
	{name: "cursor", doc: "the next of the page before", schema: text},
	{name: "status", doc: "of the record itself; more than one by repeating it; without it all but the deleted", repeated: true,
		schema: map[string]any{"type": "string", "enum": []string{"active", "disabled", "expired", "deleted"}}},
	{name: "name_prefix", doc: "what the name begins with", schema: text},
	{name: "label", doc: "key=value; all of them where it is repeated", repeated: true, schema: text},
}

var sortParam = param{name: "sort", doc: "created, the default, or name, which knows the living only", schema: map[string]any{"type": "string", "enum": []string{"created", "name"}}}

// values are the query's parameters, each of which the route knows.
func (c *call) values() (url.Values, error) {
	q, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return nil, badRequest("The query cannot be read.")
	}
	for name, vs := range q {
		i := slices.IndexFunc(c.route.query, func(p param) bool { return p.name == name })
		if i < 0 {
			return nil, badParam(name, "there is no such parameter")
		}
		if len(vs) > 1 && !c.route.query[i].repeated {
			return nil, badParam(name, "it is given more than once")
		}
	}
	for _, p := range c.route.query {
		if p.required && q.Get(p.name) == "" {
			return nil, badParam(p.name, "it is missing")
		}
	}
	return q, nil
}

// filter reads the parameters of a list of records.
func (c *call) filter() (f saccount.Filter, err error) {
	q, err := c.values()
	if err != nil {
		return f, err
	}
	if f.Limit, err = pageSize(q); err != nil {
		return f, err
	}
	switch q.Get("sort") {
	case "", "created":
	case "name":
		f.ByName = true
	default:
		return f, badParam("sort", "give created or name")
	}
	if f.Cursor, err = openCursor(q.Get("cursor"), f.ByName); err != nil {
		return f, err
	}
	for _, s := range q["status"] {
		switch st := saccount.Status(s); st {
		case saccount.StatusActive, saccount.StatusDisabled, saccount.StatusExpired, saccount.StatusDeleted:
			f.Statuses = append(f.Statuses, st)
		default:
			return f, badParam("status", "give active, disabled, expired or deleted")
		}
	}
	f.NamePrefix = q.Get("name_prefix")
	for _, l := range q["label"] {
		k, v, ok := strings.Cut(l, "=")
		if !ok {
			return f, badParam("label", "give key=value")
		}
		if f.Labels == nil {
			f.Labels = map[string]string{}
		}
		f.Labels[k] = v
	}
	return f, nil
}

func pageSize(q url.Values) (int, error) {
	s := q.Get("limit")
	if s == "" {
		return saccount.DefaultPage, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > saccount.MaxPage {
		return 0, badParam("limit", "give 1 to "+strconv.Itoa(saccount.MaxPage))
	}
	return n, nil
}

// A cursor is opaque to clients: the order that it belongs to, and the id or
// name that a page ended with.

func sealCursor(s string, byName bool) string {
	if s == "" {
		return ""
	}
	order := "i"
	if byName {
		order = "n"
	}
	return base64.RawURLEncoding.EncodeToString([]byte(order + s))
}

func openCursor(s string, byName bool) (string, error) {
	if s == "" {
		return "", nil
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) < 2 || len(b) > 1024 || (b[0] == 'n') != byName || b[0] != 'n' && b[0] != 'i' {
		return "", badParam("cursor", "it is not the next of a page of this list")
	}
	return string(b[1:]), nil
}

// page is a page of a list, as it is answered.
type page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty" doc:"the cursor of the page after; absent where there is none"`
}

// listing is a route that lists records.
func listing[R, T any](list func(c *call, f saccount.Filter) (saccount.Page[R], error), show func(R) T) func(*call) (*reply, error) {
	return func(c *call) (*reply, error) {
		f, err := c.filter()
		if err != nil {
			return nil, err
		}
		p, err := list(c, f)
		if err != nil {
			return nil, err
		}
		return &reply{body: pageOf(p, f, show)}, nil
	}
}

// pageOf makes a page of what the Service listed.
func pageOf[R, T any](p saccount.Page[R], f saccount.Filter, show func(R) T) page[T] {
	out := page[T]{Items: make([]T, 0, len(p.Items)), Next: sealCursor(p.Next, f.ByName)}
	for _, r := range p.Items {
		out.Items = append(out.Items, show(r))
	}
	return out
}
