package quota

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds and defaults of a Ledger.
const (
	DefaultKeep    = 35 * 24 * time.Hour // how long ids live
	MinKeep        = 7 * 24 * time.Hour
	MaxKeep        = 400 * 24 * time.Hour
	DefaultWaiting = 1 << 16 // callers waiting for the store
	MaxTTL         = 31 * 24 * time.Hour
	maxStale       = 32 // times that records may move under one charge
)

// LedgerConfig configures a Ledger. Its zero value is good.
type LedgerConfig struct {
	// Keep is how long ids are remembered, and with them how long a charge can
	// be refunded. Zero is DefaultKeep; under MinKeep and over MaxKeep are refused.
	Keep time.Duration
	// Waiting bounds the callers that wait for the store; more are answered
	// ErrBusy at once. Zero is DefaultWaiting.
	Waiting int
	// Leases lets charges without an id be spent in memory, from blocks of
	// credits that the Ledger takes for callers that charge often: no question
	// to the store for each. The limits stay exact. What changes: such a charge
	// is answered before it is durable, and is settled within LeaseSettle; so
	// late are usage, alerts and the Status of others. What a process that
	// dies had not settled stays held to the end of the windows, apart as
	// Stranded, so that it is never granted again; of a limit that never resets,
	// until SettleStranded. A change of records reaches a block at once where it
	// is made by this process, else within LeaseBound. Off by default.
	Leases bool
	// Lost hears of counts of refused requests that could not be written and
	// are forgotten: no more than one call a second. Nil: nobody does.
	Lost func(requests int64, err error)
}

// Ledger charges credits: to every Purse of a caller's Chain at once, all of
// them or none. It decides nothing itself: it computes the windows, gathers
// what concurrent callers ask for into batches, and reads the records again
// when the store says that they moved. Safe for concurrent use. It runs no
// goroutine while nobody waits.
type Ledger struct {
	store  Store
	direct Direct // nil: callers are gathered
	keep   int64
	group  *group
	counts *refusals
	leases *leases // nil: off
	lost   func(int64, error)
	closed atomic.Bool
}

// NewLedger makes a Ledger on a store, which stays the caller's to close.
func NewLedger(s Store, cfg LedgerConfig) (*Ledger, error) {
	if s == nil {
		return nil, fmt.Errorf("quota: %w ledger: no store", ErrInvalid)
	}
	if cfg.Keep == 0 {
		cfg.Keep = DefaultKeep
	}
	if cfg.Keep < MinKeep || cfg.Keep > MaxKeep {
		return nil, fmt.Errorf("quota: %w ledger: ids kept for %v; give %v to %v", ErrInvalid, cfg.Keep, MinKeep, MaxKeep)
	}
	if cfg.Waiting == 0 {
		cfg.Waiting = DefaultWaiting
	}
	if cfg.Waiting < 1 {
		return nil, fmt.Errorf("quota: %w ledger: %d callers may wait; give at least 1", ErrInvalid, cfg.Waiting)
	}
	l := &Ledger{store: s, lost: cfg.Lost, keep: int64(cfg.Keep / time.Microsecond)}
	l.direct, _ = s.(Direct)
	l.counts = newRefusals(l.write)
	l.group = newGroup(s, cfg.Waiting, l.counts.take)
	if cfg.Leases {
		l.leases = newLeases(l)
	}
	return l, nil
}

// Close writes the counts of refused requests that are still in memory,
// settles blocks and gives them back, waits for callers on their way and
// refuses new ones with ErrClosed. Its error says what could not be written; a
// block that could not be settled is stranded. It does not close the store.
// Idempotent.
func (l *Ledger) Close() error {
	l.closed.Store(true)
	var lost error
	if l.leases != nil {
		lost = l.leases.close()
	}
	l.counts.close()
	l.group.close()
	return errors.Join(lost, l.writeCounts(context.Background()))
}

// Flush writes what is in memory, as happens by itself within a second: the
// counts of refused requests, and what was spent from blocks. Its error says
// what could not be written.
func (l *Ledger) Flush(ctx context.Context) error {
	var err error
	if l.leases != nil {
		err = l.leases.flush(ctx)
	}
	return errors.Join(err, l.writeCounts(ctx))
}

func (l *Ledger) writeCounts(ctx context.Context) error {
	select {
	case l.counts.writing <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("quota: count refused requests: %w", ctx.Err())
	}
	defer func() { <-l.counts.writing }()
	ops := l.counts.take()
	if len(ops) == 0 {
		return nil
	}
	if err := l.store.Apply(ctx, ops); err != nil {
		return fmt.Errorf("quota: count refused requests: %w", err)
	}
	return nil
}

func (l *Ledger) write(ops []*Op) {
	err := l.store.Apply(context.Background(), ops)
	if err == nil || l.lost == nil {
		return
	}
	var n int64
	for _, op := range ops {
		for i := range op.Counts {
			n += op.Counts[i].Requests
		}
	}
	l.lost(n, err)
}

// Charge asks for Amount to be spent at once.
type Charge struct {
	// ID makes a retry safe: the same id with the same amount by the same
	// caller returns the first result. Empty: no retry is recognised and the
	// charge cannot be refunded. 1 to 255 bytes of printable UTF-8.
	ID     string
	Amount Credits // not negative; zero counts a request
	At     time.Time
}

// Reserve asks for Amount to be held until it is committed or released, or
// until TTL is over.
type Reserve struct {
	ID     string // as Charge.ID; empty makes one, given in Decision.ID
	Amount Credits
	TTL    time.Duration // above 0, at most MaxTTL
	At     time.Time
}

// Commit spends Amount of a reservation and frees the rest.
type Commit struct {
	Of     string  // the reservation's id
	Caller Subject // who made it; empty for the host itself
	Amount Credits
	// Strict refuses, with ErrExcess, what is above the reservation and finds
	// no room. Otherwise that is recorded as overage.
	Strict bool
	At     time.Time
}

// Release frees a reservation.
type Release struct {
	Of     string
	Caller Subject
	At     time.Time
}

// Renew moves a reservation's end to At + TTL, never to an earlier instant.
type Renew struct {
	Of     string
	Caller Subject
	TTL    time.Duration
	At     time.Time
}

// Refund takes Amount of a charge or commit back. All refunds of one charge
// together never exceed it.
type Refund struct {
	ID     string // of the refund itself, so that a retry takes nothing twice
	Of     string // of the charge, or of the committed reservation
	Caller Subject
	Amount Credits
	At     time.Time
}

// Charge spends credits of every limit on the caller's chain, or of none. A
// refusal is a Decision that is not Allowed. Errors: ErrInvalid, ErrConflict,
// ErrOverflow, ErrBusy, ErrClosed, ErrCorrupt, ErrUnknownOutcome, the
// context's, and whatever the Source says of a caller that may not spend.
// With LedgerConfig.Leases a charge without an id may be spent in memory: its
// figures are those of the last settlement and what this process spent since.
// After ErrUnknownOutcome a retry with the same id settles what happened;
// after every other error nothing was charged.
func (l *Ledger) Charge(ctx context.Context, src Source, c Charge) (d Decision, err error) {
	err = l.ChargeInto(ctx, src, c, &d)
	return d, err
}

// ChargeInto is Charge with the Decision, which must be zero, in the caller's
// memory: a Decision is large enough to feel its copies.
func (l *Ledger) ChargeInto(ctx context.Context, src Source, c Charge, d *Decision) error {
	return l.admit(ctx, src, d, VerbCharge, c.ID, c.Amount, 0, Micros(c.At))
}

// Reserve holds credits of every limit on the caller's chain, or of none.
// Decision.ID is the reservation's id. Errors are those of Charge.
func (l *Ledger) Reserve(ctx context.Context, src Source, r Reserve) (d Decision, err error) {
	if r.TTL < time.Microsecond || r.TTL > MaxTTL {
		return d, fmt.Errorf("quota: %w reservation: it lives %v; give more than 0, at most %v", ErrInvalid, r.TTL, MaxTTL)
	}
	if r.ID == "" {
		r.ID = "hold_" + rand.Text()
	}
	err = l.admit(ctx, src, &d, VerbReserve, r.ID, r.Amount, int64(r.TTL/time.Microsecond), Micros(r.At))
	return d, err
}

func (l *Ledger) admit(ctx context.Context, src Source, d *Decision, verb Verb, id string, amount Credits, ttl, at int64) error {
	if id != "" {
		if err := CheckID(id); err != nil {
			return err
		}
	}
	if amount < 0 {
		return fmt.Errorf("quota: %w amount: %s credits; an amount is never negative", ErrInvalid, amount)
	}
	if l.leases != nil && verb == VerbCharge && id == "" && ctx.Err() == nil && !l.closed.Load() {
		chain, err := src.Chain(ctx, false)
		if err != nil {
			return err
		}
		if l.leases.charge(ctx, &chain, amount, at, d) {
			return nil
		}
	}
	if l.direct != nil && l.leases == nil && verb == VerbCharge && id == "" {
		if done, err := l.atDesk(ctx, src, d, amount, at); done {
			return err
		}
	}
	c := newCall()
	o := &c.op
	o.Verb, o.ID, o.Amount, o.TTL, o.At, o.Keep = verb, id, amount, ttl, at, at+l.keep+ttl
	fresh, yielded := false, false
	for try := 0; try < maxStale; try++ {
		chain, err := src.Chain(ctx, fresh)
		if err != nil {
			c.free()
			return err
		}
		o.Org, o.Settings, o.Caller = chain.Org, chain.Settings, chain.Caller
		if o.Levels, err = c.levels.of(&chain, at); err != nil {
			c.free()
			return fmt.Errorf("quota: %s: %w", verb, err)
		}
		if kept, err := l.do(ctx, c); err != nil {
			if !kept {
				c.free()
			}
			return err
		}
		if o.Result.Outcome == Stale {
			fresh = true
			continue
		}
		if l.leases != nil && o.Result.Outcome == Refused && !yielded && l.leases.yield(ctx, o) {
			fresh, yielded = false, true
			continue
		}
		err = l.decide(d, o)
		if o.Result.Outcome == Refused {
			l.counts.add(o.Org, ReasonLimit, o.Levels, at)
		}
		c.free()
		return err
	}
	c.free()
	return errMoved(verb)
}

func errMoved(verb Verb) error {
	return fmt.Errorf("quota: %s: %w: the records changed %d times while it was decided", verb, ErrBusy, maxStale)
}

func (l *Ledger) do(ctx context.Context, c *call) (kept bool, err error) {
	if l.direct == nil {
		return l.group.do(ctx, c)
	}
	if l.closed.Load() {
		return false, fmt.Errorf("quota: %s: %w", c.op.Verb, ErrClosed)
	}
	if err := l.store.Apply(ctx, c.one[:]); err != nil {
		return false, fmt.Errorf("quota: %s: %w", c.op.Verb, err)
	}
	return false, nil
}

// decide turns a Result into what the caller sees.
func (l *Ledger) decide(d *Decision, o *Op) error {
	res := &o.Result
	d.Requested, d.ID = o.Amount, o.ID
	switch res.Outcome {
	case Applied, Replayed:
		d.Allowed, d.Replayed = true, res.Outcome == Replayed
		if d.Replayed || o.Verb > VerbReserve {
			d.receipt = res.Receipt
		}
	case Refused:
		d.refused = res.Refused
	default:
		return o.err()
	}
	d.show(o.Levels)
	d.take(res.Figures)
	return nil
}

// err is the error of an outcome that is neither applied nor refused.
func (o *Op) err() error {
	var e error
	switch o.Result.Outcome {
	case Conflict:
		e = fmt.Errorf("%w: %q did something else in this organization; use a new id for new work", ErrConflict, o.named())
	case Expired:
		e = fmt.Errorf("%w: %q", ErrExpired, o.named())
	case Unknown:
		e = fmt.Errorf("%w: %q", ErrUnknownID, o.named())
	case Excess:
		e = fmt.Errorf("%w: %s credits of %q", ErrExcess, o.Amount, o.named())
	case Overflow:
		e = overflown(o.Amount)
	case Full:
		e = fmt.Errorf("%w: %d reservations are open in this organization", ErrBusy, MaxHolds)
	case Stale:
		e = fmt.Errorf("%w: the records moved", ErrBusy)
	default:
		if e = o.Result.Err; e == nil {
			e = ErrUnknownOutcome
		}
	}
	return fmt.Errorf("quota: %s: %w", o.Verb, e)
}

func overflown(amount Credits) error {
	return fmt.Errorf("%w: %s more credits on one counter", ErrOverflow, amount)
}

func (o *Op) named() string {
	if o.Of != "" && o.Result.Outcome != Conflict {
		return o.Of
	}
	if o.ID != "" {
		return o.ID
	}
	return o.Of
}

// Commit spends a reservation. What was admitted settles, whatever became of
// the key, the account or the limit since. Errors: ErrInvalid, ErrUnknownID,
// ErrExpired (nothing is charged), ErrConflict (released, or committed with
// another amount, or another caller's), ErrExcess, and those of Charge.
func (l *Ledger) Commit(ctx context.Context, org string, c Commit) (Decision, error) {
	d, receipt, err := l.settle(ctx, Op{Verb: VerbCommit, Org: org, Of: c.Of, Caller: c.Caller, Amount: c.Amount, Strict: c.Strict, At: Micros(c.At)})
	if receipt != nil {
		d.Overrun = max(0, c.Amount-receipt.Amount)
	}
	return d, err
}

// Release frees a reservation: nothing is charged. Errors are those of Commit.
func (l *Ledger) Release(ctx context.Context, org string, r Release) (Decision, error) {
	d, _, err := l.settle(ctx, Op{Verb: VerbRelease, Org: org, Of: r.Of, Caller: r.Caller, At: Micros(r.At)})
	return d, err
}

// Renew keeps a reservation for longer. Errors are those of Commit.
func (l *Ledger) Renew(ctx context.Context, org string, r Renew) (Decision, error) {
	if r.TTL < time.Microsecond || r.TTL > MaxTTL {
		return Decision{}, fmt.Errorf("quota: %w renewal: it lives %v; give more than 0, at most %v", ErrInvalid, r.TTL, MaxTTL)
	}
	d, _, err := l.settle(ctx, Op{Verb: VerbRenew, Org: org, Of: r.Of, Caller: r.Caller, TTL: int64(r.TTL / time.Microsecond), At: Micros(r.At)})
	return d, err
}

// Refund takes credits back, in the window and bucket of their charge, from
// overage first. Errors: ErrUnknownID where the id is not remembered any more
// (a charge without one never is), ErrConflict, ErrExcess where less than
// Amount is left of the charge, and those of Charge.
func (l *Ledger) Refund(ctx context.Context, org string, r Refund) (Decision, error) {
	if r.ID != "" {
		if err := CheckID(r.ID); err != nil {
			return Decision{}, err
		}
	}
	d, _, err := l.settle(ctx, Op{Verb: VerbRefund, Org: org, ID: r.ID, Of: r.Of, Caller: r.Caller, Amount: r.Amount, At: Micros(r.At)})
	return d, err
}

func (l *Ledger) settle(ctx context.Context, op Op) (d Decision, receipt *Receipt, err error) {
	if op.Org == "" {
		return d, nil, fmt.Errorf("quota: %s: %w organization: no id", op.Verb, ErrInvalid)
	}
	if err := CheckID(op.Of); err != nil {
		return d, nil, err
	}
	if op.Amount < 0 {
		return d, nil, fmt.Errorf("quota: %w amount: %s credits; an amount is never negative", ErrInvalid, op.Amount)
	}
	op.Keep = op.At + l.keep
	c := newCall()
	op.Result.Figures = c.op.Result.Figures
	c.op = op
	kept, err := l.do(ctx, c)
	if err == nil {
		receipt = c.op.Result.Receipt
		err = l.decide(&d, &c.op)
	}
	if !kept {
		c.free()
	}
	return d, receipt, err
}

// Status is the state of every limit on a caller's chain at instant at, the
// caller's own first. Errors are those of the Source and the store.
func (l *Ledger) Status(ctx context.Context, src Source, at time.Time) ([]LimitStatus, error) {
	chain, err := src.Chain(ctx, false)
	if err != nil {
		return nil, err
	}
	var room levels
	lvs, err := room.of(&chain, Micros(at))
	if err != nil {
		return nil, fmt.Errorf("quota: status: %w", err)
	}
	return l.peek(ctx, chain.Org, lvs, Micros(at))
}

// Statuses is the state of every limit of each of the Purses at instant at, in
// one look at the store: of any subjects of one organization, in their order.
// Errors: ErrInvalid for an instant outside the calendar, and the store's.
func (l *Ledger) Statuses(ctx context.Context, org string, purses []*Purse, at time.Time) ([][]LimitStatus, error) {
	lvs := make([]*Level, 0, len(purses))
	for _, p := range purses {
		lv, err := p.Level(Micros(at))
		if err != nil {
			return nil, fmt.Errorf("quota: status: %w", err)
		}
		lvs = append(lvs, lv)
	}
	all, err := l.peek(ctx, org, lvs, Micros(at))
	if err != nil {
		return nil, err
	}
	out := make([][]LimitStatus, 0, len(purses))
	for _, lv := range lvs {
		n := len(lv.Limits)
		out, all = append(out, all[:n:n]), all[n:]
	}
	return out, nil
}

func (l *Ledger) peek(ctx context.Context, org string, lvs []*Level, at int64) ([]LimitStatus, error) {
	f, err := l.store.Peek(ctx, org, lvs, at)
	if err != nil {
		return nil, fmt.Errorf("quota: status: %w", err)
	}
	out := make([]LimitStatus, 0, len(f))
	for _, lv := range lvs {
		for i := range lv.Limits {
			out = append(out, status(lv.Subject, &lv.Limits[i], f[len(out)]))
		}
	}
	return out, nil
}

// CheckID refuses what is no operation's id: empty, longer than MaxIDLen
// bytes, invalid UTF-8, or with a control character. The error wraps ErrInvalid.
func CheckID(id string) error {
	switch {
	case id == "":
		return fmt.Errorf("quota: %w id: it is empty", ErrInvalid)
	case len(id) > MaxIDLen:
		return fmt.Errorf("quota: %w id: %d bytes, at most %d", ErrInvalid, len(id), MaxIDLen)
	case !utf8.ValidString(id):
		return fmt.Errorf("quota: %w id: not valid UTF-8", ErrInvalid)
	}
	for _, r := range id {
		if unicode.IsControl(r) {
			return fmt.Errorf("quota: %w id: it has a control character", ErrInvalid)
		}
	}
	return nil
}
