package dashboard

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/keypurse/keypurse/internal/web"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// templates are the parsed pages, by name.
type templates map[string]*template.Template

func newTemplates(a assets) (templates, error) {
	funcs := template.FuncMap{
		"asset":   func(name string) string { return assetPath + a.names[name] },
		"segment": url.PathEscape,
		"query":   func(q url.Values) template.URL { return template.URL(q.Encode()) }, // a template would escape its "&" and "="
		"rfc":     func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"join":    strings.Join,
		"plural":  plural,
		"percent": percent,
		"field":   inputOf,
		"choice":  choice,
		"suggest": suggest,
		"tick":    tick,
		"bar":     limitBar,
		"status":  statusText,
		"upper":   sentence,
		"policy":  func(o *saccount.Org) saccount.KeyPolicy { return policyOf(*o) },
		"alertItem": func(f *frame, r alertRow) any {
			return struct {
				*frame
				Row alertRow
			}{f, r}
		},
	}
	shared, err := template.New("layout.html").Funcs(funcs).ParseFS(files, "templates/layout.html", "templates/parts*.html")
	if err != nil {
		return nil, err
	}
	list, err := files.ReadDir("templates")
	if err != nil {
		return nil, err
	}
	out := templates{}
	for _, f := range list {
		if f.Name() == "layout.html" || strings.HasPrefix(f.Name(), "parts") {
			continue
		}
		t, err := shared.Clone()
		if err != nil {
			return nil, err
		}
		if t, err = t.ParseFS(files, path.Join("templates", f.Name())); err != nil {
			return nil, err
		}
		out[strings.TrimSuffix(f.Name(), ".html")] = t
	}
	return out, nil
}

// frame is what the layout shows around a page.
type frame struct {
	Title  string
	Root   string // the mount path, relative to the page
	Org    *saccount.Org
	Actor  saccount.Actor
	Role   saccount.Role
	Host   bool
	Here   string // which entry of the navigation the page belongs to
	Page   any
	Once   string // for the page's forms: see visit.guard
	Frozen bool   // read-only
	Past   bool   // what the page shows was deleted
	Zone   *time.Location
	now    time.Time
}

// May reports whether the visitor may do what needs a role, so that no page
// offers what would be refused.
func (f *frame) May(role string) bool {
	var r saccount.Role
	return !f.Frozen && !f.Past && r.UnmarshalText([]byte(role)) == nil && f.Role >= r
}

// At shows an instant in the organization's zone, as words relative to now and
// in full for whoever points at it.
func (f *frame) At(t time.Time) moment { return moment{t, f.Zone, f.now} }

// Base is the path of the organization's pages.
func (f *frame) Base() string {
	if f.Org == nil {
		return f.Root
	}
	return f.Root + "orgs/" + url.PathEscape(f.Org.ID)
}

// moment is an instant as pages show it.
type moment struct {
	t    time.Time
	zone *time.Location
	now  time.Time
}

// Zero reports whether there is none.
func (m moment) Zero() bool { return m.t.IsZero() }

// RFC is for machines.
func (m moment) RFC() string { return m.t.UTC().Format(time.RFC3339) }

// Full is the instant with its zone.
func (m moment) Full() string { return m.t.In(m.zone).Format("2 Jan 2006, 15:04:05 MST") }

// Day is the date.
func (m moment) Day() string { return m.t.In(m.zone).Format("2 Jan 2006") }

// Near is the instant as seen from now: "3 minutes ago", "in 8 days".
func (m moment) Near() string {
	d := m.t.Sub(m.now)
	text := span(d.Abs())
	switch {
	case d.Abs() < time.Minute && d <= 0:
		return "just now"
	case d < 0:
		return text + " ago"
	}
	return "in " + text
}

// span is a length of time in the largest unit that has one.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "less than a minute"
	case d < time.Hour:
		return plural(int(d/time.Minute), "minute")
	case d < 48*time.Hour:
		return plural(int(d/time.Hour), "hour")
	}
	return plural(int(d/(24*time.Hour)), "day")
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// percent is a share in whole percent, rounded down: 100 only where all is
// spent.
func percent(part, whole quota.Credits) string {
	if whole <= 0 {
		return "–"
	}
	p := float64(part) / float64(whole) * 100 // for the eye, not for money
	return fmt.Sprintf("%d %%", int(p))
}

// statusText is a status as a word of a page.
func statusText(status any) string {
	return sentence(fmt.Sprint(status))
}

// sentence is a text as it stands alone.
func sentence(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// render writes a page.
func (v *visit) render(name, title string, page any) error {
	t, ok := v.templates[name]
	if !ok {
		panic("dashboard: no template " + name)
	}
	f := &frame{
		Title: title, Root: v.root, Org: v.of, Actor: v.caller.Actor, Role: v.caller.Role, Host: v.caller.Host, Here: v.here, Page: page,
		Once: rand.Text(), Frozen: v.cfg.ReadOnly, Past: v.past, Zone: v.zone(), now: v.cfg.Now(),
	}
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, "layout.html", f); err != nil {
		return &problem{Status: http.StatusInternalServerError, Code: codeInternal, Detail: "The page cannot be shown.", Err: fmt.Errorf("page %s: %w", name, err)}
	}
	status := v.status
	if status == 0 {
		status = http.StatusOK
	}
	web.Write(v.w, v.r, status, "text/html; charset=utf-8", b.Bytes())
	return nil
}

// zone is the organization's.
func (v *visit) zone() *time.Location {
	if v.of == nil || v.of.Zone == "" {
		return time.UTC
	}
	if z, err := quota.LoadZone(v.of.Zone); err == nil {
		return z
	}
	return time.UTC // a zone that this machine does not know any more
}
