package dashboard

import (
	"cmp"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/usage"
)

// limitCard is a limit with everything that can be done to it.
type limitCard struct {
	meter
	Period string
	Raise  *quota.Raise
	TopUps []quota.TopUp
	Where  string // the path of its form, below the organization's
	Short  bool   // its first window is shorter: Max is less than what was set
	Set    quota.Credits
}

// keyRow is a key as lists show it.
type keyRow struct {
	saccount.Key
	Limits []meter
}

// figures is what the pages of whoever has limits say alike: how they stand, and
// what was used.
type figures struct {
	Limits   []limitCard
	Where    string // the path of the form that adds a limit
	Chart    *chart
	Spans    []link
	Measures []link
	Used     usage.Counts
	Period   string // the span that the chart shows
}

type accountPage struct {
	figures
	Account   saccount.Account
	Status    saccount.Status
	Keys      []keyRow
	MoreKeys  url.Values // the query of the page with the keys behind these
	FirstKeys bool
	CSV       string
	Trail     *trail
	Alerts    alertPanel
}

// link is one of several choices that are addresses.
type link struct {
	Label string
	Query url.Values
	On    bool
}

// account is the page of one service account.
func (v *visit) account() error {
	v.here = "accounts"
	a, err := v.svc.GetAccount(v.ctx, v.org(), v.id(), saccount.WithDeleted)
	if err != nil {
		return err
	}
	v.past = !a.Deleted.IsZero()
	o := ofAccount(a)
	p := accountPage{Account: a, Status: o.status}
	keys, err := v.keyRows(a, &p)
	if err != nil {
		return err
	}
	if p.figures, err = v.figures(o, keys, p.MoreKeys != nil || !p.FirstKeys); err != nil {
		return err
	}
	p.CSV = "usage.csv?" + url.Values{"period": {p.Period}}.Encode()
	subjects := []quota.Subject{subjectOf(saccount.KindAccount, a.ID)}
	for _, k := range keys {
		subjects = append(subjects, subjectOf(saccount.KindKey, k.ID))
	}
	if p.Trail, err = v.trail(subjects...); err != nil {
		return err
	}
	if p.Alerts, err = v.alertsOf(subjectOf(saccount.KindAccount, a.ID), keys); err != nil {
		return err
	}
	return v.render("account", a.Name, p)
}

// figures reads how somebody's limits stand, and what was used: of an account by
// keys, which more than these may have done.
func (v *visit) figures(o limited, keys []saccount.Key, more bool) (a figures, err error) {
	a.Where = strings.TrimSuffix(o.path(""), "/")
	if a.Limits, err = v.limitCards(o); err != nil {
		return a, err
	}
	sp, m, err := v.choose(&a.Spans, &a.Measures)
	if err != nil {
		return a, err
	}
	whole, parts, err := v.byKey(subjectOf(o.kind, o.id), keys, sp, m)
	if err != nil {
		return a, err
	}
	rest := ""
	if len(keys) > len(parts) || more {
		rest = "other keys"
	}
	limit, name := v.lineOf(o.limits, sp)
	a.Chart = drawChart("Use of "+o.name, m, sp.layout, whole, parts, rest, limit, name)
	a.Used, a.Period = whole.Total, sp.Name
	return a, nil
}

// keyRows puts a page of an account's keys on the account's page: of a deleted
// account those that it had, of a living one those that live. all are these and,
// where they are not too many, the deleted ones, which its chart shows too.
func (v *visit) keyRows(a saccount.Account, p *accountPage) (all []saccount.Key, err error) {
	after, err := openCursor(v.text("after"), false)
	if err != nil {
		return nil, err
	}
	p.FirstKeys = after == ""
	list := func(statuses []saccount.Status) (saccount.Page[saccount.Key], error) {
		return v.svc.ListKeys(v.ctx, v.org(), a.ID, saccount.Filter{Limit: pageRows, Statuses: statuses, Cursor: after})
	}
	var keys saccount.Page[saccount.Key]
	if p.FirstKeys || v.past {
		keys, err = list(everyStatus)
	}
	if err == nil && !v.past && (!p.FirstKeys || keys.Next != "") {
		keys, err = list(nil)
	}
	if err != nil {
		return nil, err
	}
	if keys.Next != "" {
		p.MoreKeys = maps.Clone(v.form)
		p.MoreKeys.Set("after", sealCursor(keys.Next, false))
	}
	var limited []string
	var at []int // of each, among the rows
	for _, k := range keys.Items {
		if k.Status == saccount.StatusDeleted && !v.past {
			continue
		}
		if len(k.Limits) > 0 && !v.past {
			limited, at = append(limited, k.ID), append(at, len(p.Keys))
		}
		p.Keys = append(p.Keys, keyRow{Key: k})
	}
	if len(limited) == 0 {
		return keys.Items, nil
	}
	limits, err := v.meters(saccount.KindKey, limited)
	if err != nil {
		return nil, err
	}
	for i := range limits {
		p.Keys[at[i]].Limits = limits[i]
	}
	return keys.Items, nil
}

// limitCards reads the state of somebody's limits.
func (v *visit) limitCards(o limited) ([]limitCard, error) {
	if len(o.limits) == 0 || o.status == saccount.StatusDeleted {
		return nil, nil
	}
	st, err := v.svc.StatusOf(v.ctx, v.org(), o.kind, o.id)
	if err != nil {
		return nil, err
	}
	out := make([]limitCard, 0, len(st))
	for _, s := range st {
		c := limitCard{meter: limitBar(s), Where: o.path(s.Limit)}
		if l := findLimit(o.limits, s.Limit); l != nil {
			c.Period, c.TopUps, c.Set = periodText(l.Period), l.TopUps, l.Max
			if l.Raise != nil && l.Raise.Until.After(v.cfg.Now()) {
				c.Raise = l.Raise
			}
			c.Short = s.Max < l.Max
			c.TopUps = slices.DeleteFunc(slices.Clone(l.TopUps), func(t quota.TopUp) bool { return !t.Window.Equal(s.Start) })
		}
		out = append(out, c)
	}
	return out, nil
}

// choose reads which span and measure a chart shows, and makes the links to the
// others.
func (v *visit) choose(spans, measures *[]link) (chartSpan, measure, error) {
	name := cmp.Or(v.text("period"), "30d")
	i := slices.IndexFunc(chartSpans, func(s chartSpan) bool { return s.Name == name })
	if i < 0 {
		return chartSpan{}, measure{}, badRequest("There is no period %.10q: choose 24h, 7d, 30d, 90d or 1y.", name)
	}
	m := byCredits
	switch v.text("by") {
	case "", "credits":
	case "requests":
		m = byRequests
	default:
		return chartSpan{}, measure{}, badRequest("Use is shown by credits or by requests.")
	}
	for _, s := range chartSpans {
		*spans = append(*spans, link{s.Label, url.Values{"period": {s.Name}, "by": {m.unit}}, s.Name == name})
	}
	for _, x := range []measure{byCredits, byRequests} {
		*measures = append(*measures, link{"By " + x.unit, url.Values{"period": {name}, "by": {x.unit}}, x.unit == m.unit})
	}
	return chartSpans[i], m, nil
}

// query asks for a span of the organization's calendar.
func (v *visit) query(sp chartSpan, subjects ...quota.Subject) usage.Query {
	now := v.cfg.Now().In(v.zone())
	return usage.Query{
		Org: v.org(), Subjects: subjects, From: sp.from(now), To: now.Add(time.Microsecond), Step: sp.step, Zone: v.of.Zone, GroupBySubject: true,
	}
}

// byKey reads what somebody used in a span, and how much of it each of the keys
// did that used most.
func (v *visit) byKey(whose quota.Subject, keys []saccount.Key, sp chartSpan, m measure) (whole usage.Series, parts []stack, err error) {
	subjects := []quota.Subject{whose}
	for _, k := range keys {
		subjects = append(subjects, quota.NewSubject(quota.KindKey, k.ID))
	}
	series, err := v.svc.Usage(v.ctx, v.query(sp, subjects...))
	if err != nil {
		return whole, nil, err
	}
	for i, s := range series[1:] {
		if m.of(s.Total) > 0 {
			parts = append(parts, stack{keys[i].Name, s})
		}
	}
	slices.SortStableFunc(parts, func(a, b stack) int { return cmp.Compare(m.of(b.series.Total), m.of(a.series.Total)) })
	return series[0], parts[:min(len(parts), maxParts)], nil
}

// lineOf is the limit whose windows are as long as a chart's steps: its line
// can be drawn across the bars.
func (v *visit) lineOf(limits []quota.Limit, sp chartSpan) (*quota.Credits, string) {
	unit := map[usage.Step]quota.Unit{usage.Hour: quota.Hour, usage.Day: quota.Day, usage.Week: quota.Week}[sp.step]
	for _, l := range limits {
		if l.Period.Unit == unit && l.Period.Every <= 1 {
			return &l.Max, "limit " + l.Name + ", " + l.Max.String()
		}
	}
	return nil, ""
}

// accountCSV is what an account's chart shows, by key, as a file.
func (v *visit) accountCSV() error {
	a, err := v.svc.GetAccount(v.ctx, v.org(), v.id(), saccount.WithDeleted)
	if err != nil {
		return err
	}
	var none []link
	sp, _, err := v.choose(&none, &none)
	if err != nil {
		return err
	}
	keys, err := v.svc.ListKeys(v.ctx, v.org(), a.ID, saccount.Filter{Limit: saccount.MaxPage, Statuses: everyStatus})
	if err != nil {
		return err
	}
	names := map[quota.Subject]string{quota.NewSubject(quota.KindAccount, a.ID): a.Name}
	subjects := []quota.Subject{quota.NewSubject(quota.KindAccount, a.ID)}
	for _, k := range keys.Items {
		s := quota.NewSubject(quota.KindKey, k.ID)
		subjects, names[s] = append(subjects, s), k.Name
	}
	v.download("usage-" + a.ID + ".csv")
	return usage.WriteCSV(v.w, v.svc.EachUsage(v.ctx, v.query(sp, subjects...)), usage.Export{Label: func(s quota.Subject) string { return names[s] }})
}
