package dashboard

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/keypurse/keypurse/apikey"
	"github.com/keypurse/keypurse/saccount"
)

// keyForm is the form that makes or changes a key.
type keyForm struct {
	Form         *form
	New          bool
	Account      saccount.Account
	Key          *saccount.Key
	Limits       limitGroups
	Environments []string
	Expiries     []option
	Revision     int64
}

var environments = []string{"production", "staging", "development"}

// expiries are the choices of how long a new key lives.
var expiries = []option{
	{Value: "30d", Label: "In 30 days"}, {Value: "90d", Label: "In 90 days"}, {Value: "365d", Label: "In a year"},
	{Value: "at", Label: "At an instant of its own, below"}, {Value: "never", Label: "Never"},
}

const day = 24 * time.Hour

// expiry reads when a key expires.
func (v *visit) expiry(f *form) time.Time {
	now := v.cfg.Now()
	switch v.text("expiry") {
	case "30d":
		return now.Add(30 * day)
	case "90d":
		return now.Add(90 * day)
	case "365d":
		return now.Add(365 * day)
	case "at":
		t := v.when(f, "expires")
		if t.IsZero() && f.Errors["expires"] == "" {
			f.Errors["expires"] = "Give the instant at which it expires."
		}
		return t
	case "never":
	default:
		f.Errors["expiry"] = "Choose when it expires."
	}
	return time.Time{}
}

// ranges reads an allowlist, an address or a range a line.
func (v *visit) ranges(f *form) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range v.list("allow_from") {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			a, e := netip.ParseAddr(s)
			if e != nil || a.Zone() != "" {
				f.Errors["allow_from"] = "Write one address or range a line, such as 203.0.113.7 or 203.0.113.0/24."
				return nil
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		out = append(out, p)
	}
	return out
}

func (v *visit) newKey() error {
	v.here = "accounts"
	a, err := v.svc.GetAccount(v.ctx, v.org(), v.params["account"])
	if err != nil {
		return err
	}
	return v.newKeyPage(a, newForm("expiry", "365d").limitsForm(nil))
}

func (v *visit) newKeyPage(a saccount.Account, f *form) error {
	return v.render("key_form", "New key of "+a.Name, keyForm{
		Form: f, New: true, Account: a, Limits: f.groups(nil), Environments: environments, Expiries: expiries,
	})
}

func (v *visit) createKey() error {
	v.here = "accounts"
	a, err := v.svc.GetAccount(v.ctx, v.org(), v.params["account"])
	if err != nil {
		return err
	}
	f := v.sent()
	if v.more(f) {
		return v.newKeyPage(a, f)
	}
	spec := saccount.KeySpec{
		Name: v.form.Get("name"), Environment: v.text("environment"), Labels: v.labels(f), Scopes: strings.Fields(v.form.Get("scopes")),
		AllowFrom: v.ranges(f), Expires: v.expiry(f), Limits: v.limits(f, nil), Rate: v.rate(f, nil),
	}
	if f.Wrong() {
		v.status = http.StatusUnprocessableEntity
		return v.newKeyPage(a, f)
	}
	v.guard()
	token, k, err := v.svc.CreateKey(v.ctx, v.caller.Actor, v.org(), a.ID, spec)
	switch {
	case err == nil:
		return v.showToken(a, k, token, "Key "+k.Name)
	case errors.Is(err, saccount.ErrDone):
		return v.gone(a)
	case v.takes(f, err):
		return v.newKeyPage(a, f)
	}
	return err
}

// tokenPage shows a token, the only time.
type tokenPage struct {
	Account saccount.Account
	Key     saccount.Key
	Token   string
	Env     string // the environment's variable
	Rotated bool
}

// showToken answers the form itself: there is no address under which the token
// can be had again.
func (v *visit) showToken(a saccount.Account, k saccount.Key, token apikey.Token, title string) error {
	env := strings.ToUpper(strings.SplitN(v.svc.Prefix().String(), "_", 2)[0]) + "_API_KEY"
	return v.render("token", title, tokenPage{Account: a, Key: k, Token: token.Reveal(), Env: env, Rotated: !k.Rotated.Equal(k.Created)})
}

// gone is the answer to a form that was sent twice.
func (v *visit) gone(a saccount.Account) error {
	v.status = http.StatusConflict
	return v.render("token_gone", "Shown before", struct{ Account saccount.Account }{a})
}

// keyPage is the page of one key.
type keyPage struct {
	figures
	Key     saccount.Key
	Account saccount.Account
	Trail   *trail
}

func (v *visit) key() error {
	v.here = "accounts"
	k, a, err := v.keyAndAccount(saccount.WithDeleted)
	if err != nil {
		return err
	}
	o := ofKey(k)
	if v.past = !k.Deleted.IsZero() || !a.Deleted.IsZero(); v.past {
		o.status = saccount.StatusDeleted
	}
	p := keyPage{Key: k, Account: a}
	if p.figures, err = v.figures(o, nil, false); err != nil {
		return err
	}
	if p.Trail, err = v.trail(subjectOf(saccount.KindKey, k.ID)); err != nil {
		return err
	}
	return v.render("key", k.Name, p)
}

func (v *visit) keyAndAccount(with ...saccount.Include) (k saccount.Key, a saccount.Account, err error) {
	if k, err = v.svc.GetKey(v.ctx, v.org(), v.id(), with...); err != nil {
		return k, a, err
	}
	a, err = v.svc.GetAccount(v.ctx, v.org(), k.Account, with...)
	return k, a, err
}

func (v *visit) editKey() error {
	k, a, err := v.keyAndAccount()
	if err != nil {
		return err
	}
	f := newForm("name", k.Name, "environment", k.Environment, "labels", labelLines(k.Labels), "scopes", strings.Join(k.Scopes, " "))
	var ranges strings.Builder
	for _, p := range k.AllowFrom {
		ranges.WriteString(p.String() + "\n")
	}
	f.Values.Set("allow_from", ranges.String())
	f.Values.Set("expiry", "never")
	if !k.Expires.IsZero() {
		f.Values.Set("expiry", "at")
		f.Values.Set("expires", k.Expires.In(v.zone()).Format("2006-01-02T15:04:05"))
	}
	return v.editKeyPage(k, a, f.limitsForm(k.Limits).rateForm(k.Rate))
}

func (v *visit) editKeyPage(k saccount.Key, a saccount.Account, f *form) error {
	v.here = "accounts"
	return v.render("key_form", "Edit "+k.Name, keyForm{
		Form: f, Account: a, Key: &k, Limits: f.groups(k.Limits), Environments: environments, Expiries: expiries, Revision: k.Revision,
	})
}

func (v *visit) updateKey() error {
	k, a, err := v.keyAndAccount()
	if err != nil {
		return err
	}
	f := v.sent()
	if v.more(f) {
		return v.editKeyPage(k, a, f)
	}
	name, env, scopes := v.form.Get("name"), v.text("environment"), strings.Fields(v.form.Get("scopes"))
	labels, ranges, expires, limits, rate := v.labels(f), v.ranges(f), v.expiry(f), v.limits(f, k.Limits), v.rate(f, k.Rate)
	if expires.Equal(k.Expires.Truncate(time.Second)) {
		expires = k.Expires // as it was: the form shows whole seconds
	}
	if f.Wrong() {
		v.status = http.StatusUnprocessableEntity
		return v.editKeyPage(k, a, f)
	}
	u := saccount.Update{
		Revision: v.revision(), Name: &name, Environment: &env, Labels: newLabels(k.Labels, labels), Scopes: &scopes, AllowFrom: &ranges, Limits: limits, Rate: rate,
	}
	if !expires.Equal(k.Expires) {
		u.Expires = &expires
	}
	v.guard()
	_, err = v.svc.UpdateKey(v.ctx, v.caller.Actor, v.org(), k.ID, u)
	switch {
	case err == nil, errors.Is(err, saccount.ErrDone):
		return v.redirect(v.orgPath("keys", k.ID))
	case v.takes(f, err):
		return v.editKeyPage(k, a, f)
	}
	return err
}

// rotateForm asks for how long the old secret lives on.
type rotateForm struct {
	Form     *form
	Key      saccount.Key
	Account  saccount.Account
	Overlaps []option
}

var overlaps = []option{
	{Value: "24h", Label: "24 hours"}, {Value: "1h", Label: "1 hour"}, {Value: "168h", Label: "7 days"},
	{Value: "0s", Label: "None: it ends at once"}, {Value: "own", Label: "As many hours as below"},
}

func (v *visit) askRotate() error {
	k, a, err := v.keyAndAccount()
	if err != nil {
		return err
	}
	return v.rotatePage(k, a, newForm("overlap", "24h"))
}

func (v *visit) rotatePage(k saccount.Key, a saccount.Account, f *form) error {
	v.here = "accounts"
	return v.render("rotate", "Rotate "+k.Name, rotateForm{f, k, a, overlaps})
}

func (v *visit) rotate() error {
	k, a, err := v.keyAndAccount()
	if err != nil {
		return err
	}
	f := v.sent()
	chosen := v.text("overlap")
	if chosen == "own" {
		chosen = v.text("hours") + "h"
	}
	overlap, err := time.ParseDuration(chosen)
	if err != nil || overlap < 0 {
		f.Errors["overlap"] = "Choose for how long the old secret lives on, or give a number of hours."
		v.status = http.StatusUnprocessableEntity
		return v.rotatePage(k, a, f)
	}
	v.guard()
	token, k2, err := v.svc.RotateKey(v.ctx, v.caller.Actor, v.org(), k.ID, overlap)
	switch {
	case err == nil:
		return v.showToken(a, k2, token, "New secret of "+k.Name)
	case errors.Is(err, saccount.ErrDone):
		return v.gone(a)
	case v.takes(f, err):
		return v.rotatePage(k, a, f)
	}
	return err
}

func (v *visit) cancelRotation() error {
	v.guard()
	_, err := v.svc.CancelRotation(v.ctx, v.caller.Actor, v.org(), v.id())
	return v.done(err, "keys", v.id())
}

func (v *visit) disableKey() error {
	v.guard()
	return v.done(v.svc.DisableKey(v.ctx, v.caller.Actor, v.org(), v.id()), "keys", v.id())
}

func (v *visit) enableKey() error {
	v.guard()
	return v.done(v.svc.EnableKey(v.ctx, v.caller.Actor, v.org(), v.id()), "keys", v.id())
}

func (v *visit) askDeleteKey() error { return v.deleteKeyPage(newForm()) }

func (v *visit) deleteKeyPage(f *form) error {
	v.here = "accounts"
	k, _, err := v.keyAndAccount()
	if err != nil {
		return err
	}
	return v.render("delete", "Delete "+k.Name, deleteForm{
		Form: f, What: "key", Name: k.Name, LastUsed: k.LastUsed.At, Back: v.orgPath("keys", k.ID), Disabled: k.Disabled,
	})
}

func (v *visit) deleteKey() error {
	k, a, err := v.keyAndAccount()
	if err != nil {
		return err
	}
	if v.text("name") != k.Name {
		f := v.sent()
		f.Errors["name"] = "This is not its name. Nothing was deleted."
		v.status = http.StatusUnprocessableEntity
		return v.deleteKeyPage(f)
	}
	v.guard()
	return v.done(v.svc.DeleteKey(v.ctx, v.caller.Actor, v.org(), k.ID), "accounts", a.ID)
}
