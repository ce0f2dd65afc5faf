package pgstore

import (
	"github.com/keypurse/keypurse/quota"
)

// A subject's usage bucket is kept beside the counter of one of its limits, in the
// columns bucket*, so that a charge writes one row of a subject and not two. Which
// limit carries it is decided when the bucket is first written, and holds until
// another one takes its place; then it gets a row of its own. So it does where
// no limit lasts as long as the bucket, and where its limit is purged.
//
// In memory a quota.Home stands for the stored row. Of a row in memory that is
// stored it is always known where that is: a bucket that is carried brings its
// limit along, and a limit its bucket's start.

// kept is a stored row of counters, as it was read.
type kept struct {
	id      quota.CounterID // of the limit, or of a bucket on its own
	c       quota.Counter
	place   uint64
	carries bool
	bucket  quota.CounterID // that it carries
	beside  quota.Counter
}

// carriedBy names the bucket of a limit's subject.
func carriedBy(id quota.CounterID, start int64) quota.CounterID {
	return quota.CounterID{Subject: id.Subject, Series: quota.SeriesUsage, Start: start}
}

// house notes where the counters are kept that were read for the batch and are in
// memory now.
func (b *book) house() {
	for i := range b.view.kept {
		k := &b.view.kept[i]
		row := b.Row(k.id)
		var bucket *quota.Row
		if k.carries {
			bucket = b.Row(k.bucket)
		}
		if row == nil && bucket == nil {
			continue
		}
		if row == nil {
			row = b.Restore(k.id, k.c, false)
		}
		b.lodge(row, bucket, k.carries, k.bucket.Start).Place = k.place
	}
}

// lodge notes where a row in memory is kept, and which bucket is beside it: one
// that was there before and is not any more has a row of its own.
func (b *book) lodge(row, bucket *quota.Row, carries bool, start int64) *quota.Home {
	h := row.Home
	if h == nil {
		h = &quota.Home{}
		row.Home = h
	}
	if row.ID().Number == 0 {
		if h.Limit != nil { // it was beside that
			h.Bucket = nil
			h = &quota.Home{}
			row.Home = h
		}
		h.Bucket = row
		return h
	}
	h.Limit = row
	if was := h.Bucket; was != nil && (!carries || h.Start != start) {
		was.Home, h.Bucket = &quota.Home{Bucket: was}, nil
	}
	if h.Carries, h.Start = carries, start; bucket != nil {
		bucket.Home, h.Bucket = h, bucket
	}
	return h
}

// settle finds a home for the rows of the batch that are new. The limits that
// give up a bucket, which has to be kept elsewhere and is not among the batch's
// rows, are in moving.
func (b *book) settle(rows []*quota.Row) (moving map[*quota.Home]bool) {
	var fresh []*quota.Row
	for _, r := range rows {
		if r.Home != nil {
			continue
		}
		if id := r.ID(); id.Number > 0 || id.Series != quota.SeriesUsage {
			b.lodge(r, nil, false, 0)
		} else {
			fresh = append(fresh, r)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	written := make(map[*quota.Row]bool, len(rows))
	for _, r := range rows {
		written[r] = true
	}
	moving = map[*quota.Home]bool{}
	for _, r := range fresh {
		start := r.ID().Start
		var by *quota.Row
		for _, x := range r.Beside() {
			if x.Home != nil && x.Carries(start) && (by == nil || x.Outlasts(by)) {
				by = x
			}
		}
		if by == nil {
			b.lodge(r, nil, false, 0)
			continue
		}
		h := by.Home
		if h.Carries && (h.Bucket == nil || !written[h.Bucket]) {
			moving[h] = true
		}
		b.lodge(by, r, true, start)
	}
	return moving
}

// homes are the stored rows that the batch writes, each once.
func (b *book) homes(rows []*quota.Row) []*quota.Home {
	b.turn++
	out := make([]*quota.Home, 0, len(rows))
	for _, r := range rows {
		if h := r.Home; h.Turn != b.turn {
			h.Turn = b.turn
			out = append(out, h)
		}
	}
	return out
}

// named is the counter that names the stored row.
func named(h *quota.Home) *quota.Row {
	if h.Limit != nil {
		return h.Limit
	}
	return h.Bucket
}

// beside is the bucket that is kept beside a limit and is in memory; nil where
// there is none.
func beside(h *quota.Home) *quota.Row {
	if h.Limit != nil && h.Carries {
		return h.Bucket
	}
	return nil
}
