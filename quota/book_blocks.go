package quota

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// A block is credits that a process holds, to be spent in its memory: one hold
// over the whole chain of a caller, for one bucket. Its owner settles what it
// spent, at least every second, and ends it. Where the block's time is over
// first, what it holds may have been spent and is never granted again: it is
// stranded, to the end of its windows.

// BlockShare bounds a block: when it is taken or grows it is given at most this
// part, one in so many, of what the limit has left that has least.
const BlockShare = 16

// forever is the end of what is only freed by hand.
const forever = math.MaxInt64

// checkBlock refuses what no Ledger sends of a block.
func (op *Op) checkBlock() error {
	switch {
	case op.Size < 0 || op.Requests < 0 || op.Seq < 0 || op.Seq == settledByHand:
		return fmt.Errorf("%w block: size %s, requests %d, settlement %d; none is negative", ErrInvalid, op.Size, op.Requests, op.Seq)
	case op.Verb == VerbLease && op.Size > op.Amount:
		return fmt.Errorf("%w block: at least %s of at most %s credits", ErrInvalid, op.Size, op.Amount)
	case op.Verb == VerbLease && (op.ID == "" || op.TTL <= 0 || op.TTL > maxTTL):
		return fmt.Errorf("%w block: it needs an id and a time to live up to 31 days", ErrInvalid)
	case op.Verb == VerbSettle && (op.TTL < 0 || op.TTL > maxTTL):
		return fmt.Errorf("%w settlement: the block lives up to 31 days more, or 0 to end it", ErrInvalid)
	case op.Verb == VerbSettle && op.Seq == 0 && (op.Caller != "" || op.TTL != 0):
		return fmt.Errorf("%w settlement: by hand it names no caller and ends the block", ErrInvalid)
	}
	return nil
}

// lease decides who takes a block: it holds what is wanted, at most a share of
// what the tightest limit has left, and is refused where that is too little to
// be of use. It counts no request.
func (b *Book) lease(op *Op) error {
	r, err := b.receipt(op.ID, op.At)
	if err != nil {
		return err
	}
	if r != nil {
		op.replay(r)
		return nil
	}
	res := &op.Result
	switch {
	case op.Settings != b.Settings:
		res.Outcome = Stale
		return nil
	case b.OpenHolds() >= MaxHolds:
		res.Outcome = Full
		return nil
	}
	var at [MaxLevels]counters
	n, left, most := 0, op.Amount, MaxCredits
	for i, l := range op.Levels {
		f := &at[i]
		if err := b.find(l, f); err != nil {
			return err
		}
		for j := range l.Limits {
			e, r := &l.Limits[j], f.at(j)
			bound := r.bound(e)
			if share := room(bound, r.used, r.overage, r.held) / BlockShare; !e.Soft {
				if left = min(left, share); share < op.Size || r.above(bound) {
					res.Refused |= 1 << n
				}
			}
			most = min(most, MaxCredits-satAdd(satAdd(r.used, r.overage), r.held))
			res.Figures = append(res.Figures, r.figureOf(bound))
			n++
		}
		r := f.at(len(l.Limits))
		most = min(most, MaxCredits-satAdd(satAdd(r.used, r.overage), r.held))
	}
	switch {
	case res.Refused != 0:
		res.Outcome = Refused
		return nil
	case min(left, most) < op.Size:
		res.Outcome = Overflow
		return nil
	}
	left = min(left, most)
	for i, l := range op.Levels { // whatever can fail comes before the first change
		if err := b.keep(l, &at[i]); err != nil {
			return err
		}
	}
	n = 0
	for i, l := range op.Levels {
		for j := range len(l.Limits) + 1 {
			r := at[i].at(j)
			b.touch(r)
			r.held += left
			if j == len(l.Limits) {
				break
			}
			bound := res.Figures[n].Max
			b.watch(r, &l.Limits[j], bound, l.Subject, op.At)
			res.Figures[n] = r.figureOf(bound)
			n++
		}
	}
	res.Outcome = Applied
	b.remember(op)
	c := res.Receipt.copy()
	c.Left, c.Keep = left, c.Expires+day
	b.put(c)
	res.Receipt = c
	return nil
}

// figureOf is figure, with the bound in force.
func (r *Row) figureOf(bound Credits) Figure {
	return Figure{Max: bound, Used: r.used, Held: r.held, Overage: r.overage}
}

// settleBlock moves what was spent of a block from held to used, and keeps the
// block or ends it. The Op says what was spent in all, so that one that comes
// twice, or after the one that followed it, spends nothing twice.
func (b *Book) settleBlock(op *Op) error {
	r, err := b.receipt(op.Of, op.At)
	if err != nil {
		return err
	}
	res := &op.Result
	if r == nil {
		res.Outcome = Unknown
		return nil
	}
	res.Receipt = r
	byHand := op.Seq == 0
	spent, requests := op.Amount-r.Actual, op.Requests-r.Requests
	switch {
	case r.Verb != VerbLease || op.Caller != "" && op.Caller != r.Caller:
		res.Outcome, res.Receipt = Conflict, nil
		return nil
	case byHand && r.Seq == settledByHand && spent == 0, !byHand && op.Seq <= r.Seq && r.Seq != settledByHand:
		res.Outcome = Replayed
		return nil
	case byHand && r.Hold == HoldExpired:
		res.Outcome = Expired
		return nil
	case byHand && r.Hold != HoldStranded, r.Hold == HoldCommitted, spent < 0, !byHand && requests < 0:
		res.Outcome = Conflict
		return nil
	case op.TTL > 0 && op.Settings != b.Settings:
		res.Outcome = Stale
		return nil
	case r.Hold != HoldExpired && spent > r.Left:
		res.Outcome = Excess
		return nil
	}
	if byHand {
		requests = 0
	}
	t, err := b.targets(r)
	if err != nil {
		return err
	}
	if t.folded {
		res.Outcome = Unknown
		return nil
	}
	b.spendBlock(op, r, &t, spent, requests)
	return nil
}

// spendBlock is settleBlock once nothing is in the way.
func (b *Book) spendBlock(op *Op, r *Receipt, t *targets, spent Credits, requests int64) {
	open := r.Hold == HoldOpen
	held := r.Holding()
	left, excess := max(0, held-spent), max(0, spent-held)
	switch {
	case op.TTL == 0:
		left = 0
	case open && op.Size <= left:
		left = op.Size
	case open:
		left += min(op.Size-left, b.growth(t))
	}
	lost := Credits(0)
	if r.Hold == HoldStranded {
		lost = left - held
	}
	// Where the block's windows ended long ago nothing is held any more: what was
	// spent all the same is used where there is room, and else overage.
	spend := func(row *Row, bounded bool) {
		b.touch(row)
		over := Credits(0)
		if bounded && excess > 0 {
			over = max(0, excess-room(row.max, row.used, row.overage, row.held))
		}
		row.strand(lost)
		row.held += left - held
		row.used += spent - over
		row.overage += over
	}
	n := 0
	for i := range r.Levels {
		for range r.Levels[i].Limits {
			row, e := t.limits[n], t.entry[n]
			n++
			if row == nil {
				continue
			}
			spend(row, !e.Soft)
			row.requests = 0 // as of a commit
			if !replaced(row, t.later) {
				b.watch(row, e, row.max, r.Levels[i].Subject, op.At)
			}
			row.requests = 0
		}
	}
	for _, row := range t.later {
		spend(row, true)
	}
	for _, row := range t.all {
		if row.in.number == 0 {
			spend(row, false)
			row.requests += requests
		}
	}
	c := r.copy()
	c.Left, c.Actual, c.Requests, c.Seq = left, r.Actual+spent, r.Requests+requests, op.Seq
	switch {
	case op.Seq == 0:
		c.Seq = settledByHand
		fallthrough
	case op.TTL == 0:
		c.Hold, c.Settled, c.Keep = HoldCommitted, op.At, op.At+day
	case open:
		c.Expires = max(r.Expires, min(op.At+op.TTL, r.At+maxTTL))
		c.Keep = c.Expires + day
	}
	b.put(c)
	op.Result.Figures = figures(op.Result.Figures, t.limits)
	op.Result.Outcome, op.Result.Receipt = Applied, c
}

// growth is the most that a block may grow by.
func (b *Book) growth(t *targets) Credits {
	most := MaxCredits
	for i, row := range t.limits {
		if row == nil {
			return 0
		}
		if e := t.entry[i]; !e.Soft {
			most = min(most, room(row.bound(e), row.used, row.overage, row.held)/BlockShare)
		}
	}
	for _, row := range t.later {
		most = min(most, room(row.max, row.used, row.overage, row.held)/BlockShare)
	}
	for _, row := range t.all {
		most = min(most, MaxCredits-satAdd(satAdd(row.used, row.overage), row.held))
	}
	return most
}

// strands is until when a receipt whose time is over stays held: of a block to
// the end of the last window that it counts in. Of a reservation it is its end.
func (r *Receipt) strands(t *targets) int64 {
	if r.Verb != VerbLease {
		return r.Expires
	}
	until := int64(0)
	for _, row := range t.all {
		end := row.end
		switch {
		case row.in.number == 0:
			end = row.start + bucketMicros
		case end == 0:
			return forever
		}
		until = max(until, end)
	}
	return until
}

// strand makes a block whose time is over stay held until an instant.
func (b *Book) strand(r *Receipt, t *targets, until int64) {
	if r.Hold == HoldOpen {
		for _, row := range t.all {
			b.touch(row)
			row.strand(r.Left)
		}
	}
	c := r.copy()
	c.Hold, c.Expires, c.Keep = HoldStranded, until, forever
	b.put(c)
}

// free takes what a receipt holds off its counters.
func (b *Book) free(r *Receipt, t *targets) {
	for _, row := range t.all {
		b.touch(row)
		row.held -= r.Holding()
		if r.Hold == HoldStranded {
			row.strand(-r.Left)
		}
	}
}

func sign(plus bool) Credits {
	if plus {
		return 1
	}
	return -1
}

// Stranded are the receipts of the blocks that are stranded at instant at, in
// the order of their ids, without changing anything.
func (b *Book) Stranded(at int64) ([]*Receipt, error) {
	var out []*Receipt
	for _, r := range b.receipts {
		if r.Verb != VerbLease || !r.Held() {
			continue
		}
		if r.Expires <= at {
			t, err := b.targets(r)
			if err != nil {
				return nil, err
			}
			c := r.copy()
			if c.Hold, c.Expires = HoldStranded, r.strands(&t); c.Expires <= at {
				continue
			}
			r = c
		}
		if r.Hold == HoldStranded {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b *Receipt) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}
