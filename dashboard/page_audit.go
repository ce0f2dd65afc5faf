package dashboard

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

const (
	trailLooks = 500 // newest entries of the organization that a record's trail is looked for in
	trailRows  = 8   // of it
	maxValue   = 200 // characters of a field that was changed
)

// auditRow is an entry as a page shows it.
type auditRow struct {
	saccount.AuditEntry
	What    string // the kind of the subject, in words
	Name    string // of the record, as it was then; else its id
	Where   string // the path of its page, below the organization's; empty where it has none
	Said    string // the action, in words
	Changes []fieldChange
}

// fieldChange is one field that a change was about.
type fieldChange struct{ Field, Before, After string }

func auditRows(es []saccount.AuditEntry) []auditRow {
	out := make([]auditRow, len(es))
	for i, e := range es {
		r := auditRow{AuditEntry: e, Name: e.Subject.ID(), What: map[string]string{
			"org": "organization", "account": "service account", "management_key": "management key",
		}[e.Subject.Kind()], Said: strings.ReplaceAll(e.Action, "_", " ")}
		if r.What == "" {
			r.What = e.Subject.Kind()
		}
		id := url.PathEscape(e.Subject.ID())
		switch e.Subject.Kind() {
		case quota.KindOrg:
			r.Where = "settings"
		case quota.KindAccount:
			r.Where = "accounts/" + id
		case quota.KindMember:
			r.Where = "members/" + id
		case quota.KindKey:
			r.Where = "keys/" + id
		}
		var before, after map[string]json.RawMessage
		_ = json.Unmarshal(e.Before, &before) // what is no object has no fields to show
		_ = json.Unmarshal(e.After, &after)
		for _, rec := range []map[string]json.RawMessage{before, after} {
			var name string
			if json.Unmarshal(rec["name"], &name) == nil && name != "" {
				r.Name = name
			}
		}
		r.Changes = changesOf(before, after)
		out[i] = r
	}
	return out
}

// changesOf are the fields that differ, but those that every change moves.
func changesOf(before, after map[string]json.RawMessage) (out []fieldChange) {
	fields := map[string]bool{}
	for _, m := range []map[string]json.RawMessage{before, after} {
		for f := range m {
			fields[f] = true
		}
	}
	for _, f := range []string{"revision", "updated", "advice", "org", "id"} {
		delete(fields, f)
	}
	for _, f := range slices.Sorted(maps.Keys(fields)) {
		if !bytes.Equal(before[f], after[f]) {
			out = append(out, fieldChange{strings.ReplaceAll(f, "_", " "), valueText(before[f]), valueText(after[f])})
		}
	}
	return out
}

// valueText is a field's value for the eye.
func valueText(v json.RawMessage) string {
	var s string
	if json.Unmarshal(v, &s) != nil {
		s = string(v)
	}
	if utf8.RuneCountInString(s) > maxValue {
		s = string([]rune(s)[:maxValue]) + "…"
	}
	return s
}

// auditPage is the audit log.
type auditPage struct {
	Rows   []auditRow
	Form   *form
	Query  url.Values // of the filter
	More   url.Values // the query of the page after
	First  bool
	Any    bool // a filter is set
	Looked bool // the page ends because so many entries were looked through
	Orders []option
}

var orders = []option{{Value: "newest", Label: "the newest first"}, {Value: "oldest", Label: "the oldest first"}}

// auditQuery reads the filter of a page or an export.
func (v *visit) auditQuery() (f saccount.AuditFilter, q url.Values, err error) {
	q = url.Values{}
	for _, name := range []string{"actor", "action", "subject", "from", "to", "order"} {
		if s := v.text(name); s != "" {
			q.Set(name, s)
		}
	}
	f = saccount.AuditFilter{Actor: saccount.Actor(q.Get("actor")), Action: strings.ReplaceAll(q.Get("action"), " ", "_"), Subject: v.subjectNamed(q.Get("subject")), Newest: q.Get("order") != "oldest"}
	form := newForm()
	f.From, f.To = v.when(form, "from"), v.when(form, "to")
	if form.Wrong() {
		return f, q, badRequest("An instant cannot be read. Write a date and a time, as 2027-01-31T12:00, or a date alone.")
	}
	return f, q, nil
}

// subjectNamed is the subject that somebody writes: "key:ID", or an id alone.
func (v *visit) subjectNamed(s string) quota.Subject {
	kind, _, ok := strings.Cut(s, ":")
	switch {
	case s == "", ok && slices.Contains([]string{"org", "account", "member", "key", "management_key"}, kind):
		return quota.Subject(s)
	case s == v.org():
		return subjectOf(saccount.KindOrg, s)
	case strings.HasPrefix(s, "sa_"):
		return subjectOf(saccount.KindAccount, s)
	case len(s) == 16:
		return subjectOf(saccount.KindKey, s)
	}
	return subjectOf(saccount.KindMember, s)
}

func (v *visit) auditLog() error {
	v.here = "audit"
	f, q, err := v.auditQuery()
	if err != nil {
		return err
	}
	f.Limit, f.Cursor = pageRows, v.text("after")
	p, err := v.svc.Audit(v.ctx, v.org(), f)
	if err != nil {
		return badQuery(err)
	}
	out := auditPage{Rows: auditRows(p.Items), Query: q, First: f.Cursor == "", Any: len(q) > 0, Looked: p.Next != "" && len(p.Items) < pageRows, Orders: orders}
	out.Form = &form{Values: q, Errors: map[string]string{}}
	if p.Next != "" {
		out.More = maps.Clone(q)
		out.More.Set("after", p.Next)
	}
	return v.render("audit", "Audit log", out)
}

// auditCSV and auditJSONL are the log as a file, by the filter of the page.
func (v *visit) auditCSV() error { return v.auditExport(saccount.FormatCSV, typeCSV) }

func (v *visit) auditJSONL() error { return v.auditExport(saccount.FormatJSONL, typeJSONL) }

func (v *visit) auditExport(format saccount.Format, media string) error {
	f, _, err := v.auditQuery()
	if err != nil {
		return err
	}
	return v.stream(v.auditFile(v.org(), f, format, media))
}

// verifyPage is how far a verification got.
type verifyPage struct {
	saccount.Verified
	Last   int64 // entry of the log
	Anchor saccount.Head
	Limit  string
	Plain  bool // what was chained before the service had secrets is taken
}

// Done is how many entries up to Head were looked at, or cut.
func (p verifyPage) Done() int64 { return min(p.Head.Seq, p.Last) }

// verifyAudit verifies the log, or a part of it that is bounded, and says how
// far it got.
func (v *visit) verifyAudit() error {
	v.here = "audit"
	ask, err := verifyQuery(v.form, verifyMost)
	if err != nil {
		return err
	}
	p := verifyPage{Anchor: ask.Anchor, Limit: v.text("limit"), Plain: ask.Unkeyed}
	if p.Verified, err = v.svc.Verify(v.ctx, v.org(), ask); err != nil {
		return badQuery(err)
	}
	if p.Anchor.Seq <= p.Head.Seq {
		p.Anchor = saccount.Head{} // it was held to
	}
	head, err := v.svc.AuditHead(v.ctx, v.org())
	if err != nil {
		return err
	}
	p.Last = max(head.Seq, p.Head.Seq)
	return v.render("audit_verify", "Verification of the audit log", p)
}

// trail is the newest of what the audit log says of a record.
type trail struct {
	Rows  []auditRow
	Query url.Values // of the page with all of it
	Since time.Time
}

// trail looks for what concerns any of subjects among the newest entries of the
// organization, so that a long log makes no page slow.
func (v *visit) trail(subjects ...quota.Subject) (*trail, error) {
	p, err := v.svc.Audit(v.ctx, v.org(), saccount.AuditFilter{Newest: true, Limit: trailLooks})
	if err != nil {
		return nil, err
	}
	t := &trail{Query: url.Values{"subject": {string(subjects[0])}}}
	var found []saccount.AuditEntry
	for _, e := range p.Items {
		if slices.Contains(subjects, e.Subject) && len(found) < trailRows {
			found = append(found, e)
		}
	}
	if p.Next != "" {
		t.Since = p.Items[len(p.Items)-1].At
	}
	t.Rows = auditRows(found)
	return t, nil
}
