package dashboard

import (
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// limitSpec is what can be set of a limit.
type limitSpec struct {
	Max        quota.Credits      `json:"max" doc:"credits that may be spent in a window; 0: none"`
	Period     *period            `json:"period,omitempty" doc:"when it resets; absent: never"`
	Soft       bool               `json:"soft,omitempty" doc:"counts and reports, and never refuses"`
	Thresholds *[]quota.Threshold `json:"thresholds,omitempty" doc:"what alerts, once a window; absent: the service's defaults; empty: nothing"`
}

// period is quota.Period, field by field, so that each has a pointer.
type period struct {
	Unit      quota.Unit `json:"unit"`
	Every     int        `json:"every,omitempty" doc:"so many units; above 1 it needs an anchor" schema:"minimum=0"`
	Zone      string     `json:"zone,omitempty" doc:"IANA name; the organization's where it is not given"`
	WeekStart string     `json:"week_start,omitempty" doc:"monday, the default, to sunday; with unit week and no anchor"`
	Anchor    *time.Time `json:"anchor,omitempty" doc:"an instant that windows begin at, on a quarter of an hour"`
}

// limitView is a limit as it is shown.
type limitView struct {
	limitSpec
	Raise  *raiseView  `json:"raise,omitempty"`
	TopUps []topUpView `json:"top_ups,omitempty"`
}

type raiseView struct {
	Max   quota.Credits `json:"max"`
	Until time.Time     `json:"until"`
}

type topUpView struct {
	ID     string        `json:"id,omitempty"`
	Amount quota.Credits `json:"amount"`
	Window time.Time     `json:"window,omitzero" doc:"the start of the window that it was given in"`
	At     time.Time     `json:"at"`
}

func specOf(l *quota.Limit) limitSpec {
	s := limitSpec{Max: l.Max, Soft: l.Soft}
	if p := l.Period; p.Unit != quota.Never {
		s.Period = &period{Unit: p.Unit, Every: p.Every, Zone: p.Zone, WeekStart: p.WeekStart}
		if !p.Anchor.IsZero() {
			at := p.Anchor.UTC()
			s.Period.Anchor = &at
		}
	}
	if l.Thresholds != nil {
		t := l.Thresholds
		s.Thresholds = &t
	}
	return s
}

func specsOf(ls []quota.Limit) map[string]limitSpec {
	var out map[string]limitSpec
	for i := range ls {
		if out == nil {
			out = map[string]limitSpec{}
		}
		out[ls[i].Name] = specOf(&ls[i])
	}
	return out
}

func limitsOf(ls []quota.Limit) map[string]limitView {
	var out map[string]limitView
	for i := range ls {
		l := &ls[i]
		v := limitView{limitSpec: specOf(l)}
		if l.Raise != nil {
			v.Raise = &raiseView{l.Raise.Max, l.Raise.Until.UTC()}
		}
		for _, t := range l.TopUps {
			v.TopUps = append(v.TopUps, topUpView{t.ID, t.Amount, t.Window.UTC(), t.At.UTC()})
		}
		if out == nil {
			out = map[string]limitView{}
		}
		out[l.Name] = v
	}
	return out
}

// spec is the whole of a limit as the Service is told: what is not given is at
// its default.
func (s *limitSpec) spec() *saccount.LimitSpec {
	var p quota.Period
	if s.Period != nil {
		p = quota.Period{Unit: s.Period.Unit, Every: s.Period.Every, Zone: s.Period.Zone, WeekStart: s.Period.WeekStart}
		if s.Period.Anchor != nil {
			p.Anchor = *s.Period.Anchor
		}
	}
	thresholds := new([]quota.Threshold)
	if s.Thresholds != nil {
		thresholds = s.Thresholds
	}
	max, soft := s.Max, s.Soft
	return &saccount.LimitSpec{Max: &max, Period: &p, Soft: &soft, Thresholds: thresholds}
}

func limitsFrom(specs map[string]limitSpec) saccount.Limits {
	out := saccount.Limits{}
	for name, s := range specs {
		out[name] = s.spec()
	}
	return out
}
