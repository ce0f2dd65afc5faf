// Package store is the storage contract of keypurse: one interface, [Store],
// for all that the library keeps. memstore (tests), boltstore (one process, the
// embedded default) and whatever a host writes itself implement it; package
// storetest proves that they do.
//
// Hosts pick a backend and hand it to saccount.New. The rest of this page is
// for who writes one.
//
// # What a backend is asked for
//
// The interface is declared where it is consumed: quota.Store (counters and the
// outbox), usage.Store (reading and folding buckets) and saccount.Store
// (records, audit entries, last uses, purging) say call by call what is asked;
// Store is their union and Close. Above single calls stand these:
//
//   - Apply and Write are durable when they return, wholly or not at all. An
//     organization is the unit of consistency: calls on one are linearizable,
//     those on different ones may run side by side. Only two things are wider:
//     a key's id is unique in the whole store, and the outbox has one order.
//   - Time is an argument. A backend reads no clock and runs no job that a
//     result depends on: what is over is over because the caller says what
//     time it is, and a clock may run back.
//   - Ids and names are bytes. No folding of case, no Unicode forms, no trimming,
//     and lists in the order of the bytes.
//   - Times are UTC, cut to microseconds (saccount.Micro).
//   - What is handed out is a copy, and what was handed in may be changed by
//     the caller afterwards. Two things are shared and read only: a
//     quota.Level with its Limits, and a quota.Receipt.
//   - Everything is bounded. Nothing grows without Purge or Fold having a say.
//
// # Deciding: quota.Book
//
// A backend does not decide charges. quota.Book does, for all of them: it holds
// the counters, reservations and receipts of one organization in memory and
// applies Ops to them. A backend brings the rows, calls it and saves:
//
//	lock the organization
//	book.Begin()
//	for _, op := range ops {
//		book.Apply(op) // sets op.Result; one bad Op never fails another
//	}
//	changes := book.Changes()
//	if err := save(changes); err != nil { // rows, receipts, openings, alerts
//		book.Rollback()
//		return err // the outcome is unknown
//	}
//	alerts := book.TakeAlerts() // what was saved for the outbox
//	unlock
//
// quota.NewBook takes a quota.Loader, by which the Book reads what it does not
// have in memory; nil where everything is. When an organization is opened, the
// Book must be given what its Loader cannot find by name: every open
// reservation (RestoreReceipt), since its end must be known. Book.Settings is
// the organization's settings number: the backend keeps it, and raises it in
// the same step as any change of a record that is not Quiet. Evict drops what
// was not used lately; rows marked Dirty stay.
//
// A backend shared by several processes must see that its Book's rows are still
// those that are stored, in the transaction that saves them, and decide again
// on fresh ones where they are not.
//
// Records have such a common piece too: saccount.BatchView checks a Batch
// against the records as they stand, each change seeing those before it, and
// gives the records to put. A Batch's Openings go to Book.Open, in the same
// step. saccount.ListQuery has Check, Match and Cursor; usage.ParseSeries makes
// a usage.Row's fields of a counter's name.
//
// Audit entries are appended as saccount.Batch.Sealed gives them, which is told
// where the log ends and must be called where nobody else can append before they
// are stored: under the organization's lock, or in an optimistic transaction
// that is tried again. saccount.Batch.CheckCut says whether the front may go.
//
// # Errors
//
// A call on a store that was closed wraps saccount.ErrClosed; one whose context
// was over before it began wraps the context's error, and did nothing. A stored
// record that fails its checksum is quota.ErrCorrupt and fails what needs it,
// nothing else. All other conditions are named with the calls. What is wrong
// with one Op is in its Result; an error of Apply means that nobody knows what
// became of the batch, and its callers ask again with their ids.
//
// # Proving it
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) store.Store { return mystore.New() })
//		storetest.RunPersistent(t, func(t *testing.T, dir string) store.Store { return mystore.Open(dir) })
//	}
//
// The suite is the contract's other half. It shows, each as a test named for
// it: records and batches that are whole; lists that page rightly while they
// change; limits that hold exactly under races at every level; ids that apply
// once; holds that end by themselves; periods that may be changed within a
// window; usage that adds up and folds; alerts that come once; purges that
// touch nothing living; contexts and Close; and random histories that come out
// as a plain model of them. A bug found in a backend is first a red case there.
// Crashes, full disks, damaged files and lost connections are for the backend's
// own tests.
package store
