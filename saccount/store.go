package saccount

import (
	"context"
	"time"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/usage"
)

// Store is what a Service needs of a backend; package store tells how to write
// one. Safe for concurrent use. Calls on one organization are linearizable: a
// call that begins after another returned sees what it did. After Close every
// call returns an error that wraps ErrClosed. A context that is over before a
// call begins is answered with its error and nothing is done.
type Store interface {
	quota.Store
	usage.Store
	alert.Store

	// Write puts records, opens counters, appends audit entries and posts
	// alerts: all of it, durably, or nothing. A Batch may do any of these
	// alone; one without changes raises no number. Errors: ErrConflict where a record is not at
	// the revision it was read at; ErrExists where a new record's id was used
	// before, or a name is a living sibling's; ErrNotFound where a record that
	// should be there is not, or a living record's parent is not living; those
	// of Batch.CheckCut. A
	// change that is not Quiet raises the organization's settings number, by
	// one for the whole Batch, in the same step.
	Write(ctx context.Context, b Batch) error
	// Lookup reads a record and what stands above it, deleted ones too, as of
	// one moment, in one read. org may be empty where Kind.FoundByID; a key of
	// another organization than org is not found.
	Lookup(ctx context.Context, org string, kind Kind, id string) (Lineage, error)
	// Lookups is Lookup of up to MaxPage ids of one kind in one organization,
	// as of one moment and in one read: a Lineage for each id, in their order,
	// the zero Lineage where it is not there. What stands above may be shared
	// between them. Errors: ErrInvalid where there are more ids, or no such kind.
	Lookups(ctx context.Context, org string, kind Kind, ids []string) ([]Lineage, error)
	// CountKeys counts the keys of up to MaxPage accounts of an organization
	// that are not deleted, most of each at most, as of one moment and in one
	// read: a KeyCount for each account, in their order, zero where it is not
	// there. Errors: ErrInvalid where there are more accounts, or most is below 1.
	CountKeys(ctx context.Context, org string, accounts []string, most int) ([]KeyCount, error)
	// List reads a page of records that match, in the order asked for. more
	// is false where nothing follows. A store that keeps much does not go
	// through it: pages by id and by name, deep ones too, those of the disabled
	// or the deleted alone, and of accounts and an account's keys with a
	// NamePrefix, are found by an index.
	List(ctx context.Context, q ListQuery) (page []Record, more bool, err error)
	// Touch notes when keys, of either kind, were last used; an older note never replaces a
	// newer one. Keys that are not there are passed over. It changes no
	// revision and no settings number.
	Touch(ctx context.Context, touches []Touch) error
	// Audit lists up to n entries of an organization with Seq above after.
	Audit(ctx context.Context, org string, after int64, n int) ([]Entry, error)
	// AuditEnds says what was cut from the front of an organization's audit
	// log and where it ends, as of one moment: Head is the last entry, or the
	// last that was cut where none is left; zero where there never was one.
	AuditEnds(ctx context.Context, org string) (Cut, Head, error)
	// Purge drops what is over, at most about p.Most things, and says how
	// many: 0 when nothing is left to drop. It never touches an open
	// reservation or block, a stranded block, a remembered id, a window that has
	// not ended, or one in which something is held.
	Purge(ctx context.Context, p Purge) (dropped int, err error)
}

// Clock is implemented by a Store that has a time which all its processes
// share, such as a database server's: a Service goes by it unless its Config
// names a clock.
type Clock interface {
	Now() time.Time
}

// Shared is implemented by a Store that other processes write to: a Service
// asks it for what they changed, and keeps no key in memory for longer than it
// gets answers. Safe for concurrent use.
type Shared interface {
	// Changes gives the number of the last Write of the whole store, and the
	// organizations of every Write after number after; of none where after is 0.
	// A Write has its number when it returns, and numbers come into sight in
	// their order.
	Changes(ctx context.Context, after int64) (last int64, orgs []string, err error)
}

// Touch says that a key was used.
type Touch struct {
	Org string
	Key string
	Use Use
}

// KeyCount is what an account's keys come to.
type KeyCount struct {
	Keys int  // not deleted; at most as many as were asked to be counted
	More bool // there are more
	// LastUsed is when one of those counted was last used; zero: never.
	LastUsed time.Time
}

// Purge says what is over. A zero time drops nothing of its kind.
type Purge struct {
	Receipts time.Time // ids that are remembered until this instant or before, and records of KindRequest that expired by then
	Alerts   time.Time // alerts put up before this instant, with their deliveries, sent or not
	Posts    time.Time // ids of posted alerts that are remembered until this instant or before
	Windows  time.Time // counters of limits whose window ended before this instant; buckets are not dropped
	Most     int       // bounds one call; at least 1
}
