package quota

import "container/heap"

// holdQueue orders what is held by its end. Entries are not taken out
// when a reservation is settled or renewed: they are told by their receipt.
type holdQueue []holdEnd

type holdEnd struct {
	expires int64
	id      string
}

func (q holdQueue) Len() int { return len(q) }
func (q holdQueue) Less(i, j int) bool {
	if q[i].expires != q[j].expires {
		return q[i].expires < q[j].expires
	}
	return q[i].id < q[j].id
}
func (q holdQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *holdQueue) Push(x any)   { *q = append(*q, x.(holdEnd)) }
func (q *holdQueue) Pop() any {
	o := *q
	x := o[len(o)-1]
	o[len(o)-1] = holdEnd{}
	*q = o[:len(o)-1]
	return x
}

// current reports whether the entry speaks of a reservation as it stands.
func (b *Book) current(h holdEnd) *Receipt {
	r := b.receipts[h.id]
	if r != nil && r.Held() && r.Expires == h.expires {
		return r
	}
	return nil
}

// sweep frees what reservations hold whose time is over at instant at, and
// strands blocks. One whose counters cannot be read stays held: that is the
// safe side.
func (b *Book) sweep(at int64) {
	var stuck []holdEnd
	for len(b.holds) > 0 && b.holds[0].expires <= at {
		h := heap.Pop(&b.holds).(holdEnd)
		r := b.current(h)
		if r == nil {
			continue
		}
		t, err := b.targets(r)
		if err != nil {
			stuck = append(stuck, h)
			continue
		}
		if until := r.strands(&t); until > at {
			b.strand(r, &t, until)
			continue
		}
		b.free(r, &t)
		c := r.copy()
		c.Hold, c.Settled = HoldExpired, at
		if r.Verb == VerbLease {
			c.Left, c.Keep = 0, at+day
		}
		b.put(c)
	}
	for _, h := range stuck {
		heap.Push(&b.holds, h)
	}
}

// over is what of a counter no Op has swept yet.
type over struct{ free, stranded Credits }

// expired sums, per counter, what is held by reservations and blocks whose
// time is over at instant at and that no Op has swept yet. It changes nothing.
func (b *Book) expired(at int64) (map[*Row]over, error) {
	var free map[*Row]over
	var counted map[string]bool
	if len(b.holds) == 0 || b.holds[0].expires > at {
		return nil, nil
	}
	for _, h := range b.holds {
		if h.expires > at {
			continue
		}
		r := b.current(h)
		if r == nil || counted[h.id] {
			continue
		}
		t, err := b.targets(r)
		if err != nil {
			return nil, err
		}
		if free == nil {
			free, counted = map[*Row]over{}, map[string]bool{}
		}
		counted[h.id] = true // a rollback may leave a reservation in the queue twice
		stays := r.strands(&t) > at
		for _, row := range t.all {
			o := free[row]
			if !stays {
				o.free += r.Holding()
			}
			if stays != (r.Hold == HoldStranded) { // it is one state and was the other
				o.stranded += sign(stays) * r.Holding()
			}
			free[row] = o
		}
	}
	return free, nil
}

// targets are the counters that a settlement of a receipt reaches: those it
// was admitted on, those opened since with its spending in them, the buckets.
type targets struct {
	limits []*Row // of the receipt's own limits, in order; nil where purged
	entry  []*Entry
	all    []*Row // every counter once, buckets included
	later  []*Row // opened since, not among limits
	// folded: a bucket is not there any more. It is older than any id lives, so
	// that only a clock that ran back can ask for it, and it holds nothing:
	// what it counted is settled for good.
	folded bool
}

func (b *Book) targets(r *Receipt) (t targets, err error) {
	for i := range r.Levels {
		l := &r.Levels[i]
		sub := b.subject(l.Subject)
		for j := range l.Limits {
			e := &l.Limits[j]
			row, err := b.row(sub, e.Limit, e.Number, e.Start)
			if err != nil {
				return t, err
			}
			t.limits, t.entry = append(t.limits, row), append(t.entry, e)
			if row != nil {
				t.all = append(t.all, row)
			}
		}
		open, err := b.openings(sub)
		if err != nil {
			return t, err
		}
		for _, o := range open {
			if o.Number <= l.Sequence || !covers(o.Start, o.End, l.Bucket) {
				continue
			}
			row, err := b.row(sub, o.Series, o.Number, o.Start)
			if err != nil {
				return t, err
			}
			if row != nil {
				t.all, t.later = append(t.all, row), append(t.later, row)
			}
		}
		row, err := b.row(sub, SeriesUsage, 0, l.Bucket)
		if err != nil {
			return t, err
		}
		if row == nil {
			t.folded = true
			continue
		}
		t.all = append(t.all, row)
	}
	return t, nil
}
