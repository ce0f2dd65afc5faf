package boltstore

import (
	"bytes"
	"context"
	"fmt"
	"math"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/usage"
)

// Peek implements quota.Store.
func (s *Store) Peek(ctx context.Context, org string, levels []*quota.Level, at int64) ([]quota.Figure, error) {
	if err := s.lock(ctx, "peek"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	defer s.done()
	if err := checkOp(&quota.Op{Levels: levels}); err != nil {
		return nil, fmt.Errorf("boltstore: peek: %w", err)
	}
	b, err := s.book(org)
	if err != nil {
		return nil, fmt.Errorf("boltstore: peek: %w", err)
	}
	n := b.Rows()
	f, err := b.Peek(levels, at)
	s.rows += b.Rows() - n
	if err != nil {
		return nil, fmt.Errorf("boltstore: peek: %w", err)
	}
	return f, nil
}

// Usage implements usage.Store. Each subject is read into memory before fn hears
// of it: fn may take its time, and use the Store.
func (s *Store) Usage(ctx context.Context, r usage.Range, fn func(usage.Row) error) error {
	for _, sub := range r.Subjects {
		rows, err := s.subject(ctx, r, sub)
		if err != nil {
			return err
		}
		for i := range rows {
			if err := fn(rows[i]); err != nil {
				return err
			}
		}
	}
	return s.open(ctx, "usage")
}

type bucketID struct {
	series string
	start  int64
}

func row(sub quota.Subject, id bucketID, c *quota.Counter) usage.Row {
	day, reason := usage.ParseSeries(id.series)
	return usage.Row{Subject: sub, Reason: reason, Day: day, Start: id.start, Credits: c.Used, Requests: c.Requests}
}

// subject reads the buckets of one subject: those in memory are noted, and the
// transaction begun, under mu; the rest is read without it.
func (s *Store) subject(ctx context.Context, r usage.Range, sub quota.Subject) (rows []usage.Row, err error) {
	if err := s.lock(ctx, "usage"); err != nil {
		return nil, err
	}
	if len(r.Org) > maxID || len(sub) > maxID {
		s.mu.Unlock()
		return nil, nil
	}
	known := map[bucketID]bool{}
	if b := s.books[r.Org]; b != nil {
		b.memory = true // what is in memory, and no more
		var names []string
		b.Series(sub, func(name string) { names = append(names, name) })
		for _, name := range names {
			// Without a loader to ask it cannot fail.
			_ = b.Book.Usage(sub, name, r.From, r.To, func(start int64, c *quota.Counter) {
				id := bucketID{name, start}
				if !known[id] {
					known[id] = true
					rows = append(rows, row(sub, id, c))
				}
			})
		}
		b.memory = false
	}
	tx, err := s.snap()
	s.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("boltstore: usage: %w", err)
	}
	defer tx.end()
	err = guarded(func() error {
		return s.buckets(tx, r.Org, sub, r.From, r.To, func(id bucketID, c quota.Counter) error {
			if !known[id] {
				rows = append(rows, row(sub, id, &c))
			}
			if len(rows)%ctxEvery == 0 {
				return ctx.Err()
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("boltstore: usage: %s: %w", sub, err)
	}
	return rows, nil
}

// buckets visits the stored buckets of a subject, of every series, whose start
// lies in [from, to).
func (s *Store) buckets(tx *snap, org string, sub quota.Subject, from, to int64, fn func(bucketID, quota.Counter) error) error {
	if from >= to {
		return nil
	}
	all := append(subjectPrefix(nil, org, sub), 0, 0, 0, 0) // number 0
	end := after(all)
	for lo := all; ; {
		var series []byte // the prefix of the next one
		var name string
		err := tabCounters.scan(tx, lo, end, func(k, _ []byte) (bool, error) {
			_, id, err := parseCounterKey(k)
			if err != nil {
				return false, tabCounters.damaged(k)
			}
			name, series = id.Series, seriesPrefix(nil, org, sub, 0, id.Series)
			return false, nil
		})
		if err != nil || series == nil {
			return err
		}
		err = tabCounters.scan(tx, appendOrdered(bytes.Clone(series), from), appendOrdered(bytes.Clone(series), to), func(k, v []byte) (bool, error) {
			start, _, err := cutOrdered(k[len(series):])
			if err != nil {
				return false, tabCounters.damaged(k)
			}
			c, err := parseCounter(k, v)
			if err != nil {
				return false, err
			}
			return true, fn(bucketID{name, start}, c)
		})
		if err != nil {
			return err
		}
		lo = append(appendOrdered(series, math.MaxInt64), 0)
	}
}
