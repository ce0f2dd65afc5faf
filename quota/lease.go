package quota

import (
	"context"
	"crypto/rand"
	"fmt"
	"math"
	"os"
	"sync"
	"time"
)

// How a Ledger leases. A block is renewed with every settlement, so that its
// life is a few of them: long enough to outlast a slow store, short enough that
// an edit or a revocation that this process hears of by nothing else reaches it
// soon. See LeaseBound.
const (
	// LeaseSettle is how often a block that is spent from is settled: so late
	// usage, alerts and the figures of other processes are.
	LeaseSettle = 500 * time.Millisecond
	// leaseTTL is how long a block lives after it was taken or renewed, by the
	// store's time.
	leaseTTL = 3 * time.Second
	// leaseMargin is how long before that its owner stops to spend, by its own
	// monotonic clock, counted from before the question was sent.
	leaseMargin = time.Second
	// LeaseBound is how long, at most, a block is spent from after the store
	// last said that its records have not moved. A change in this process holds
	// at once, and one that a Service hears of by polling when it hears of it.
	LeaseBound = leaseTTL - leaseMargin
	// leaseIdle is after how many settlements without a charge a block is given
	// back: a second.
	leaseIdle = 2
	// leaseAfter is how many charges of one caller between two settlements are
	// worth a block: to take one and to give it back are two operations.
	leaseAfter = 3
	// leaseFirst is how many charges the first block is for, leaseLeast how many
	// it must be good for at the least.
	leaseFirst, leaseLeast = 64, 8
	// maxLanes bounds the callers that are remembered; others charge strictly.
	maxLanes = 1 << 16
)

// leases are the blocks of one Ledger.
type leases struct {
	ledger *Ledger
	owner  string
	base   time.Time

	mu      sync.Mutex
	orgs    map[string]map[Subject]*lane
	n       int // lanes
	orphans []orphan
	lost    error // what could not be settled
	stop    chan struct{}
	done    chan struct{} // closed when the settler is gone; nil: none runs
	closed  bool

	calls  sync.WaitGroup // callers that take blocks
	kicked chan struct{}
	pass   chan struct{} // held by one settlement of many blocks at a time
}

// orphan is a block of which it is not known whether it was taken.
type orphan struct {
	org    string
	id     string
	caller Subject
	at     int64 // when, by the caller's clock
}

// lane is what a Ledger that leases knows of one caller.
type lane struct {
	of     *leases
	org    string
	caller Subject
	// sending is held by who asks the store about the lane's block: before mu.
	sending chan struct{}

	mu    sync.Mutex
	gone  bool    // not in the leases any more
	b     *lease  // nil: none
	calls int     // charges that found no block, since the last settlement
	asked Credits // what they asked for
	idle  int     // settlements without a charge
	wait  int64   // by the monotonic clock: until then it charges strictly
}

// lease is a block in its owner's memory, guarded by its lane.
type lease struct {
	id       string
	settings int64
	depth    int
	shown    [MaxLevels]shown
	from     int64 // instants that may be charged to it: in [from, until)
	until    int64
	at, mono int64 // when it was taken, by the caller's clock and by the monotonic one

	stop   int64 // by the monotonic clock: not spent from after
	left   Credits
	spent  Credits // in all
	count  int64   // requests in all
	size   Credits // what it was last asked to hold
	moved  Credits // spent since the last settlement of all
	idle   int
	retire bool // not spent from any more; to be ended

	seq     int64
	settled Credits // of spent, the store knows
	counted int64   // of count
	// flight is a settlement that was not answered yet.
	flight     *Op
	flightMono int64
	flightRest Credits // what was left when it was sent

	figures []Figure // as of the last answer
	since   Credits  // spent since they were
}

func newLeases(l *Ledger) *leases {
	host, _ := os.Hostname()
	return &leases{
		ledger: l, base: time.Now(), orgs: map[string]map[Subject]*lane{},
		owner:  fmt.Sprintf("%.100s/%d/%.8s", host, os.Getpid(), rand.Text()),
		kicked: make(chan struct{}, 1), pass: make(chan struct{}, 1),
	}
}

// now is the monotonic clock.
func (l *leases) now() int64 { return int64(time.Since(l.base)) }

// lane finds or makes the lane of a chain's caller; nil where there are too many.
func (l *leases) lane(c *Chain) *lane {
	memo := &c.Purses[0].memo
	if n := memo.lane.Load(); n != nil && n.of == l && n.caller == c.Caller && n.org == c.Org {
		return n
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.orgs[c.Org][c.Caller]
	if n == nil {
		if l.closed || l.n >= maxLanes {
			return nil
		}
		n = &lane{of: l, org: c.Org, caller: c.Caller, sending: make(chan struct{}, 1)}
		if l.orgs[c.Org] == nil {
			l.orgs[c.Org] = map[Subject]*lane{}
		}
		l.orgs[c.Org][c.Caller] = n
		l.n++
		if l.done == nil {
			l.stop, l.done = make(chan struct{}), make(chan struct{})
			go l.run(l.stop, l.done)
		}
	}
	memo.lane.Store(n)
	return n
}

// charge spends from the caller's block, and takes, or lets grow, one where
// that is worth it. false: it is to be charged strictly.
func (l *leases) charge(ctx context.Context, c *Chain, amount Credits, at int64, d *Decision) bool {
	if len(c.Purses) == 0 || len(c.Purses) > MaxLevels {
		return false
	}
	n := l.lane(c)
	if n == nil {
		return false
	}
	now := l.now()
	spin(&n.mu)
	if n.b.spend(c, amount, at, now, d) {
		n.mu.Unlock()
		return true
	}
	b := n.b
	switch {
	case n.gone: // its Purse remembers one that was forgotten
		n.mu.Unlock()
		c.Purses[0].memo.lane.CompareAndSwap(n, nil)
		if n = l.lane(c); n == nil {
			return false
		}
		n.mu.Lock()
		n.calls, n.asked = n.calls+1, satAdd(n.asked, amount)
		n.mu.Unlock()
		return false
	case b == nil:
		n.calls, n.asked = n.calls+1, satAdd(n.asked, amount)
		worth := n.calls > leaseAfter && now >= n.wait
		want := max(satAdd(n.asked, n.asked), times(amount, leaseFirst), leaseFirst)
		n.mu.Unlock()
		return worth && l.take(ctx, n, c, amount, want, at, d)
	case b.retire:
	case c.Settings > b.settings || at >= b.until:
		b.retire = true
		l.kick()
	case b.is(c) && at >= b.from && now < b.stop && b.left < amount && times(amount, leaseLeast) <= max(b.size, leaseFirst):
		n.mu.Unlock()
		return l.grow(ctx, n, c, amount, at, d)
	}
	n.mu.Unlock()
	return false
}

func times(c Credits, n int64) Credits {
	if c > MaxCredits/Credits(n) {
		return MaxCredits
	}
	return c * Credits(n)
}

// is reports whether the block holds for the chain as it stands.
func (b *lease) is(c *Chain) bool {
	if b.settings != c.Settings || b.depth != len(c.Purses) {
		return false
	}
	for i, p := range c.Purses {
		if q := b.shown[i].purse; p != q && p.subject != q.subject {
			return false
		}
	}
	return true
}

// spend charges to the block, if it may.
func (b *lease) spend(c *Chain, amount Credits, at, now int64, d *Decision) bool {
	if b == nil || b.retire || amount > b.left || now >= b.stop || at < b.from || at >= b.until || !b.is(c) {
		return false
	}
	b.left -= amount
	b.spent += amount
	b.since += amount
	b.moved = satAdd(b.moved, amount)
	b.count++
	b.idle = 0
	b.tell(amount, d)
	return true
}

// tell makes the Decision: the figures of the last answer, with what was spent
// since.
func (b *lease) tell(amount Credits, d *Decision) {
	d.Allowed, d.Requested = true, amount
	d.depth = uint8(b.depth)
	d.levels = b.shown
	d.n = uint8(len(b.figures))
	into := d.inline[:]
	if len(b.figures) > len(into) {
		d.more = make([]Figure, len(b.figures))
		into = d.more
	}
	for i, f := range b.figures {
		f.Used += b.since
		f.Held = max(0, f.Held-b.since)
		into[i] = f
	}
}

// lock takes sending, for as long as ctx lasts.
func (n *lane) lock(ctx context.Context) error {
	select {
	case n.sending <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (n *lane) tryLock() bool {
	select {
	case n.sending <- struct{}{}:
		return true
	default:
		return false
	}
}

func (n *lane) unlock() { <-n.sending }

// enter counts a caller that asks the store; false after close.
func (l *leases) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.calls.Add(1)
	return true
}

// take takes a block and charges to it. false: nothing was charged.
func (l *leases) take(ctx context.Context, n *lane, chain *Chain, amount, want Credits, at int64, d *Decision) bool {
	if !n.tryLock() {
		return false // another caller takes it: this one does not wait
	}
	defer n.unlock()
	if !l.enter() {
		return false
	}
	defer l.calls.Done()
	n.mu.Lock()
	there := n.b != nil || n.gone
	n.mu.Unlock()
	if there {
		return false
	}
	c := newCall()
	o := &c.op
	var err error
	if o.Levels, err = c.levels.of(chain, at); err != nil {
		c.free()
		return false // the strict charge will say so
	}
	b := &lease{id: "block_" + rand.Text(), settings: chain.Settings, depth: len(o.Levels), until: math.MaxInt64, at: at, size: want}
	for i, lv := range o.Levels {
		b.from, b.until = max(b.from, lv.From), min(b.until, lv.Until)
		b.shown[i] = shown{lv.purse, lv.win}
	}
	o.Verb, o.Org, o.Settings, o.Caller, o.ID, o.Of = VerbLease, chain.Org, chain.Settings, chain.Caller, b.id, l.owner
	o.Amount, o.Size, o.At, o.TTL = want, min(want, max(1, times(amount, leaseLeast))), at, int64(leaseTTL/time.Microsecond)
	b.mono = l.now()
	kept, err := l.ledger.do(ctx, c)
	res := &o.Result
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls, n.asked = 0, 0
	ok := err == nil && (res.Outcome == Applied || res.Outcome == Replayed)
	switch {
	case ok:
		b.left, b.stop = res.Receipt.Left, b.mono+int64(leaseTTL-leaseMargin)
		b.figures = append(b.figures, res.Figures...)
		n.b = b
		ok = b.spend(chain, amount, at, l.now(), d)
	case err != nil:
		l.mu.Lock()
		l.orphans = append(l.orphans, orphan{chain.Org, b.id, chain.Caller, at})
		l.mu.Unlock()
		fallthrough
	default: // too near a limit, or the records moved
		n.wait = l.now() + int64(LeaseSettle)
	}
	if !kept {
		c.free()
	}
	return ok
}

// grow settles a block that is spent up and lets it hold more. false: nothing
// was charged.
func (l *leases) grow(ctx context.Context, n *lane, chain *Chain, amount Credits, at int64, d *Decision) bool {
	if !n.tryLock() {
		return false
	}
	defer n.unlock()
	if !l.enter() {
		return false
	}
	defer l.calls.Done()
	n.mu.Lock()
	b := n.b
	if b.spend(chain, amount, at, l.now(), d) { // another caller let it grow meanwhile
		n.mu.Unlock()
		return true
	}
	if b == nil || b.retire || b.flight != nil || !b.is(chain) || l.now() < n.wait {
		n.mu.Unlock()
		return false
	}
	c := newCall()
	b.size = max(times(b.size, 4), times(amount, leaseFirst))
	o := b.settle(n, l.now(), b.size)
	figures := c.op.Result.Figures
	c.op = *o
	c.op.Result.Figures = figures
	n.mu.Unlock()
	kept, err := l.ledger.do(ctx, c)
	n.mu.Lock()
	defer n.mu.Unlock()
	if err == nil {
		l.answered(n, b, &c.op.Result)
	}
	if !kept {
		c.free()
	}
	if b == n.b && b.spend(chain, amount, at, l.now(), d) {
		return true
	}
	n.wait = l.now() + int64(LeaseSettle)
	return false
}
