package quota

import (
	"fmt"
	"slices"
)

// Apply decides one Op on what those before it left and, where it applies,
// changes the counters. The Op's Result is set; what is wrong with one Op
// never touches another.
func (b *Book) Apply(op *Op) {
	op.Result = Result{Figures: op.Result.Figures[:0]}
	if err := op.check(); err != nil {
		op.Result.Err = err
		return
	}
	if len(b.holds) > 0 {
		b.sweep(op.At)
	}
	var err error
	switch op.Verb {
	case VerbCharge, VerbReserve:
		err = b.admit(op)
	case VerbCommit:
		err = b.commit(op)
	case VerbRelease:
		err = b.release(op)
	case VerbRenew:
		err = b.renew(op)
	case VerbRefund:
		err = b.refund(op)
	case VerbCount:
		err = b.countRefused(op)
	case VerbLease:
		err = b.lease(op)
	case VerbSettle:
		err = b.settleBlock(op)
	}
	if err != nil {
		op.Result.Outcome, op.Result.Err = Failed, err
	}
}

// check refuses what no Ledger sends. The limits' names and numbers are the
// Ledger's business.
func (op *Op) check() error {
	switch {
	case op.Verb < VerbCharge || op.Verb > VerbSettle:
		return fmt.Errorf("%w operation: unknown verb %d", ErrInvalid, op.Verb)
	case op.Amount < 0:
		return fmt.Errorf("%w amount: %s credits; an amount is never negative", ErrInvalid, op.Amount)
	case len(op.ID) > MaxIDLen || len(op.Of) > MaxIDLen:
		return fmt.Errorf("%w id: longer than %d bytes", ErrInvalid, MaxIDLen)
	case len(op.Levels) > MaxLevels:
		return fmt.Errorf("%w operation: %d levels, at most %d", ErrInvalid, len(op.Levels), MaxLevels)
	case op.Verb == VerbReserve && (op.ID == "" || op.TTL <= 0 || op.TTL > maxTTL):
		return fmt.Errorf("%w reservation: it needs an id and a time to live up to 31 days", ErrInvalid)
	case op.Verb == VerbRenew && (op.TTL <= 0 || op.TTL > maxTTL):
		return fmt.Errorf("%w renewal: it needs a time to live up to 31 days", ErrInvalid)
	}
	if op.Verb >= VerbLease {
		if err := op.checkBlock(); err != nil {
			return err
		}
	}
	for _, l := range op.Levels {
		if len(l.Limits) > MaxLimits {
			return fmt.Errorf("%w operation: %d limits on %s, at most %d", ErrInvalid, len(l.Limits), l.Subject, MaxLimits)
		}
		for i := range l.Limits {
			if l.Limits[i].Number == 0 {
				return fmt.Errorf("%w operation: limit %q of %s has no number; numbers begin at 1", ErrInvalid, l.Limits[i].Limit, l.Subject)
			}
		}
	}
	return nil
}

// receipt finds what an id did, if it is remembered at instant at.
func (b *Book) receipt(id string, at int64) (*Receipt, error) {
	r := b.receipts[id]
	if r == nil && b.load != nil {
		var err error
		if r, err = b.load.Receipt(id); err != nil {
			return nil, err
		}
	}
	if r != nil && !r.Held() && r.Keep <= at {
		return nil, nil // forgotten, whether purged yet or not
	}
	return r, nil
}

// replay answers an id that was used before. Compared is what the caller gave,
// never what was derived from it.
func (op *Op) replay(r *Receipt) {
	if r.Verb != op.Verb || r.Caller != op.Caller || r.Amount != op.Amount || r.TTL != op.TTL || r.Of != op.Of {
		op.Result.Outcome = Conflict
		return
	}
	op.Result.Outcome, op.Result.Receipt = Replayed, r
	op.Result.Figures = append(op.Result.Figures, r.Figures...)
}

// admit decides a Charge or a Reserve.
func (b *Book) admit(op *Op) error {
	if op.ID != "" {
		r, err := b.receipt(op.ID, op.At)
		if err != nil {
			return err
		}
		if r != nil {
			op.replay(r)
			return nil
		}
	}
	res := &op.Result
	if op.Settings != b.Settings {
		res.Outcome = Stale
		return nil
	}
	if op.Verb == VerbReserve && b.OpenHolds() >= MaxHolds {
		res.Outcome = Full
		return nil
	}
	v, figures, err := b.take(op.Levels, op.Amount, op.Verb, op.At, res.Figures)
	if err != nil {
		return err
	}
	res.Outcome, res.Refused, res.Figures = v.outcome, v.refused, figures
	if v.outcome == Applied && op.ID != "" {
		b.remember(op)
	}
	return nil
}

// verdict is what take decided: Applied, Refused or Overflow.
type verdict struct {
	outcome Outcome
	refused uint64 // as Result.Refused
}

// take decides whether an amount may be spent, or held, on all of the levels,
// and does it: on all or, where it may not, on none. It appends the state of
// every limit to figures: as it left them or as it found them. This is the one
// place where anything is admitted.
func (b *Book) take(levels []*Level, amount Credits, verb Verb, now int64, figures []Figure) (v verdict, _ []Figure, err error) {
	var at [MaxLevels]counters
	n, overflow, fresh := 0, false, false
	for i, l := range levels {
		f := &at[i]
		if !l.memo().finds(b, l, f) {
			fresh = true
			if err := b.find(l, f); err != nil {
				return v, figures, err
			}
		}
		for j := range l.Limits {
			e, r := &l.Limits[j], f.at(j)
			bound, spent := r.bound(e), r.spent()
			// what stands above its bound admits not even nothing
			if amount > bound-spent {
				if !e.Soft {
					v.refused |= 1 << n
				} else if amount > MaxCredits-spent {
					overflow = true
				}
			}
			figures = append(figures, Figure{Max: bound, Used: r.used, Held: r.held, Overage: r.overage})
			n++
		}
		if amount > MaxCredits-f.at(len(l.Limits)).spent() {
			overflow = true
		}
	}
	switch {
	case v.refused != 0:
		v.outcome = Refused
		return v, figures, nil
	case overflow:
		v.outcome = Overflow
		return v, figures, nil
	}
	if fresh {
		for i, l := range levels { // whatever can fail comes before the first change
			if err := b.keep(l, &at[i]); err != nil {
				return v, figures, err
			}
		}
	}
	var used, held Credits
	if verb == VerbCharge {
		used = amount
	} else {
		held = amount
	}
	n = 0
	for i, l := range levels {
		f := &at[i]
		for j := range l.Limits {
			r, g := f.at(j), &figures[n]
			b.touch(r)
			r.used += used
			r.held += held
			g.Used, g.Held = r.used, r.held
			if !r.quiet(g.Max) {
				b.watch(r, &l.Limits[j], g.Max, l.Subject, now)
			}
			n++
		}
		r := f.at(len(l.Limits))
		b.touch(r)
		r.used += used
		r.held += held
		r.requests++
	}
	v.outcome = Applied
	return v, figures, nil
}

// spent is all that the counter stands at, held included.
func (r *Row) spent() Credits { return satAdd(satAdd(r.used, r.overage), r.held) }

// above reports whether the counter already stands over bound, where not even
// an amount of zero is admitted.
func (r *Row) above(bound Credits) bool {
	s := satAdd(satAdd(r.used, r.overage), r.held)
	return s > bound
}

// overflows reports whether adding amount would leave int64.
func (r *Row) overflows(amount Credits) bool {
	return amount > MaxCredits-r.used || amount+r.used > MaxCredits-r.overage ||
		amount+r.used+r.overage > MaxCredits-r.held
}

func (b *Book) remember(op *Op) {
	r := &Receipt{
		ID: op.ID, Verb: op.Verb, Caller: op.Caller, Of: op.Of, Amount: op.Amount, TTL: op.TTL,
		At: op.At, Keep: op.Keep, Figures: slices.Clone(op.Result.Figures),
		Levels: make([]ReceiptLevel, len(op.Levels)),
	}
	for i, l := range op.Levels {
		r.Levels[i] = ReceiptLevel{Subject: l.Subject, Sequence: l.Sequence, Bucket: l.Bucket, Limits: l.Limits}
	}
	if op.Verb == VerbReserve || op.Verb == VerbLease {
		r.Hold, r.Expires = HoldOpen, op.At+op.TTL
		r.Keep = max(r.Keep, r.Expires+day)
	}
	b.put(r)
	op.Result.Receipt = r
}

// quiet reports whether no threshold of bound can have been passed since the
// hint was computed.
func (r *Row) quiet(bound Credits) bool {
	return bound == r.max && r.overage == 0 && r.used < Credits(r.requests)
}

// watch puts up an alert for every threshold that the counter has passed and
// that has not alerted in this window.
func (b *Book) watch(r *Row, e *Entry, bound Credits, s Subject, now int64) {
	if r.quiet(bound) {
		return
	}
	r.max = bound
	next := MaxCredits
	c := Counter{Used: r.used, Overage: r.overage}
	for _, t := range e.Thresholds {
		m := Mark{Start: e.Start, Threshold: t}
		marks := r.marks()
		if slices.Contains(marks, m) {
			continue
		}
		if !t.passed(&c, bound) {
			next = min(next, t.at(bound))
			continue
		}
		if len(marks) >= maxMarks {
			marks = marks[1:]
		}
		r.mark(append(slices.Clone(marks), m))
		b.alerts = append(b.alerts, Alert{
			Org: b.org, Subject: s, Limit: e.Limit, Start: e.Start, End: e.End, Threshold: t,
			Max: bound, Used: r.used, Overage: r.overage, At: now,
		})
	}
	r.requests = int64(next)
}

// maxMarks bounds the thresholds remembered with one counter: more than one
// limit can have, because they may be set anew within a window.
const maxMarks = 4 * MaxThresholds

// at is the least amount spent that can pass the threshold, rounded down: a
// hint that saves looking at every charge.
func (t Threshold) at(bound Credits) Credits {
	switch {
	case t == ThresholdOverage || bound <= 0:
		return MaxCredits
	case t > 0:
		whole, part := bound/100, bound%100
		if whole > 0 && Credits(t) > MaxCredits/(whole+1) {
			return MaxCredits
		}
		return whole*Credits(t) + part*Credits(t)/100
	}
	return max(1, bound-Credits(-(int64(t)+1)))
}

// figure is the counter as a settlement found or left it.
func (r *Row) figure() Figure {
	if r == nil {
		return Figure{}
	}
	return Figure{Max: r.max, Used: r.used, Held: r.held, Overage: r.overage}
}

func figures(into []Figure, rows []*Row) []Figure {
	for _, r := range rows {
		into = append(into, r.figure())
	}
	return into
}

func (b *Book) countRefused(op *Op) error {
	for _, c := range op.Counts {
		if c.Requests <= 0 {
			continue
		}
		r, err := b.bucket(b.subject(c.Subject), c.Series, c.Bucket, &block{most: 1})
		if err != nil {
			return err
		}
		if r.fresh {
			b.insert(r)
			b.created(r)
		}
		b.touch(r)
		r.requests += c.Requests
	}
	op.Result.Outcome = Applied
	return nil
}

// Peek is the state of every limit of the levels at instant at, in the order
// of the chain, without changing anything: counters that are not there yet are
// shown as they would open, reservations whose time is over as free.
func (b *Book) Peek(levels []*Level, at int64) ([]Figure, error) {
	free, err := b.expired(at)
	if err != nil {
		return nil, err
	}
	var out []Figure
	for _, l := range levels {
		var f counters
		if err := b.find(l, &f); err != nil {
			return nil, err
		}
		for i := range l.Limits {
			e, r := &l.Limits[i], f.at(i)
			o := free[r]
			g := Figure{Max: r.bound(e), Used: r.used, Held: r.held - o.free, Overage: r.overage, Stranded: o.stranded}
			if r.rare != nil {
				g.Stranded += r.rare.stranded
			}
			if r.fresh && r.held > 0 {
				// opened from buckets: what of their holds is over is told there
				g.Held, g.Stranded, err = b.heldAt(l.Subject, e, at)
				if err != nil {
					return nil, err
				}
			}
			out = append(out, g)
		}
	}
	return out, nil
}

// heldAt is what reservations and blocks made in the window of e still hold at
// instant at, and how much of it is stranded.
func (b *Book) heldAt(s Subject, e *Entry, at int64) (held, stranded Credits, err error) {
	for _, r := range b.receipts {
		if !r.Held() {
			continue
		}
		lost := r.Hold == HoldStranded
		if r.Expires <= at {
			t, err := b.targets(r)
			if err != nil {
				return 0, 0, err
			}
			if r.strands(&t) <= at {
				continue
			}
			lost = true
		}
		for i := range r.Levels {
			if r.Levels[i].Subject == s && covers(e.Start, e.End, r.Levels[i].Bucket) {
				held = satAdd(held, r.Holding())
				if lost {
					stranded = satAdd(stranded, r.Holding())
				}
			}
		}
	}
	return held, stranded, nil
}

// Open makes the counter of a limit whose period is new or set anew, in the
// window that holds instant at: as if it had always run. Where that window
// began inside the window of the limit that it replaces (was; nil for none),
// no more can be spent in it than that one had left. A limit that never resets
// starts at nothing. It belongs in the same step as the record's change.
func (b *Book) Open(s Subject, e Entry, was *Entry, at int64) error {
	b.sweep(at)
	sub := b.subject(s)
	r, err := b.limit(sub, &e, &block{most: 1})
	if err != nil || !r.fresh {
		return err
	}
	if was != nil && e.End != 0 {
		old, err := b.limit(sub, was, &block{most: 1})
		if err != nil {
			return err
		}
		if !was.Soft && covers(was.Start, was.End, e.Start) {
			left := room(old.bound(was), old.used, old.overage, old.held)
			// what is on top of the Max is in left, and bound adds it again
			r.cap(satAdd(satAdd(r.used, r.held), left) - e.Extra)
		}
	}
	r.max = r.bound(&e)
	if r.noted {
		if err := b.note(sub, Opening{Series: e.Limit, Number: e.Number, Start: e.Start, End: e.End}); err != nil {
			return err
		}
	}
	b.insert(r)
	b.created(r)
	b.mark = nil
	return nil
}
