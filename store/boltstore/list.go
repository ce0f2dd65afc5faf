package boltstore

import (
	"context"
	"fmt"
	"strings"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// ctxEvery is how many rows are read between looks at the context.
const ctxEvery = 256

// List implements saccount.Store, in one read transaction.
func (s *Store) List(ctx context.Context, q saccount.ListQuery) (page []saccount.Record, more bool, err error) {
	if err := s.open(ctx, "list"); err != nil {
		return nil, false, err
	}
	if err := q.Check(); err != nil {
		return nil, false, fmt.Errorf("boltstore: list: %w", err)
	}
	for _, f := range [...]string{q.Org, q.Parent, q.After, q.NamePrefix} {
		if err := checkID("query", f); err != nil {
			return nil, false, fmt.Errorf("boltstore: list: %w", err)
		}
	}
	err = s.view(func(tx *snap) (err error) {
		page, more, err = s.list(ctx, tx, &q)
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("boltstore: list: %w", err)
	}
	return page, more, nil
}

func (s *Store) list(ctx context.Context, tx *snap, q *saccount.ListQuery) (page []saccount.Record, more bool, err error) {
	// The index to walk: every row stands for one record.
	parent := q.Parent
	if q.Kind != saccount.KindKey && q.Kind != saccount.KindOrg && parent == "" {
		parent = q.Org
	}
	index, prefix, from := tabRecords, recordPrefix(nil, q.Kind, q.Org), q.After
	switch {
	case q.ByName:
		index, prefix = tabNames, namePrefix(nil, q.Kind, q.Org, parent)
		from = max(from, q.NamePrefix)
	case q.Kind == saccount.KindKey && q.Parent != "":
		index, prefix = tabChildren, childPrefix(nil, q.Org, q.Parent)
	}
	lo := append(prefix[:len(prefix):len(prefix)], from...)
	if from == q.After && from != "" {
		lo = append(lo, 0) // behind it
	}
	hi := after(prefix)
	if q.ByName && q.NamePrefix != "" {
		hi = after(append(prefix[:len(prefix):len(prefix)], q.NamePrefix...))
	}
	rows := 0
	err = index.scan(tx, lo, hi, func(k, v []byte) (bool, error) {
		if rows++; rows%ctxEvery == 0 && ctx.Err() != nil {
			return false, ctx.Err()
		}
		last := string(k[len(prefix):])
		var r *saccount.Record
		var err error
		switch index {
		case tabRecords:
			r, err = parseRecord(q.Kind, last, k, v)
		case tabNames:
			r, err = s.indexed(tx, q.Kind, q.Org, string(v))
		default:
			r, err = s.indexed(tx, q.Kind, q.Org, last)
		}
		if err != nil {
			return false, err
		}
		if q.Kind == saccount.KindOrg && q.Org != "" && r.ID != q.Org ||
			q.Kind != saccount.KindOrg && q.Parent != "" && r.Parent != q.Parent || q.ByName && !r.Deleted.IsZero() || !q.Match(r) {
			return true, nil
		}
		if len(page) == q.Limit {
			more = true
			return false, nil
		}
		if r.Kind.FoundByID() {
			if r.Use, err = s.use(tx, r.ID); err != nil {
				return false, err
			}
		}
		page = append(page, *r)
		return true, nil
	})
	return page, more, err
}

// indexed is the record that an index speaks of.
func (s *Store) indexed(tx *snap, kind saccount.Kind, org, id string) (*saccount.Record, error) {
	r, err := s.record(tx, kind, org, id)
	if r == nil && err == nil {
		err = fmt.Errorf("%w: %s %q is listed and not there", quota.ErrCorrupt, kind, strings.ToValidUTF8(id, "?"))
	}
	return r, err
}
