package saccount

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/usage"
)

// DefaultTop is how many subjects a Report ranks where it is not said.
const DefaultTop = 10

// maxTop bounds ReportQuery.Top: each of them is looked up for its name.
const maxTop = 100

// ReportQuery asks for a Report.
type ReportQuery struct {
	Org string
	// Kind and ID name whose report it is: an account, member or key. Zero:
	// the organization's own. What was deleted has reports too.
	Kind Kind
	ID   string
	// From and To are the period. A zero From is the start of To's month, a
	// zero To is now.
	From, To time.Time
	// Zone is the IANA name of the zone whose days are meant. Empty: the
	// organization's.
	Zone string
	// Top is how many accounts, members and keys are ranked, at most 100. Zero
	// is DefaultTop; negative is none.
	Top int
}

// Report is what a subject spent and asked for in a period: what people look at
// first. All of it is JSON.
type Report struct {
	Org     string        `json:"org"`
	Subject quota.Subject `json:"subject"`
	Name    string        `json:"name"`
	Deleted bool          `json:"deleted,omitempty"`
	Zone    string        `json:"zone"`
	// Period is the report's and the one that it is compared with: see
	// usage.Compare.
	Period usage.Comparison `json:"period"`
	Total  usage.Counts     `json:"total"`
	Before usage.Counts     `json:"before"` // in the period before
	// Days tile the period, those without any usage too.
	Days []usage.Point `json:"days"`
	// Limits are the subject's own, as they stand now; of what was deleted,
	// none.
	Limits []LimitReport `json:"limits,omitempty"`
	// Accounts, Members and Keys are those that spent most: of an organization
	// all three, of an account its keys. The deleted are among them.
	Accounts *Ranking `json:"accounts,omitempty"`
	Members  *Ranking `json:"members,omitempty"`
	Keys     *Ranking `json:"keys,omitempty"`
}

// LimitReport is a limit with where it goes.
type LimitReport struct {
	Status     quota.LimitStatus `json:"status"`
	Projection usage.Projection  `json:"projection"`
	// Line has a point for each of Report.Days: see usage.Lines.
	Line []usage.LinePoint `json:"line"`
}

// Ranking are the subjects of a kind that spent most in a period.
type Ranking struct {
	Top      []RankedRecord `json:"top"`
	Subjects int            `json:"subjects"` // that spent or asked for anything
}

// RankedRecord is a subject in a Ranking with what its record says.
type RankedRecord struct {
	usage.Ranked
	Name    string `json:"name"`
	Account string `json:"account,omitempty"` // of a key, its account's id
	Deleted bool   `json:"deleted,omitempty"`
}

// Report sums up a period: of an organization, account, member or key. However
// many accounts and keys there are and whatever the period, it takes a handful
// of reads and, of an account, one for each thousand of its keys. It is as of
// now: charges that settle later, and refunds, change it. Errors: ErrNotFound,
// ErrInvalid, quota.ErrOverflow and the store's.
func (s *Service) Report(ctx context.Context, q ReportQuery) (*Report, error) {
	if err := s.reads(ctx, "report"); err != nil {
		return nil, err
	}
	r, err := s.report(ctx, q)
	if err != nil {
		return nil, s.mark(fmt.Errorf("saccount: report: %w", err))
	}
	return r, nil
}

func (s *Service) report(ctx context.Context, q ReportQuery) (*Report, error) {
	if q.Kind == 0 {
		q.Kind, q.ID = KindOrg, q.Org
	}
	switch {
	case q.Top == 0:
		q.Top = DefaultTop
	case q.Top > maxTop:
		return nil, fmt.Errorf("%w Top %d: at most %d", ErrInvalid, q.Top, maxTop)
	}
	l, n, zone, err := s.reported(ctx, q.Org, q.Kind, q.ID)
	if err != nil {
		return nil, err
	}
	if q.Zone == "" {
		q.Zone = zone
	}
	now := s.now()
	if q.To.IsZero() {
		q.To = now
	}
	if q.From.IsZero() {
		w, err := (quota.Period{Unit: quota.Month, Zone: q.Zone}).WindowAt(q.To.Add(-1))
		if err != nil {
			return nil, err
		}
		q.From = w.Start
	}
	r := &Report{Org: q.Org, Subject: n.subject(), Name: n.Name, Deleted: l.dead(), Zone: q.Zone}
	if r.Zone == "" {
		r.Zone = "UTC"
	}
	if r.Period, err = usage.Compare(q.From, q.To, q.Zone); err != nil {
		return nil, err
	}
	own := []quota.Subject{r.Subject}
	days, err := usage.Read(ctx, s.store, usage.Query{Org: q.Org, Subjects: own, From: q.From, To: q.To, Step: usage.Day, Zone: q.Zone})
	if err != nil {
		return nil, err
	}
	r.Total, r.Days = days[0].Total, days[0].Points
	if r.Period.Before.Before(r.Period.From) {
		before, err := usage.Totals(ctx, s.store, q.Org, own, r.Period.Before, r.Period.From)
		if err != nil {
			return nil, err
		}
		r.Before = before[0].Counts
	}
	if !r.Deleted {
		if r.Limits, err = s.limitReports(ctx, n, r.Days, now); err != nil {
			return nil, err
		}
	}
	if q.Top < 0 {
		return r, nil
	}
	switch q.Kind {
	case KindOrg:
		for _, k := range []struct {
			kind Kind
			into **Ranking
		}{{KindAccount, &r.Accounts}, {KindMember, &r.Members}, {KindKey, &r.Keys}} {
			if *k.into, err = s.ranking(ctx, q.Org, k.kind, "", q.Top, r.Period); err != nil {
				return nil, err
			}
		}
	case KindAccount:
		if r.Keys, err = s.ranking(ctx, q.Org, KindKey, q.ID, q.Top, r.Period); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// reported finds whose report it is, deleted or not, and the organization's zone.
func (s *Service) reported(ctx context.Context, org string, kind Kind, id string) (l Lineage, n *node, zone string, err error) {
	if l, err = s.lookup(ctx, org, kind, id); err != nil {
		return l, nil, "", err
	}
	if n, err = readNode(l.Record); err != nil {
		return l, nil, "", err
	}
	root := n
	if l.Org != nil {
		if root, err = readNode(*l.Org); err != nil {
			return l, nil, "", err
		}
	}
	return l, n, root.Zone, nil
}

// limitReports says of a record's own limits how they stand and where they go.
func (s *Service) limitReports(ctx context.Context, n *node, days []usage.Point, now time.Time) ([]LimitReport, error) {
	if len(n.Limits) == 0 {
		return nil, nil
	}
	purse, err := n.purse(s.cfg.Thresholds)
	if err != nil {
		return nil, err
	}
	all, err := s.ledger.Statuses(ctx, n.Org, []*quota.Purse{purse}, now)
	if err != nil {
		return nil, err
	}
	st := all[0]
	paces, err := usage.Paces(ctx, s.store, n.Org, []quota.Subject{n.subject()}, now)
	if err != nil {
		return nil, err
	}
	pace := paces[0].Since(n.Created)
	limited := make([]usage.Limited, len(st))
	for i := range st {
		limited[i] = usage.Limited{Limit: *n.limit(st[i].Limit), Status: st[i]}
	}
	lines, err := usage.Lines(ctx, s.store, n.Org, n.subject(), limited, days, now)
	if err != nil {
		return nil, err
	}
	out := make([]LimitReport, len(st))
	for i := range st {
		p, err := usage.Project(st[i], pace)
		if err != nil {
			return nil, err
		}
		out[i] = LimitReport{Status: st[i], Projection: p, Line: lines[i]}
	}
	return out, nil
}

// ranking ranks the subjects of a kind; of keys, those of an account where one
// is named.
func (s *Service) ranking(ctx context.Context, org string, kind Kind, account string, top int, period usage.Comparison) (*Ranking, error) {
	rank, err := usage.NewRanking(top, period)
	if err != nil {
		return nil, err
	}
	if account == "" {
		err = rank.Read(ctx, s.store, org, kind.String())
	} else {
		err = s.eachPage(ctx, ListQuery{Kind: kind, Org: org, Parent: account}, func(page []Record) error {
			keys := make([]quota.Subject, len(page))
			for i := range page {
				keys[i] = quota.NewSubject(kind.String(), page[i].ID)
			}
			return rank.Read(ctx, s.store, org, "", keys...)
		})
	}
	if err != nil {
		return nil, err
	}
	out := &Ranking{Subjects: rank.Subjects()}
	ranked := rank.Top()
	ids := make([]string, len(ranked))
	for i := range ranked {
		ids[i] = ranked[i].Subject.ID()
	}
	if len(ids) == 0 {
		return out, nil
	}
	ls, err := s.store.Lookups(ctx, org, kind, ids)
	if err != nil {
		return nil, err
	}
	for i, x := range ranked { // usage without a record is named by its id
		r := RankedRecord{Ranked: x, Name: ls[i].Record.Name, Deleted: ls[i].dead()}
		if kind == KindKey {
			r.Account = ls[i].Record.Parent
		}
		out.Top = append(out.Top, r)
	}
	return out, nil
}

// everyStatus lets every record through a list.
var everyStatus = []Status{StatusActive, StatusDisabled, StatusExpired, StatusDeleted}

// eachPage walks a list, the deleted too.
func (s *Service) eachPage(ctx context.Context, q ListQuery, fn func([]Record) error) error {
	q.Statuses, q.Limit, q.Now = everyStatus, MaxPage, s.now()
	for {
		page, more, err := s.store.List(ctx, q)
		if err != nil {
			return err
		}
		if len(page) > 0 {
			if err := fn(page); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
		q.After = q.Cursor(&page[len(page)-1])
	}
}

// SuggestQuery asks for a Suggestion.
type SuggestQuery struct {
	Org  string
	Kind Kind // of whom: an account, member, key, or the organization
	ID   string
	// Step is the period of the limit: usage.Day, usage.Week or usage.Month.
	Step usage.Step
	// HeadRoom is what is added, in percent, at most 1000. Zero is
	// usage.DefaultHeadRoom; negative is none.
	HeadRoom int
}

// How far SuggestLimit looks back.
var lookBack = map[usage.Step]int{usage.Day: 90, usage.Week: 366, usage.Month: 732}

// SuggestLimit suggests a limit from what a subject spent: in the last 90 days
// for a limit by day, the last year for one by week, the last two years for one
// by month, on the calendar of the organization's zone. See usage.Suggest for
// the rule and for what it says where there is too little to go by. Errors:
// ErrNotFound, also for what was deleted, ErrInvalid and the store's.
func (s *Service) SuggestLimit(ctx context.Context, q SuggestQuery) (usage.Suggestion, error) {
	out, err := s.suggest(ctx, q)
	if err != nil {
		return usage.Suggestion{}, s.mark(fmt.Errorf("saccount: suggest a limit: %w", err))
	}
	return out, nil
}

func (s *Service) suggest(ctx context.Context, q SuggestQuery) (out usage.Suggestion, err error) {
	if err := s.reads(ctx, "suggest a limit"); err != nil {
		return out, err
	}
	back, ok := lookBack[q.Step]
	if !ok {
		return out, fmt.Errorf("%w Step %v: give usage.Day, usage.Week or usage.Month", ErrInvalid, q.Step)
	}
	switch {
	case q.HeadRoom == 0:
		q.HeadRoom = usage.DefaultHeadRoom
	case q.HeadRoom < 0:
		q.HeadRoom = 0
	}
	l, n, zone, err := s.reported(ctx, q.Org, q.Kind, q.ID)
	if err != nil {
		return out, err
	}
	if l.dead() {
		return out, fmt.Errorf("%s %q: %w", q.Kind, q.ID, ErrNotFound)
	}
	now := s.now()
	series, err := usage.Read(ctx, s.store, usage.Query{
		Org: q.Org, Subjects: []quota.Subject{n.subject()}, From: now.AddDate(0, 0, -back), To: now, Step: q.Step, Zone: zone,
	})
	if err != nil {
		return out, err
	}
	// The step that it was made in is cut too, though the range is not.
	points := series[0].Points
	if i := slices.IndexFunc(points, func(p usage.Point) bool { return n.Created.Before(p.End) }); i >= 0 && n.Created.After(points[i].Start) {
		points[i].Partial = true
	}
	return usage.Suggest(series[0], q.Step, q.HeadRoom)
}
