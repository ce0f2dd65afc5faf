package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/usage"
)

func ledgers() []guarantee {
	all := []guarantee{
		{"an edit holds for the next charge of every Ledger on the store", "several processes share a store, and each remembers", ledgerEdits},
		{"refused requests reach the usage", "the Ledger counts them in memory and writes them with the next commit", ledgerRefusals},
	}
	for _, c := range spends() {
		all = append(all, guarantee{
			fmt.Sprintf("through a Ledger, of %d credits, %d calls of %d by %d workers are admitted exactly", c.max, c.calls, c.cost, c.workers),
			"the Ledger gathers callers into batches; a batch must decide as its calls alone would",
			func(k *kit) { ledgerSpend(k, c) },
		})
	}
	return all
}

// caller is a quota.Source that reads what stands in it, as a cache would.
type caller struct {
	chain  atomic.Pointer[quota.Chain]
	reread func() quota.Chain
}

func (c *caller) Chain(_ context.Context, fresh bool) (quota.Chain, error) {
	if fresh {
		n := c.reread()
		c.chain.Store(&n)
	}
	return *c.chain.Load(), nil
}

// purses makes a caller whose settings number is the store's.
func (k *kit) purses(of func() []*quota.Purse) *caller {
	c := &caller{}
	c.reread = func() quota.Chain {
		l, err := k.Lookup(background(), acme, saccount.KindOrg, acme)
		if err != nil {
			k.failf("look up the organization: %v", err)
		}
		p := of()
		return quota.Chain{Org: acme, Settings: l.Settings, Caller: p[0].Subject(), Purses: p}
	}
	first := c.reread()
	c.chain.Store(&first)
	return c
}

// purse is a subject with one limit that never resets.
func (k *kit) purse(s quota.Subject, most quota.Credits) *quota.Purse {
	k.t.Helper()
	p, err := quota.NewPurse(s, 1, []quota.Limit{{Name: quota.DefaultLimitName, Max: most, Number: 1}}, nil)
	k.must(err, "make a purse")
	return p
}

func (k *kit) ledger() *quota.Ledger {
	k.t.Helper()
	l, err := quota.NewLedger(k.Store, quota.LedgerConfig{})
	k.must(err, "make a Ledger")
	k.t.Cleanup(func() { _ = l.Close() })
	return l
}

func ledgerSpend(k *kit, c spend) {
	k.tree()
	ledgers := []*quota.Ledger{k.ledger(), k.ledger()} // as two processes would
	top := k.purse(org, c.max)
	callers := make([]*caller, 2)
	for i, s := range [][]quota.Subject{{key1, acc1}, {key3, acc2}} {
		ps := []*quota.Purse{k.purse(s[0], 1e9), k.purse(s[1], 1e9), top}
		callers[i] = k.purses(func() []*quota.Purse { return ps })
	}
	var mu sync.Mutex
	admitted := 0
	order := rand.Perm(c.calls)
	crowd(c.workers, c.calls, func(i int) {
		d, err := ledgers[i%2].Charge(background(), callers[order[i]%2], quota.Charge{Amount: c.cost, At: at(noon), ID: fmt.Sprint("c", i)})
		if err != nil {
			k.failf("charge: %v", err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if d.Allowed {
			admitted++
		} else if len(d.RefusedBy()) != 1 || d.RefusedBy()[0].Subject != org {
			k.failf("a refusal names %+v, want the organization", d.RefusedBy())
		}
	})
	same(k, "admitted", admitted, c.admitted())
	spent := quota.Credits(admitted) * c.cost
	k.stands(noon, level(org, noon, never(c.max)), spent, 0, 0)
	k.buckets(org, spent, int64(admitted))
	from, to := ever()
	a, _ := k.spent(key1, from, to)
	b, _ := k.spent(key3, from, to)
	same(k, "usage of both keys", a+b, spent)
}

func ledgerEdits(k *kit) {
	k.tree()
	var most atomic.Int64
	most.Store(100)
	callers := make([]*caller, 3)
	ledgers := make([]*quota.Ledger, 3)
	for i := range callers {
		ledgers[i] = k.ledger()
		callers[i] = k.purses(func() []*quota.Purse {
			return []*quota.Purse{k.purse(key1, quota.Credits(most.Load())), k.purse(org, 1e9)}
		})
	}
	charge := func(i int, amount quota.Credits) bool {
		d, err := ledgers[i].Charge(background(), callers[i], quota.Charge{Amount: amount, At: at(noon)})
		k.must(err, "charge")
		return d.Allowed
	}
	for i := range ledgers {
		same(k, "admitted under 100", charge(i, 20), true)
	}
	most.Store(70)
	k.put(k.get(saccount.KindKey, "k1"))
	for i := range ledgers {
		same(k, "admitted of 20 with 60 used of 70", charge(i, 20), false)
	}
	same(k, "admitted of 10 with 60 used of 70", charge(1, 10), true)
	k.stands(noon, level(key1, noon, never(70)), 70, 0, 0)
}

func ledgerRefusals(k *kit) {
	k.tree()
	l := k.ledger()
	p := []*quota.Purse{k.purse(key1, 5), k.purse(org, 100)}
	c := k.purses(func() []*quota.Purse { return p })
	for range 4 {
		d, err := l.Charge(background(), c, quota.Charge{Amount: 6, At: at(noon)})
		k.must(err, "charge")
		same(k, "admitted", d.Allowed, false)
	}
	l.Refuse(background(), c, quota.ReasonScope, at(noon))
	k.must(l.Flush(background()), "flush")
	for _, s := range []quota.Subject{key1, org} {
		got := map[quota.Reason]int64{}
		k.must(k.Usage(background(), usage.Range{Org: acme, Subjects: []quota.Subject{s}, From: 0, To: noon + day}, func(r usage.Row) error {
			got[r.Reason] += r.Requests
			return nil
		}), "read usage")
		same(k, "requests of "+string(s), got, map[quota.Reason]int64{quota.ReasonLimit: 4, quota.ReasonScope: 1})
	}
}
