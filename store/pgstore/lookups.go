package pgstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/keypurse/keypurse/saccount"
)

// How a Lookup names its record.
const (
	byKeyID    = `r.kind = 4 AND r.id = $1`
	byManageID = `r.kind = 5 AND r.id = $1`
	byPlace    = `r.org = $1 AND r.kind = $2 AND r.id = $3`
)

// Lookup implements saccount.Store, in one round trip.
func (s *Store) Lookup(ctx context.Context, org string, kind saccount.Kind, id string) (l saccount.Lineage, err error) {
	if !kind.Valid() {
		return l, fmt.Errorf("pgstore: lookup: %w kind %d", saccount.ErrInvalid, kind)
	}
	ctx, end, err := s.enter(ctx, "lookup")
	if err != nil {
		return l, err
	}
	defer end()
	if checkText("organization", org) != nil || checkText("id", id) != nil {
		return l, fmt.Errorf("pgstore: lookup: %s: %w", kind, saccount.ErrNotFound)
	}
	text, args := s.sql.lookup+byPlace, []any{org, int64(kind), id}
	switch {
	case org != "":
	case kind == saccount.KindKey:
		text, args = s.sql.lookup+byKeyID, []any{id}
	case kind == saccount.KindManagementKey:
		text, args = s.sql.lookup+byManageID, []any{id}
	}
	err = s.persist(ctx, "lookup", func() error {
		got, err := s.lookup(ctx, text, args)
		if err == nil {
			l = got
		}
		return err
	})
	if err != nil {
		return saccount.Lineage{}, fmt.Errorf("pgstore: lookup: %s %q: %w", kind, id, err)
	}
	return l, nil
}

func (s *Store) lookup(ctx context.Context, text string, args []any) (saccount.Lineage, error) {
	var l saccount.Lineage
	n := 0
	err := s.each(ctx, s.db.DB, nil, text, args, func(rows *sql.Rows) error {
		n++
		var r, a, g raw
		into := append(r.into(), &r.at, &r.addr)
		into = append(append(append(into, a.above()...), g.above()...), &l.Settings)
		if err := rows.Scan(into...); err != nil {
			return err
		}
		rec, err := r.record()
		if err != nil || rec == nil {
			return errors.Join(err, saccount.ErrNotFound)
		}
		l.Record = *rec
		if l.Account, err = a.as(saccount.KindAccount, rec.Org, rec.Parent).record(); err != nil {
			return err
		}
		l.Org, err = g.as(saccount.KindOrg, rec.Org, rec.Org).record()
		return err
	})
	switch {
	case err != nil:
		return saccount.Lineage{}, err
	case n == 0:
		return l, saccount.ErrNotFound
	}
	return l, nil
}

// List implements saccount.Store. The server finds what it can by an index, and
// saccount.ListQuery.Match has the last word.
func (s *Store) List(ctx context.Context, q saccount.ListQuery) (page []saccount.Record, more bool, err error) {
	ctx, end, err := s.enter(ctx, "list")
	if err != nil {
		return nil, false, err
	}
	defer end()
	if err := q.Check(); err != nil {
		return nil, false, fmt.Errorf("pgstore: list: %w", err)
	}
	for _, text := range [...]string{q.Org, q.Parent, q.After, q.NamePrefix} {
		if !valid(text) || len(text) > maxText {
			return nil, false, fmt.Errorf("pgstore: list: %w query: not UTF-8, with a zero byte, or longer than %d bytes", saccount.ErrInvalid, maxText)
		}
	}
	err = s.read(ctx, "list", func() error {
		page = nil
		after := q.After
		for {
			chunk, last, err := s.chunk(ctx, &q, after)
			if err != nil {
				return err
			}
			for i := range chunk {
				if len(page) == q.Limit {
					more = true
					return nil
				}
				page = append(page, chunk[i])
			}
			if last == nil {
				more = false
				return nil
			}
			after = *last
		}
	})
	if err != nil {
		return nil, false, err
	}
	return page, more, nil
}

// chunk is a part of a list: those of some records behind after that match,
// and where the next part begins; nil where nothing follows.
func (s *Store) chunk(ctx context.Context, q *saccount.ListQuery, after string) (out []saccount.Record, last *string, err error) {
	var b strings.Builder
	var args []any
	arg := func(v any) string {
		args = append(args, v)
		return fmt.Sprintf("$%d", len(args))
	}
	b.WriteString(s.sql.list + " WHERE r.kind = " + fmt.Sprint(int(q.Kind)))
	if q.Org != "" {
		b.WriteString(" AND r.org = " + arg(q.Org))
	}
	if q.Parent != "" {
		b.WriteString(" AND r.parent = " + arg(q.Parent))
	} else if q.ByName { // accounts: the index of names goes by parent
		b.WriteString(" AND r.parent = " + arg(q.Org))
	}
	order := "r.id"
	if q.ByName {
		order = "r.name"
		b.WriteString(" AND r.deleted IS NULL AND r.kind IN (2, 4)")
		if after == "" {
			b.WriteString(" AND r.name <> ''")
		}
	} else if !deletedToo(q) {
		b.WriteString(" AND r.deleted IS NULL")
	}
	b.WriteString(" AND " + order + " > " + arg(after))
	if q.NamePrefix != "" {
		p := arg(q.NamePrefix)
		b.WriteString(" AND r.name >= " + p + " AND starts_with(r.name, " + p + ")")
	}
	if len(q.Labels) > 0 {
		text, err := json.Marshal(q.Labels)
		if err != nil {
			return nil, nil, err
		}
		b.WriteString(" AND r.labels @> " + arg(string(text)) + "::jsonb")
	}
	size := q.Limit + 1
	b.WriteString(" ORDER BY " + order + " LIMIT " + arg(size))
	var got []*saccount.Record
	err = s.eachUnprepared(ctx, b.String(), args, func(rows *sql.Rows) error {
		var w raw
		if err := rows.Scan(append(w.into(), &w.at, &w.addr)...); err != nil {
			return err
		}
		r, err := w.record()
		got = append(got, r)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	for _, r := range got {
		if q.Match(r) {
			out = append(out, *r)
		}
	}
	if len(got) == size {
		cursor := q.Cursor(got[len(got)-1])
		last = &cursor
	}
	return out, last, nil
}

func deletedToo(q *saccount.ListQuery) bool {
	for _, st := range q.Statuses {
		if st == saccount.StatusDeleted {
			return true
		}
	}
	return false
}

// eachUnprepared is each for texts that are many.
func (s *Store) eachUnprepared(ctx context.Context, text string, args []any, scan func(*sql.Rows) error) error {
	return call(ctx, nil, func() error {
		rows, err := s.db.QueryContext(ctx, text, args...)
		if err != nil {
			return err
		}
		for rows.Next() {
			if err := scan(rows); err != nil {
				return errors.Join(err, rows.Close())
			}
		}
		return rows.Err()
	})
}

// Changes says which organizations' records changed after the change of that
// number, and the number of the last one: one read of a row that every Write
// raises under its lock, so that no change hides behind a later one. After 0 it
// gives the number alone.
func (s *Store) Changes(ctx context.Context, after int64) (last int64, orgs []string, err error) {
	ctx, end, err := s.begin(ctx, "changes")
	if err != nil {
		return 0, nil, err
	}
	defer end()
	var list string
	err = s.each(ctx, s.db.DB, nil, s.sql.changed, []any{after}, func(rows *sql.Rows) error { return rows.Scan(&last, &list) })
	if err != nil {
		return 0, nil, fmt.Errorf("pgstore: changes: %w", err)
	}
	if err := json.Unmarshal([]byte(list), &orgs); err != nil {
		return 0, nil, fmt.Errorf("pgstore: changes: %w", err)
	}
	return last, orgs, nil
}
