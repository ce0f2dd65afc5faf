package dashboard

import (
	"net/http"
	"slices"
	"strings"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// thresholdForm sets what alerts, of a record and of each of its limits.
type thresholdForm struct {
	Form     *form
	Word     string   // what it is
	Below    string   // what an empty field means
	Limits   []string // those that the visitor may set
	Revision int64
	Back     string
}

// thresholdField is the form's field of a limit.
func thresholdField(limit string) string { return "thresholds-" + limit }

// thresholdText is how thresholds stand in a field.
func thresholdText(ts []quota.Threshold) string {
	if ts != nil && len(ts) == 0 {
		return "none"
	}
	var out []string
	for _, t := range ts {
		out = append(out, t.String())
	}
	return strings.Join(out, ", ")
}

// thresholds reads a field: nil where it is empty, which inherits.
func (v *visit) thresholds(f *form, name string) []quota.Threshold {
	s := v.text(name)
	if strings.EqualFold(s, "none") {
		return []quota.Threshold{}
	}
	var out []quota.Threshold
	for _, part := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ';' || r == '\n' || r == '\r' }) {
		part = strings.ToLower(strings.Join(strings.Fields(strings.ReplaceAll(part, "%", " %")), " "))
		if part == "" {
			continue
		}
		var t quota.Threshold
		if t.UnmarshalText([]byte(strings.ReplaceAll(part, " %", "%"))) != nil {
			f.Errors[name] = `Write percentages as 80%, credits left as left 20, and overage, with commas between them; or none.`
			return nil
		}
		if !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	if len(out) > quota.MaxThresholds {
		f.Errors[name] = "There can be 8 at most."
	}
	return out
}

// settable are the limits whose thresholds the visitor may set: those of the
// organization are its host's.
func (v *visit) settable(o limited) []quota.Limit {
	if o.kind == saccount.KindOrg && v.caller.Role < saccount.RoleAdmin {
		return nil
	}
	return o.limits
}

func (v *visit) editThresholds() error {
	o, own, err := v.thresholdOwner()
	if err != nil {
		return err
	}
	f := newForm("thresholds", thresholdText(own))
	for _, l := range o.limits {
		f.Values.Set(thresholdField(l.Name), thresholdText(l.Thresholds))
	}
	return v.thresholdPage(o, f)
}

// thresholdOwner is owner with the record's own thresholds. Those of the
// organization are for the role manage.
func (v *visit) thresholdOwner() (limited, []quota.Threshold, error) {
	switch v.params["kind"] {
	case "org":
		if v.id() != v.org() {
			return limited{}, nil, notFound("organization")
		}
		return ofOrg(v.of), v.of.Thresholds, nil
	case "account":
		a, err := v.svc.GetAccount(v.ctx, v.org(), v.id())
		return ofAccount(a), a.Thresholds, err
	case "member":
		m, err := v.svc.GetMember(v.ctx, v.org(), v.id())
		return ofMember(m), m.Thresholds, err
	case "key":
		k, err := v.svc.GetKey(v.ctx, v.org(), v.id())
		return ofKey(k), k.Thresholds, err
	}
	return limited{}, nil, notFound("page")
}

func (v *visit) thresholdPage(o limited, f *form) error {
	v.here = map[saccount.Kind]string{saccount.KindOrg: "settings", saccount.KindMember: "members", saccount.KindAccount: "accounts", saccount.KindKey: "accounts"}[o.kind]
	p := thresholdForm{Form: f, Revision: o.revision, Back: v.orgPath(o.back...)}
	p.Word = map[saccount.Kind]string{saccount.KindOrg: "organization", saccount.KindMember: "member", saccount.KindAccount: "service account", saccount.KindKey: "key"}[o.kind]
	switch o.kind {
	case saccount.KindOrg:
		p.Below = "And of all accounts, members and keys below it that name none. Empty: those of the service. None: nothing alerts."
	case saccount.KindAccount:
		p.Below = "And of its keys that name none. Empty: those of the organization. None: nothing alerts."
	case saccount.KindMember:
		p.Below = "Empty: those of the organization. None: nothing alerts."
	default:
		p.Below = "Empty: those of its account. None: nothing alerts."
	}
	for _, l := range v.settable(o) {
		p.Limits = append(p.Limits, l.Name)
	}
	return v.render("thresholds", "What alerts, of "+o.name, p)
}

func (v *visit) setThresholds() error {
	o, _, err := v.thresholdOwner()
	if err != nil {
		return err
	}
	f := v.sent()
	own := v.thresholds(f, "thresholds")
	u := saccount.Update{Revision: v.revision(), Thresholds: &own, Limits: saccount.Limits{}}
	for _, l := range v.settable(o) {
		if ts := v.thresholds(f, thresholdField(l.Name)); !slices.Equal(ts, l.Thresholds) || (ts == nil) != (l.Thresholds == nil) {
			u.Limits[l.Name] = &saccount.LimitSpec{Thresholds: &ts}
		}
	}
	if f.Wrong() {
		v.status = http.StatusUnprocessableEntity
		return v.thresholdPage(o, f)
	}
	if err = v.update(o, u); err != nil && v.takes(f, err) {
		return v.thresholdPage(o, f)
	}
	return v.done(err, o.back...)
}
