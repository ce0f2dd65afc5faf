package dashboard

import (
	"cmp"
	"errors"
	"net/url"
	"slices"
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/usage"
)

// reportSpan is a period of a report that a visitor chooses.
type reportSpan struct {
	Name, Label string
	from, to    func(now time.Time) time.Time // now in the zone that days are meant in; to is the instant after
}

// firstOf is the beginning of the month so many months from now.
func firstOf(now time.Time, months int) time.Time {
	return midnight(time.Date(now.Year(), now.Month()+time.Month(months), 1, 12, 0, 0, 0, now.Location()), 0)
}

func untilNow(now time.Time) time.Time { return now.Add(time.Microsecond) }

var reportSpans = []reportSpan{
	{"month", "This month", func(now time.Time) time.Time { return firstOf(now, 0) }, untilNow},
	{"last", "Last month", func(now time.Time) time.Time { return firstOf(now, -1) }, func(now time.Time) time.Time { return firstOf(now, 0) }},
	{"7d", "7 days", func(now time.Time) time.Time { return midnight(now, -6) }, untilNow},
	{"30d", "30 days", func(now time.Time) time.Time { return midnight(now, -29) }, untilNow},
	{"90d", "90 days", func(now time.Time) time.Time { return midnight(now, -89) }, untilNow},
}

// reportPage is a period summed up.
type reportPage struct {
	*saccount.Report
	Spans    []link
	Chart    *chart
	Lines    []*chart // what each limit's windows had spent, day by day
	Change   change
	Requests change
	Refused  change
	Reasons  []reason
	Ranked   []rankTable
	Rank     url.Values // the query of the report with rankings, where they are left out
	CSV      url.Values // the query of the export
	Back     string     // the page of whose report it is, below the organization's
}

// rankTable are those of a kind that spent most.
type rankTable struct {
	Title, Kind string
	Of          int // that spent anything
	Rows        []rankRow
}

type rankRow struct {
	saccount.RankedRecord
	Where  string // its page, below the organization's
	Change change
}

// change is a figure beside that of the period before.
type change struct{ Now, Before, Text string }

func changed(now, before int64, show func(int64) string) change {
	c := change{Now: show(now), Before: show(before)}
	switch {
	case now == before:
		c.Text = "the same as before"
	case before <= 0:
		c.Text = "none before"
	default:
		p := (float64(now) - float64(before)) / float64(before) * 100 // for the eye
		switch {
		case p > 999:
			c.Text = "more than ten times as much as before"
		case p > 0:
			c.Text = "up " + quota.Credits(int64(p+.5)*int64(quota.Credit)).String() + " %"
		default:
			c.Text = "down " + quota.Credits(int64(.5-p)*int64(quota.Credit)).String() + " %"
		}
	}
	return c
}

func (v *visit) orgReport() error {
	v.here = "report"
	return v.report(saccount.ReportQuery{Org: v.org()}, "")
}

func (v *visit) accountReport() error {
	v.here = "accounts"
	return v.report(saccount.ReportQuery{Org: v.org(), Kind: saccount.KindAccount, ID: v.id()}, "accounts/"+url.PathEscape(v.id()))
}

func (v *visit) keyReport() error {
	v.here = "accounts"
	return v.report(saccount.ReportQuery{Org: v.org(), Kind: saccount.KindKey, ID: v.id()}, "keys/"+url.PathEscape(v.id()))
}

func (v *visit) reportSpan() (reportSpan, []link, error) {
	name := cmp.Or(v.text("period"), "month")
	var links []link
	found := -1
	for i, s := range reportSpans {
		links = append(links, link{s.Label, url.Values{"period": {s.Name}}, s.Name == name})
		if s.Name == name {
			found = i
		}
	}
	if found < 0 {
		return reportSpan{}, nil, badRequest("There is no period %.10q: choose month, last, 7d, 30d or 90d.", name)
	}
	return reportSpans[found], links, nil
}

// report sums a period up. To rank accounts, members and keys it reads all that
// spent anything: of an organization with many accounts only where it is asked.
func (v *visit) report(q saccount.ReportQuery, back string) error {
	sp, links, err := v.reportSpan()
	if err != nil {
		return err
	}
	now := v.cfg.Now().In(v.zone())
	q.From, q.To = sp.from(now), sp.to(now)
	var rank url.Values
	if q.Kind == 0 && v.text("rank") != "all" {
		list, err := v.svc.ListAccounts(v.ctx, v.org(), saccount.Filter{Limit: smallOrg})
		if err != nil {
			return err
		}
		if list.Next != "" {
			q.Top, rank = -1, url.Values{"period": {sp.Name}, "rank": {"all"}}
		}
	}
	r, err := v.svc.Report(v.ctx, q)
	if err != nil {
		return badQuery(err)
	}
	p := reportPage{Report: r, Rank: rank, Spans: links, Reasons: reasons(r.Total.Reasons), Back: back, Change: creditsChanged(r.Total, r.Before)}
	p.Requests = changed(r.Total.Requests, r.Before.Requests, byRequests.show)
	p.Refused = changed(r.Total.Refused, r.Before.Refused, byRequests.show)
	month := chartSpans[2]
	p.Chart = drawChart("Credits a day", byCredits, month.layout, usage.Series{Points: r.Days, Total: r.Total}, nil, "", nil, "")
	for _, l := range r.Limits {
		p.Lines = append(p.Lines, lineChart(l, r.Days, month.layout))
	}
	for _, k := range []struct {
		title, kind string
		of          *saccount.Ranking
	}{{"Service accounts that spent most", "accounts", r.Accounts}, {"Members that spent most", "members", r.Members}, {"Keys that spent most", "keys", r.Keys}} {
		if k.of != nil && k.of.Subjects > 0 {
			p.Ranked = append(p.Ranked, rankTable{k.title, k.kind, k.of.Subjects, rankRows(k.of.Top, k.kind)})
		}
	}
	p.CSV = url.Values{"period": {sp.Name}, "subject": {string(r.Subject)}}
	return v.render("report", "Report of "+r.Name, p)
}

func creditsChanged(now, before usage.Counts) change {
	return changed(int64(now.Credits), int64(before.Credits), byCredits.show)
}

func rankRows(top []saccount.RankedRecord, kind string) []rankRow {
	out := make([]rankRow, len(top))
	for i, x := range top {
		if x.Name == "" {
			x.Name = x.Subject.ID()
		}
		out[i] = rankRow{x, kind + "/" + url.PathEscape(x.Subject.ID()), creditsChanged(x.Counts, x.Before)}
	}
	return out
}

// lineChart draws what a limit's window had spent, day by day, below its line.
func lineChart(l saccount.LimitReport, days []usage.Point, layout string) *chart {
	s := usage.Series{Points: make([]usage.Point, len(days))}
	var most quota.Credits
	for i, d := range days {
		s.Points[i] = usage.Point{Start: d.Start, End: d.End, Counts: usage.Counts{Credits: l.Line[i].Reached}}
		most = max(most, l.Line[i].Reached)
	}
	s.Total.Credits = most
	c := drawChart("Limit "+l.Status.Limit+": spent in its window by the end of each day, at most", byCredits, layout, s, nil, "", &l.Status.Max, "limit "+l.Status.Limit+", "+l.Status.Max.String())
	return c
}

// usageCSV is what a report is made of, by day, as a file: of one subject, or of
// every one of a kind.
func (v *visit) usageCSV() error {
	sp, _, err := v.reportSpan()
	if err != nil {
		return err
	}
	now := v.cfg.Now().In(v.zone())
	q := usage.Query{Org: v.org(), From: sp.from(now), To: sp.to(now), Step: usage.Day, Zone: v.of.Zone, GroupBySubject: true}
	switch kind := v.text("kind"); kind {
	case "":
		q.Subjects = []quota.Subject{quota.Subject(cmp.Or(v.text("subject"), string(subjectOf(saccount.KindOrg, v.org()))))}
	case "accounts", "members", "keys":
		q.Kind = kind[:len(kind)-1]
	default:
		return badRequest("Use is exported of accounts, members or keys.")
	}
	return v.stream(v.usageFile(q, saccount.FormatCSV, typeCSV))
}

// suggested is a limit that an account's own peaks suggest.
type suggested struct {
	usage.Suggestion
	Unit string
}

// suggest is the suggested limit of a record by the day, week or month; nil
// where limits of the period are not suggested.
func (v *visit) suggest(kind saccount.Kind, id string, unit quota.Unit) (*suggested, error) {
	step, ok := map[quota.Unit]usage.Step{quota.Day: usage.Day, quota.Week: usage.Week, quota.Month: usage.Month}[unit]
	if !ok {
		return nil, nil
	}
	s, err := v.svc.SuggestLimit(v.ctx, saccount.SuggestQuery{Org: v.org(), Kind: kind, ID: id, Step: step})
	if errors.Is(err, saccount.ErrNotFound) {
		return nil, nil // deleted meanwhile
	}
	return &suggested{s, step.String()}, err
}

// smallOrg is how many accounts an organization has at most whose overview and
// report rank them unasked.
const smallOrg = 100

// overviewCare is what the overview says of where things go, and of what wants
// looking after. All of it is read in bounded steps, however large the
// organization is.
type overviewCare struct {
	Change    change
	Goes      []saccount.LimitReport // the organization's limits, with projections
	Top       []rankRow
	Large     bool // too many accounts to rank on each visit
	Needs     []saccount.NeedyKey
	MoreNeeds bool // there are more keys to look through
	Events    []auditRow
}

const (
	overviewTop    = 5
	overviewNeeds  = 5
	overviewEvents = 8
)

func (v *visit) overviewCare() (c overviewCare, err error) {
	now := v.cfg.Now().In(v.zone())
	r, err := v.svc.Report(v.ctx, saccount.ReportQuery{Org: v.org(), From: midnight(now, -29), To: untilNow(now), Top: -1})
	if err != nil {
		return c, err
	}
	c.Change, c.Goes = creditsChanged(r.Total, r.Before), r.Limits
	if c.Top, c.Large, err = v.topAccounts(r.Period); err != nil {
		return c, err
	}
	rows, next, err := v.needRows(saccount.NeedFilter{Limit: overviewNeeds}, 1)
	if err != nil {
		return c, err
	}
	c.Needs, c.MoreNeeds = rows, next != ""
	log, err := v.svc.Audit(v.ctx, v.org(), saccount.AuditFilter{Newest: true, Limit: overviewEvents})
	if err != nil {
		return c, err
	}
	c.Events = auditRows(log.Items)
	return c, nil
}

// topAccounts ranks the living accounts of an organization that has few.
func (v *visit) topAccounts(p usage.Comparison) (top []rankRow, large bool, err error) {
	list, err := v.svc.ListAccounts(v.ctx, v.org(), saccount.Filter{Limit: smallOrg})
	if err != nil || list.Next != "" || len(list.Items) == 0 {
		return nil, list.Next != "", err
	}
	subjects := make([]quota.Subject, len(list.Items))
	for i, a := range list.Items {
		subjects[i] = subjectOf(saccount.KindAccount, a.ID)
	}
	var totals [2][]usage.Total
	for i, span := range [2][2]time.Time{{p.Before, p.From}, {p.From, p.To}} {
		if totals[i], err = v.svc.UsageTotals(v.ctx, v.org(), subjects, span[0], span[1]); err != nil {
			return nil, false, err
		}
	}
	var all []saccount.RankedRecord
	for i, a := range list.Items {
		x := saccount.RankedRecord{Name: a.Name, Ranked: usage.Ranked{Subject: subjects[i], Counts: totals[1][i].Counts, Before: totals[0][i].Counts}}
		if x.Credits > 0 {
			all = append(all, x)
		}
	}
	slices.SortStableFunc(all, func(a, b saccount.RankedRecord) int { return cmp.Compare(b.Credits, a.Credits) })
	return rankRows(all[:min(len(all), overviewTop)], "accounts"), false, nil
}

// What templates of parts need beside their dot.

type about struct {
	Frame *frame
	Of    saccount.LimitReport
}

// About is a limit's report with the frame.
func (f *frame) About(l saccount.LimitReport) about { return about{f, l} }

type table struct {
	Frame *frame
	Title string
	Rows  []rankRow
}

// Table is a ranking with the frame.
func (f *frame) Table(title string, rows []rankRow) table { return table{f, title, rows} }

type events struct {
	Frame *frame
	Rows  []auditRow
}

// Events are entries of the audit log with the frame.
func (f *frame) Events(rows []auditRow) events { return events{f, rows} }
