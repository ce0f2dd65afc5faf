package boltstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

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

// Stranded implements quota.Store.
func (s *Store) Stranded(ctx context.Context, org string, at int64) ([]*quota.Receipt, error) {
	if err := s.lock(ctx, "stranded"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	defer s.done()
	b, err := s.book(org)
	if err != nil {
		return nil, fmt.Errorf("boltstore: stranded: %w", err)
	}
	n := b.Rows()
	out, err := b.Stranded(at)
	s.rows += b.Rows() - n
	if err != nil {
		return nil, fmt.Errorf("boltstore: stranded: %w", err)
	}
	return out, nil
}

// Usage implements usage.Store. Each subject is read into memory before fn hears
// of it: fn may take its time, and use the Store.
func (s *Store) Usage(ctx context.Context, r usage.Range, fn func(usage.Row) error) error {
	if err := r.Check(); err != nil {
		return fmt.Errorf("boltstore: %w", err)
	}
	give := func(subjects []quota.Subject) error {
		for _, sub := range subjects {
			rows, err := s.subject(ctx, r, sub)
			if err != nil {
				return err
			}
			if rows, err = r.Merge(rows); err != nil {
				return fmt.Errorf("boltstore: %w", err)
			}
			for i := range rows {
				if err := fn(rows[i]); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if r.Kind == "" {
		if err := give(r.Subjects); err != nil {
			return err
		}
		return s.open(ctx, "usage")
	}
	var after []byte
	for {
		page, last, err := s.subjects(ctx, r.Org, r.Kind, after)
		if err != nil || len(page) == 0 {
			return err
		}
		if err := give(page); err != nil {
			return err
		}
		after = last
	}
}

// subjectsPage is how many subjects are looked for at once.
const subjectsPage = 1024

// subjects finds subjects of a kind with counters, in the order of their keys,
// those whose keys lie behind after. last is where the next page begins.
func (s *Store) subjects(ctx context.Context, org, kind string, after []byte) (page []quota.Subject, last []byte, err error) {
	if err := s.lock(ctx, "usage"); err != nil {
		return nil, nil, err
	}
	if len(org) > maxID {
		s.mu.Unlock()
		return nil, nil, nil
	}
	found := map[string]quota.Subject{}
	if b := s.books[org]; b != nil {
		b.Subjects(func(sub quota.Subject) bool {
			if sub.Kind() == kind {
				if key := subjectPrefix(nil, org, sub); bytes.Compare(key, after) > 0 {
					found[string(key)] = sub
				}
			}
			return true
		})
	}
	tx, err := s.snap()
	s.mu.Unlock()
	if err != nil {
		return nil, nil, fmt.Errorf("boltstore: usage: %w", err)
	}
	defer tx.end()
	err = guarded(func() error { return s.storedSubjects(ctx, tx, org, kind, after, found) })
	if err != nil {
		return nil, nil, fmt.Errorf("boltstore: usage: %w", err)
	}
	keys := slices.Sorted(maps.Keys(found))
	keys = keys[:min(len(keys), subjectsPage)]
	for _, k := range keys {
		page = append(page, found[k])
		last = []byte(k)
	}
	return page, last, nil
}

// storedSubjects finds the first of them that are in the file: one look a
// subject, however many counters it has.
func (s *Store) storedSubjects(ctx context.Context, tx *snap, org, kind string, behind []byte, found map[string]quota.Subject) error {
	all := appendPart(nil, org)
	lo, end := all, after(all)
	if behind != nil {
		lo = after(behind)
	}
	for n := 0; n < subjectsPage && lo != nil; {
		if err := ctx.Err(); err != nil {
			return err
		}
		from := lo
		lo = nil
		err := tabCounters.scan(tx, from, end, func(k, _ []byte) (bool, error) {
			_, id, err := parseCounterKey(k)
			if err != nil {
				return false, tabCounters.damaged(k)
			}
			prefix := subjectPrefix(nil, org, id.Subject)
			if id.Subject.Kind() == kind {
				found[string(prefix)] = id.Subject
				n++
			} else {
				// Past all of this kind and length: they stand side by side.
				prefix = prefix[:len(prefix)-len(id.Subject.ID())]
			}
			lo = after(prefix)
			return false, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
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
	seen := 0
	var sum error // what could not be added up
	add := func(x usage.Row) {
		if seen++; sum == nil {
			rows, sum = r.Add(rows, x)
		}
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
					add(row(sub, id, c))
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
				add(row(sub, id, &c))
			}
			if seen%ctxEvery == 0 {
				return errors.Join(sum, ctx.Err())
			}
			return nil
		})
	})
	err = errors.Join(err, sum)
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
