package storetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store"
	"github.com/keypurse/keypurse/usage"
)

// RunShared runs the suite on a backend that several processes share, each call
// on another of two Stores of the same data: everything that one Store must do,
// two must do together. It is to be run beside Run. open must give two Stores of
// one fresh, empty set of data each time it is called; where they implement
// saccount.Shared, that is tried too.
func RunShared(t *testing.T, open func(t *testing.T) (one, other store.Store)) {
	t.Helper()
	Run(t, func(t *testing.T) store.Store {
		one, other := open(t)
		if one == nil || other == nil {
			t.Fatal("open gave no Store")
		}
		return &pair{of: [2]store.Store{one, other}}
	})
	group{"Shared", shared()}.run(t, func(t *testing.T) (store.Store, func() store.Store) {
		one, other := open(t)
		return &pair{of: [2]store.Store{one, other}}, nil
	})
}

// pair is two Stores of one set of data that take calls in turn.
type pair struct {
	of [2]store.Store
	n  atomic.Uint64
}

func (p *pair) next() store.Store { return p.of[p.n.Add(1)%2] }

// Apply gives a Store levels of its own: what a Level remembers belongs to the
// Ledger of one process.
func (p *pair) Apply(ctx context.Context, ops []*quota.Op) error {
	own := make([]*quota.Op, len(ops))
	for i, op := range ops {
		o := *op
		o.Levels = make([]*quota.Level, len(op.Levels))
		for j, l := range op.Levels {
			o.Levels[j] = &quota.Level{Subject: l.Subject, Sequence: l.Sequence, Bucket: l.Bucket, Limits: l.Limits}
		}
		own[i] = &o
	}
	err := p.next().Apply(ctx, own)
	for i, op := range ops {
		op.Result = own[i].Result
	}
	return err
}

func (p *pair) Peek(ctx context.Context, org string, levels []*quota.Level, at int64) ([]quota.Figure, error) {
	return p.next().Peek(ctx, org, levels, at)
}

func (p *pair) Stranded(ctx context.Context, org string, at int64) ([]*quota.Receipt, error) {
	return p.next().Stranded(ctx, org, at)
}

func (p *pair) Outbox(ctx context.Context, after int64, n int) ([]quota.Alert, error) {
	return p.next().Outbox(ctx, after, n)
}

func (p *pair) Usage(ctx context.Context, r usage.Range, fn func(usage.Row) error) error {
	return p.next().Usage(ctx, r, fn)
}

func (p *pair) Fold(ctx context.Context, org string, days []int64, most int) (int, error) {
	return p.next().Fold(ctx, org, days, most)
}

func (p *pair) Write(ctx context.Context, b saccount.Batch) error { return p.next().Write(ctx, b) }

func (p *pair) Lookup(ctx context.Context, org string, kind saccount.Kind, id string) (saccount.Lineage, error) {
	return p.next().Lookup(ctx, org, kind, id)
}

func (p *pair) Lookups(ctx context.Context, org string, kind saccount.Kind, ids []string) ([]saccount.Lineage, error) {
	return p.next().Lookups(ctx, org, kind, ids)
}

func (p *pair) CountKeys(ctx context.Context, org string, accounts []string, most int) ([]saccount.KeyCount, error) {
	return p.next().CountKeys(ctx, org, accounts, most)
}

func (p *pair) List(ctx context.Context, q saccount.ListQuery) ([]saccount.Record, bool, error) {
	return p.next().List(ctx, q)
}

func (p *pair) Touch(ctx context.Context, touches []saccount.Touch) error {
	return p.next().Touch(ctx, touches)
}

func (p *pair) Audit(ctx context.Context, org string, after int64, n int) ([]saccount.Entry, error) {
	return p.next().Audit(ctx, org, after, n)
}

func (p *pair) AuditEnds(ctx context.Context, org string) (saccount.Cut, saccount.Head, error) {
	return p.next().AuditEnds(ctx, org)
}

func (p *pair) Purge(ctx context.Context, what saccount.Purge) (int, error) {
	return p.next().Purge(ctx, what)
}

func (p *pair) Dispatched(ctx context.Context) (int64, error) { return p.next().Dispatched(ctx) }

func (p *pair) Dispatch(ctx context.Context, from, to int64, ds []alert.Delivery) error {
	return p.next().Dispatch(ctx, from, to, ds)
}

func (p *pair) DueSinks(ctx context.Context, now int64, after string, n int) ([]string, error) {
	return p.next().DueSinks(ctx, now, after, n)
}

func (p *pair) ClaimDeliveries(ctx context.Context, sink string, now, until int64, n int) ([]alert.Delivery, error) {
	return p.next().ClaimDeliveries(ctx, sink, now, until, n)
}

func (p *pair) SettleDeliveries(ctx context.Context, ds []alert.Delivery) (int, error) {
	return p.next().SettleDeliveries(ctx, ds)
}

func (p *pair) Deliveries(ctx context.Context, q alert.Query) ([]alert.Delivery, error) {
	return p.next().Deliveries(ctx, q)
}

func (p *pair) Alerts(ctx context.Context, q alert.Recent) ([]quota.Alert, error) {
	return p.next().Alerts(ctx, q)
}

func (p *pair) Turn(ctx context.Context, name string, now, until int64) (bool, error) {
	return p.next().Turn(ctx, name, now, until)
}

func (p *pair) Close() error { return errors.Join(p.of[0].Close(), p.of[1].Close()) }

func shared() []guarantee {
	return []guarantee{
		{"a limit holds over two Stores that charge at once", "a service has more than one process", sharedLimit},
		{"of one id in two Stores at once, one applies", "a retry may reach another process", sharedID},
		{"a reservation is settled by the other Store", "a request may end in another process", sharedHold},
		{"a lowered limit and a revoked key hold for the next charge of the other Store", "nobody tells the others", sharedSettings},
		{"changes are numbered, and none hides behind a later one", "what another process revoked must be heard of", sharedChanges},
	}
}

func (k *kit) stores() [2]store.Store { return k.Store.(*pair).of }

func sharedLimit(k *kit) {
	k.tree()
	const most = 500
	var admitted atomic.Int64
	var wg sync.WaitGroup
	for i, s := range k.stores() {
		for w := range 8 {
			key := []quota.Subject{key1, key2}[(i+w)%2]
			wg.Go(func() {
				for range 60 {
					o := k.charge(noon, "", 1, level(key, noon), level(acc1, noon), level(org, noon, daily(most, 1, noon)))
					if err := s.Apply(background(), []*quota.Op{o}); err != nil {
						k.failf("apply: %v", err)
						return
					}
					if o.Result.Outcome == quota.Applied {
						admitted.Add(1)
					}
				}
			})
		}
	}
	wg.Wait()
	same(k, "charges admitted by both", admitted.Load(), int64(most))
	k.buckets(org, most, most)
	k.buckets(acc1, most, most)
}

func sharedID(k *kit) {
	k.tree()
	for _, id := range []string{"a", "b", "c"} {
		var applied atomic.Int64
		var wg sync.WaitGroup
		for _, s := range k.stores() {
			for range 10 {
				wg.Go(func() {
					o := k.charge(noon, id, 5, chain(noon)...)
					if err := s.Apply(background(), []*quota.Op{o}); err != nil {
						k.failf("apply: %v", err)
					}
					switch o.Result.Outcome {
					case quota.Applied:
						applied.Add(1)
					case quota.Replayed:
					default:
						k.failf("a charge with an id came out as %s", o.Result.Outcome)
					}
				})
			}
		}
		wg.Wait()
		same(k, "charges with one id that applied", applied.Load(), int64(1))
	}
	k.buckets(org, 15, 3)
}

func sharedHold(k *kit) {
	k.tree()
	s := k.stores()
	run := func(s store.Store, want quota.Outcome, o *quota.Op) {
		k.t.Helper()
		k.must(s.Apply(background(), []*quota.Op{o}), "apply")
		same(k, "outcome of "+o.Verb.String(), o.Result.Outcome, want)
	}
	ls := chain(noon)
	for i, id := range []string{"r1", "r2", "r3", "r4"} {
		run(s[i%2], quota.Applied, k.reserve(noon, id, 5, hour, ls...))
	}
	run(s[1], quota.Applied, k.commit(noon, "r1", 3))
	run(s[0], quota.Replayed, k.commit(noon, "r1", 3))
	run(s[0], quota.Applied, k.release(noon, "r2"))
	run(s[1], quota.Expired, k.commit(noon+2*hour, "r3", 5)) // made by the first
	run(s[0], quota.Expired, k.commit(noon+2*hour, "r4", 5))
	k.stands(noon+2*hour, ls[2], 3, 0, 0)
}

func sharedSettings(k *kit) {
	k.tree()
	s := k.stores()
	for i := range 4 {
		mine, other := s[i%2], s[(i+1)%2]
		o := k.charge(noon, "", 1, chain(noon)...)
		k.must(mine.Apply(background(), []*quota.Op{o}), "apply")
		same(k, "a charge before the edit", o.Result.Outcome, quota.Applied)
		l, err := other.Lookup(background(), acme, saccount.KindKey, "k1")
		k.must(err, "look up")
		k.must(other.Write(background(), changes(l.Record)), "edit")
		o = k.charge(noon, "", 1, chain(noon)...)
		k.must(mine.Apply(background(), []*quota.Op{o}), "apply")
		same(k, "a charge after the other Store's edit", o.Result.Outcome, quota.Stale)
		k.refresh()
	}
}

func sharedChanges(k *kit) {
	s := k.stores()
	one, ok := s[0].(saccount.Shared)
	other, both := s[1].(saccount.Shared)
	if !ok || !both {
		return // Services on it keep nothing in memory that another can change
	}
	last := func(s saccount.Shared, after int64) (int64, []string) {
		k.t.Helper()
		n, orgs, err := s.Changes(background(), after)
		k.must(err, "read changes")
		slices.Sort(orgs)
		return n, orgs
	}
	if n, orgs := last(one, 0); n != 0 || len(orgs) != 0 {
		k.failf("an empty store is at change %d of %v", n, orgs)
	}
	k.tree()
	n, orgs := last(one, 0)
	if n < 1 || len(orgs) != 0 {
		k.failf("after the first writes: change %d of %v, want a number and no organizations", n, orgs)
	}
	k.must(s[0].Write(background(), changes(k.get(saccount.KindKey, "k1"))), "write")
	m, orgs := last(other, n)
	same(k, "organizations that changed", orgs, []string{acme})
	if m <= n {
		k.failf("the number went from %d to %d", n, m)
	}
	if again, orgs := last(one, m); again != m || len(orgs) != 0 {
		k.failf("nothing was written since change %d: %d of %v", m, again, orgs)
	}
	// A reader that goes on from the last number that it saw sees every change.
	const writers, each = 4, 25
	var wg sync.WaitGroup
	seen := map[string]int{}
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for at := m; ; {
			ended := false
			select {
			case <-stop:
				ended = true
			default:
			}
			next, orgs, err := other.Changes(background(), at)
			if err != nil {
				k.failf("read changes: %v", err)
				return
			}
			if next < at {
				k.failf("the number went back from %d to %d", at, next)
			}
			for _, o := range orgs {
				seen[o]++
			}
			if at = next; ended {
				return
			}
		}
	}()
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				id := string(rune('a'+w)) + string(rune('a'+i))
				if err := s[(w+i)%2].Write(background(), changes(root(id))); err != nil {
					k.failf("write %s: %v", id, err)
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	<-done
	same(k, "organizations whose change was seen", len(seen), writers*each)
}
