package dashboard

import (
	"errors"
	"net/http"

	"github.com/keypurse/keypurse/saccount"
)

// advice says of a name what the Service would, while it is typed.
func (v *visit) advice() error {
	v.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	for _, a := range saccount.AdviseName(v.form.Get("name")) {
		_, _ = v.w.Write([]byte(sentence(a) + "."))
	}
	return nil
}

// accountForm is the form that makes or changes an account.
type accountForm struct {
	Form     *form
	New      bool
	Account  *saccount.Account
	Limits   limitGroups
	Revision int64
}

func (v *visit) newAccount() error {
	v.here = "accounts"
	return v.accountForm(newForm().limitsForm(nil), nil)
}

// accountForm shows the form of an account; a is nil for a new one.
func (v *visit) accountForm(f *form, a *saccount.Account) error {
	if f.Wrong() && v.status == 0 {
		v.status = http.StatusUnprocessableEntity
	}
	if a == nil {
		return v.render("account_form", "New service account", accountForm{Form: f, New: true, Limits: f.groups(nil)})
	}
	return v.render("account_form", "Edit "+a.Name, accountForm{Form: f, Account: a, Revision: a.Revision, Limits: f.groups(a.Limits)})
}

func (v *visit) createAccount() error {
	v.here = "accounts"
	f := v.sent()
	if v.more(f) {
		return v.accountForm(f, nil)
	}
	spec := saccount.AccountSpec{Name: v.form.Get("name"), Description: v.form.Get("description"), Labels: v.labels(f), Limits: v.limits(f, nil), Rate: v.rate(f, nil)}
	if !f.Wrong() {
		v.guard()
		a, err := v.svc.CreateAccount(v.ctx, v.caller.Actor, v.org(), spec)
		if err == nil {
			return v.redirect(v.orgPath("accounts", a.ID))
		}
		if errors.Is(err, saccount.ErrDone) {
			return v.redirect(v.orgPath("accounts"))
		}
		if !v.takes(f, err) {
			return err
		}
	}
	return v.accountForm(f, nil)
}

func (v *visit) editAccount() error {
	v.here = "accounts"
	a, err := v.svc.GetAccount(v.ctx, v.org(), v.id())
	if err != nil {
		return err
	}
	f := newForm("name", a.Name, "description", a.Description, "labels", labelLines(a.Labels))
	return v.accountForm(f.limitsForm(a.Limits).rateForm(a.Rate), &a)
}

func (v *visit) updateAccount() error {
	v.here = "accounts"
	a, err := v.svc.GetAccount(v.ctx, v.org(), v.id())
	if err != nil {
		return err
	}
	f := v.sent()
	if v.more(f) {
		return v.accountForm(f, &a)
	}
	name, description := v.form.Get("name"), v.form.Get("description")
	labels, limits, rate := v.labels(f), v.limits(f, a.Limits), v.rate(f, a.Rate)
	if !f.Wrong() {
		v.guard()
		_, err := v.svc.UpdateAccount(v.ctx, v.caller.Actor, v.org(), a.ID, saccount.Update{
			Revision: v.revision(), Name: &name, Description: &description, Labels: newLabels(a.Labels, labels), Limits: limits, Rate: rate,
		})
		if err == nil || errors.Is(err, saccount.ErrDone) {
			return v.redirect(v.orgPath("accounts", a.ID))
		}
		if !v.takes(f, err) {
			return err
		}
	}
	return v.accountForm(f, &a)
}
