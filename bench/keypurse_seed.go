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
	above   map[lookedUp]saccount.Lineage // what every account and key that is made asks for
}

type lookedUp struct {
	org  string
	kind saccount.Kind
	id   string
}

func newSeeding(st store.Store) *seeding {
	return &seeding{Store: st, waiting: map[string]*saccount.Batch{}, above: map[lookedUp]saccount.Lineage{}}
}

// Lookup reads an organization or account once.
func (s *seeding) Lookup(ctx context.Context, org string, kind saccount.Kind, id string) (saccount.Lineage, error) {
	at := lookedUp{org, kind, id}
	if l, ok := s.above[at]; ok {
		return l, nil
	}
	l, err := s.Store.Lookup(ctx, org, kind, id)
	if err == nil && (kind == saccount.KindOrg || kind == saccount.KindAccount) {
		s.above[at] = l
	}
	return l, err
}

const seedBatch = 4000

// Write keeps a batch back until there are many.
func (s *seeding) Write(ctx context.Context, b saccount.Batch) error {
	for i := range b.Changes {
		r := &b.Changes[i].Record
		delete(s.above, lookedUp{r.Org, r.Kind, r.ID})
	}
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
