package storetest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/usage"
)

func contexts() []guarantee {
	return []guarantee{
		{"a context that is over before the call does nothing", "whoever gave up must find that nothing was charged", contextOver},
		{"a charge whose context ends midway is wholly there or not at all", "a caller that hung up must not leave a level charged and another not", contextCharge},
		{"a batch whose context ends midway is wholly there or not at all", "a record without its audit entry cannot be explained", contextWrite},
	}
}

// calls is every call of a Store, by name; o is what Apply applies.
func (k *kit) calls(o *quota.Op) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Apply": func(ctx context.Context) error { return k.Apply(ctx, []*quota.Op{o}) },
		"Peek": func(ctx context.Context) error {
			_, err := k.Peek(ctx, acme, chain(noon), noon)
			return err
		},
		"Stranded": func(ctx context.Context) error { _, err := k.Stranded(ctx, acme, noon); return err },
		"Outbox":   func(ctx context.Context) error { _, err := k.Outbox(ctx, 0, 1); return err },
		"Usage": func(ctx context.Context) error {
			return k.Usage(ctx, usage.Range{Org: acme, Subjects: []quota.Subject{key1}, To: noon + day}, func(usage.Row) error { return nil })
		},
		"Fold": func(ctx context.Context) error {
			_, err := k.Fold(ctx, acme, []int64{midnight, midnight + day}, 10)
			return err
		},
		"Write": func(ctx context.Context) error {
			b := changes(record(saccount.KindKey, "k9", "a1", "New"))
			b.Audit = []saccount.Entry{{At: at(noon)}}
			b.Alerts = []alert.Post{post("", "key:k9")}
			b.Open = []saccount.Opening{opening(key1, monthly(1, 9, noon), nil)}
			return k.Write(ctx, b)
		},
		"Lookup": func(ctx context.Context) error {
			_, err := k.Lookup(ctx, acme, saccount.KindKey, "k1")
			return err
		},
		"Lookups": func(ctx context.Context) error {
			_, err := k.Lookups(ctx, acme, saccount.KindKey, []string{"k1"})
			return err
		},
		"CountKeys": func(ctx context.Context) error {
			_, err := k.CountKeys(ctx, acme, []string{"a1"}, 10)
			return err
		},
		"List": func(ctx context.Context) error {
			_, _, err := k.List(ctx, saccount.ListQuery{Kind: saccount.KindKey, Org: acme, Limit: 10})
			return err
		},
		"Touch": func(ctx context.Context) error {
			return k.Touch(ctx, []saccount.Touch{{Org: acme, Key: "k1", Use: saccount.Use{At: at(noon)}}})
		},
		"Dispatched": func(ctx context.Context) error { _, err := k.Dispatched(ctx); return err },
		"Dispatch":   func(ctx context.Context) error { return k.Dispatch(ctx, 0, 9, nil) },
		"DueSinks":   func(ctx context.Context) error { _, err := k.DueSinks(ctx, noon, "", 1); return err },
		"ClaimDeliveries": func(ctx context.Context) error {
			_, err := k.ClaimDeliveries(ctx, "log", noon, noon+minute, 1)
			return err
		},
		"SettleDeliveries": func(ctx context.Context) error {
			_, err := k.SettleDeliveries(ctx, []alert.Delivery{delivery(1, "log", noon)})
			return err
		},
		"Deliveries": func(ctx context.Context) error { _, err := k.Deliveries(ctx, alert.Query{N: 1}); return err },
		"Alerts":     func(ctx context.Context) error { _, err := k.Alerts(ctx, alert.Recent{Org: acme, N: 1}); return err },
		"Turn":       func(ctx context.Context) error { _, err := k.Turn(ctx, "sweep", noon, noon+minute); return err },
		"Audit":      func(ctx context.Context) error { _, err := k.Audit(ctx, acme, 0, 10); return err },
		"AuditEnds":  func(ctx context.Context) error { _, _, err := k.AuditEnds(ctx, acme); return err },
		"Purge": func(ctx context.Context) error {
			_, err := k.Purge(ctx, saccount.Purge{Receipts: at(noon + 1000*day), Most: 10})
			return err
		},
	}
}

func contextOver(k *kit) {
	k.tree()
	k.run(quota.Applied, k.charge(noon, "c", 5, chain(noon)...))
	before := k.snapshot(noon, chain(noon)...)
	cancelled, cancel := context.WithCancel(background())
	cancel()
	late, stop := context.WithDeadline(background(), time.Unix(1, 0))
	defer stop()
	for _, ctx := range []context.Context{cancelled, late} {
		for name, call := range k.calls(k.charge(noon, "d", 5, chain(noon)...)) {
			k.is(call(ctx), ctx.Err(), name+" with a context that is over")
		}
	}
	same(k, "all that counts", k.snapshot(noon, chain(noon)...), before)
	same(k, "last use", k.get(saccount.KindKey, "k1").Use, saccount.Use{})
	_, err := k.Lookup(background(), "", saccount.KindKey, "k9")
	k.is(err, saccount.ErrNotFound, "look up a key that was not written")
	k.run(quota.Replayed, k.charge(noon, "c", 5, chain(noon)...)) // nothing was purged
	k.run(quota.Applied, k.charge(noon, "d", 5, chain(noon)...))
	same(k, "rows", len(k.rows(key1, 0, noon+day)), 1) // nothing was folded
	if k.rows(key1, 0, noon+day)[0].Day {
		k.failf("a fold with a context that is over folded")
	}
}

// hastily runs fn n times, each time with a context that ends at about the
// time that fn is on its way.
func hastily(n int, fn func(ctx context.Context, i int)) {
	var wg sync.WaitGroup
	for i := range n {
		ctx, cancel := context.WithCancel(background())
		wg.Go(func() { fn(ctx, i); cancel() })
		if i%3 != 0 {
			wg.Go(cancel)
		}
	}
	wg.Wait()
}

func contextCharge(k *kit) {
	k.tree()
	const n = 300
	hastily(n, func(ctx context.Context, i int) {
		ops := []*quota.Op{k.charge(noon, fmt.Sprint("a", i), 3, chain(noon)...), k.charge(noon, fmt.Sprint("b", i), 4, chain(noon)...)}
		if err := k.Apply(ctx, ops); err == nil && (ops[0].Result.Outcome != quota.Applied || ops[1].Result.Outcome != quota.Applied) {
			k.failf("a batch came back without error as %s and %s", ops[0].Result.Outcome, ops[1].Result.Outcome)
		}
	})
	f := k.peek(noon, chain(noon)...)
	if f[0] != f[1] || f[1] != f[2] {
		k.failf("levels disagree after charges that were given up: %+v", f)
	}
	for i := range n { // whoever asks again with the id learns what became of it
		a, b := k.charge(noon, fmt.Sprint("a", i), 3, chain(noon)...), k.charge(noon, fmt.Sprint("b", i), 4, chain(noon)...)
		k.apply(a, b)
		for _, o := range []*quota.Op{a, b} {
			if o.Result.Outcome != quota.Applied && o.Result.Outcome != quota.Replayed {
				k.failf("a retry: %s", o.Result.Outcome)
			}
		}
	}
	for _, l := range chain(noon) {
		k.stands(noon, l, 7*n, 0, 0)
		k.buckets(l.Subject, 7*n, 2*n)
	}
}

func contextWrite(k *kit) {
	k.tree()
	const n = 100
	base := k.number()
	hastily(n, func(ctx context.Context, i int) {
		b := changes(record(saccount.KindKey, fmt.Sprint("w", i), "a1", fmt.Sprint("Key ", i)), record(saccount.KindMember, fmt.Sprint("w", i), acme, ""))
		b.Audit = []saccount.Entry{{At: at(noon), Data: fmt.Append(nil, i)}}
		_ = k.Write(ctx, b)
	})
	written := map[string]bool{}
	for _, e := range k.audits() {
		written[string(e.Data)] = true
	}
	for i := range n {
		_, key := k.Lookup(background(), acme, saccount.KindKey, fmt.Sprint("w", i))
		_, member := k.Lookup(background(), acme, saccount.KindMember, fmt.Sprint("w", i))
		if there := written[fmt.Sprint(i)]; (key == nil) != there || (member == nil) != there {
			k.failf("batch %d: audit entry %t, key %v, member %v; want all or none", i, there, key, member)
		}
	}
	same(k, "settings number", k.number(), base+int64(len(written)))
}
