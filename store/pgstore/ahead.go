package pgstore

import (
	"database/sql"
	"math"
	"slices"

	"github.com/keypurse/keypurse/quota"
)

// ahead reads what a batch will need of the books, in as many questions as
// there are kinds of things, however many Ops there are. What it leaves out the
// Loader reads when it is asked for. Where trust is set, buckets that should be new
// are taken to be, and noted as such for post, which looks.
func (s *Store) ahead(rd reader, books []*book, trust bool) error {
	found, err := s.aheadReceipts(rd, books)
	if err != nil {
		return err
	}
	ids := make([][]quota.CounterID, len(books))
	subs := make([][]quota.Subject, len(books))
	for i, b := range books {
		seen := map[quota.CounterID]bool{}
		need := func(id quota.CounterID) {
			if !seen[id] && b.Row(id) == nil {
				seen[id] = true
				ids[i] = append(ids[i], id)
			}
		}
		for _, op := range b.ops {
			for _, l := range op.Levels {
				for j := range l.Limits {
					need(counterOf(l.Subject, &l.Limits[j]))
				}
				id := quota.CounterID{Subject: l.Subject, Series: quota.SeriesUsage, Start: l.Bucket}
				if trust && !seen[id] && b.Row(id) == nil && b.begins(l) {
					seen[id] = true
					b.view.counters[id] = nil
					b.view.fresh = append(b.view.fresh, id)
				}
				need(id)
			}
			for _, c := range op.Counts {
				need(quota.CounterID{Subject: c.Subject, Series: c.Series, Start: c.Bucket})
			}
		}
		for _, r := range found[i] {
			for k := range r.Levels {
				l := &r.Levels[k]
				for j := range l.Limits {
					need(counterOf(l.Subject, &l.Limits[j]))
				}
				need(quota.CounterID{Subject: l.Subject, Series: quota.SeriesUsage, Start: l.Bucket})
				if !slices.Contains(subs[i], l.Subject) {
					subs[i] = append(subs[i], l.Subject)
				}
			}
		}
	}
	if err := s.readCounters(rd, books, ids); err != nil {
		return err
	}
	if err := s.readOpenings(rd, books, subs); err != nil {
		return err
	}
	return s.aheadBuckets(rd, books)
}

// begins reports whether a Level's bucket, which is not in memory, should be new: all
// its limits are in memory, and one that would carry it carries an earlier one.
func (b *book) begins(l *quota.Level) (new bool) {
	for j := range l.Limits {
		r := b.Row(counterOf(l.Subject, &l.Limits[j]))
		if r == nil {
			return false
		}
		h := r.Home
		new = new || h != nil && h.Carries && h.Start < l.Bucket && r.Carries(l.Bucket)
	}
	return new
}

func counterOf(sub quota.Subject, e *quota.Entry) quota.CounterID {
	return quota.CounterID{Subject: sub, Series: e.Limit, Number: e.Number, Start: e.Start}
}

// aheadReceipts reads what ids did that the Ops name, and brings the open
// reservations among them, and those whose time is over, into the books.
func (s *Store) aheadReceipts(rd reader, books []*book) (found [][]*quota.Receipt, err error) {
	ids := make([][]string, len(books))
	found = make([][]*quota.Receipt, len(books))
	var org texts
	var until, at ints
	late := make([]int64, len(books))
	for i, b := range books {
		known := map[string]bool{"": true}
		latest := int64(math.MinInt64)
		for _, op := range b.ops {
			latest = max(latest, op.At)
			for _, id := range [2]string{op.ID, op.Of} {
				if !known[id] {
					known[id] = true
					ids[i] = append(ids[i], id)
				}
			}
		}
		late[i] = latest
		if b.Elsewhere > 0 && latest >= b.soon {
			org.add(b.id)
			until.add(latest)
			at.add(int64(i))
		}
	}
	if err := s.readReceipts(rd, books, ids); err != nil {
		return nil, err
	}
	for i, b := range books {
		for _, id := range ids[i] {
			if r := b.view.receipts[id]; r != nil {
				b.bring(r)
				found[i] = append(found[i], r)
			}
		}
	}
	if len(org.b) == 0 {
		return found, nil
	}
	args := []any{org.String(), until.String(), at.String()}
	due, err := s.scanReceipts(rd, s.sql.due, args)
	if err != nil {
		return nil, err
	}
	for _, f := range due {
		if books[f.at].bring(f.r) {
			found[f.at] = append(found[f.at], f.r)
		}
	}
	type next struct {
		at   int
		soon sql.NullInt64
	}
	var nexts []next
	err = rd.each(s, s.sql.soon, args, func(rows *sql.Rows) error {
		var n next
		if err := rows.Scan(&n.at, &n.soon); err != nil {
			return err
		}
		nexts = append(nexts, n)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, n := range nexts {
		books[n.at].soon = never
		if n.soon.Valid {
			books[n.at].soon = n.soon.Int64
		}
	}
	return found, nil
}

// bring brings an open reservation into memory, where it is not there yet.
func (b *book) bring(r *quota.Receipt) bool {
	if !r.Held() || b.Holds(r.ID) {
		return false
	}
	b.RestoreReceipt(r)
	b.Elsewhere--
	return true
}

// aheadBuckets reads what limits that are not stored yet will be opened with.
func (s *Store) aheadBuckets(rd reader, books []*book) error {
	var wants []want
	former := make([][]quota.CounterID, len(books))
	more := false
	for i, b := range books {
		for _, op := range b.ops {
			for _, l := range op.Levels {
				for j := range l.Limits {
					e := &l.Limits[j]
					id := counterOf(l.Subject, e)
					c, read := b.view.counters[id]
					if !read || c != nil || e.End == 0 {
						continue
					}
					v := b.view.buckets[l.Subject]
					if v == nil {
						v = &span{from: e.Start, to: e.End}
						b.view.buckets[l.Subject] = v
						wants = append(wants, want{b, l.Subject, quota.SeriesUsage, v})
					}
					v.from, v.to = min(v.from, e.Start), max(v.to, e.End)
					for n := id.Number - 1; n > 0 && e.Number-n <= quota.MaxFormer; n-- {
						id.Number = n
						former[i], more = append(former[i], id), true
					}
				}
			}
		}
	}
	if err := s.readSpans(rd, wants, true); err != nil {
		return err
	}
	if !more {
		return nil
	}
	return s.readCounters(rd, books, former)
}
