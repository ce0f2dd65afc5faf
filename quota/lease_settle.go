package quota

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// settle makes the settlement that keeps the block, to hold size from then on,
// or, with size below 0, ends it. One that was not answered is sent again.
func (b *lease) settle(n *lane, now int64, size Credits) *Op {
	if b.flight != nil {
		return b.flight
	}
	b.seq++
	o := &Op{
		Verb: VerbSettle, Org: n.org, Of: b.id, Caller: n.caller, Settings: b.settings, Seq: b.seq,
		Amount: b.spent, Requests: b.count, At: b.at + (now-b.mono)/int64(time.Microsecond),
	}
	if size < 0 {
		b.retire, b.left = true, 0
	} else {
		b.left = min(b.left, size)
		o.Size, o.TTL = max(size, b.left), int64(leaseTTL/time.Microsecond)
	}
	b.flight, b.flightMono, b.flightRest = o, now, b.left
	return o
}

// answered takes the store's answer to a block's settlement. The lane's mu is
// held.
func (l *leases) answered(n *lane, b *lease, res *Result) {
	o := b.flight
	switch res.Outcome {
	case Applied, Replayed:
		r := res.Receipt
		b.flight, b.settled, b.counted = nil, o.Amount, o.Requests
		switch {
		case r.Hold == HoldOpen:
			b.left += r.Left - b.flightRest
			b.stop = b.flightMono + int64(leaseTTL-leaseMargin)
		case o.TTL > 0: // its time was over by the store's clock
			b.retire = true
		default:
			n.drop()
		}
		if len(res.Figures) > 0 {
			b.figures, b.since = append(b.figures[:0], res.Figures...), b.spent-o.Amount
		}
	case Stale:
		b.flight, b.retire = nil, true
	case Failed: // the store could not read what it needs: again, later
	default:
		l.lose(fmt.Errorf("quota: lease: %s credits of block %q of %s in %q were not settled: %w", b.spent-b.settled, b.id, n.caller, n.org, (&Op{Verb: VerbSettle, Of: b.id, Result: *res}).err()))
		n.drop()
	}
}

// drop forgets the lane's block.
func (n *lane) drop() { n.b, n.calls, n.asked, n.idle = nil, 0, 0, 0 }

func (l *leases) lose(err error) {
	l.mu.Lock()
	l.lost = errors.Join(l.lost, err)
	l.mu.Unlock()
}

// kick asks for a settlement at once.
func (l *leases) kick() {
	select {
	case l.kicked <- struct{}{}:
	default:
	}
}

// run settles while there is anything to settle.
func (l *leases) run(stop, done chan struct{}) {
	defer close(done)
	tick := time.NewTicker(LeaseSettle)
	defer tick.Stop()
	for {
		how := settleTick
		select {
		case <-tick.C:
		case <-l.kicked:
			how = settleRetired
		case <-stop:
			return
		}
		_ = l.settle(context.Background(), how, nil) // what fails is tried again
		if l.idle(stop) {
			return
		}
	}
}

// idle ends the settler where it has nothing to do.
func (l *leases) idle(stop chan struct{}) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n > 0 || len(l.orphans) > 0 || l.stop != stop || l.closed {
		return false
	}
	l.stop, l.done = nil, nil
	return true
}

// How a settlement of many blocks goes.
type how uint8

const (
	settleTick    how = iota // those spent from are renewed, the idle ended
	settleRetired            // those that are not spent from any more are ended
	settleFlush              // all that was spent is settled
	settleEnd                // all are ended
)

// lanes lists the lanes that only says yes to; nil is all of them.
func (l *leases) lanes(only func(*lane) bool) (out []*lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, of := range l.orgs {
		for _, n := range of {
			if only == nil || only(n) {
				out = append(out, n)
			}
		}
	}
	return out
}

// settle settles blocks, as many as there are in one batch.
func (l *leases) settle(ctx context.Context, how how, lanes []*lane) error {
	select {
	case l.pass <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("quota: settle: %w", ctx.Err())
	}
	defer func() { <-l.pass }()
	if lanes == nil {
		lanes = l.lanes(nil)
	}
	var mine []*lane
	defer func() {
		for _, n := range mine {
			n.unlock()
		}
	}()
	for _, n := range lanes {
		if how < settleFlush {
			if !n.tryLock() {
				continue // a caller settles it
			}
		} else if err := n.lock(ctx); err != nil {
			return fmt.Errorf("quota: settle: %w", err)
		}
		mine = append(mine, n)
	}
	var err error
	for round := range 3 { // what is stale or stranded is ended in the next
		var due []*lane
		var ops []*Op
		for _, n := range mine {
			n.mu.Lock()
			if o := l.due(n, how, round); o != nil {
				due, ops = append(due, n), append(ops, o)
			}
			n.mu.Unlock()
		}
		if len(ops) == 0 {
			break
		}
		if err = l.send(ctx, due, ops); err != nil {
			break
		}
	}
	if e := l.adopt(ctx); err == nil {
		err = e
	}
	if how == settleTick {
		l.forget(mine)
	}
	if err != nil {
		return fmt.Errorf("quota: settle: %w", err)
	}
	return nil
}

// due is the settlement that a block needs; nil: none. The lane's mu is held.
func (l *leases) due(n *lane, how how, round int) *Op {
	b := n.b
	if b == nil {
		return nil
	}
	now := l.now()
	at := b.at + (now-b.mono)/int64(time.Microsecond)
	over := b.retire || how == settleEnd || now >= b.stop
	if how == settleTick && round == 0 {
		if b.idle++; b.idle > leaseIdle || at >= b.until {
			over = true
		}
	}
	unsettled := b.spent != b.settled || b.count != b.counted
	switch {
	case b.flight != nil:
		return b.flight
	case over:
		return b.settle(n, now, -1)
	case !unsettled || how == settleRetired || how == settleTick && round > 0:
		return nil
	}
	if how == settleTick {
		b.size = max(satAdd(b.moved, b.moved), leaseFirst)
		if b.left > b.size && b.left/4 < b.size {
			b.size = b.left // not worth a change
		}
		b.moved = 0
	}
	return b.settle(n, now, max(b.size, 0))
}

// send applies settlements and takes the answers.
func (l *leases) send(ctx context.Context, due []*lane, ops []*Op) error {
	var failed error
	for at := 0; at < len(ops); at += maxBatch {
		end := min(at+maxBatch, len(ops))
		if err := l.ledger.store.Apply(ctx, ops[at:end]); err != nil {
			// Nobody knows what was done: the same is sent again. The store may
			// still write to these Ops.
			for _, n := range due[at:end] {
				n.mu.Lock()
				if n.b != nil && n.b.flight != nil {
					o := *n.b.flight
					o.Result = Result{}
					n.b.flight = &o
				}
				n.mu.Unlock()
			}
			failed = err
			continue
		}
		for i, n := range due[at:end] {
			n.mu.Lock()
			if o := ops[at+i]; n.b != nil && n.b.flight == o {
				if l.answered(n, n.b, &o.Result); o.Result.Outcome == Failed {
					failed = o.err()
				}
			}
			n.mu.Unlock()
		}
	}
	return failed
}

// adopt ends blocks of which it is not known whether they were taken.
func (l *leases) adopt(ctx context.Context) error {
	l.mu.Lock()
	orphans := slices.Clone(l.orphans[:min(len(l.orphans), maxBatch)])
	l.mu.Unlock()
	if len(orphans) == 0 {
		return nil
	}
	ops := make([]*Op, len(orphans))
	for i, o := range orphans {
		ops[i] = &Op{Verb: VerbSettle, Org: o.org, Of: o.id, Caller: o.caller, Seq: 1, At: o.at}
	}
	if err := l.ledger.store.Apply(ctx, ops); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, o := range orphans {
		if ops[i].Result.Outcome != Failed {
			l.orphans = slices.DeleteFunc(l.orphans, func(x orphan) bool { return x == o })
		}
	}
	return nil
}

// forget drops lanes that nobody has charged for a while.
func (l *leases) forget(lanes []*lane) {
	for _, n := range lanes {
		n.mu.Lock()
		if n.calls > 0 {
			n.calls, n.asked, n.idle = 0, 0, 0
		} else if n.b == nil {
			n.idle++
		}
		n.gone = n.b == nil && n.idle >= leaseIdle
		gone := n.gone
		n.mu.Unlock()
		if !gone {
			continue
		}
		l.mu.Lock()
		if of := l.orgs[n.org]; of[n.caller] == n {
			delete(of, n.caller)
			l.n--
			if len(of) == 0 {
				delete(l.orgs, n.org)
			}
		}
		l.mu.Unlock()
	}
}

// flush settles all that was spent, and says what could not be.
func (l *leases) flush(ctx context.Context) error {
	err := l.settle(ctx, settleFlush, nil)
	l.mu.Lock()
	defer l.mu.Unlock()
	err = errors.Join(err, l.lost)
	l.lost = nil
	return err
}

// closeTries is how often the last settlement is tried.
const closeTries = 3

// close settles all blocks and gives them back. What could not be settled
// stays held: it is stranded.
func (l *leases) close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	stop, done := l.stop, l.done
	l.mu.Unlock()
	if done != nil {
		close(stop)
		<-done
	}
	l.calls.Wait()
	var err error
	for range closeTries {
		if err = l.settle(context.Background(), settleEnd, nil); err == nil {
			break
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(err, l.lost)
}

// yield ends this process's own blocks where they stand in the way of what was
// refused: true, where it is worth to ask again.
func (l *leases) yield(ctx context.Context, o *Op) bool {
	l.mu.Lock()
	none := len(l.orgs[o.Org]) == 0
	l.mu.Unlock()
	if none {
		return false
	}
	// What every refusing limit has left must do, with what blocks would free.
	subjects := make(map[Subject]Credits, len(o.Levels))
	i := 0
	for _, lv := range o.Levels {
		for range lv.Limits {
			if o.Result.Refused&(1<<i) != 0 {
				f := o.Result.Figures[i]
				if f.Held == 0 {
					return false
				}
				short := o.Amount - f.Remaining()
				subjects[lv.Subject] = max(subjects[lv.Subject], short, 1)
			}
			i++
		}
	}
	var lanes []*lane
	only := func(n *lane) bool { return n.org == o.Org }
	if _, own := subjects[o.Caller]; own && len(subjects) == 1 && o.Caller == o.Levels[0].Subject {
		only = func(n *lane) bool { return n.org == o.Org && n.caller == o.Caller }
	}
	free := make(map[Subject]Credits, len(subjects))
	for _, n := range l.lanes(only) {
		n.mu.Lock()
		busy := len(n.sending) > 0
		touches := busy && n.b == nil
		most := MaxCredits // where an answer is awaited, nobody knows
		if b := n.b; b != nil {
			if !busy && b.flight == nil {
				most = b.left
			}
			for i := range b.depth {
				s := b.shown[i].purse.subject
				if _, refuses := subjects[s]; refuses {
					touches = true
					free[s] = satAdd(free[s], most)
				}
			}
		} else if busy {
			for s := range subjects {
				free[s] = MaxCredits
			}
		}
		if touches {
			n.wait = l.now() + int64(LeaseSettle)
			lanes = append(lanes, n)
		}
		n.mu.Unlock()
	}
	for s, short := range subjects {
		if free[s] < short {
			return false
		}
	}
	return l.settle(ctx, settleEnd, lanes) == nil
}
