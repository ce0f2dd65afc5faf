package dashboard

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// limitForm is the form of one limit.
type limitForm struct {
	Form     *form
	New      bool
	Name     string // of the limit
	Owner    string // the name of whose it is
	Kind     string
	Periods  []option
	Card     *limitCard
	Revision int64
	Back     string
	Here     string // the path of this form
	Suggest  *suggested
}

// limited is whose limits they are, whatever it is.
type limited struct {
	kind     saccount.Kind
	id, name string
	limits   []quota.Limit
	revision int64
	status   saccount.Status
	back     []string // the path of its page
}

func ofOrg(o *saccount.Org) limited {
	return limited{saccount.KindOrg, o.ID, o.Name, o.Limits, o.Revision, statusOf(o.Disabled, o.Deleted), []string{"settings"}}
}

func ofAccount(a saccount.Account) limited {
	return limited{saccount.KindAccount, a.ID, a.Name, a.Limits, a.Revision, statusOf(a.Disabled, a.Deleted), []string{"accounts", a.ID}}
}

func ofMember(m saccount.Member) limited {
	return limited{saccount.KindMember, m.ID, cmp.Or(m.Name, m.ID), m.Limits, m.Revision, statusOf(m.Disabled, m.Deleted), []string{"members", m.ID}}
}

func ofKey(k saccount.Key) limited {
	return limited{saccount.KindKey, k.ID, k.Name, k.Limits, k.Revision, k.Status, []string{"keys", k.ID}}
}

// path is that of the form of one of its limits, below the organization's.
func (o limited) path(limit string) string {
	return "limits/" + o.kind.String() + "/" + url.PathEscape(o.id) + "/" + url.PathEscape(limit)
}

// owner reads whose limit a page is about. The organization's is money to the
// host: its staff sets it.
func (v *visit) owner() (o limited, err error) {
	id := v.id()
	switch v.params["kind"] {
	case "org":
		if id != v.org() {
			return o, notFound("organization")
		}
		if v.page.method != http.MethodGet && v.caller.Role < saccount.RoleAdmin {
			return o, roleNeeded(saccount.RoleAdmin)
		}
		return ofOrg(v.of), nil
	case "account":
		a, err := v.svc.GetAccount(v.ctx, v.org(), id)
		return ofAccount(a), err
	case "member":
		m, err := v.svc.GetMember(v.ctx, v.org(), id)
		return ofMember(m), err
	case "key":
		k, err := v.svc.GetKey(v.ctx, v.org(), id)
		return ofKey(k), err
	}
	return o, notFound("page")
}

// newLimitName stands in the address for a limit that is to be made: no limit
// can have it as its name.
const newLimitName = "+"

func (v *visit) editLimit() error {
	o, err := v.owner()
	if err != nil {
		return err
	}
	name := v.params["limit"]
	if name == newLimitName {
		f := newForm().limitsForm(nil)
		if len(o.limits) == 0 {
			f.Values.Set("limit", quota.DefaultLimitName)
		}
		return v.limitPage(o, f)
	}
	l := findLimit(o.limits, name)
	if l == nil {
		return notFound("limit")
	}
	f := newForm()
	f.addLimit(l)
	if l.Soft {
		f.Values.Set("soft", "on")
	}
	return v.limitPage(o, f)
}

func findLimit(limits []quota.Limit, name string) *quota.Limit {
	if i := slices.IndexFunc(limits, func(l quota.Limit) bool { return l.Name == name }); i >= 0 {
		return &limits[i]
	}
	return nil
}

func (v *visit) limitPage(o limited, f *form) error {
	v.here = map[saccount.Kind]string{saccount.KindOrg: "settings", saccount.KindMember: "members"}[o.kind]
	if v.here == "" {
		v.here = "accounts"
	}
	name := v.params["limit"]
	p := limitForm{
		Form: f, New: name == newLimitName, Name: name, Owner: o.name, Kind: o.kind.String(), Periods: periods, Revision: o.revision,
		Back: v.orgPath(o.back...), Here: v.orgPath() + "/" + o.path(name),
	}
	title := "New limit of " + o.name
	if l := findLimit(o.limits, name); l != nil {
		title = "Limit " + l.Name + " of " + o.name
		cards, err := v.limitCards(o)
		if err != nil {
			return err
		}
		for i := range cards {
			if cards[i].Limit == name {
				p.Card = &cards[i]
			}
		}
		p.Periods = periodsOf(*l)
	}
	unit, err := quota.ParseUnit(f.Values.Get("period"))
	if err != nil {
		unit = quota.Month // of a period that the form does not say
	}
	if p.Suggest, err = v.suggest(o.kind, o.id, unit); err != nil {
		return err
	}
	return v.render("limit_form", title, p)
}

func (v *visit) setLimit() error {
	o, err := v.owner()
	if err != nil {
		return err
	}
	f := v.sent()
	name := v.params["limit"]
	if name == newLimitName {
		name = v.text("limit")
		v.nameLimit(f, "", name, o.limits)
	} else if findLimit(o.limits, name) == nil {
		return notFound("limit")
	}
	spec := v.limit(f, "")
	switch {
	case spec != nil:
		soft := v.form.Get("soft") != ""
		spec.Soft = &soft
	case !f.Wrong():
		f.Errors["max"] = "Give an amount of credits. To have no limit, remove it."
	}
	if spec != nil && spec.Period != nil && simplyEqual(findLimit(o.limits, name), *spec.Period) {
		spec.Period = nil // as it is: its windows go on
	}
	if f.Wrong() {
		v.status = http.StatusUnprocessableEntity
		return v.limitPage(o, f)
	}
	err = v.updateLimits(o, saccount.Limits{name: spec})
	switch {
	case err == nil, errors.Is(err, saccount.ErrDone):
		return v.redirect(v.orgPath(o.back...))
	case v.takes(f, err):
		return v.limitPage(o, f)
	}
	return err
}

// simplyEqual reports whether a form asks for the period that a limit has: an
// empty zone is the one that it has.
func simplyEqual(l *quota.Limit, p quota.Period) bool {
	if l == nil {
		return false
	}
	if p.Zone == "" {
		p.Zone = l.Period.Zone
	}
	return simple(l.Period) && l.Period.Equal(p)
}

func (v *visit) updateLimits(o limited, l saccount.Limits) error {
	return v.update(o, saccount.Update{Revision: v.revision(), Limits: l})
}

// update changes the record whose limits a page is about.
func (v *visit) update(o limited, u saccount.Update) (err error) {
	v.guard()
	switch o.kind {
	case saccount.KindOrg:
		_, err = v.svc.UpdateOrg(v.ctx, v.caller.Actor, o.id, u)
	case saccount.KindAccount:
		_, err = v.svc.UpdateAccount(v.ctx, v.caller.Actor, v.org(), o.id, u)
	case saccount.KindMember:
		_, err = v.svc.UpdateMember(v.ctx, v.caller.Actor, v.org(), o.id, u)
	default:
		_, err = v.svc.UpdateKey(v.ctx, v.caller.Actor, v.org(), o.id, u)
	}
	return err
}

func (v *visit) removeLimit() error {
	o, err := v.owner()
	if err != nil {
		return err
	}
	if findLimit(o.limits, v.params["limit"]) == nil {
		return notFound("limit")
	}
	return v.done(v.updateLimits(o, saccount.Limits{v.params["limit"]: nil}), o.back...)
}

// topUp adds to the current window, once however often it is sent.
func (v *visit) topUp() error {
	o, err := v.owner()
	if err != nil {
		return err
	}
	f := v.sent()
	amount, err := quota.ParseCredits(v.text("amount"))
	if err != nil || amount <= 0 {
		f.Errors["amount"] = "Give an amount of credits above 0."
		v.status = http.StatusUnprocessableEntity
		return v.limitPage(o, f)
	}
	v.guard()
	err = v.svc.TopUp(v.ctx, v.caller.Actor, v.org(), o.kind, o.id, saccount.TopUp{ID: v.text("once"), Limit: v.params["limit"], Amount: amount})
	if err != nil && v.takes(f, err) {
		return v.limitPage(o, f)
	}
	return v.done(err, o.back...)
}

// raise lets a limit stand higher until an instant.
func (v *visit) raise() error {
	o, err := v.owner()
	if err != nil {
		return err
	}
	f := v.sent()
	max, err := quota.ParseCredits(v.text("raise"))
	if err != nil || max < 0 {
		f.Errors["raise"] = "Give the amount of credits that the limit is raised to."
	}
	until := v.when(f, "until")
	if until.IsZero() && v.form.Get("end") == "" && f.Errors["until"] == "" {
		f.Errors["until"] = "Give the instant that it is raised until."
	}
	if v.form.Get("end") != "" {
		f.Errors, max = map[string]string{}, 0
	}
	if f.Wrong() {
		v.status = http.StatusUnprocessableEntity
		return v.limitPage(o, f)
	}
	v.guard()
	err = v.svc.RaiseLimit(v.ctx, v.caller.Actor, v.org(), o.kind, o.id, v.params["limit"], max, until)
	if err != nil && v.takes(f, err) {
		return v.limitPage(o, f)
	}
	return v.done(err, o.back...)
}
