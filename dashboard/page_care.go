package dashboard

import (
	"errors"
	"maps"
	"net/http"
	"net/url"
	"strconv"

	"github.com/keypurse/keypurse/saccount"
)

// policyForm is the form of what an organization asks of its keys.
type policyForm struct {
	Form     *form
	Revision int64
}

// policyField is a field of a KeyPolicy, for its form.
type policyField struct {
	name string
	of   func(*saccount.KeyPolicy) *int
}

var policyFields = []policyField{
	{"unused_days", func(p *saccount.KeyPolicy) *int { return &p.UnusedDays }},
	{"disable_days", func(p *saccount.KeyPolicy) *int { return &p.DisableDays }},
	{"grace_days", func(p *saccount.KeyPolicy) *int { return &p.GraceDays }},
	{"expiry_days", func(p *saccount.KeyPolicy) *int { return &p.ExpiryDays }},
	{"max_life_days", func(p *saccount.KeyPolicy) *int { return &p.MaxLifeDays }},
	{"rotate_days", func(p *saccount.KeyPolicy) *int { return &p.RotateDays }},
}

func (v *visit) editKeyPolicy() error {
	f := newForm()
	p := v.of.Keys
	if p == nil {
		p = &saccount.KeyPolicy{}
	}
	for _, x := range policyFields {
		if n := *x.of(p); n != 0 {
			f.Values.Set(x.name, strconv.Itoa(n))
		}
	}
	return v.keyPolicyPage(f)
}

func (v *visit) keyPolicyPage(f *form) error {
	v.here = "settings"
	return v.render("key_policy", "Key policy", policyForm{f, v.of.Revision})
}

func (v *visit) setKeyPolicy() error {
	f := v.sent()
	var p saccount.KeyPolicy
	for _, x := range policyFields {
		text := v.text(x.name)
		if text == "" {
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			f.Errors[x.name] = "Give a whole number of days, or nothing for the default."
		}
		*x.of(&p) = n
	}
	if f.Wrong() {
		v.status = http.StatusUnprocessableEntity
		return v.keyPolicyPage(f)
	}
	v.guard()
	_, err := v.svc.UpdateOrg(v.ctx, v.caller.Actor, v.org(), saccount.Update{Revision: v.revision(), Keys: &p})
	if fe := (*saccount.FieldError)(nil); errors.As(err, &fe) {
		err = policyError(fe)
	}
	if err != nil && v.takes(f, err) {
		return v.keyPolicyPage(f)
	}
	return v.done(err, "settings")
}

// needWord is a need as the filter of a page names it.
type needWord struct {
	Need  saccount.Need
	Label string
}

var needWords = []needWord{
	{saccount.NeedLeaked, "Leaked"}, {saccount.NeedExpired, "Expired"}, {saccount.NeedExpiring, "Expire soon"}, {saccount.NeedUnused, "Unused"},
	{saccount.NeedNeverUsed, "Never used"}, {saccount.NeedRotation, "Overdue for rotation"}, {saccount.NeedLifetime, "Live too long"},
	{saccount.NeedNoExpiry, "Without expiry"}, {saccount.NeedNoLimit, "Without limit"}, {saccount.NeedName, "Names that say nothing"},
}

// needLooks is how often a page goes on looking where it has found nothing yet:
// each time through 1,000 keys.
const needLooks = 5

type needsPage struct {
	Rows    []saccount.NeedyKey
	Choices []link
	More    url.Values // the query of the page after
	First   bool
	All     bool // no need is chosen
	Account *saccount.Account
	Policy  saccount.KeyPolicy
}

func (v *visit) needs() error {
	v.here = "needs"
	f := saccount.NeedFilter{Limit: pageRows, Account: v.text("account")}
	out := needsPage{First: v.text("after") == "", Policy: policyOf(*v.of)}
	var err error
	if f.Cursor, err = openCursor(v.text("after"), false); err != nil {
		return err
	}
	q := url.Values{}
	if f.Account != "" {
		a, err := v.svc.GetAccount(v.ctx, v.org(), f.Account)
		if err != nil {
			return err
		}
		out.Account = &a
		q.Set("account", a.ID)
	}
	chosen := v.text("need")
	out.All = chosen == ""
	out.Choices = append(out.Choices, link{"All", maps.Clone(q), chosen == ""})
	for _, w := range needWords {
		with := maps.Clone(q)
		with.Set("need", needName(w.Need))
		out.Choices = append(out.Choices, link{w.Label, with, needName(w.Need) == chosen})
	}
	if chosen != "" {
		n := needOf(chosen)
		if n == "" {
			return badRequest("There is no need of a key called %.20q.", chosen)
		}
		f.Needs = []saccount.Need{n}
		q.Set("need", chosen)
	}
	rows, next, err := v.needRows(f, needLooks)
	if err != nil {
		return err
	}
	out.Rows = rows
	if next != "" {
		q.Set("after", sealCursor(next, false))
		out.More = q
	}
	return v.render("needs", "Keys that need a hand", out)
}

// needRows looks for keys that need a hand, through so many thousand keys at
// most while none is found.
func (v *visit) needRows(f saccount.NeedFilter, looks int) (rows []saccount.NeedyKey, next string, err error) {
	var p saccount.Page[saccount.NeedyKey]
	for range looks {
		if p, err = v.svc.KeysInNeed(v.ctx, v.org(), f); err != nil {
			return nil, "", err
		}
		if f.Cursor = p.Next; f.Cursor == "" || len(p.Items) > 0 {
			break
		}
	}
	return p.Items, p.Next, nil
}
