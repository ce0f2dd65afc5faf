package quota

import "context"

// Store holds the counters: it is what the Ledger stands on, and what package
// store asks of a backend. Safe for concurrent use by any number of callers;
// calls on one organization are linearizable, across processes where the
// backend is shared.
type Store interface {
	// Apply decides and applies the Ops in order, each on what those before it
	// left, each wholly or not at all, and sets each Op's Result. When it
	// returns nil, what applied is durable as far as the backend is. What is
	// wrong with one Op is its Result and never fails its neighbours. An error
	// of Apply means that the outcome of the whole batch is unknown; where the
	// context was over before it began, nothing was done. The Ops belong to
	// the store until Apply returns.
	Apply(ctx context.Context, ops []*Op) error
	// Peek is the state of every limit of the levels at instant at
	// (microseconds of Unix time), in their order, as durable. The levels may
	// be of any subjects of the organization, and of many.
	Peek(ctx context.Context, org string, levels []*Level, at int64) ([]Figure, error)
	// Stranded lists the receipts of an organization's blocks that are stranded
	// at instant at, by id, as durable: those whose time is over included that
	// no Op has found so yet.
	Stranded(ctx context.Context, org string, at int64) ([]*Receipt, error)
	// Outbox lists up to n alerts with Seq above after, in their order.
	Outbox(ctx context.Context, after int64, n int) ([]Alert, error)
}

// Direct is implemented by a Store whose Apply waits for nothing, such as one
// in memory: the Ledger then calls it for each caller alone instead of
// gathering callers into batches, and decides the plainest charges at the
// Store's Desks itself.
type Direct interface {
	Store
	// Desk is where an organization's Ops are decided. outer is the Store that
	// is asked for: where that is another one around this, whose Apply must not
	// be passed over, there is no Desk: nil.
	Desk(outer Store, org string) *Desk
}
