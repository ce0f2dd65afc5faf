package dashboard

import (
	"net/url"
	"slices"
	"time"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// alertRow is an alert as pages list it.
type alertRow struct {
	saccount.OrgAlert
	Where string // the path of whom it is about, below the organization's
	Sent  []sentTo
}

// sentTo is what became of an alert at one recipient, in words.
type sentTo struct {
	deliveryView
	Name string // empty where the recipient is there no more
}

// kindTexts are the kinds as a choice names them.
var kindTexts = []option{
	{Value: string(alert.KindThreshold), Label: "A share of a limit was spent"}, {Value: string(alert.KindLeft), Label: "Little is left of a limit"},
	{Value: string(alert.KindOverage), Label: "More was spent than a limit had room for"}, {Value: string(alert.KindRunOut), Label: "A limit will be spent before it resets"},
	{Value: string(alert.KindUnusualSpend), Label: "Spending out of pattern"}, {Value: string(alert.KindKeyUnused), Label: "A key is not used"},
	{Value: string(alert.KindKeyExpiring), Label: "A key expires"}, {Value: string(alert.KindKeyRotation), Label: "A key is due for rotation"},
	{Value: string(alert.KindKeyAddress), Label: "A key was used from a new address"}, {Value: string(alert.KindKeyDisabled), Label: "A key was disabled by a rule"},
	{Value: string(alert.KindKeyLeaked), Label: "A key's token was found in public"}, {Value: string(alert.KindWebhookGone), Label: "A webhook was disabled"},
	{Value: string(alert.KindTest), Label: "A test"},
}

var stateTexts = map[alert.State]string{alert.Pending: "on its way", alert.Delivered: "delivered", alert.Dead: "given up"}

// Text is the state in words.
func (s sentTo) Text() string { return stateTexts[s.State] }

// Dead reports whether it was given up.
func (s sentTo) Dead() bool { return s.State == alert.Dead }

func stateOptions() []option {
	out := []option{{Value: "", Label: "Whatever became of it"}}
	for _, s := range []alert.State{alert.Pending, alert.Delivered, alert.Dead} {
		out = append(out, option{Value: s.String(), Label: statusText(stateTexts[s])})
	}
	return out
}

// pathOf is the page of whom an alert is about, below the organization's.
func pathOf(s quota.Subject) string {
	switch s.Kind() {
	case quota.KindAccount:
		return "/accounts/" + url.PathEscape(s.ID())
	case quota.KindKey:
		return "/keys/" + url.PathEscape(s.ID())
	case quota.KindMember:
		return "/members/" + url.PathEscape(s.ID())
	}
	return "" // the organization's own
}

// alertRows shows alerts, with the names of recipients.
func (v *visit) alertRows(as []saccount.OrgAlert) ([]alertRow, error) {
	if len(as) == 0 {
		return nil, nil
	}
	all, err := v.svc.Recipients(v.ctx, v.org())
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	for _, r := range all {
		names[r.ID] = nameOf(v.viewRecipient(r))
	}
	rows := make([]alertRow, len(as))
	for i, a := range as {
		rows[i] = alertRow{OrgAlert: a, Where: pathOf(a.Subject)}
		for _, d := range a.Deliveries {
			rows[i].Sent = append(rows[i].Sent, sentTo{v.viewDelivery(d), names[d.Recipient]})
		}
	}
	return rows, nil
}

// nameOf is what a recipient is called: its name, or where it is.
func nameOf(r recipientView) string {
	switch {
	case r.Name != "":
		return r.Name
	case r.Email != "":
		return r.Email
	}
	return saccount.Recipient{URL: r.URL}.Masked().URL
}

type alertsPage struct {
	Form   *form
	Kinds  []option
	States []option
	Whom   quota.Subject // whom the list is about; empty: all
	Where  string        // the path of that
	Rows   []alertRow
	Next   url.Values
}

// maxSubjects is how many of an account's keys its list of alerts knows.
const maxSubjects = alert.MaxSubjects - 1

// alertSubjects are an account with its keys, deleted ones too; any other
// subject alone.
func (v *visit) alertSubjects(whom quota.Subject) ([]quota.Subject, error) {
	out := []quota.Subject{whom}
	if whom.Kind() != quota.KindAccount {
		return out, nil
	}
	keys, err := v.svc.ListKeys(v.ctx, v.org(), whom.ID(), saccount.Filter{Limit: maxSubjects, Statuses: everyStatus})
	if err != nil {
		return nil, err
	}
	for _, k := range keys.Items {
		out = append(out, subjectOf(saccount.KindKey, k.ID))
	}
	return out, nil
}

// alerts is the list of an organization's alerts.
func (v *visit) alerts() error {
	v.here = "alerts"
	p := alertsPage{Form: v.sent(), Kinds: append([]option{{Value: "", Label: "Every kind"}}, kindTexts...), States: stateOptions(), Whom: quota.Subject(v.text("about"))}
	f := saccount.AlertFilter{Limit: pageRows}
	var err error
	if f.Cursor, err = openCursor(v.text("after"), false); err != nil {
		return err
	}
	if k := v.text("kind"); k != "" {
		f.Kinds = []alert.Kind{alert.Kind(k)}
	}
	if s := v.text("state"); s != "" {
		if f.State.UnmarshalText([]byte(s)) != nil {
			return badRequest("An alert is on its way, delivered or given up: choose one of these.")
		}
	}
	if p.Whom != "" {
		if f.Subjects, err = v.alertSubjects(p.Whom); err != nil {
			return err
		}
		p.Where = pathOf(p.Whom)
	}
	list, err := v.svc.Alerts(v.ctx, v.org(), f)
	if err != nil {
		return badQuery(err)
	}
	if p.Rows, err = v.alertRows(list.Items); err != nil {
		return err
	}
	if list.Next != "" {
		p.Next = url.Values{"after": {sealCursor(list.Next, false)}}
		for _, name := range []string{"kind", "state", "about"} {
			if s := v.text(name); s != "" {
				p.Next.Set(name, s)
			}
		}
	}
	return v.render("alerts", "Alerts", p)
}

// shownAlerts is how many alerts a panel shows, and shownPassed how many limits.
const (
	shownAlerts = 5
	shownPassed = 8
)

// alertPanel is what was alerted of lately, on the page of something else.
type alertPanel struct {
	Passed     []passedLimit
	MorePassed bool      // than these
	Since      time.Time // who passed before is not among them
	Rows       []alertRow
	More       url.Values // the whole list
}

// passedLimit is a limit that has passed a threshold in its window.
type passedLimit struct {
	alert.Alert
	Where string
	Spent quota.Credits
}

// overviewAlerts is what the overview shows of alerts.
func (v *visit) overviewAlerts() (p alertPanel, err error) {
	all, err := v.svc.SummarizeAlerts(v.ctx, v.org(), saccount.KindAccount, shownPassed)
	if err != nil {
		return p, err
	}
	p.MorePassed, p.Since = all.More, all.Since
	for _, a := range all.Passed {
		p.Passed = append(p.Passed, passedLimit{a, pathOf(a.Subject), *a.Used + *a.Overage})
	}
	p.Rows, err = v.alertRows(all.Recent[:min(len(all.Recent), shownAlerts)])
	return p, err
}

// alertsOf is what was alerted of lately of a record and what is below it.
func (v *visit) alertsOf(whom quota.Subject, below []saccount.Key) (p alertPanel, err error) {
	f := saccount.AlertFilter{Limit: shownAlerts, Subjects: []quota.Subject{whom}}
	for _, k := range below[:min(len(below), maxSubjects)] {
		f.Subjects = append(f.Subjects, subjectOf(saccount.KindKey, k.ID))
	}
	list, err := v.svc.Alerts(v.ctx, v.org(), f)
	if err == nil {
		p.Rows, err = v.alertRows(list.Items)
	}
	p.More = url.Values{"about": {string(whom)}}
	return p, err
}

// kindsText says in words which kinds pass a filter.
func kindsText(f alert.Filter) []string {
	var out []string
	for _, k := range f.Kinds {
		i := slices.IndexFunc(kindTexts, func(o option) bool { return o.Value == string(k) })
		out = append(out, kindTexts[i].Label)
	}
	return out
}
