package dashboard

import (
	"errors"
	"net/url"
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
	eachParam,
)

var eachParam = param{name: "each", doc: "true: a series for each subject; else one for all, who should be siblings", schema: map[string]any{"type": "boolean"}}

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

func pointsOf(ps []usage.Point) []point {
	out := make([]point, 0, len(ps))
	for _, p := range ps {
		out = append(out, point{Start: p.Start.UTC(), End: p.End.UTC(), counts: countsOf(p.Counts), Partial: p.Partial, Coarse: p.Coarse})
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
	if from, err = instantOf(q, "from"); err != nil {
		return nil, from, to, err
	}
	to, err = instantOf(q, "to")
	return subjects, from, to, err
}

// instantOf reads a parameter; the zero time where it is not given.
func instantOf(q url.Values, name string) (time.Time, error) {
	s := q.Get(name)
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.IsZero() {
		return t, badParam(name, "give an instant such as 2026-01-31T00:00:00Z (RFC 3339)")
	}
	return t, nil
}

// badQuery says that the query is wrong, and not the body.
func badQuery(err error) error {
	if errors.Is(err, saccount.ErrInvalid) || errors.Is(err, quota.ErrInvalid) {
		return &problem{Status: 400, Code: codeInvalidRequest, Detail: "The query cannot be answered: " + plainText(err) + ".", Err: err}
	}
	return err
}

// usageQuery reads what a series is asked for by. The organization may be
// deleted.
func (c *call) usageQuery(q url.Values) (u usage.Query, err error) {
	u = usage.Query{Org: c.org(), Step: usage.Day, Zone: q.Get("zone"), WeekStart: q.Get("week_start")}
	if u.Subjects, u.From, u.To, err = c.span(q); err != nil {
		return u, err
	}
	if s := q.Get("step"); s != "" {
		if u.Step, err = usage.ParseStep(s); err != nil {
			return u, badParam("step", plainText(err))
		}
	}
	o, err := c.svc.GetOrg(c.ctx, c.org(), saccount.WithDeleted)
	if err != nil {
		return u, err
	}
	if !q.Has("zone") {
		u.Zone = o.Zone
	}
	return u, nil
}

// truth reads a parameter that is true or false.
func truth(q url.Values, name string) (bool, error) {
	switch q.Get(name) {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	}
	return false, badParam(name, "give true or false")
}

func readUsage(c *call) (*reply, error) {
	q, err := c.values()
	if err != nil {
		return nil, err
	}
	each, err := truth(q, "each")
	if err != nil {
		return nil, err
	}
	u, err := c.usageQuery(q)
	if err != nil {
		return nil, err
	}
	u.GroupBySubject = each
	all, err := c.svc.Usage(c.ctx, u)
	if err != nil {
		return nil, badQuery(err)
	}
	out := usageView{Series: make([]series, 0, len(all))}
	for _, s := range all {
		out.Series = append(out.Series, series{Subject: s.Subject, Points: pointsOf(s.Points), Total: countsOf(s.Total)})
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
