package boltstore

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"go.etcd.io/bbolt"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// fold is one series of a subject on one day.
type fold struct {
	sub    quota.Subject
	series string
	day    int64
	starts []int64
}

// Fold implements usage.Store. A day with a bucket in which something is still
// held is left as it is: it is folded when that is settled.
func (s *Store) Fold(ctx context.Context, org string, days []int64, most int) (folded int, err error) {
	if err := s.open(ctx, "fold"); err != nil {
		return 0, err
	}
	if len(days) < 2 || !slices.IsSorted(days) || most < 1 {
		return 0, fmt.Errorf("boltstore: fold: %w days: give at least two ascending instants and a bound of at least 1", saccount.ErrInvalid)
	}
	if err := checkID("organization", org); err != nil {
		return 0, fmt.Errorf("boltstore: fold: %w", err)
	}
	if err := s.checkpoint(ctx, "fold"); err != nil { // so that the tables know every bucket
		return 0, fmt.Errorf("boltstore: fold: %w", err)
	}
	found, err := s.foldFrom(ctx, org, days, most)
	if err == nil && len(found) > 0 {
		folded, err = s.foldAll(ctx, org, found)
	}
	if err != nil {
		return 0, fmt.Errorf("boltstore: fold: %w", err)
	}
	return folded, nil
}

// foldFrom looks on where the call before found something, and everywhere
// before it says that there is nothing. It takes mu only outside of its read
// transaction: who holds mu may be waiting for that to end.
func (s *Store) foldFrom(ctx context.Context, org string, days []int64, most int) (found []fold, err error) {
	s.mu.Lock()
	from := s.foldAt[org]
	s.mu.Unlock()
	err = s.view(func(tx *snap) (err error) {
		if from != nil {
			found, err = s.foldable(ctx, tx, org, days, most, from)
		}
		if err == nil && len(found) == 0 {
			found, err = s.foldable(ctx, tx, org, days, most, appendPart(nil, org))
		}
		return err
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(found) == 0 || err != nil {
		delete(s.foldAt, org)
	} else if s.foldAt != nil { // not closed meanwhile
		s.foldAt[org] = subjectPrefix(nil, org, found[len(found)-1].sub)
	}
	return found, err
}

// foldable finds about as many buckets as may be folded, whole days of them. It
// proves nothing about what it does not find: that is folded another time.
func (s *Store) foldable(ctx context.Context, tx *snap, org string, days []int64, most int, lo []byte) (found []fold, err error) {
	n, rows := 0, 0
	for end := after(appendPart(nil, org)); lo != nil; {
		var f fold
		held, next := false, []byte(nil)
		take := func() {
			if len(f.starts) > 0 && !held {
				found = append(found, f)
				n += len(f.starts)
			}
			f.starts, held = nil, false
		}
		err = tabCounters.each(tx.Tx, lo, end, func(k, v []byte) (bool, error) {
			if rows++; rows%ctxEvery == 0 && ctx.Err() != nil {
				return false, ctx.Err()
			}
			_, id, err := parseCounterKey(k)
			if err != nil {
				return false, tabCounters.damaged(k)
			}
			jump := func(to []byte) (bool, error) { next = to; return false, nil }
			day, ok := slices.BinarySearch(days, id.Start)
			if !ok {
				day--
			}
			switch {
			case id.Number != 0: // the subject has no more buckets
				return jump(after(subjectPrefix(nil, org, id.Subject)))
			case strings.HasPrefix(id.Series, quota.SeriesFolded) || day >= len(days)-1:
				return jump(append(appendOrdered(seriesPrefix(nil, org, id.Subject, 0, id.Series), math.MaxInt64), 0))
			case day < 0:
				return jump(appendOrdered(seriesPrefix(nil, org, id.Subject, 0, id.Series), days[0]))
			}
			if f.sub != id.Subject || f.series != id.Series || f.day != days[day] {
				if take(); n >= most {
					return false, nil
				}
				f = fold{sub: id.Subject, series: id.Series, day: days[day]}
			}
			c, err := parseCounter(k, v)
			held = held || c.Held != 0
			f.starts = append(f.starts, id.Start)
			return true, err
		})
		if err != nil {
			return nil, err
		}
		if n < most {
			take()
		}
		if n >= most {
			return found, nil
		}
		lo = next
	}
	return found, nil
}

// foldAll folds what was found, as it now stands, in one transaction.
func (s *Store) foldAll(ctx context.Context, org string, found []fold) (folded int, err error) {
	if err := s.lock(ctx, "fold"); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	defer s.done()
	b, err := s.book(org)
	if err != nil {
		return 0, err
	}
	s.batch++
	s.touched = s.touched[:0]
	s.enter(b)
	gone := change{b: b}
	sums := map[quota.CounterID]quota.Counter{}
	for _, f := range found {
		day := quota.CounterID{Subject: f.sub, Series: quota.SeriesFolded + f.series, Start: f.day}
		var sum quota.Counter
		var ids []quota.CounterID
		held := false
		add := func(c *quota.Counter) {
			sum.Used += c.Used
			sum.Requests += c.Requests
			held = held || c.Held != 0
		}
		err := b.Book.Usage(f.sub, day.Series, f.day, f.day+1, func(_ int64, c *quota.Counter) { add(c) })
		if err == nil {
			err = b.Book.Usage(f.sub, f.series, f.starts[0], f.starts[len(f.starts)-1]+1, func(start int64, c *quota.Counter) {
				add(c)
				ids = append(ids, quota.CounterID{Subject: f.sub, Series: f.series, Start: start})
			})
		}
		if err != nil {
			s.left()
			return 0, err
		}
		if held || len(ids) == 0 || sum.Used < 0 || sum.Requests < 0 {
			continue // something moved, or a sum would leave int64
		}
		sums[day] = sum
		gone.gone = append(gone.gone, ids...)
	}
	s.done()
	if len(gone.gone) == 0 {
		s.left()
		return 0, nil
	}
	err = s.write([]change{gone}, nil, func(tx *bbolt.Tx) error {
		for _, id := range gone.gone {
			if err := tabCounters.delete(tx, counterKey(nil, org, id)); err != nil {
				return err
			}
		}
		for id, c := range sums {
			if err := tabCounters.put(tx, counterKey(nil, org, id), quota.AppendCounter(nil, &c)); err != nil {
				return err
			}
		}
		return nil
	}, 0)
	if err == nil {
		for _, id := range gone.gone {
			b.Remove(id)
		}
		for id := range sums {
			b.Remove(id) // it is read again
		}
	}
	s.left()
	return len(gone.gone), err
}
