package dashboard

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// limitGroup are the fields of one limit, in a form that has several.
type limitGroup struct {
	Form    *form
	Suffix  string // of the names of its fields
	Name    string // of a limit that is there; empty: it is to be made
	Named   bool   // one that is to be made is given its name
	Periods []option
}

// limitGroups are those of a form.
type limitGroups []limitGroup

// Next is the suffix of one more; empty where no more may be.
func (g limitGroups) Next() string {
	if len(g) >= quota.MaxLimits {
		return ""
	}
	return suffix(len(g))
}

// Empty is what no amount means.
func (g limitGroup) Empty() string {
	if g.Name != "" {
		return "the limit is removed."
	}
	return "no limit of its own; those above it hold."
}

// suffix tells the fields of a form's limits apart.
func suffix(i int) string {
	if i == 0 {
		return ""
	}
	return "-" + strconv.Itoa(i+1)
}

// limitGroups are the limits that a form has fields for.
func (f *form) limitGroups() int {
	n := 0
	for n < quota.MaxLimits && f.Values.Has("max"+suffix(n)) {
		n++
	}
	return n
}

// addLimit adds the fields of a limit: of one that is there, or empty ones.
func (f *form) addLimit(l *quota.Limit) {
	s := suffix(f.limitGroups())
	if l == nil {
		f.Values.Set("max"+s, "")
		f.Values.Set("period"+s, usualPeriod)
		return
	}
	f.Values.Set("limit"+s, l.Name)
	f.Values.Set("max"+s, l.Max.String())
	f.Values.Set("zone"+s, l.Period.Zone)
	f.Values.Set("period"+s, l.Period.Unit.String())
	if !simple(l.Period) {
		f.Values.Set("period"+s, keepPeriod)
	}
}

// limitsForm adds the fields of all limits of a record, or of a first one.
func (f *form) limitsForm(limits []quota.Limit) *form {
	for i := range limits {
		f.addLimit(&limits[i])
	}
	if len(limits) == 0 {
		f.addLimit(nil)
	}
	return f
}

// groups are a form's limits, for its template. was are those that are there.
func (f *form) groups(was []quota.Limit) limitGroups {
	out := make(limitGroups, max(1, f.limitGroups()))
	for i := range out {
		g := limitGroup{Form: f, Suffix: suffix(i), Periods: periods}
		name := f.Values.Get("limit" + g.Suffix)
		if l := findLimit(was, name); l != nil {
			g.Name, g.Periods = name, periodsOf(*l)
		} else if g.Named = len(out) > 1 || name != "" && name != quota.DefaultLimitName; g.Named && i == 0 && name == "" {
			f.Values.Set("limit", quota.DefaultLimitName)
		}
		out[i] = g
	}
	return out
}

// periodsOf are the choices for a limit that is there.
func periodsOf(l quota.Limit) []option {
	if simple(l.Period) {
		return periods
	}
	return slices.Insert(slices.Clone(periods), 0, option{Value: keepPeriod, Label: "As it is: " + periodText(l.Period)})
}

// limits reads the limits of a form that has several: what is to be set anew,
// and which of those that are there are to be removed. A limit that is as it was
// is not touched.
func (v *visit) limits(f *form, was []quota.Limit) saccount.Limits {
	out := saccount.Limits{}
	for i := range f.limitGroups() {
		s := suffix(i)
		name := v.text("limit" + s)
		if i == 0 {
			name = cmp.Or(name, quota.DefaultLimitName)
		}
		old := findLimit(was, name)
		if old != nil && v.text("max"+s) == "" {
			out[name] = nil
			continue
		}
		spec := v.limit(f, s)
		if spec == nil {
			continue // left empty, or wrong
		}
		if old == nil {
			v.nameLimit(f, s, name, was)
		}
		if _, twice := out[name]; twice {
			f.Errors["limit"+s] = limitExists
		}
		if spec.Period != nil && simplyEqual(old, *spec.Period) {
			spec.Period = nil // as it is: its windows go on
		}
		if old == nil || spec.Period != nil || *spec.Max != old.Max {
			out[name] = spec
		}
	}
	return out
}

const limitExists = "There is a limit of this name already; change that one, or give another name."

// nameLimit notes what is wrong with the name of a new limit.
func (v *visit) nameLimit(f *form, s, name string, was []quota.Limit) {
	switch err := quota.CheckLimitName(name); {
	case err != nil:
		f.Errors["limit"+s] = `Give it a name of its own, such as "daily": up to 64 of a-z, 0-9, "_", "-" and ".".`
	case findLimit(was, name) != nil:
		f.Errors["limit"+s] = limitExists
	}
}

// rateForm fills in the fields of a rate limit.
func (f *form) rateForm(r *saccount.RateLimit) *form {
	if r != nil {
		f.Values.Set("rate", strconv.FormatFloat(r.PerSecond, 'f', -1, 64))
		f.Values.Set("burst", strconv.Itoa(r.Burst))
	}
	return f
}

// rate reads the fields of a rate limit. nil where it is as it was; the zero
// RateLimit where it was emptied.
func (v *visit) rate(f *form, was *saccount.RateLimit) *saccount.RateLimit {
	perSecond, burst := v.text("rate"), v.text("burst")
	if perSecond == "" {
		switch {
		case burst != "":
			f.Errors["rate"] = "Give how many requests a second there may be, or leave both fields empty."
		case was != nil && v.form.Has("rate"):
			return &saccount.RateLimit{}
		}
		return nil
	}
	r := saccount.RateLimit{}
	var err error
	if r.PerSecond, err = strconv.ParseFloat(perSecond, 64); err != nil || !(r.PerSecond > 0 && r.PerSecond <= 1e6) {
		f.Errors["rate"] = "Give a number of requests above 0 and up to 1000000, such as 20 or 0.5."
	}
	if burst != "" {
		if r.Burst, err = strconv.Atoi(burst); err != nil || r.Burst < 1 || r.Burst > 1e6 {
			f.Errors["burst"] = "Give a whole number of requests from 1 to 1000000, or leave it empty."
		}
	}
	if was != nil && *was == r {
		return nil
	}
	return &r
}

// limitField is the field that an error of a limit is shown at.
func (f *form) limitField(name string) string {
	for i := range f.limitGroups() {
		if s := suffix(i); f.Values.Get("limit"+s) == name {
			return "max" + s
		}
	}
	return "max"
}

// more reports whether the form was sent to have fields for another limit, and
// adds them.
func (v *visit) more(f *form) bool {
	if v.form.Get("add") != "limit" {
		return false
	}
	f.addLimit(nil)
	return true
}
