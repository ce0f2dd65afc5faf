package quota

import (
	"fmt"
	"slices"
)

// hold finds the open reservation that an Op settles. It is nil where the
// Result already says why not.
func (b *Book) hold(op *Op, done HoldState) (*Receipt, error) {
	r, err := b.receipt(op.Of, op.At)
	if err != nil {
		return nil, err
	}
	res := &op.Result
	switch {
	case r == nil:
		res.Outcome = Unknown
		return nil, nil
	case r.Verb != VerbReserve || op.Caller != "" && op.Caller != r.Caller:
		res.Outcome = Conflict
		return nil, nil
	case r.Hold == HoldOpen:
		return r, nil
	}
	res.Receipt = r
	switch {
	case r.Hold == HoldExpired:
		res.Outcome = Expired
	case r.Hold == done && (done != HoldCommitted || r.Actual == op.Amount):
		res.Outcome = Replayed
		res.Figures = append(res.Figures, r.Final...)
	default:
		res.Outcome = Conflict
	}
	return nil, nil
}

// commit spends Amount of a reservation and frees the rest. What goes beyond
// the reservation is used where there is room and overage where there is not.
func (b *Book) commit(op *Op) error {
	r, err := b.hold(op, HoldCommitted)
	if r == nil || err != nil {
		return err
	}
	t, err := b.targets(r)
	if err != nil {
		return err
	}
	if t.folded {
		op.Result.Outcome = Unknown
		return nil
	}
	within, excess := min(op.Amount, r.Amount), max(0, op.Amount-r.Amount)
	if excess > 0 {
		for _, row := range t.all {
			if row.overflows(excess) {
				op.Result.Outcome = Overflow
				return nil
			}
		}
		if op.Strict {
			for i, row := range t.limits {
				if row != nil && !t.entry[i].Soft && excess > room(row.max, row.used, row.overage, row.held) {
					op.Result.Outcome = Excess
					op.Result.Figures = figures(op.Result.Figures, t.limits)
					return nil
				}
			}
			for _, row := range t.later {
				if excess > room(row.max, row.used, row.overage, row.held) {
					op.Result.Outcome = Excess
					op.Result.Figures = figures(op.Result.Figures, t.limits)
					return nil
				}
			}
		}
	}
	spend := func(row *Row, bounded bool) {
		b.touch(row)
		over := Credits(0)
		if bounded && excess > 0 {
			over = max(0, excess-room(row.max, row.used, row.overage, row.held))
		}
		row.held -= r.Amount
		row.used += within + excess - over
		row.overage += over
	}
	n := 0
	for i := range r.Levels {
		for j := range r.Levels[i].Limits {
			row, e := t.limits[n], t.entry[n]
			n++
			if row == nil {
				continue
			}
			spend(row, !e.Soft)
			row.requests = 0 // the hint of other thresholds may be higher than these
			if !replaced(row, t.later) {
				b.watch(row, &r.Levels[i].Limits[j], row.max, r.Levels[i].Subject, op.At)
			}
			row.requests = 0 // and these may not be the limit's any more
		}
	}
	for _, row := range t.later {
		spend(row, true)
	}
	for _, row := range t.all {
		if row.in.number == 0 {
			spend(row, false)
		}
	}
	c := r.copy()
	c.Hold, c.Settled, c.Actual, c.Keep = HoldCommitted, op.At, op.Amount, max(r.Keep, op.Keep)
	op.Result.Figures = figures(op.Result.Figures, t.limits)
	c.Final = append([]Figure(nil), op.Result.Figures...)
	b.put(c)
	op.Result.Outcome, op.Result.Receipt = Applied, c
	return nil
}

// replaced reports whether the limit's period was set anew since, so that one
// of later alerts in its place.
func replaced(r *Row, later []*Row) bool {
	return slices.ContainsFunc(later, func(x *Row) bool { return x.of == r.of && x.in.name == r.in.name })
}

// release frees a reservation.
func (b *Book) release(op *Op) error {
	r, err := b.hold(op, HoldReleased)
	if r == nil || err != nil {
		return err
	}
	t, err := b.targets(r)
	if err != nil {
		return err
	}
	for _, row := range t.all {
		b.touch(row)
		row.held -= r.Amount
	}
	c := r.copy()
	c.Hold, c.Settled, c.Keep = HoldReleased, op.At, max(r.Keep, op.Keep)
	op.Result.Figures = figures(op.Result.Figures, t.limits)
	c.Final = append([]Figure(nil), op.Result.Figures...)
	b.put(c)
	op.Result.Outcome, op.Result.Receipt = Applied, c
	return nil
}

// renew moves the end of a reservation, never to an earlier instant.
func (b *Book) renew(op *Op) error {
	r, err := b.hold(op, HoldOpen)
	if r == nil || err != nil {
		return err
	}
	c := r.copy()
	// All its life together is bounded like its first part: what it was
	// admitted in is kept only so long.
	c.Expires = max(r.Expires, min(op.At+op.TTL, r.At+maxTTL))
	c.Keep = max(r.Keep, op.Keep, c.Expires+day)
	if c.Expires != r.Expires {
		b.put(c)
	}
	op.Result.Outcome, op.Result.Receipt = Applied, c
	return nil
}

// refund takes credits of a charge or commit back, from overage first, in the
// windows and the bucket of the charge.
func (b *Book) refund(op *Op) error {
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
	r, err := b.receipt(op.Of, op.At)
	if err != nil {
		return err
	}
	switch {
	case r == nil:
		res.Outcome = Unknown
		return nil
	case r.Verb != VerbCharge && (r.Verb != VerbReserve || r.Hold != HoldCommitted), op.Caller != "" && op.Caller != r.Caller:
		res.Outcome = Conflict
		return nil
	case op.Amount > r.spent()-r.Refunded:
		res.Outcome, res.Receipt = Excess, r
		return nil
	}
	t, err := b.targets(r)
	if err != nil {
		return err
	}
	if t.folded {
		res.Outcome = Unknown
		return nil
	}
	for _, row := range t.all {
		if row.used+row.overage < op.Amount {
			return fmt.Errorf("%w: counter %v holds less than what was charged to it", ErrCorrupt, row.ID())
		}
	}
	for _, row := range t.all {
		b.touch(row)
		over := min(row.overage, op.Amount)
		row.overage -= over
		row.used -= op.Amount - over
	}
	c := r.copy()
	c.Refunded += op.Amount
	b.put(c)
	res.Figures = figures(res.Figures, t.limits)
	res.Outcome, res.Receipt = Applied, c
	if op.ID != "" {
		b.put(&Receipt{
			ID: op.ID, Verb: VerbRefund, Caller: op.Caller, Of: op.Of, Amount: op.Amount,
			At: op.At, Keep: op.Keep, Figures: append([]Figure(nil), res.Figures...),
			Levels: r.Levels, // so that a retry is answered with the same limits
		})
	}
	return nil
}
