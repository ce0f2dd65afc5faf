package quota

import (
	"context"
	"fmt"
	"time"
)

// Block is a block of credits whose owner did not end it in time: see
// LedgerConfig.Leases. What it holds may have been spent without being counted.
type Block struct {
	ID     string
	Owner  string  // host, process id and a random part, of the process that took it
	Caller Subject // for whom: the key or the member
	Chain  []Subject
	Held   Credits // still held, on every subject of Chain
	Spent  Credits // what was settled of it
	Taken  time.Time
	// Until is when it is free by itself: the end of its last window. Zero:
	// never, since one of the limits never resets.
	Until time.Time
}

// Stranded lists the blocks of an organization that are stranded at instant
// at, by id. Errors are the store's.
func (l *Ledger) Stranded(ctx context.Context, org string, at time.Time) ([]Block, error) {
	rs, err := l.store.Stranded(ctx, org, Micros(at))
	if err != nil {
		return nil, fmt.Errorf("quota: stranded: %w", err)
	}
	out := make([]Block, len(rs))
	for i, r := range rs {
		b := Block{ID: r.ID, Owner: r.Of, Caller: r.Caller, Held: r.Holding(), Spent: r.Actual, Taken: Time(r.At)}
		for j := range r.Levels {
			b.Chain = append(b.Chain, r.Levels[j].Subject)
		}
		if r.Expires != forever {
			b.Until = Time(r.Expires)
		}
		out[i] = b
	}
	return out, nil
}

// SettleStranded settles a stranded block by hand.
type SettleStranded struct {
	ID    string
	Spent Credits // of what it holds, charged in its windows and bucket; the rest is free
	At    time.Time
}

// SettleStranded charges Spent of a stranded block and frees the rest. Only
// call it for an owner that is dead: what a living one then settles is refused.
// Errors: ErrUnknownID where no such block is stranded, ErrExcess where Spent
// is more than it holds, and those of Charge.
func (l *Ledger) SettleStranded(ctx context.Context, org string, s SettleStranded) error {
	if s.Spent < 0 {
		return fmt.Errorf("quota: settle: %w amount: %s credits; an amount is never negative", ErrInvalid, s.Spent)
	}
	list, err := l.Stranded(ctx, org, s.At)
	if err != nil {
		return err
	}
	for _, b := range list {
		if b.ID != s.ID {
			continue
		}
		if s.Spent > b.Held {
			return fmt.Errorf("quota: settle: %w: %s credits of block %q, which holds %s", ErrExcess, s.Spent, b.ID, b.Held)
		}
		_, _, err := l.settle(ctx, Op{Verb: VerbSettle, Org: org, Of: s.ID, Amount: b.Spent + s.Spent, At: Micros(s.At)})
		return err
	}
	return fmt.Errorf("quota: settle: %w: no block %q is stranded in %q", ErrUnknownID, s.ID, org)
}
