package saccount

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/usage"
)

// Usage reads what subjects of an organization spent and asked for over time,
// deleted ones too: see usage.Read. Counts of refused requests that are still
// in memory are written first. Errors: ErrInvalid and the store's.
func (s *Service) Usage(ctx context.Context, q usage.Query) ([]usage.Series, error) {
	if err := s.reads(ctx, "usage"); err != nil {
		return nil, err
	}
	out, err := usage.Read(ctx, s.store, q)
	return out, s.mark(err)
}

// EachUsage is Usage, one series after another, for exports: see usage.Each.
func (s *Service) EachUsage(ctx context.Context, q usage.Query) iter.Seq2[usage.Series, error] {
	return func(yield func(usage.Series, error) bool) {
		if err := s.reads(ctx, "usage"); err != nil {
			yield(usage.Series{}, err)
			return
		}
		for x, err := range usage.Each(ctx, s.store, q) {
			if !yield(x, s.mark(err)) {
				return
			}
		}
	}
}

// UsageTotals sums the usage of each subject over [from, to): see usage.Totals.
// The window of a LimitStatus, Start to ResetAt, gives what was counted in it.
func (s *Service) UsageTotals(ctx context.Context, org string, subjects []quota.Subject, from, to time.Time) ([]usage.Total, error) {
	if err := s.reads(ctx, "usage"); err != nil {
		return nil, err
	}
	out, err := usage.Totals(ctx, s.store, org, subjects, from, to)
	return out, s.mark(err)
}

func (s *Service) reads(ctx context.Context, verb string) error {
	if err := s.begin(verb); err != nil {
		return err
	}
	return s.ledger.Flush(ctx)
}

// Retain folds the usage of an organization that is older than keep into days
// of its zone, and says how many quarters of an hour it folded: see
// usage.Retain. keep is never shorter than ids live and a reservation can
// last. Run it once a day or so. Errors: ErrNotFound, ErrInvalid, the store's;
// what was folded until then stays.
func (s *Service) Retain(ctx context.Context, org string, keep time.Duration) (folded int, err error) {
	if err := s.begin("retain"); err != nil {
		return 0, err
	}
	l, err := s.lookup(ctx, org, KindOrg, org)
	if err != nil {
		return 0, fmt.Errorf("saccount: retain: %w", err)
	}
	n, err := readNode(l.Record)
	if err != nil {
		return 0, err
	}
	folded, err = usage.Retain(ctx, s.store, usage.Retention{
		Org: org, Zone: n.Zone, Keep: keep, MinKeep: s.keep() + quota.MaxTTL, Since: n.Created,
	}, s.now())
	return folded, s.mark(err)
}

// keep is how long ids live.
func (s *Service) keep() time.Duration {
	if s.cfg.Keep == 0 {
		return quota.DefaultKeep
	}
	return s.cfg.Keep
}

// Sweep drops what is over: ids that are no longer remembered, alerts that are
// older than ids live, with what became of them, and, where windows is not zero, the counters of windows
// that ended longer ago than that (their credits stay in the usage). Nothing
// depends on it but the size of the store. Watch does the same but for the
// windows, by itself. It works in bounded steps until nothing is left or the
// context ends. Errors: ErrInvalid where windows is shorter than ids live, and
// the store's.
func (s *Service) Sweep(ctx context.Context, windows time.Duration) (dropped int, err error) {
	if err := s.begin("sweep"); err != nil {
		return 0, err
	}
	least := s.keep() + quota.MaxTTL
	if windows != 0 && windows < least {
		return 0, fmt.Errorf("saccount: sweep: %w windows kept for %v: give 0 to keep them all, or at least %v", ErrInvalid, windows, least)
	}
	now := s.now()
	p := Purge{Receipts: now, Alerts: now.Add(-least), Posts: now}
	if windows > 0 {
		p.Windows = now.Add(-windows)
	}
	if dropped, err = s.purge(ctx, p); err != nil {
		return dropped, fmt.Errorf("saccount: sweep: %w", err)
	}
	return dropped, nil
}

// purge drops all that is over, in steps.
func (s *Service) purge(ctx context.Context, p Purge) (dropped int, err error) {
	for p.Most = MaxPage; ; {
		if err := ctx.Err(); err != nil {
			return dropped, err
		}
		n, err := s.store.Purge(ctx, p)
		if err != nil || n == 0 {
			return dropped, err
		}
		dropped += n
	}
}
