package dashboard

import (
	"net/url"
	"time"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// alertView is an alert as it is shown.
type alertView struct {
	ID        string            `json:"id" doc:"the same for every recipient and every try"`
	Kind      alert.Kind        `json:"kind"`
	At        time.Time         `json:"at" doc:"when it happened"`
	Subject   quota.Subject     `json:"subject" doc:"whom it is about"`
	Name      string            `json:"name,omitempty" doc:"the subject's"`
	Text      string            `json:"text" doc:"a sentence for a person to read"`
	Limit     string            `json:"limit,omitempty" doc:"the name of the limit, where it is about one"`
	Start     time.Time         `json:"start,omitzero" doc:"of the window"`
	End       time.Time         `json:"end,omitzero" doc:"of the window"`
	Threshold *quota.Threshold  `json:"threshold,omitempty"`
	Max       *quota.Credits    `json:"max,omitempty"`
	Used      *quota.Credits    `json:"used,omitempty"`
	Overage   *quota.Credits    `json:"overage,omitempty"`
	Figures   map[string]string `json:"figures,omitempty" doc:"what else the kind tells, by name"`
}

// deliveryView is how far an alert has come to a recipient.
type deliveryView struct {
	Recipient string      `json:"recipient" doc:"its id; it may be there no more"`
	State     alert.State `json:"state" doc:"dead: given up, see replay"`
	Tries     int64       `json:"tries" doc:"since it was put up, or replayed"`
	Next      time.Time   `json:"next,omitzero" doc:"of what is pending: not before"`
	At        time.Time   `json:"at" doc:"since when the state is so"`
	Error     string      `json:"error,omitempty" doc:"why the last try failed; for the role manage"`
}

// orgAlertView is an alert in the organization's list.
type orgAlertView struct {
	alertView
	Deliveries []deliveryView `json:"deliveries,omitempty" doc:"to the organization's recipients"`
}

// sentView is an alert in the list of a recipient.
type sentView struct {
	deliveryView
	Alert alertView `json:"alert"`
}

func viewAlert(a *alert.Alert) alertView {
	return alertView{
		ID: a.ID, Kind: a.Kind, At: a.At, Subject: a.Subject, Name: a.Name, Text: a.Text, Limit: a.Limit, Start: a.Start, End: a.End,
		Threshold: a.Threshold, Max: a.Max, Used: a.Used, Overage: a.Overage, Figures: a.Figures,
	}
}

// viewDelivery shows a delivery. What a receiver answered is for those who can
// mend it.
func (c *call) viewDelivery(d saccount.RecipientDelivery) deliveryView {
	v := deliveryView{Recipient: d.Recipient, State: d.State, Tries: d.Tries, Next: d.Next, At: d.At}
	if c.caller.Role >= saccount.RoleManage {
		v.Error = d.Error
	}
	return v
}

var (
	stateParam  = param{name: "state", doc: "pending, delivered or dead; all where it is not given", schema: formats[stateType].schema}
	alertParams = []param{
		listParams[0], listParams[1],
		{name: "subject", doc: "whom they are about: org:ID, account:ID, member:ID or key:ID; more than one by repeating it; all where there is none", repeated: true, schema: text},
		{name: "kind", doc: "more than one by repeating it; all where there is none", repeated: true, schema: formats[kindType].schema},
		{name: "state", doc: "those with a delivery to a recipient in this state", schema: formats[stateType].schema},
	}
	sentParams = []param{listParams[0], listParams[1], stateParam}
)

// listed reads the parameters that both lists of alerts have.
func (c *call) listed() (q url.Values, limit int, cursor string, state alert.State, err error) {
	if q, err = c.values(); err != nil {
		return
	}
	if limit, err = pageSize(q); err != nil {
		return
	}
	if cursor, err = openCursor(q.Get("cursor"), false); err != nil {
		return
	}
	if s := q.Get("state"); s != "" {
		if state.UnmarshalText([]byte(s)) != nil {
			err = badParam("state", "give pending, delivered or dead")
		}
	}
	return
}

func listAlerts(c *call) (*reply, error) {
	q, limit, cursor, state, err := c.listed()
	if err != nil {
		return nil, err
	}
	f := saccount.AlertFilter{State: state, Limit: limit, Cursor: cursor}
	for _, s := range q["subject"] {
		f.Subjects = append(f.Subjects, quota.Subject(s))
	}
	for _, k := range q["kind"] {
		f.Kinds = append(f.Kinds, alert.Kind(k))
	}
	p, err := c.svc.Alerts(c.ctx, c.org(), f)
	if err != nil {
		return nil, badQuery(err)
	}
	return &reply{body: pageOf(p, saccount.Filter{}, func(a saccount.OrgAlert) orgAlertView {
		v := orgAlertView{alertView: viewAlert(&a.Alert)}
		for _, d := range a.Deliveries {
			v.Deliveries = append(v.Deliveries, c.viewDelivery(d))
		}
		return v
	})}, nil
}

func listDeliveries(c *call) (*reply, error) {
	_, limit, cursor, state, err := c.listed()
	if err != nil {
		return nil, err
	}
	p, err := c.svc.RecipientDeliveries(c.ctx, c.org(), c.id(), saccount.DeliveryFilter{State: state, Limit: limit, Cursor: cursor})
	if err != nil {
		return nil, badQuery(err)
	}
	return &reply{body: pageOf(p, saccount.Filter{}, func(a saccount.OrgAlert) sentView {
		return sentView{c.viewDelivery(a.Deliveries[0]), viewAlert(&a.Alert)}
	})}, nil
}

// thresholdsOf is how a record's own thresholds are shown; nil where it
// inherits.
func thresholdsOf(ts []quota.Threshold) *[]quota.Threshold {
	if ts == nil {
		return nil
	}
	return &ts
}

// thresholdsFrom is the inverse of thresholdsOf.
func thresholdsFrom(ts *[]quota.Threshold) []quota.Threshold {
	if ts == nil {
		return nil
	}
	return *ts
}
