package bench

import (
	"context"

	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store"
)

// seeding is a store that gathers what is written into larger batches, an
// organization each: a million keys are not a million transactions. What waits
// is not seen by reads, so accounts are flushed before their keys are made.
type seeding struct {
	store.Store
	waiting map[string]*saccount.Batch
	changes int
}

const seedBatch = 4000

// Write keeps a batch back until there are many.
func (s *seeding) Write(ctx context.Context, b saccount.Batch) error {
	if len(b.Changes) != 1 || b.Changes[0].Record.Kind == saccount.KindOrg {
		return s.Store.Write(ctx, b)
	}
	w := s.waiting[b.Org]
	if w == nil {
		w = &saccount.Batch{Org: b.Org}
		s.waiting[b.Org] = w
	}
	w.At = b.At
	w.Changes = append(w.Changes, b.Changes...)
	w.Open = append(w.Open, b.Open...)
	w.Audit, w.Seal = append(w.Audit, b.Audit...), b.Seal
	if s.changes++; s.changes < seedBatch {
		return nil
	}
	return s.flush(ctx)
}

func (s *seeding) flush(ctx context.Context) error {
	for org, b := range s.waiting {
		if err := s.Store.Write(ctx, *b); err != nil {
			return err
		}
		delete(s.waiting, org)
	}
	s.changes = 0
	return nil
}
