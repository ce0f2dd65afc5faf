package quota

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
)

// Desk is where a Direct store decides the Ops of one organization: its Book
// and the lock around it. The store fills the exported fields before it gives
// the Desk away and changes none of them after.
type Desk struct {
	// Store is whose Desk this is.
	Store Store
	// Closed is true when the store is.
	Closed *atomic.Bool
	// Post puts alerts into the outbox. It is called with the Desk locked.
	Post func([]Alert)
	// Book is used with the Desk locked.
	Book *Book

	mu sync.Mutex
}

// spins is how often spin looks again before it waits: about as long as a few
// charges take.
const spins = 400

// spin locks what a charge holds for far less than it costs to put a goroutine
// to sleep and wake it: it looks a few times first.
func spin(mu *sync.Mutex) {
	for range spins {
		if mu.TryLock() {
			return
		}
	}
	mu.Lock()
}

// Lock locks the Desk.
func (k *Desk) Lock() { spin(&k.mu) }

// Unlock unlocks the Desk, and puts up what alerts there are.
func (k *Desk) Unlock() {
	if len(k.Book.alerts) > 0 {
		k.Post(k.Book.TakeAlerts())
	}
	k.mu.Unlock()
}

// desk finds where a chain's charges are decided, nil where the store has to
// be asked. The caller's Purse remembers it.
func (l *Ledger) desk(c *Chain) *Desk {
	if l.direct == nil || len(c.Purses) == 0 {
		return nil
	}
	m := &c.Purses[0].memo
	if k := m.desk.Load(); k != nil && k.Store == l.store && k.Book.org == c.Org {
		return k
	}
	k := l.direct.Desk(l.store, c.Org)
	if k != nil {
		m.desk.Store(k)
	}
	return k
}

// atDesk is a Charge without an id where the store has a Desk for it: decided
// like every other by Book.take, without an Op on its way to the store and
// with all that it needs on the stack. done is false where it has to go that way.
func (l *Ledger) atDesk(ctx context.Context, src Source, d *Decision, amount Credits, at int64) (done bool, err error) {
	if err := ctx.Err(); err != nil {
		return true, fmt.Errorf("quota: charge: not begun: %w", err)
	}
	var all [MaxLevels]Level
	var ptr [MaxLevels]*Level
	for i := range all {
		ptr[i] = &all[i] // not by a slice, which would send all to the heap
	}
	for try := range maxStale {
		chain, err := src.Chain(ctx, try > 0)
		if err != nil {
			return true, err
		}
		k := l.desk(&chain)
		if k == nil {
			return false, nil
		}
		if err := chain.fill(&all, at); err != nil {
			return true, fmt.Errorf("quota: charge: %w", err)
		}
		lvs := ptr[:len(chain.Purses)]
		k.Lock()
		if k.Closed.Load() || l.closed.Load() {
			k.Unlock()
			return true, fmt.Errorf("quota: charge: %w", ErrClosed)
		}
		b := k.Book
		if len(b.holds) > 0 {
			b.sweep(at)
		}
		if chain.Settings != b.Settings {
			k.Unlock()
			continue
		}
		v, figures, err := b.take(lvs, amount, VerbCharge, at, d.inline[:0])
		k.Unlock()
		if err != nil {
			return true, fmt.Errorf("quota: charge: %w", err)
		}
		switch v.outcome {
		case Refused:
			l.counts.add(chain.Org, ReasonLimit, lvs, at)
		case Overflow:
			return true, fmt.Errorf("quota: charge: %w", overflown(amount))
		}
		d.Allowed, d.Requested, d.refused = v.outcome == Applied, amount, v.refused
		d.show(lvs)
		d.n = uint8(len(figures)) // at most MaxLevels x MaxLimits
		if len(figures) > inlineFigures {
			d.more = append([]Figure(nil), figures...)
		}
		return true, nil
	}
	return true, errMoved(VerbCharge)
}
