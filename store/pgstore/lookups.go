package pgstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/keypurse/keypurse/saccount"
)

// How a Lookup names its record.
const (
	byKeyID    = `r.kind = 4 AND r.id = q.id`
	byManageID = `r.kind = 5 AND r.id = q.id`
	byPlace    = `r.org = $1 AND r.kind = $2 AND r.id = $3`
	byPlaces   = `r.org = $1 AND r.kind = $2 AND r.id = ANY($3::text[])`
)

// Lookup implements saccount.Store, in one round trip.
func (s *Store) Lookup(ctx context.Context, org string, kind saccount.Kind, id string) (l saccount.Lineage, err error) {
	if !kind.Valid() {
		return l, fmt.Errorf("pgstore: lookup: %w kind %d", saccount.ErrInvalid, kind)
	}
	if org == "" && kind.FoundByID() && checkText("id", id) == nil {
		began := time.Now()
		l, ok, err := s.askAtOnce(ctx, kind, id)
		if err == nil && ok {
			return l, nil
		}
		if err == nil {
			return l, fmt.Errorf("pgstore: lookup: %s %q: %w", kind, id, saccount.ErrNotFound)
		}
		var end context.CancelFunc
		ctx, end = context.WithDeadline(ctx, began.Add(s.cfg.Timeout))
		defer end()
	}
	ctx, end, err := s.enter(ctx, "lookup")
	if err != nil {
		return l, err
	}
	defer end()
	if checkText("organization", org) != nil || checkText("id", id) != nil {
		return l, fmt.Errorf("pgstore: lookup: %s: %w", kind, saccount.ErrNotFound)
	}
	ok := false
	err = s.persist(ctx, "lookup", func() (err error) {
		if org == "" && kind.FoundByID() {
			l, ok, err = s.asker(kind).ask(ctx, id)
			return err
		}
		got, err := s.lookup(ctx, s.sql.lookup+byPlace, []any{org, int64(kind), id})
		if ok = len(got) > 0; ok {
			l = got[0]
		}
		return err
	})
	if err == nil && !ok {
		err = saccount.ErrNotFound
	}
	if err != nil {
		return saccount.Lineage{}, fmt.Errorf("pgstore: lookup: %s %q: %w", kind, id, err)
	}
	return l, nil
}

// askAtOnce asks once for a record that is found by its id alone, without what
// watches over a call that goes on when it fails: an error says nothing but that it
// is to be asked for as everything else is.
func (s *Store) askAtOnce(ctx context.Context, kind saccount.Kind, id string) (l saccount.Lineage, ok bool, err error) {
	defer s.under.Add(-1)
	if s.under.Add(1) > int64(s.cfg.MaxCalls) || ctx.Err() != nil {
		return l, false, errAskAgain
	}
	s.calls.RLock()
	defer s.calls.RUnlock()
	if s.closed.Load() {
		return l, false, errAskAgain
	}
	return s.asker(kind).ask(ctx, id)
}

var errAskAgain = errors.New("not asked")

func (s *Store) asker(kind saccount.Kind) *asker {
	if kind == saccount.KindKey {
		return &s.keys
	}
	return &s.managers
}

// Lookups implements saccount.Store, in one round trip.
func (s *Store) Lookups(ctx context.Context, org string, kind saccount.Kind, ids []string) ([]saccount.Lineage, error) {
	ctx, end, err := s.enter(ctx, "lookups")
	if err != nil {
		return nil, err
	}
	defer end()
	if err := saccount.CheckLookups(kind, len(ids)); err != nil {
		return nil, fmt.Errorf("pgstore: lookups: %w", err)
	}
	out, asked := make([]saccount.Lineage, len(ids)), sendable(ids)
	if checkText("organization", org) != nil || len(asked.b) == 0 {
		return out, nil
	}
	var got []saccount.Lineage
	err = s.read(ctx, "lookups", func() (err error) {
		got, err = s.lookup(ctx, s.sql.lookup+byPlaces, []any{org, int64(kind), asked.String()})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("pgstore: lookups: %w", err)
	}
	at := make(map[string]*saccount.Lineage, len(got))
	for i := range got {
		at[got[i].Record.ID] = &got[i]
	}
	for i, id := range ids {
		if l := at[id]; l != nil {
			out[i] = *l
		}
	}
	return out, nil
}

// sendable are the ids that a record can have.
func sendable(ids []string) (out texts) {
	for _, id := range ids {
		if checkText("id", id) == nil {
			out.add(id)
		}
	}
	return out
}

// lookup reads the records that a text finds.
func (s *Store) lookup(ctx context.Context, text string, args []any) ([]saccount.Lineage, error) {
	var out []saccount.Lineage // not a result: who is left may still write to it
	err := s.brief(ctx, text, args, func(rows *sql.Rows) error {
		l, err := scanLineage(rows)
		out = append(out, l)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// scanLineage reads a row of the columns of a look-up.
func scanLineage(rows *sql.Rows) (l saccount.Lineage, err error) {
	var r, a, g raw
	into := append(make([]any, 0, 32), r.into()...)
	into = append(append(append(append(into, &r.at, &r.addr), a.above()...), g.above()...), &l.Settings)
	if err := rows.Scan(into...); err != nil {
		return l, err
	}
	rec, err := r.record()
	if err != nil {
		return l, err
	}
	l.Record = *rec // a record has an id: it is in the primary key
	if l.Account, err = a.as(saccount.KindAccount, rec.Org, rec.Parent).record(); err != nil {
		return l, err
	}
	l.Org, err = g.as(saccount.KindOrg, rec.Org, rec.Org).record()
	return l, err
}

// CountKeys implements saccount.Store, in one round trip.
func (s *Store) CountKeys(ctx context.Context, org string, accounts []string, most int) ([]saccount.KeyCount, error) {
	ctx, end, err := s.enter(ctx, "count keys")
	if err != nil {
		return nil, err
	}
	defer end()
	if err := saccount.CheckCount(len(accounts), most); err != nil {
		return nil, fmt.Errorf("pgstore: count keys: %w", err)
	}
	out, asked := make([]saccount.KeyCount, len(accounts)), sendable(accounts)
	if checkText("organization", org) != nil || len(asked.b) == 0 {
		return out, nil
	}
	counts := map[string]saccount.KeyCount{}
	err = s.read(ctx, "count keys", func() error {
		return s.each(ctx, s.db.DB, nil, s.sql.countKeys, []any{org, asked.String(), most}, func(rows *sql.Rows) error {
			var account string
			var c saccount.KeyCount
			var used sql.NullInt64
			err := rows.Scan(&account, &c.Keys, &c.More, &used)
			c.LastUsed = instant(used)
			counts[account] = c
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("pgstore: count keys: %w", err)
	}
	for i, a := range accounts {
		out[i] = counts[a]
	}
	return out, nil
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
	size := q.Limit + 1
	text, args, err := s.listText(q, after, size)
	if err != nil {
		return nil, nil, err
	}
	var got []*saccount.Record
	err = s.eachUnprepared(ctx, text, args, func(rows *sql.Rows) error {
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

// listText asks for a part of a list. What it says of the filters fits the
// indexes.
func (s *Store) listText(q *saccount.ListQuery, after string, size int) (string, []any, error) {
	var b strings.Builder
	var args []any
	arg := func(v any) string {
		args = append(args, v)
		return fmt.Sprintf("$%d", len(args))
	}
	b.WriteString(s.sql.list + "r.kind = " + fmt.Sprint(int(q.Kind)))
	if q.Org != "" {
		b.WriteString(" AND r.org = " + arg(q.Org))
	}
	if q.Parent != "" {
		b.WriteString(" AND r.parent = " + arg(q.Parent))
	} else if q.Kind == saccount.KindAccount && (q.ByName || q.NamePrefix != "") { // the index of names goes by parent
		b.WriteString(" AND r.parent = " + arg(q.Org))
	}
	order := "r.id"
	if q.ByName {
		order = "r.name"
		b.WriteString(" AND r.deleted IS NULL")
	}
	if q.ByName || q.NamePrefix != "" && q.Kind.UniqueNames() { // what the index of names is for
		b.WriteString(" AND r.name <> '' AND r.kind IN (2, 4)")
	}
	b.WriteString(" AND " + statusText(q.Statuses, func() string { return arg(q.Now.UnixMicro()) }))
	b.WriteString(" AND " + order + " > " + arg(after))
	if q.NamePrefix != "" {
		b.WriteString(" AND r.name >= " + arg(q.NamePrefix))
		if end, ok := behind(q.NamePrefix); ok {
			b.WriteString(" AND r.name < " + arg(end))
		}
	}
	if len(q.Labels) > 0 {
		text, err := json.Marshal(q.Labels)
		if err != nil {
			return "", nil, err
		}
		b.WriteString(" AND r.labels @> " + arg(string(text)) + "::jsonb")
	}
	b.WriteString(" ORDER BY " + order + " LIMIT " + arg(size) + s.sql.listUses + order)
	return b.String(), args, nil
}

// statusText is a condition for the statuses that are asked for, each as the
// index for it says it.
func statusText(statuses []saccount.Status, now func() string) string {
	if len(statuses) == 0 {
		return "r.deleted IS NULL"
	}
	var any []string
	for _, st := range statuses {
		switch st {
		case saccount.StatusActive:
			any = append(any, "r.deleted IS NULL AND NOT r.disabled AND (r.expires IS NULL OR r.expires > "+now()+")")
		case saccount.StatusDisabled:
			any = append(any, "r.deleted IS NULL AND r.disabled")
		case saccount.StatusExpired:
			any = append(any, "r.deleted IS NULL AND NOT r.disabled AND r.expires <= "+now())
		case saccount.StatusDeleted:
			any = append(any, "r.deleted IS NOT NULL")
		}
	}
	if len(any) == 0 {
		return "false"
	}
	return "(" + strings.Join(any, " OR ") + ")"
}

// behind is the least text that is greater than every text with the prefix,
// byte by byte; ok is false where there is none.
func behind(prefix string) (end string, ok bool) {
	rs := []rune(prefix)
	for i := len(rs) - 1; i >= 0; i-- {
		switch rs[i]++; {
		case rs[i] == 0xd800: // no text has surrogates
			rs[i] = 0xe000
		case rs[i] > utf8.MaxRune:
			continue
		}
		return string(rs[:i+1]), true
	}
	return "", false
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
