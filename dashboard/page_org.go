package dashboard

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/usage"
)

type overviewPage struct {
	Limits   []limitCard
	Chart    *chart
	Total    usage.Counts
	Reasons  []reason
	Accounts bool // there is at least one
	Where    string
	Care     overviewCare
	Alerts   alertPanel
}

// reason is why requests were refused, in words.
type reason struct {
	Text     string
	Requests int64
}

var reasonTexts = map[quota.Reason]string{
	quota.ReasonLimit: "a limit stood in the way", quota.ReasonRate: "too many requests a second", quota.ReasonScope: "a scope was missing",
	quota.ReasonAddress: "the address is not on the allowlist", quota.ReasonDisabled: "the key or account is disabled", quota.ReasonExpired: "the key has expired",
}

func reasons(rs usage.Refusals) []reason {
	var out []reason
	for _, r := range rs {
		text, ok := reasonTexts[r.Reason]
		if !ok {
			text = string(r.Reason)
		}
		out = append(out, reason{text, r.Requests})
	}
	slices.SortFunc(out, func(a, b reason) int { return int(min(1, max(-1, b.Requests-a.Requests))) })
	return out
}

// overview is the organization at a glance.
func (v *visit) overview() error {
	v.here = "overview"
	p := overviewPage{Where: "limits/org/" + url.PathEscape(v.org())}
	var err error
	if p.Limits, err = v.limitCards(ofOrg(v.of)); err != nil {
		return err
	}
	month := chartSpans[slices.IndexFunc(chartSpans, func(s chartSpan) bool { return s.Name == "30d" })]
	series, err := v.svc.Usage(v.ctx, v.query(month, subjectOf(saccount.KindOrg, v.org())))
	if err != nil {
		return err
	}
	limit, name := v.lineOf(v.of.Limits, month)
	p.Chart = drawChart("Credits a day, the last 30 days", byCredits, month.layout, series[0], nil, "", limit, name)
	p.Total, p.Reasons = series[0].Total, reasons(series[0].Total.Reasons)
	some, err := v.svc.ListAccounts(v.ctx, v.org(), saccount.Filter{Limit: 1})
	if err != nil {
		return err
	}
	p.Accounts = len(some.Items) > 0
	if p.Care, err = v.overviewCare(); err != nil {
		return err
	}
	if p.Alerts, err = v.overviewAlerts(); err != nil {
		return err
	}
	return v.render("overview", v.of.Name, p)
}

// subjectOf names whatever a counter belongs to.
func subjectOf(kind saccount.Kind, id string) quota.Subject {
	return quota.NewSubject(kind.String(), id)
}

// memberRow is a member as lists show it.
type memberRow struct {
	saccount.Member
	Status saccount.Status
	Limits []meter
}

func (v *visit) members() error {
	v.here = "members"
	f := saccount.Filter{Limit: pageRows, NamePrefix: v.text("q")}
	var err error
	if f.Cursor, err = openCursor(v.text("after"), false); err != nil {
		return err
	}
	list, err := v.svc.ListMembers(v.ctx, v.org(), f)
	if err != nil {
		return err
	}
	ids := make([]string, len(list.Items))
	for i := range ids {
		ids[i] = list.Items[i].ID
	}
	limits, err := v.meters(saccount.KindMember, ids)
	if err != nil {
		return err
	}
	rows := make([]memberRow, len(list.Items))
	for i, m := range list.Items {
		rows[i] = memberRow{m, statusOf(m.Disabled, m.Deleted), limits[i]}
	}
	return v.render("members", "Members", struct {
		Rows []memberRow
		Next string
		Q    string
	}{rows, sealCursor(list.Next, false), f.NamePrefix})
}

type memberPage struct {
	figures
	Member saccount.Member
	Name   string
	Status saccount.Status
}

func (v *visit) member() error {
	v.here = "members"
	m, err := v.svc.GetMember(v.ctx, v.org(), v.id(), saccount.WithDeleted)
	if err != nil {
		return err
	}
	v.past = !m.Deleted.IsZero()
	o := ofMember(m)
	p := memberPage{Member: m, Name: o.name, Status: o.status}
	if p.figures, err = v.figures(o, nil, false); err != nil {
		return err
	}
	return v.render("member", p.Name, p)
}

type settingsPage struct {
	Form     *form
	Limits   []limitCard
	Revision int64
	Where    string
}

func (v *visit) settings() error {
	return v.settingsPage(newForm("name", v.of.Name, "zone", v.of.Zone, "labels", labelLines(v.of.Labels)))
}

func (v *visit) settingsPage(f *form) error {
	v.here = "settings"
	cards, err := v.limitCards(ofOrg(v.of))
	if err != nil {
		return err
	}
	return v.render("settings", "Settings", settingsPage{f, cards, v.of.Revision, "limits/org/" + url.PathEscape(v.org())})
}

func (v *visit) updateSettings() error {
	f := v.sent()
	name, zone := v.form.Get("name"), strings.TrimSpace(v.form.Get("zone"))
	labels := v.labels(f)
	if f.Wrong() {
		v.status = http.StatusUnprocessableEntity
		return v.settingsPage(f)
	}
	v.guard()
	_, err := v.svc.UpdateOrg(v.ctx, v.caller.Actor, v.org(), saccount.Update{
		Revision: v.revision(), Name: &name, Zone: &zone, Labels: newLabels(v.of.Labels, labels),
	})
	if err != nil && v.takes(f, err) {
		return v.settingsPage(f)
	}
	return v.done(err, "settings")
}
