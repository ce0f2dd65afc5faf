// Package quota spends credits under limits that reset: exactly, under any
// concurrency, all of a caller's limits at once or none.
//
// # The pieces
//
// [Credits] are int64 millionths of a credit, never floats. A [Limit] allows
// Max credits a [Period], on one [Subject]: an organization, account, member or
// key. A [Purse] is a subject with its limits; a [Chain] is the purses that one
// caller is charged to. The [Ledger] charges them: Charge for a cost that is
// known, Reserve and Commit (or Release) for one that is not known before the
// work is done, Refund to give back.
//
// A refusal is a [Decision], not an error, and names every limit that stood in
// the way. An error means that nothing was decided; after
// [ErrUnknownOutcome] alone it may have been, and a retry with the same id
// settles it.
//
// # Windows
//
// A counter's name holds the start of its window. A reset is therefore never a
// write, never a job and never late; a clock that runs back meets the old window
// as it was left; old windows are the history. When a limit's period is set
// anew, its window opens as if it had always run, with what the usage buckets
// say was spent since its start, and where it began inside the old window no
// more can be spent in it than the old limit had left.
//
// # Storage
//
// The Ledger stands on a [Store] of two calls and a read. What is decided is
// decided in one place, [Book.Apply], which every backend shares. An [Op]
// carries its bounds with it, so that no backend knows periods, zones or the
// tree. [Ledger] gathers what concurrent callers ask for while the store
// commits, without a timer: a lone caller waits for nobody.
//
// # Leases
//
// With LedgerConfig.Leases the Ledger takes blocks of credits for callers that
// charge often, and spends charges without an id from them in memory: exact as
// ever, and answered before they are durable.
//
// # When to use it
//
// Most programs use it through package saccount, which adds accounts and keys.
// Alone it serves hosts that have accounts of their own: they implement
// [Source]. It is accounting, not rate limiting: a limit of requests a second
// is golang.org/x/time/rate's business.
//
// Nothing in this package reads a clock: time is an argument. Leases go by the
// monotonic clock besides.
package quota
