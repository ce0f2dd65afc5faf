package dashboard

import (
	"net/url"
	"strconv"
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/usage"
)

// reportView is saccount.Report.
type reportView struct {
	Subject  quota.Subject `json:"subject"`
	Name     string        `json:"name"`
	Deleted  bool          `json:"deleted,omitempty"`
	Zone     string        `json:"zone" doc:"whose days are meant"`
	Period   reportPeriod  `json:"period"`
	Total    counts        `json:"total"`
	Before   counts        `json:"before" doc:"in the period before"`
	Days     []point       `json:"days" doc:"they tile the period"`
	Limits   []limitReport `json:"limits,omitempty" doc:"the subject's own, as they stand now"`
	Accounts *ranking      `json:"accounts,omitempty" doc:"of an organization"`
	Members  *ranking      `json:"members,omitempty" doc:"of an organization"`
	Keys     *ranking      `json:"keys,omitempty" doc:"of an organization or an account"`
}

type reportPeriod struct {
	Before time.Time `json:"before" doc:"the start of the period that it is compared with, which ends where this begins"`
	From   time.Time `json:"from"`
	To     time.Time `json:"to"`
}

type limitReport struct {
	Status     limitStatus `json:"status"`
	Projection projection  `json:"projection"`
	Line       []linePoint `json:"line" doc:"a point for each of the days"`
}

type linePoint struct {
	Reached quota.Credits `json:"reached" doc:"the most that a window of the limit had spent in the day"`
	Max     quota.Credits `json:"max"`
}

type projection struct {
	Known   bool           `json:"known" doc:"false: there is too little to go by, and the rest is absent"`
	RunsOut time.Time      `json:"runs_out,omitzero" doc:"when nothing is left; absent: not before the window ends"`
	ByDay   time.Time      `json:"by_day,omitzero" doc:"the same at the pace of the last 24 hours alone"`
	ByWeek  time.Time      `json:"by_week,omitzero" doc:"the same at the pace of the last 7 days alone"`
	AtEnd   *quota.Credits `json:"at_end,omitempty" doc:"what will have been used when the window ends; absent where it never does"`
}

type ranking struct {
	Subjects int      `json:"subjects" doc:"that spent or asked for anything"`
	Top      []ranked `json:"top" doc:"those that spent most"`
}

type ranked struct {
	Subject quota.Subject `json:"subject"`
	Name    string        `json:"name"`
	Account string        `json:"account,omitempty" doc:"of a key, its account's id"`
	Deleted bool          `json:"deleted,omitempty"`
	counts
	Before counts `json:"before"`
}

const maxTop = 100

var reportParams = []param{
	{name: "from", doc: "the first instant; without it, that of the month of to", schema: when},
	{name: "to", doc: "the instant after the last; without it, now", schema: when},
	{name: "zone", doc: "IANA name of the zone whose days are meant; the organization's where it is not given", schema: text},
	{name: "top", doc: "how many accounts, members and keys are ranked; 10 where it is not given. All that spent anything in the period are read for it; 0 ranks none", schema: map[string]any{"type": "integer", "minimum": 0, "maximum": maxTop}},
}

// report sums up a period of a record.
func (k *resource) report(c *call) (*reply, error) {
	q, err := c.values()
	if err != nil {
		return nil, err
	}
	org, id := k.at(c)
	ask := saccount.ReportQuery{Org: org, Kind: k.kind, ID: id, Zone: q.Get("zone")}
	if ask.From, err = instantOf(q, "from"); err != nil {
		return nil, err
	}
	if ask.To, err = instantOf(q, "to"); err != nil {
		return nil, err
	}
	if s := q.Get("top"); s != "" {
		if ask.Top, err = strconv.Atoi(s); err != nil || ask.Top < 0 || ask.Top > maxTop {
			return nil, badParam("top", "give 0 to "+strconv.Itoa(maxTop))
		}
		if ask.Top == 0 {
			ask.Top = -1
		}
	}
	r, err := c.svc.Report(c.ctx, ask)
	if err != nil {
		return nil, badQuery(err)
	}
	out := reportView{
		Subject: r.Subject, Name: r.Name, Deleted: r.Deleted, Zone: r.Zone, Total: countsOf(r.Total), Before: countsOf(r.Before), Days: pointsOf(r.Days),
		Period:   reportPeriod{r.Period.Before.UTC(), r.Period.From.UTC(), r.Period.To.UTC()},
		Accounts: rankingOf(r.Accounts), Members: rankingOf(r.Members), Keys: rankingOf(r.Keys),
	}
	for i := range r.Limits {
		l := &r.Limits[i]
		x := limitReport{Status: statusesOf([]quota.LimitStatus{l.Status})[0], Projection: projectionOf(l), Line: make([]linePoint, 0, len(l.Line))}
		for _, p := range l.Line {
			x.Line = append(x.Line, linePoint(p))
		}
		out.Limits = append(out.Limits, x)
	}
	return &reply{body: out}, nil
}

func projectionOf(l *saccount.LimitReport) projection {
	p := l.Projection
	out := projection{Known: p.Known, RunsOut: p.RunsOut, ByDay: p.ByDay, ByWeek: p.ByWeek}
	if p.Known && !l.Status.ResetAt.IsZero() {
		out.AtEnd = &p.AtEnd
	}
	return out
}

func rankingOf(r *saccount.Ranking) *ranking {
	if r == nil {
		return nil
	}
	out := &ranking{Subjects: r.Subjects, Top: make([]ranked, 0, len(r.Top))}
	for _, x := range r.Top {
		out.Top = append(out.Top, ranked{Subject: x.Subject, Name: x.Name, Account: x.Account, Deleted: x.Deleted, counts: countsOf(x.Counts), Before: countsOf(x.Before)})
	}
	return out
}

// suggestion is usage.Suggestion.
type suggestion struct {
	Step     string         `json:"step" doc:"the period of the limit"`
	Max      *quota.Credits `json:"max,omitempty" doc:"p95 and the head room, rounded up to two digits; absent where there is too little to go by"`
	Enough   bool           `json:"enough" doc:"there were as many steps with spending as are needed"`
	Have     int            `json:"have" doc:"whole steps with spending in the history"`
	Need     int            `json:"need"`
	P95      quota.Credits  `json:"p95" doc:"95 of 100 steps with spending were no greater"`
	Peak     quota.Credits  `json:"peak" doc:"the greatest of them"`
	HeadRoom int            `json:"head_room" doc:"percent"`
	Over     int            `json:"over" doc:"steps of the history that were above max"`
	Capped   int            `json:"capped" doc:"steps that saw requests refused for a limit: the need was greater than what is shown"`
}

const maxHeadRoom = 1000

var suggestParams = []param{
	{name: "step", doc: "the period of the limit; month where it is not given", schema: map[string]any{"type": "string", "enum": []string{"day", "week", "month"}}},
	{name: "head_room", doc: "percent above the 95th percentile; 25 where it is not given", schema: map[string]any{"type": "integer", "minimum": 0, "maximum": maxHeadRoom}},
}

func suggestQuery(q url.Values) (s saccount.SuggestQuery, err error) {
	s.Step = usage.Month
	if name := q.Get("step"); name != "" {
		if s.Step, err = usage.ParseStep(name); err != nil || s.Step != usage.Day && s.Step != usage.Week && s.Step != usage.Month {
			return s, badParam("step", "give day, week or month")
		}
	}
	if room := q.Get("head_room"); room != "" {
		if s.HeadRoom, err = strconv.Atoi(room); err != nil || s.HeadRoom < 0 || s.HeadRoom > maxHeadRoom {
			return s, badParam("head_room", "give 0 to "+strconv.Itoa(maxHeadRoom))
		}
		if s.HeadRoom == 0 {
			s.HeadRoom = -1
		}
	}
	return s, nil
}

// suggest suggests a limit from what was spent.
func (k *resource) suggest(c *call) (*reply, error) {
	q, err := c.values()
	if err != nil {
		return nil, err
	}
	ask, err := suggestQuery(q)
	if err != nil {
		return nil, err
	}
	ask.Kind = k.kind
	ask.Org, ask.ID = k.at(c)
	s, err := c.svc.SuggestLimit(c.ctx, ask)
	if err != nil {
		return nil, badQuery(err)
	}
	out := suggestion{Step: s.Step.String(), Enough: s.Enough, Have: s.Have, Need: s.Need, P95: s.P95, Peak: s.Peak, HeadRoom: s.HeadRoom, Over: s.Over, Capped: s.Capped}
	if s.Enough {
		out.Max = &s.Max
	}
	return &reply{body: out}, nil
}
