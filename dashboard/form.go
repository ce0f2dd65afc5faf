package dashboard

import (
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// form is a form as it is shown: what is in its fields, and what is wrong.
type form struct {
	Values  url.Values
	Errors  map[string]string // by field
	Message string            // what is wrong with none of the fields
}

func newForm(pairs ...string) *form {
	f := &form{Values: url.Values{}, Errors: map[string]string{}}
	for i := 0; i+1 < len(pairs); i += 2 {
		f.Values.Set(pairs[i], pairs[i+1])
	}
	return f
}

// sent is the form that was sent, to be shown again with what is wrong: what
// was typed is kept.
func (v *visit) sent() *form { return &form{Values: v.form, Errors: map[string]string{}} }

// Wrong reports whether anything is.
func (f *form) Wrong() bool { return len(f.Errors) > 0 || f.Message != "" }

// takes notes what an error says of the form, and reports whether it is one
// that the sender can mend. Any other fails the page.
func (v *visit) takes(f *form, err error) bool {
	p := v.problem(err)
	switch p.Code {
	case codeExists:
		f.Errors["name"] = "Another one that lives has this name. Give a name of its own."
	case codeConflict:
		f.Message = "Somebody changed it while you were at it. What you typed is kept: look at what it is now, and save again to replace it."
	case codeInvalid:
		for _, e := range p.Errors {
			name, in, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(e.Pointer, "#"), "/"), "/")
			if name == "limits" {
				limit, _, _ := strings.Cut(in, "/")
				name = f.limitField(limit)
			}
			text := sentence(e.Detail)
			if _, ok := f.Values[name]; ok && name != "" {
				f.Errors[name] = text
			} else {
				f.Message = text
			}
		}
	default:
		return false
	}
	v.status = p.Status
	return true
}

// input is a field as its template needs it.
type input struct {
	Name, Label, Hint, Value, Error string
	Kind                            string // of an <input>
	Options                         []option
	On                              bool
}

// Decimal reports whether it is an amount.
func (i input) Decimal() bool {
	return slices.Contains([]string{"max", "amount", "raise", "hours", "rate", "burst"}, strings.TrimRight(i.Name, "-0123456789"))
}

// ID is the field's, in the page.
func (i input) ID() string { return "f-" + i.Name }

// Described are the ids of what explains the field.
func (i input) Described() string {
	var ids []string
	if i.Hint != "" {
		ids = append(ids, i.ID()+"-hint")
	}
	if i.Error != "" {
		ids = append(ids, i.ID()+"-error")
	}
	return strings.Join(ids, " ")
}

type option struct {
	Value, Label string
	On           bool
}

func inputOf(f *form, kind, name, label, hint string) input {
	return input{Name: name, Label: label, Hint: hint, Value: f.Values.Get(name), Error: f.Errors[name], Kind: kind}
}

// suggest is a field with suggestions.
func suggest(f *form, name, label, hint string, values []string) input {
	i := inputOf(f, "text", name, label, hint)
	for _, s := range values {
		i.Options = append(i.Options, option{Value: s})
	}
	return i
}

func tick(f *form, name, label, hint string) input {
	i := inputOf(f, "checkbox", name, label, hint)
	i.On = i.Value != ""
	return i
}

func choice(f *form, name, label, hint string, options []option) input {
	i := inputOf(f, "", name, label, hint)
	for _, o := range options {
		o.On = o.Value == i.Value
		i.Options = append(i.Options, o)
	}
	return i
}

// text is a field of a form that was sent.
func (v *visit) text(name string) string { return strings.TrimSpace(v.form.Get(name)) }

// list is a field with a value a line.
func (v *visit) list(name string) []string {
	var out []string
	for _, l := range strings.FieldsFunc(v.form.Get(name), func(r rune) bool { return r == '\n' || r == '\r' }) {
		if l = strings.TrimSpace(l); l != "" {
			out = append(out, l)
		}
	}
	return out
}

// labels reads "key=value" lines.
func (v *visit) labels(f *form) map[string]string {
	out := map[string]string{}
	for _, l := range v.list("labels") {
		k, val, ok := strings.Cut(l, "=")
		if !ok {
			f.Errors["labels"] = "Write one label a line, as key=value."
			continue
		}
		out[strings.TrimSpace(k)] = strings.TrimSpace(val)
	}
	return out
}

func labelLines(labels map[string]string) string {
	keys := slices.Sorted(maps.Keys(labels))
	var b strings.Builder
	for _, k := range keys {
		b.WriteString(k + "=" + labels[k] + "\n")
	}
	return b.String()
}

// newLabels is the change from one set of labels to another.
func newLabels(was, is map[string]string) map[string]*string {
	out := map[string]*string{}
	for k := range was {
		if _, ok := is[k]; !ok {
			out[k] = nil
		}
	}
	for k, val := range is {
		out[k] = &val
	}
	return out
}

// revision is that of the record that the form was made from; 0 where it says
// none.
func (v *visit) revision() int64 {
	n, err := strconv.ParseInt(v.form.Get("revision"), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// periods are the choices of when a limit resets.
var periods = []option{
	{Value: "never", Label: "Never"}, {Value: "hour", Label: "Every hour"}, {Value: "day", Label: "Every day"}, {Value: "week", Label: "Every week, on Monday"},
	{Value: "month", Label: "Every month"}, {Value: "quarter", Label: "Every quarter"}, {Value: "year", Label: "Every year"},
}

// usualPeriod is the choice that a form begins with: where no amount is given, it
// was not made by anybody.
const usualPeriod = "month"

// keepPeriod is the choice to leave a period as it is.
const keepPeriod = "keep"

// limit reads the fields of a limit: max, period and zone, with the suffix of
// their names. nil where no amount is given.
func (v *visit) limit(f *form, suffix string) *saccount.LimitSpec {
	amount, unit, zone := v.text("max"+suffix), v.text("period"+suffix), v.text("zone"+suffix)
	if amount == "" {
		if unit != "" && unit != "never" && unit != keepPeriod && unit != usualPeriod {
			f.Errors["max"+suffix] = "Give an amount, or choose Never again: a period without an amount limits nothing."
		}
		return nil
	}
	max, err := quota.ParseCredits(amount)
	if err != nil || max < 0 {
		f.Errors["max"+suffix] = `Give an amount of credits such as 500 or 0.25, at most six digits after the point. 0 lets nothing be spent.`
		return nil
	}
	spec := &saccount.LimitSpec{Max: &max}
	if unit == keepPeriod {
		return spec
	}
	u, err := quota.ParseUnit(unit)
	if unit == "" {
		u, err = quota.Never, nil
	}
	if err != nil {
		f.Errors["period"+suffix] = "Choose when it resets."
		return nil
	}
	p := quota.Period{Unit: u}
	if u != quota.Never && zone != "" {
		p.Zone = zone
		if err := p.Validate(v.cfg.Now()); err != nil {
			f.Errors["zone"+suffix] = "There is no such time zone. Write one as Europe/Berlin, or leave it empty for the organization's."
			return nil
		}
	}
	spec.Period = &p
	return spec
}

// when reads a field of date and time, in the organization's zone; the zero
// time where it is empty.
func (v *visit) when(f *form, name string) time.Time {
	s := v.text(name)
	if s == "" {
		return time.Time{}
	}
	for _, layout := range []string{"2006-01-02T15:04", "2006-01-02T15:04:05", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, v.zone()); err == nil {
			return t
		}
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t
	}
	f.Errors[name] = "Write a date and a time, as 2027-01-31T12:00."
	return time.Time{}
}
