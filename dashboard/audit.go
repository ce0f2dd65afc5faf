package dashboard

import (
	"encoding/json"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// auditEntry is what the audit log says of one change.
type auditEntry struct {
	Seq     int64          `json:"seq" doc:"from 1 in each organization, without gaps"`
	At      time.Time      `json:"at"`
	Actor   saccount.Actor `json:"actor"`
	Action  string         `json:"action"`
	Subject quota.Subject  `json:"subject"`
	Addr    string         `json:"addr,omitempty" doc:"where the call came from"`
	Request string         `json:"request,omitempty" doc:"the id of the request that it came with"`
	Reason  string         `json:"reason,omitempty" doc:"why, where it was nobody's wish: a policy, a leak"`
	Before  any            `json:"before,omitempty" doc:"the record as it was, by the library's own names"`
	After   any            `json:"after,omitempty" doc:"the record as it became"`
	Mark    string         `json:"mark,omitempty" doc:"ties it to the entries before it"`
}

var auditFilters = []param{
	{name: "actor", doc: "whose changes, exactly", schema: text},
	{name: "action", doc: "create, update, disable, rotate, ...", schema: text},
	{name: "subject", doc: "of what: org:ID, account:ID, member:ID, key:ID or management_key:ID", schema: text},
	{name: "from", doc: "entries at this instant or after", schema: when},
	{name: "to", doc: "entries before this instant", schema: when},
	{name: "order", doc: "oldest, the default, or newest: which comes first", schema: map[string]any{"type": "string", "enum": []string{"oldest", "newest"}}},
}

var auditParams = append([]param{
	listParams[0],
	{name: "after", doc: "the next of the page before, or the seq of an entry: those behind it in the order", schema: map[string]any{"type": "integer", "minimum": 0}},
}, auditFilters...)

var exportAuditParams = append([]param{formatParam}, auditFilters...)

// auditFilter reads the query: which entries are asked for, and the rest.
func (c *call) auditFilter() (q url.Values, f saccount.AuditFilter, err error) {
	if q, err = c.values(); err != nil {
		return q, f, err
	}
	f = saccount.AuditFilter{Actor: saccount.Actor(q.Get("actor")), Action: q.Get("action"), Subject: quota.Subject(q.Get("subject"))}
	if f.From, err = instantOf(q, "from"); err != nil {
		return q, f, err
	}
	if f.To, err = instantOf(q, "to"); err != nil {
		return q, f, err
	}
	switch q.Get("order") {
	case "", "oldest":
	case "newest":
		f.Newest = true
	default:
		return q, f, badParam("order", "give oldest or newest")
	}
	return q, f, nil
}

// audited is the partition whose audit log the path names, of an organization
// that is, or was, there.
func (c *call) audited() (string, error) {
	org := c.partition()
	if org == saccount.HostPartition {
		return org, nil
	}
	_, err := c.svc.GetOrg(c.ctx, org, saccount.WithDeleted)
	return org, err
}

func readAudit(c *call) (*reply, error) {
	q, f, err := c.auditFilter()
	if err != nil {
		return nil, err
	}
	if f.Limit, err = pageSize(q); err != nil {
		return nil, err
	}
	if s := q.Get("after"); s != "" {
		after, err := strconv.ParseInt(s, 10, 64)
		if err != nil || after < 0 {
			return nil, badParam("after", "give the seq of an entry")
		}
		f.Cursor = strconv.FormatInt(after, 10)
	}
	org, err := c.audited()
	if err != nil {
		return nil, err
	}
	es, err := c.svc.Audit(c.ctx, org, f)
	if err != nil {
		return nil, badQuery(err)
	}
	out := page[auditEntry]{Items: make([]auditEntry, 0, len(es.Items)), Next: es.Next}
	for _, e := range es.Items {
		x := auditEntry{Seq: e.Seq, At: e.At, Actor: e.Actor, Action: e.Action, Subject: e.Subject, Addr: e.Addr, Request: e.Request, Reason: e.Reason, Mark: e.Mark}
		for into, raw := range map[*any]json.RawMessage{&x.Before: e.Before, &x.After: e.After} {
			if len(raw) > 0 {
				*into = raw
			}
		}
		out.Items = append(out.Items, x)
	}
	return &reply{body: out}, nil
}

func exportAudit(c *call) (*reply, error) {
	q, f, err := c.auditFilter()
	if err != nil {
		return nil, err
	}
	format, media, err := formatOf(q.Get("format"))
	if err != nil {
		return nil, err
	}
	org, err := c.audited()
	if err != nil {
		return nil, err
	}
	return &reply{file: c.auditFile(org, f, format, media)}, nil
}

func (c *call) auditFile(org string, f saccount.AuditFilter, format saccount.Format, media string) *file {
	write := saccount.WriteAuditJSONL
	if format == saccount.FormatCSV {
		write = saccount.WriteAuditCSV
	}
	f.Limit = saccount.MaxPage
	return &file{media, "audit." + string(format), func(w io.Writer) error {
		return write(w, c.svc.AuditEntries(c.ctx, org, f))
	}}
}

// auditHead is where an audit log ends.
type auditHead struct {
	Seq  int64  `json:"seq" doc:"0: the log is empty"`
	Mark string `json:"mark,omitempty"`
}

type breach struct {
	Seq    int64  `json:"seq" doc:"of the first entry that is bad, or missing"`
	Kind   string `json:"kind" doc:"changed, removed, inserted, reordered, cut front, cut tail, copied, replaced, unmarked, unkeyed or unknown secret"`
	Detail string `json:"detail"`
}

// auditVerification is saccount.Verified.
type auditVerification struct {
	Through int64     `json:"through" doc:"entries up to this one were cut from the front by retention; 0: none were"`
	Entries int64     `json:"entries" doc:"that are as they were written, in a row from the first, or from from_seq, on"`
	Unkeyed int64     `json:"unkeyed" doc:"of these, chained without a secret"`
	Head    auditHead `json:"head" doc:"the last of them. Kept elsewhere it is an anchor: give it later as anchor_seq and anchor_mark"`
	More    bool      `json:"more" doc:"there are more: go on with head as from_seq and from_mark"`
	Bad     *breach   `json:"bad,omitempty" doc:"the first place where the log is not what was written; absent: none was found"`
}

const (
	verifySteps = 10_000 // entries of a verification where it is not said
	verifyMost  = 100_000
)

var verifyParams = []param{
	{name: "anchor_seq", doc: "with anchor_mark: a head that was kept elsewhere, which the log must still hold", schema: map[string]any{"type": "integer", "minimum": 1}},
	{name: "anchor_mark", doc: "see anchor_seq", schema: text},
	{name: "from_seq", doc: "with from_mark: the head of the verification before, to go on from", schema: map[string]any{"type": "integer", "minimum": 1}},
	{name: "from_mark", doc: "see from_seq", schema: text},
	{name: "limit", doc: "how many entries are looked at; 10000 where it is not given", schema: map[string]any{"type": "integer", "minimum": 1, "maximum": verifyMost}},
	{name: "unkeyed", doc: "true: take what was chained before the host had secrets", schema: map[string]any{"type": "boolean"}},
}

// headOf reads a head of two parameters.
func headOf(q url.Values, name string) (h saccount.Head, err error) {
	s := strings.TrimSpace(q.Get(name + "_seq"))
	h.Mark = strings.TrimSpace(q.Get(name + "_mark"))
	if s == "" && h.Mark == "" {
		return h, nil
	}
	h.Seq, err = strconv.ParseInt(s, 10, 64)
	if err != nil || h.Seq < 1 {
		return h, badParam(name+"_seq", "give the seq of the head, with its mark")
	}
	if h.Mark == "" || len(h.Mark) > saccount.MaxMark {
		return h, badParam(name+"_mark", "give the mark of the head, with its seq")
	}
	return h, nil
}

// verifyQuery reads what a log is held to, and how much of it is looked at.
func verifyQuery(q url.Values, most int64) (v saccount.Verify, err error) {
	v.Most = most
	if v.Anchor, err = headOf(q, "anchor"); err != nil {
		return v, err
	}
	if v.From, err = headOf(q, "from"); err != nil {
		return v, err
	}
	if v.Unkeyed, err = truth(q, "unkeyed"); err != nil {
		return v, err
	}
	if s := q.Get("limit"); s != "" {
		if v.Most, err = strconv.ParseInt(s, 10, 64); err != nil || v.Most < 1 || v.Most > verifyMost {
			return v, badParam("limit", "give 1 to "+strconv.Itoa(verifyMost))
		}
	}
	return v, nil
}

func verifyAudit(c *call) (*reply, error) {
	q, err := c.values()
	if err != nil {
		return nil, err
	}
	v, err := verifyQuery(q, verifySteps)
	if err != nil {
		return nil, err
	}
	org, err := c.audited()
	if err != nil {
		return nil, err
	}
	got, err := c.svc.Verify(c.ctx, org, v)
	if err != nil {
		return nil, badQuery(err)
	}
	out := auditVerification{Through: got.Through, Entries: got.Entries, Unkeyed: got.Unkeyed, Head: auditHead(got.Head), More: got.More}
	if b := got.Bad; b != nil {
		out.Bad = &breach{b.Seq, string(b.Kind), b.Detail}
	}
	return &reply{body: out}, nil
}
