package dashboard

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// recipientRow is a recipient as pages show it.
type recipientRow struct {
	recipientView
	Title string
	Kinds []string // it gets; none: every
}

func (v *visit) recipientRow(r saccount.Recipient) recipientRow {
	w := v.viewRecipient(r)
	return recipientRow{w, nameOf(w), kindsText(r.Filter)}
}

func (v *visit) recipients() error {
	v.here = "settings"
	all, err := v.svc.Recipients(v.ctx, v.org())
	if err != nil {
		return err
	}
	var rows []recipientRow
	for _, r := range all {
		rows = append(rows, v.recipientRow(r))
	}
	return v.render("recipients", "Who hears of alerts", struct{ Rows []recipientRow }{rows})
}

// recipientForm is the form that adds or changes a recipient.
type recipientForm struct {
	Form      *form
	Recipient *recipientRow // nil: a new one
	Kinds     []option
}

func (v *visit) recipientForm(r *saccount.Recipient, f *form) error {
	v.here = "settings"
	p, title := recipientForm{Form: f, Kinds: slices.Clone(kindTexts)}, "Add who hears of alerts"
	for i := range p.Kinds {
		p.Kinds[i].On = slices.Contains(f.Values["kinds"], p.Kinds[i].Value)
	}
	if r != nil {
		row := v.recipientRow(*r)
		p.Recipient, title = &row, "Edit "+row.Title
	}
	return v.render("recipient_form", title, p)
}

func (v *visit) newRecipient() error { return v.recipientForm(nil, newForm()) }

// filter reads which alerts a recipient gets.
func (v *visit) alertFilter() (out alert.Filter) {
	for _, k := range v.form["kinds"] {
		out.Kinds = append(out.Kinds, alert.Kind(k))
	}
	for _, s := range v.list("subjects") {
		out.Subjects = append(out.Subjects, quota.Subject(s))
	}
	out.Limits = strings.Fields(v.form.Get("limits"))
	return out
}

func (v *visit) createRecipient() error {
	f := v.sent()
	v.guard()
	r, err := v.svc.AddRecipient(v.ctx, v.caller.Actor, v.org(), saccount.RecipientSpec{Name: v.form.Get("name"), URL: v.text("url"), Email: v.text("email"), Filter: v.alertFilter()})
	switch {
	case err == nil && r.URL != "":
		return v.showSecret(r)
	case err == nil:
		return v.redirect(v.orgPath("recipients", r.ID))
	case errors.Is(err, saccount.ErrDone):
		return v.secretGone()
	case v.takes(f, err):
		return v.recipientForm(nil, f)
	}
	return err
}

// secretPage shows a webhook's secret, in the answer to the form alone.
type secretPage struct {
	Recipient recipientRow
	Secret    string
}

func (v *visit) showSecret(r saccount.Recipient) error {
	v.here = "settings"
	all, err := v.svc.WebhookSecrets(v.ctx, v.org(), r.ID)
	if err != nil {
		return err
	}
	row := v.recipientRow(r)
	return v.render("secret", "Secret of "+row.Title, secretPage{row, all[0].Reveal()})
}

// secretGone is the answer to a form that was sent twice.
func (v *visit) secretGone() error {
	v.here, v.status = "settings", http.StatusConflict
	return v.render("secret", "Shown before", secretPage{})
}

// recipientPage is the page of one recipient.
type recipientPage struct {
	recipientRow
	Overlaps []option
	Form     *form
	States   []option
	Rows     []alertRow
	Next     url.Values
	Dead     bool // there is a dead letter among those shown
	Tested   bool
}

func (v *visit) recipient() error {
	v.here = "settings"
	r, err := v.svc.GetRecipient(v.ctx, v.org(), v.id())
	if err != nil {
		return err
	}
	p := recipientPage{recipientRow: v.recipientRow(r), Form: v.sent(), States: stateOptions(), Overlaps: overlaps[:len(overlaps)-1], Tested: v.text("tested") != ""}
	f := saccount.DeliveryFilter{Limit: pageRows}
	if f.Cursor, err = openCursor(v.text("after"), false); err != nil {
		return err
	}
	if s := v.text("state"); s != "" {
		if f.State.UnmarshalText([]byte(s)) != nil {
			return badRequest("An alert is on its way, delivered or given up: choose one of these.")
		}
	}
	list, err := v.svc.RecipientDeliveries(v.ctx, v.org(), r.ID, f)
	if err != nil {
		return badQuery(err)
	}
	if p.Rows, err = v.alertRows(list.Items); err != nil {
		return err
	}
	for _, row := range p.Rows {
		p.Dead = p.Dead || row.Sent[0].Dead()
	}
	if list.Next != "" {
		p.Next = url.Values{"after": {sealCursor(list.Next, false)}}
		if s := v.text("state"); s != "" {
			p.Next.Set("state", s)
		}
	}
	return v.render("recipient", p.Title, p)
}

func (v *visit) editRecipient() error {
	r, err := v.svc.GetRecipient(v.ctx, v.org(), v.id())
	if err != nil {
		return err
	}
	var about strings.Builder
	for _, s := range r.Filter.Subjects {
		about.WriteString(string(s) + "\n")
	}
	f := newForm("name", r.Name, "url", r.URL, "email", r.Email, "subjects", about.String(), "limits", strings.Join(r.Filter.Limits, " "))
	for _, k := range r.Filter.Kinds {
		f.Values.Add("kinds", string(k))
	}
	return v.recipientForm(&r, f)
}

func (v *visit) updateRecipient() error {
	r, err := v.svc.GetRecipient(v.ctx, v.org(), v.id())
	if err != nil {
		return err
	}
	f := v.sent()
	name, address, mail, filter := v.form.Get("name"), v.text("url"), v.text("email"), v.alertFilter()
	v.guard()
	_, err = v.svc.UpdateRecipient(v.ctx, v.caller.Actor, v.org(), r.ID, saccount.RecipientUpdate{Revision: v.revision(), Name: &name, URL: &address, Email: &mail, Filter: &filter})
	if err != nil && v.takes(f, err) {
		return v.recipientForm(&r, f)
	}
	return v.done(err, "recipients", r.ID)
}

func (v *visit) setRecipient(disabled bool) error {
	v.guard()
	_, err := v.svc.UpdateRecipient(v.ctx, v.caller.Actor, v.org(), v.id(), saccount.RecipientUpdate{Disabled: &disabled})
	return v.done(err, "recipients", v.id())
}

func (v *visit) disableRecipient() error { return v.setRecipient(true) }
func (v *visit) enableRecipient() error  { return v.setRecipient(false) }

func (v *visit) testRecipient() error {
	v.guard()
	if err := v.svc.TestAlert(v.ctx, v.caller.Actor, v.org(), v.id()); err != nil && !errors.Is(err, saccount.ErrDone) {
		return err
	}
	return v.redirect(v.orgPath("recipients", v.id()) + "?tested=on")
}

// replayRecipient tries one dead letter again, or all.
func (v *visit) replayRecipient() error {
	v.guard()
	var ids []string
	if id := v.text("alert"); id != "" {
		ids = append(ids, id)
	}
	_, err := v.svc.ReplayRecipient(v.ctx, v.caller.Actor, v.org(), v.id(), ids...)
	return v.done(err, "recipients", v.id())
}

func (v *visit) rotateRecipient() error {
	overlap, err := time.ParseDuration(v.text("overlap"))
	if err != nil {
		return badRequest("Choose for how long the old secret signs too.")
	}
	v.guard()
	err = v.svc.RotateWebhookSecret(v.ctx, v.caller.Actor, v.org(), v.id(), overlap)
	switch {
	case errors.Is(err, saccount.ErrDone):
		return v.secretGone()
	case err != nil:
		return err
	}
	r, err := v.svc.GetRecipient(v.ctx, v.org(), v.id())
	if err != nil {
		return err
	}
	return v.showSecret(r)
}

func (v *visit) removeRecipient() error {
	v.guard()
	return v.done(v.svc.RemoveRecipient(v.ctx, v.caller.Actor, v.org(), v.id()), "recipients")
}
