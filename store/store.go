package store

import "github.com/keypurse/keypurse/saccount"

// Store is everything that keypurse keeps, in one interface: counters, usage,
// records, audit entries and the outbox, and Close.
type Store interface {
	saccount.Store
	// Close frees what the store opened. Idempotent; calls under way finish
	// first, later ones fail with an error that wraps saccount.ErrClosed.
	Close() error
}
