package saccount

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/keypurse/keypurse/quota"
)

// setLimits applies Limits to a record, and says which counters to open.
func setLimits(n *node, limits Limits, zone string, now time.Time) (open []Opening, err error) {
	for _, name := range slices.Sorted(maps.Keys(limits)) {
		spec := limits[name]
		if name == "" {
			if _, both := limits[quota.DefaultLimitName]; both {
				return nil, fieldf("/limits", "limits: %q is given twice, once by the empty name", quota.DefaultLimitName)
			}
			name = quota.DefaultLimitName
		}
		if spec == nil {
			if err := quota.CheckLimitName(name); err != nil {
				return nil, within(fieldOf("limits", name), limitErr(err))
			}
			n.Limits = slices.DeleteFunc(slices.Clone(n.Limits), func(l quota.Limit) bool { return l.Name == name })
			continue
		}
		o, err := setLimit(n, name, spec, zone, now)
		if err != nil {
			return nil, within(fieldOf("limits", name), err)
		}
		if o != nil {
			open = append(open, *o)
		}
	}
	if len(n.Limits) > quota.MaxLimits {
		return nil, fieldf("/limits", "limits: %d on one %s; at most %d", len(n.Limits), n.Kind, quota.MaxLimits)
	}
	return open, nil
}

// limitErr makes a refusal of package quota one of this package too.
func limitErr(err error) error { return fmt.Errorf("%w: %w", ErrInvalid, err) }

func setLimit(n *node, name string, spec *LimitSpec, zone string, now time.Time) (*Opening, error) {
	old := n.limit(name)
	l := quota.Limit{Name: name}
	if old != nil {
		l = *old
	} else if spec.Max == nil {
		return nil, invalidf("limit %q: it has no Max; a period alone limits nothing", name)
	}
	if spec.Max != nil {
		l.Max = *spec.Max
	}
	if spec.Soft != nil {
		l.Soft = *spec.Soft
	}
	if spec.Thresholds != nil {
		l.Thresholds = slices.Clone(*spec.Thresholds)
	}
	if spec.Period != nil {
		l.Period = *spec.Period
	}
	if l.Period.Unit != quota.Never && l.Period.Zone == "" {
		if l.Period.Zone = zone; zone == "" {
			l.Period.Zone = "UTC"
		}
	}
	if err := l.Validate(now); err != nil {
		return nil, limitErr(err)
	}
	anew := old == nil || !l.Period.Equal(old.Period)
	if !anew {
		n.setLimit(l)
		return nil, nil
	}
	// What was raised or topped up was the old period's: kept, it would come on
	// top of what the old limit had left.
	n.Sequence++
	l.Number, l.TopUps, l.Raise = n.Sequence, nil, nil
	e, _, err := l.Entry(now)
	if err != nil {
		return nil, limitErr(err)
	}
	o := &Opening{Subject: n.subject(), Entry: e}
	if old != nil {
		was, _, err := old.Entry(now)
		if err != nil {
			return nil, limitErr(err)
		}
		o.Was = &was
	}
	n.setLimit(l)
	return o, nil
}

// TopUp describes a one-time addition to the current window of a limit.
type TopUp struct {
	Limit  string // its name; empty is quota.DefaultLimitName
	Amount quota.Credits
	// ID makes a retry safe: a top-up of this window with the same ID and
	// amount is not added again. Optional, up to 255 bytes.
	ID string
}

// TopUp adds credits to the current window of a limit of an organization,
// account, member or key, once; the next window begins as ever. Errors:
// ErrNotFound (also for a limit that is not there), ErrInvalid, ErrConflict
// where the ID was used with another amount, and the store's.
func (s *Service) TopUp(ctx context.Context, by Actor, org string, kind Kind, id string, t TopUp) error {
	return s.editLimit(ctx, by, org, kind, id, "top_up", t.Limit, func(l *quota.Limit, now time.Time) error {
		if t.Amount <= 0 {
			return fieldf("/amount", "top-up of %s credits: give more than 0", t.Amount)
		}
		if t.ID != "" {
			if err := quota.CheckID(t.ID); err != nil {
				return within("/id", limitErr(err))
			}
		}
		w, err := l.Period.WindowAt(now)
		if err != nil {
			return limitErr(err)
		}
		kept := make([]quota.TopUp, 0, len(l.TopUps)+1)
		for _, o := range l.TopUps {
			if o.Window.Before(w.Start) {
				continue // of a window that is over
			}
			if o.Window.Equal(w.Start) && t.ID != "" && o.ID == t.ID {
				if o.Amount != t.Amount {
					return fmt.Errorf("%w: the top-up %q added %s credits", ErrConflict, t.ID, o.Amount)
				}
				return errUnchanged
			}
			kept = append(kept, o)
		}
		if len(kept) >= quota.MaxTopUps {
			return invalidf("top-up: this window has %d already", len(kept))
		}
		l.TopUps = append(kept, quota.TopUp{ID: t.ID, Amount: t.Amount, Window: w.Start, At: now})
		return nil
	})
}

// RaiseLimit lets a limit stand at max until an instant; a max below the
// limit's own, or an instant that is zero, ends a raise. Errors: ErrNotFound
// (also for a limit that is not there), ErrInvalid and the store's.
func (s *Service) RaiseLimit(ctx context.Context, by Actor, org string, kind Kind, id, limit string, max quota.Credits, until time.Time) error {
	return s.editLimit(ctx, by, org, kind, id, "raise_limit", limit, func(l *quota.Limit, now time.Time) error {
		if until.IsZero() || max < l.Max {
			if max < 0 {
				return fieldf("/max", "raise to %s credits: give 0 or more", max)
			}
			l.Raise = nil
			return nil
		}
		if !until.After(now) || until.Year() > 9999 {
			return fieldf("/until", "raise until %s: give an instant to come", until.UTC().Format(time.RFC3339))
		}
		l.Raise = &quota.Raise{Max: max, Until: Micro(until)}
		return nil
	})
}

func (s *Service) editLimit(ctx context.Context, by Actor, org string, kind Kind, id, action, name string, edit func(*quota.Limit, time.Time) error) error {
	if name == "" {
		name = quota.DefaultLimitName
	}
	_, err := s.change(ctx, by, org, kind, id, 0, action, func(n *node, b *Batch) error {
		l := n.limit(name)
		if l == nil {
			return fmt.Errorf("limit %q: %w", name, ErrNotFound)
		}
		c := *l
		if err := edit(&c, b.At); err != nil {
			return err
		}
		n.setLimit(c)
		return nil
	})
	return err
}
