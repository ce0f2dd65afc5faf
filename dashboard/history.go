package dashboard

import (
	"encoding/json"
	"errors"
	"net/url"
	"strconv"
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/usage"
)

// counts are usage.Counts.
type counts struct {
	Credits  quota.Credits    `json:"credits" doc:"spent, overage included"`
	Requests int64            `json:"requests" doc:"admitted"`
	Refused  int64            `json:"refused"`
	Reasons  map[string]int64 `json:"reasons,omitempty" doc:"refused requests by reason"`
}

type point struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
	counts
	Partial bool `json:"partial,omitempty" doc:"the range cuts the step that this point belongs to"`
	Coarse  bool `json:"coarse,omitempty" doc:"a folded day that begins here may reach beyond"`
}

type series struct {
	Subject quota.Subject `json:"subject,omitempty" doc:"absent: the sum of several"`
	Points  []point       `json:"points"`
	Total   counts        `json:"total"`
}

type usageView struct {
	Series []series `json:"series"`
}

type total struct {
	Subject quota.Subject `json:"subject"`
	counts
}

type totalsView struct {
	Totals []total `json:"totals"`
}

var subjectParam = param{name: "subject", doc: "org:ID, account:ID, member:ID or key:ID; more than one by repeating it; the organization where there is none", repeated: true, schema: text}

var totalsParams = []param{
	subjectParam,
	{name: "from", doc: "the first instant", schema: when, required: true},
	{name: "to", doc: "the instant after the last", schema: when, required: true},
}

var usageParams = append(totalsParams[:len(totalsParams):len(totalsParams)],
	param{name: "step", doc: "the width of a point; day where it is not given", schema: map[string]any{"type": "string", "enum": []string{"quarter_hour", "hour", "day", "week", "month"}}},
	param{name: "zone", doc: "IANA name of the zone whose calendar is meant; the organization's where it is not given", schema: text},
	param{name: "week_start", doc: "monday, the default, to sunday; with step week", schema: text},
	param{name: "each", doc: "true: a series for each subject; else one for all, who should be siblings", schema: map[string]any{"type": "boolean"}},
)

func countsOf(c usage.Counts) counts {
	out := counts{Credits: c.Credits, Requests: c.Requests, Refused: c.Refused}
	for _, r := range c.Reasons {
		if out.Reasons == nil {
			out.Reasons = map[string]int64{}
		}
		out.Reasons[string(r.Reason)] = r.Requests
	}
	return out
}

// span reads subjects and range.
func (c *call) span(q url.Values) (subjects []quota.Subject, from, to time.Time, err error) {
	for _, s := range q["subject"] {
		subjects = append(subjects, quota.Subject(s))
	}
	if len(subjects) == 0 {
		subjects = []quota.Subject{quota.NewSubject(quota.KindOrg, c.org())}
	}
	if from, err = time.Parse(time.RFC3339Nano, q.Get("from")); err != nil {
		return nil, from, to, badParam("from", "give an instant such as 2026-01-31T00:00:00Z (RFC 3339)")
	}
	if to, err = time.Parse(time.RFC3339Nano, q.Get("to")); err != nil {
		return nil, from, to, badParam("to", "give an instant such as 2026-01-31T00:00:00Z (RFC 3339)")
	}
	return subjects, from, to, nil
}

// badQuery says that the query is wrong, and not the body.
func badQuery(err error) error {
	if errors.Is(err, saccount.ErrInvalid) || errors.Is(err, quota.ErrInvalid) {
		return &problem{Status: 400, Code: codeInvalidRequest, Detail: "The query cannot be answered: " + plainText(err) + ".", Err: err}
	}
	return err
}

func readUsage(c *call) (*reply, error) {
	q, err := c.values()
	if err != nil {
		return nil, err
	}
	u := usage.Query{Org: c.org(), Step: usage.Day, Zone: q.Get("zone"), WeekStart: q.Get("week_start")}
	if u.Subjects, u.From, u.To, err = c.span(q); err != nil {
		return nil, err
	}
	if s := q.Get("step"); s != "" {
		if u.Step, err = usage.ParseStep(s); err != nil {
			return nil, badParam("step", plainText(err))
		}
	}
	switch q.Get("each") {
	case "", "false":
	case "true":
		u.GroupBySubject = true
	default:
		return nil, badParam("each", "give true or false")
	}
	o, err := c.svc.GetOrg(c.ctx, c.org(), saccount.WithDeleted)
	if err != nil {
		return nil, err
	}
	if !q.Has("zone") {
		u.Zone = o.Zone
	}
	all, err := c.svc.Usage(c.ctx, u)
	if err != nil {
		return nil, badQuery(err)
	}
	out := usageView{Series: make([]series, 0, len(all))}
	for _, s := range all {
		x := series{Subject: s.Subject, Points: make([]point, 0, len(s.Points)), Total: countsOf(s.Total)}
		for _, p := range s.Points {
			x.Points = append(x.Points, point{Start: p.Start.UTC(), End: p.End.UTC(), counts: countsOf(p.Counts), Partial: p.Partial, Coarse: p.Coarse})
		}
		out.Series = append(out.Series, x)
	}
	return &reply{body: out}, nil
}

func readTotals(c *call) (*reply, error) {
	q, err := c.values()
	if err != nil {
		return nil, err
	}
	subjects, from, to, err := c.span(q)
	if err != nil {
		return nil, err
	}
	if _, err := c.svc.GetOrg(c.ctx, c.org(), saccount.WithDeleted); err != nil {
		return nil, err
	}
	all, err := c.svc.UsageTotals(c.ctx, c.org(), subjects, from, to)
	if err != nil {
		return nil, badQuery(err)
	}
	out := totalsView{Totals: make([]total, 0, len(all))}
	for _, t := range all {
		out.Totals = append(out.Totals, total{t.Subject, countsOf(t.Counts)})
	}
	return &reply{body: out}, nil
}

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
}

var auditParams = []param{
	listParams[0],
	{name: "after", doc: "the seq of the last entry of the page before; 0, the default, begins with the first", schema: map[string]any{"type": "integer", "minimum": 0}},
}

func readAudit(c *call) (*reply, error) {
	q, err := c.values()
	if err != nil {
		return nil, err
	}
	n, err := pageSize(q)
	if err != nil {
		return nil, err
	}
	after := int64(0)
	if s := q.Get("after"); s != "" {
		if after, err = strconv.ParseInt(s, 10, 64); err != nil || after < 0 {
			return nil, badParam("after", "give the seq of an entry")
		}
	}
	if org := c.partition(); org != saccount.HostPartition {
		if _, err := c.svc.GetOrg(c.ctx, org, saccount.WithDeleted); err != nil {
			return nil, err
		}
	}
	es, err := c.svc.Audit(c.ctx, c.partition(), saccount.AuditFilter{Cursor: strconv.FormatInt(after, 10), Limit: n})
	if err != nil {
		return nil, err
	}
	out := page[auditEntry]{Items: make([]auditEntry, 0, len(es.Items)), Next: es.Next}
	for _, e := range es.Items {
		x := auditEntry{Seq: e.Seq, At: e.At, Actor: e.Actor, Action: e.Action, Subject: e.Subject, Addr: e.Addr, Request: e.Request, Reason: e.Reason}
		for into, raw := range map[*any]json.RawMessage{&x.Before: e.Before, &x.After: e.After} {
			if len(raw) > 0 {
				*into = raw
			}
		}
		out.Items = append(out.Items, x)
	}
	return &reply{body: out}, nil
}
