package quota

import (
	"fmt"
	"slices"
	"time"
)

// DefaultLimitName is the name of a limit that was given none.
const DefaultLimitName = "credits"

// Limit is a named allowance: Max credits per Period, on one subject. It is a
// record's value: the credits spent under it are the store's counters.
type Limit struct {
	// Name is unique on its subject: 1 to 64 of a-z, 0-9, "_", "-" and ".",
	// beginning with a letter or digit. Empty stands for DefaultLimitName.
	Name string `json:"name"`
	// Max is what may be spent in a window. Zero: nothing may be spent.
	Max Credits `json:"max"`
	// Period is the rule of the windows. The zero Period never resets.
	Period Period `json:"period,omitzero"`
	// Soft counts and reports, and never refuses.
	Soft bool `json:"soft,omitempty"`
	// Thresholds alert once a window. Nil stands for the defaults of the
	// service; empty and not nil for none. At most MaxThresholds.
	Thresholds []Threshold `json:"thresholds,omitzero"`
	// Number is the number of the period: the service sets it, from 1, and
	// raises it when the period is set anew. It is part of the counters' names.
	Number uint32 `json:"number"`
	// Raise and TopUps are set by calls of their own.
	Raise  *Raise  `json:"raise,omitempty"`
	TopUps []TopUp `json:"top_ups,omitempty"`
}

// Raise lets a limit stand at Max until an instant. One below the limit's own
// Max changes nothing.
type Raise struct {
	Max   Credits   `json:"max"`
	Until time.Time `json:"until"`
}

// TopUp adds to one window of a limit, once.
type TopUp struct {
	ID     string    `json:"id,omitempty"` // the caller's, so that a retry adds nothing
	Amount Credits   `json:"amount"`
	Window time.Time `json:"window,omitzero"` // the start of the window that it was given in
	At     time.Time `json:"at"`
}

// MaxTopUps bounds the top-ups of one window.
const MaxTopUps = 100

// Validate refuses a limit that cannot be kept: a name, Max, period, threshold
// or raise that is wrong. now is when it is set. Errors wrap ErrInvalid and
// name the limit. An empty name is refused too: fill DefaultLimitName in.
func (l *Limit) Validate(now time.Time) error {
	if err := CheckLimitName(l.Name); err != nil {
		return err
	}
	if l.Max < 0 {
		return fmt.Errorf("%w limit %q: Max is %s; give 0 for nothing, or more, or remove the limit", ErrInvalid, l.Name, l.Max)
	}
	if err := l.Period.Validate(now); err != nil {
		return fmt.Errorf("limit %q: %w", l.Name, err)
	}
	if l.Raise != nil && l.Raise.Max < 0 {
		return fmt.Errorf("%w limit %q: raised to %s; a raise is never negative", ErrInvalid, l.Name, l.Raise.Max)
	}
	return checkThresholds(l.Name, l.Thresholds)
}

func checkThresholds(name string, ts []Threshold) error {
	if len(ts) > MaxThresholds {
		return fmt.Errorf("%w limit %q: %d thresholds; at most %d", ErrInvalid, name, len(ts), MaxThresholds)
	}
	for i, t := range ts {
		if err := t.Validate(); err != nil {
			return fmt.Errorf("limit %q: %w", name, err)
		}
		if slices.Contains(ts[:i], t) {
			return fmt.Errorf("%w limit %q: threshold %s is given twice", ErrInvalid, name, t)
		}
	}
	return nil
}

// CheckLimitName refuses what is no limit's name; see Limit.Name. The error
// wraps ErrInvalid.
func CheckLimitName(s string) error {
	ok := len(s) >= 1 && len(s) <= 64
	for i := 0; ok && i < len(s); i++ {
		c := s[i]
		ok = c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || i > 0 && (c == '_' || c == '-' || c == '.')
	}
	if !ok {
		return fmt.Errorf(`%w limit name %.70q: use 1 to 64 of a-z, 0-9, "_", "-" and ".", beginning with a letter or digit`, ErrInvalid, s)
	}
	return nil
}

// Entry is the limit in its window at instant at, and until when that holds.
// Errors wrap ErrInvalid.
func (l *Limit) Entry(at time.Time) (e Entry, until time.Time, err error) {
	w, err := l.Period.WindowAt(at)
	if err != nil {
		return e, until, fmt.Errorf("limit %q: %w", l.Name, err)
	}
	e = Entry{Limit: l.Name, Number: l.Number, Max: l.Max, Soft: l.Soft, Thresholds: l.Thresholds}
	if l.Period.Unit != Never {
		e.Start, e.End = Micros(w.Start), Micros(w.End)
		until = w.End
	}
	if r := l.Raise; r != nil && at.Before(r.Until) {
		e.Extra = max(0, r.Max-l.Max)
		if until.IsZero() || r.Until.Before(until) {
			until = r.Until
		}
	}
	for i := range l.TopUps {
		if t := &l.TopUps[i]; t.Window.Equal(w.Start) {
			e.Extra = satAdd(e.Extra, t.Amount)
		}
	}
	return e, until, nil
}
