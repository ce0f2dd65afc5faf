// Package storetest is the conformance suite of keypurse's storage contract:
// what a backend must do, as tests that any backend runs.
//
// A backend calls [Run] in a test of its own, and [RunPersistent] too where it
// outlives its process:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) store.Store { return mystore.New() })
//	}
//
// Each subtest is named as the guarantee that it proves; a failure prints the
// guarantee and why it exists. The suite needs nothing but the standard
// library, reads no clock (the contract takes time as an argument), and takes
// seconds. The random model test prints its seed when it fails;
// KEYPURSE_SEED=n runs it with that seed again.
//
// What it cannot prove is what a crash leaves behind: kill the process, cut the
// power and fill the disk in tests of the backend's own.
package storetest

import (
	"testing"

	"github.com/keypurse/keypurse/store"
)

// Run runs the whole suite except reopening. open must give a fresh, empty
// Store each time it is called; it may register clean-ups of its own, which run
// after the suite has closed the Store. Failures of open are for it to report
// through t.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	t.Helper()
	for _, g := range []group{
		{"Records", records()},
		{"Batch", batches()},
		{"Audit", auditLogs()},
		{"Lookup", lookups()},
		{"List", lists()},
		{"Charge", charges()},
		{"Settings", settings()},
		{"Idempotency", ids()},
		{"Holds", holds()},
		{"Blocks", blocks()},
		{"Refunds", refunds()},
		{"Openings", openings()},
		{"Usage", usages()},
		{"Fold", folds()},
		{"Alerts", alerts()},
		{"Deliveries", deliveries()},
		{"Race", races()},
		{"Ledger", ledgers()},
		{"Upkeep", upkeep()},
		{"Purge", purges()},
		{"Management", management()},
		{"Context", contexts()},
		{"Close", closes()},
		{"Model", models()},
	} {
		g.run(t, func(t *testing.T) (store.Store, func() store.Store) { return open(t), nil })
	}
}

// RunModel runs the part of Run that takes random histories, and compares what comes
// out with a plain model: for what is tried besides the whole suite, such as several
// processes in turn on one database. open is as Run's.
func RunModel(t *testing.T, open func(t *testing.T) store.Store) {
	t.Helper()
	group{"Model", models()}.run(t, func(t *testing.T) (store.Store, func() store.Store) { return open(t), nil })
}

// RunPersistent runs what only a Store that outlives its process can do: that
// everything is there after it was closed and opened again. It is to be run
// beside Run. open opens the Store that lives in dir, an empty directory the
// first time; a backend that keeps its data elsewhere may use dir as a name.
// open is called again with the same dir after the Store was closed.
func RunPersistent(t *testing.T, open func(t *testing.T, dir string) store.Store) {
	t.Helper()
	group{"Persistent", persistents()}.run(t, func(t *testing.T) (store.Store, func() store.Store) {
		dir := t.TempDir()
		return open(t, dir), func() store.Store { return open(t, dir) }
	})
}

// guarantee is one rule of the contract, why it exists, and what proves it.
type guarantee struct {
	rule, why string
	check     func(k *kit)
}

type group struct {
	name string
	all  []guarantee
}

func (g group) run(t *testing.T, open func(t *testing.T) (s store.Store, again func() store.Store)) {
	t.Run(g.name, func(t *testing.T) {
		for _, x := range g.all {
			t.Run(x.rule, func(t *testing.T) {
				s, again := open(t)
				if s == nil {
					t.Fatal("open gave no Store")
				}
				k := &kit{Store: s, t: t, guarantee: x, again: again}
				t.Cleanup(func() { _ = k.Store.Close() })
				x.check(k)
			})
		}
	})
}
