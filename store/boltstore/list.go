package boltstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

const (
	// ctxEvery is how many rows are read between looks at the context.
	ctxEvery = 256
	// fewRows is how many rows of an index in another order than a list's are
	// looked at instead of going through the list's own.
	fewRows = 4096
)

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

// way is a part of an index whose rows each stand for one record. What follows
// the prefix in a row's key is an id, or, of names, the name.
type way struct {
	index  *table
	prefix []byte
	within string // where not empty, what follows the prefix begins with it
}

// bounds are the rows behind what follows the prefix in one of them.
func (w *way) bounds(behind string) (lo, hi []byte) {
	lo = append(slices.Clip(w.prefix), max(behind, w.within)...)
	if behind != "" && behind >= w.within {
		lo = append(lo, 0)
	}
	return lo, after(append(slices.Clip(w.prefix), w.within...))
}

// id is that of the record that a row stands for.
func (w *way) id(k, v []byte) string {
	if w.index == tabNames {
		return string(v)
	}
	return string(k[len(w.prefix):])
}

// ways are the index that stands in the order of the list, and one that is
// narrower and stands in another; nil where there is none.
func ways(q *saccount.ListQuery) (ordered way, narrow *way) {
	parent := q.Parent
	if q.Kind != saccount.KindKey && q.Kind != saccount.KindOrg && parent == "" {
		parent = q.Org
	}
	names := way{tabNames, namePrefix(nil, q.Kind, q.Org, parent), q.NamePrefix}
	var states *way
	if len(q.Statuses) == 1 {
		if state := stateOf(q.Statuses[0]); state != 0 {
			states = &way{index: tabStates, prefix: statePrefix(nil, state, q.Kind, q.Org)}
		}
	}
	named := q.NamePrefix != "" && q.Kind.UniqueNames() && parent != "" && !slices.Contains(q.Statuses, saccount.StatusDeleted)
	switch {
	case q.ByName && states != nil && q.Kind != saccount.KindKey: // the keys of one account are fewer than an organization's
		return names, states
	case q.ByName:
		return names, nil
	case q.Kind == saccount.KindKey && q.Parent != "":
		ordered = way{index: tabChildren, prefix: childPrefix(nil, q.Org, q.Parent)}
	case states != nil:
		ordered = *states
	default:
		ordered = way{index: tabRecords, prefix: recordPrefix(nil, q.Kind, q.Org)}
	}
	if named {
		narrow = &names
	}
	return ordered, narrow
}

func (s *Store) list(ctx context.Context, tx *snap, q *saccount.ListQuery) (page []saccount.Record, more bool, err error) {
	ordered, narrow := ways(q)
	if narrow != nil {
		rs, all, err := s.few(ctx, tx, q, narrow)
		if err != nil {
			return nil, false, err
		}
		if all {
			return rs[:min(len(rs), q.Limit)], len(rs) > q.Limit, nil
		}
	}
	lo, hi := ordered.bounds(q.After)
	rows := 0
	err = ordered.index.scan(tx, lo, hi, func(k, v []byte) (bool, error) {
		if rows++; rows%ctxEvery == 0 && ctx.Err() != nil {
			return false, ctx.Err()
		}
		r, err := s.behindRow(tx, q, &ordered, k, v)
		if r == nil || err != nil {
			return err == nil, err
		}
		if len(page) == q.Limit {
			more = true
			return false, nil
		}
		page = append(page, *r)
		return true, nil
	})
	return page, more, err
}

// few are the records of a narrow way, in the order of the list, if the way has
// few rows; of more than a page, one more.
func (s *Store) few(ctx context.Context, tx *snap, q *saccount.ListQuery, w *way) (rs []saccount.Record, all bool, err error) {
	type row struct{ k, v []byte }
	var rows []row // good until the transaction ends
	lo, hi := w.bounds("")
	err = w.index.scan(tx, lo, hi, func(k, v []byte) (bool, error) {
		rows = append(rows, row{k, v})
		return len(rows) <= s.fewRows, nil
	})
	if err != nil || len(rows) > s.fewRows {
		return nil, false, err
	}
	if !q.ByName { // then what is not on the page need not be read
		slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(w.id(a.k, a.v), w.id(b.k, b.v)) })
	}
	for i, x := range rows {
		if i%ctxEvery == 0 && ctx.Err() != nil {
			return nil, false, ctx.Err()
		}
		if !q.ByName && (w.id(x.k, x.v) <= q.After || len(rs) > q.Limit) {
			continue
		}
		r, err := s.behindRow(tx, q, w, x.k, x.v)
		if err != nil {
			return nil, false, err
		}
		if r != nil && q.Cursor(r) > q.After {
			rs = append(rs, *r)
		}
	}
	slices.SortFunc(rs, func(a, b saccount.Record) int { return cmp.Compare(q.Cursor(&a), q.Cursor(&b)) })
	return rs, true, nil
}

// behindRow is the record that a row stands for; nil where it is not asked for.
func (s *Store) behindRow(tx *snap, q *saccount.ListQuery, w *way, k, v []byte) (r *saccount.Record, err error) {
	id := w.id(k, v)
	if w.index == tabRecords {
		r, err = parseRecord(q.Kind, id, k, v)
	} else if r, err = s.record(tx, q.Kind, q.Org, id); r == nil && err == nil {
		err = fmt.Errorf("%w: %s %q is listed and not there", quota.ErrCorrupt, q.Kind, strings.ToValidUTF8(id, "?"))
	}
	switch {
	case err != nil:
		return nil, err
	case q.Kind == saccount.KindOrg && q.Org != "" && r.ID != q.Org,
		q.Kind != saccount.KindOrg && q.Parent != "" && r.Parent != q.Parent,
		q.ByName && (!r.Deleted.IsZero() || r.Name == ""),
		!q.Match(r):
		return nil, nil
	}
	if r.Kind.FoundByID() {
		r.Use, err = s.use(tx, r.ID)
	}
	return r, err
}

// CountKeys implements saccount.Store, in one read transaction.
func (s *Store) CountKeys(ctx context.Context, org string, accounts []string, most int) (out []saccount.KeyCount, err error) {
	if err := s.open(ctx, "count keys"); err != nil {
		return nil, err
	}
	if err := saccount.CheckCount(len(accounts), most); err != nil {
		return nil, fmt.Errorf("boltstore: count keys: %w", err)
	}
	err = s.view(func(tx *snap) error {
		out = make([]saccount.KeyCount, len(accounts))
		for i, a := range accounts {
			if a == "" || len(org) > maxID || len(a) > maxID {
				continue
			}
			if err := s.countKeys(ctx, tx, org, a, most, &out[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("boltstore: count keys: %w", err)
	}
	return out, nil
}

func (s *Store) countKeys(ctx context.Context, tx *snap, org, account string, most int, c *saccount.KeyCount) error {
	q := saccount.ListQuery{Kind: saccount.KindKey, Org: org, Parent: account}
	w, _ := ways(&q)
	rows := 0
	lo, hi := w.bounds("")
	return w.index.scan(tx, lo, hi, func(k, v []byte) (bool, error) {
		if rows++; rows%ctxEvery == 0 && ctx.Err() != nil {
			return false, ctx.Err()
		}
		r, err := s.behindRow(tx, &q, &w, k, v)
		if r == nil || err != nil {
			return err == nil, err
		}
		if c.Keys == most {
			c.More = true
			return false, nil
		}
		c.Keys++
		if r.Use.At.After(c.LastUsed) {
			c.LastUsed = r.Use.At
		}
		return true, nil
	})
}
