package sim_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/internal/sim"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store"
	"github.com/keypurse/keypurse/usage"
)

// faulty is a store that is wrong in one way, once in a while.
type faulty struct {
	store.Store
	apply  func(s store.Store, op *quota.Op) error
	write  func(b *saccount.Batch)
	outbox func([]quota.Alert) []quota.Alert
	row    func(*usage.Row)
}

func (f *faulty) Apply(ctx context.Context, ops []*quota.Op) error {
	for _, op := range ops {
		if f.apply != nil {
			if err := f.apply(f.Store, op); err != nil {
				return err
			}
		}
		if err := f.Store.Apply(ctx, []*quota.Op{op}); err != nil {
			return err
		}
	}
	return nil
}

func (f *faulty) Write(ctx context.Context, b saccount.Batch) error {
	if f.write != nil {
		f.write(&b)
	}
	return f.Store.Write(ctx, b)
}

func (f *faulty) Outbox(ctx context.Context, after int64, n int) ([]quota.Alert, error) {
	as, err := f.Store.Outbox(ctx, after, n)
	if f.outbox != nil {
		as = f.outbox(as)
	}
	return as, err
}

func (f *faulty) Usage(ctx context.Context, r usage.Range, fn func(usage.Row) error) error {
	return f.Store.Usage(ctx, r, func(row usage.Row) error {
		if f.row != nil {
			f.row(&row)
		}
		return fn(row)
	})
}

// A simulation that finds nothing says something only where it would have found
// what is wrong.
func TestFaultsAreFound(t *testing.T) {
	for name, fault := range map[string]faulty{
		"a charge applied twice": {apply: func(s store.Store, op *quota.Op) error {
			if op.Verb == quota.VerbCharge && op.ID == "" && op.At%7 == 0 {
				return s.Apply(context.Background(), []*quota.Op{op})
			}
			return nil
		}},
		"an id forgotten": {apply: func(_ store.Store, op *quota.Op) error {
			if op.Verb == quota.VerbCharge && op.At%5 == 0 {
				op.ID = ""
			}
			return nil
		}},
		"a commit that is not strict": {apply: func(_ store.Store, op *quota.Op) error {
			op.Strict = false
			return nil
		}},
		"a limit charged a credit too little": {apply: func(_ store.Store, op *quota.Op) error {
			if op.Verb == quota.VerbCharge && op.Amount > 0 && op.At%3 == 0 {
				op.Amount--
			}
			return nil
		}},
		"a counter that is not opened": {write: func(b *saccount.Batch) { b.Open = nil }},
		"a change that raises no settings number": {write: func(b *saccount.Batch) {
			for i := range b.Changes {
				b.Changes[i].Quiet = true
			}
		}},
		"an audit entry lost": {write: func(b *saccount.Batch) { b.Audit = nil }},
		"an alert twice": {outbox: func(as []quota.Alert) []quota.Alert {
			if len(as) > 0 {
				as = append(as, as[0])
			}
			return as
		}},
		"an alert lost": {outbox: func([]quota.Alert) []quota.Alert { return nil }},
		"a bucket without its requests": {row: func(r *usage.Row) {
			if r.Subject.Kind() == quota.KindAccount {
				r.Requests = 0
			}
		}},
		"credits that only the organization spent": {row: func(r *usage.Row) {
			if r.Subject.Kind() == quota.KindOrg && r.Reason == "" {
				r.Credits++
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := sim.Config{Seed: 5, Steps: 6000, World: 1500, Every: 300}
			cfg.Wrap = func(s store.Store) store.Store {
				f := fault
				f.Store = s
				return &f
			}
			_, err := sim.Run(t.Context(), cfg)
			var v *sim.Violation
			require.True(t, errors.As(err, &v), "nothing was found: %v", err)
			assert.Contains(t, v.Error(), "-seed 5 ")
		})
	}
}
