package storetest

import (
	"slices"
	"sync"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

func ids() []guarantee {
	return []guarantee{
		{"the same id with the same fields gives the first result again", "a lost reply never charges twice", idReplay},
		{"what an Op held may be used again after Apply", "the Ledger reuses its memory; a store that keeps it replays nonsense", idReuse},
		{"an id with other fields is Conflict", "a caller that mixes up its ids must learn of it", idConflict},
		{"ids are one namespace for all verbs of an organization", "an id in a log means one thing", idNamespace},
		{"compared is what the caller gave, not what was derived", "a retry after the window turned or the limit changed is still the same request", idDerived},
		{"an id is remembered until Keep and no longer", "a promise without end fills the store", idForgotten},
		{"a refusal is not remembered", "the same request may pass when there is room", idRefusal},
		{"ids are compared byte for byte", "two callers' ids must not meet in a collation", idBytes},
		{"of many at once with one id, one applies", "retries race with what they retry", idRace},
	}
}

func idReplay(k *kit) {
	k.tree()
	ls := chain(noon)
	c := k.run(quota.Applied, k.charge(noon, "c1", 5, ls...))
	r := k.run(quota.Applied, k.reserve(noon, "r1", 7, hour, ls...))
	firstC, firstR := slices.Clone(c.Result.Figures), slices.Clone(r.Result.Figures)
	k.run(quota.Applied, k.charge(noon, "", 100, ls...))
	for range 2 {
		c = k.run(quota.Replayed, k.charge(noon+minute, "c1", 5, ls...))
		same(k, "figures of a charge's replay", c.Result.Figures, firstC)
		r = k.run(quota.Replayed, k.reserve(noon+minute, "r1", 7, hour, ls...))
		same(k, "figures of a reservation's replay", r.Result.Figures, firstR)
		if r.Result.Receipt == nil || r.Result.Receipt.ID != "r1" || c.Result.Receipt == nil || c.Result.Receipt.Amount != 5 {
			k.failf("a replay has receipts %+v and %+v, want those of r1 and c1", r.Result.Receipt, c.Result.Receipt)
		}
	}
	// A settled or expired reservation is still the same reservation.
	k.run(quota.Applied, k.commit(noon, "r1", 3))
	r = k.run(quota.Replayed, k.reserve(noon+minute, "r1", 7, hour, ls...))
	same(k, "figures of a settled reservation's replay", r.Result.Figures, firstR)
	k.run(quota.Applied, k.reserve(noon, "r2", 7, hour, ls...))
	k.run(quota.Replayed, k.reserve(noon+2*hour, "r2", 7, hour, ls...))

	refund := k.run(quota.Applied, k.refund(noon, "f1", "c1", 2))
	first := slices.Clone(refund.Result.Figures)
	k.run(quota.Applied, k.charge(noon, "", 9, ls...))
	refund = k.run(quota.Replayed, k.refund(noon, "f1", "c1", 2))
	same(k, "figures of a refund's replay", refund.Result.Figures, first)

	// In one batch too.
	a, b := k.charge(noon, "c2", 1, ls...), k.charge(noon, "c2", 1, ls...)
	k.apply(a, b)
	same(k, "the second of a batch", b.Result.Outcome, quota.Replayed)
	same(k, "its figures", b.Result.Figures, a.Result.Figures)
	k.stands(noon+2*hour, ls[2], 5+100+3-2+9+1, 0, 0)
}

func idReuse(k *kit) {
	k.tree()
	o := k.charge(noon, "c1", 5, chain(noon)...)
	o.Result.Figures = make([]quota.Figure, 0, 8)
	k.run(quota.Applied, o)
	first := slices.Clone(o.Result.Figures)
	spoilt := o.Result.Figures[:cap(o.Result.Figures)]
	for i := range spoilt {
		spoilt[i] = quota.Figure{Max: -1, Used: -1}
	}
	for i := range o.Levels {
		o.Levels[i] = level("key:nobody", noon)
	}
	*o = quota.Op{}
	again := k.run(quota.Replayed, k.charge(noon, "c1", 5, chain(noon)...))
	same(k, "figures of the replay", again.Result.Figures, first)
	k.run(quota.Applied, k.refund(noon, "", "c1", 5))
	k.stands(noon, chain(noon)[0], 0, 0, 0)
	// What a replay gave is the caller's as well.
	for i := range again.Result.Figures {
		again.Result.Figures[i].Used = -1
	}
	same(k, "figures of the next replay", k.run(quota.Replayed, k.charge(noon, "c1", 5, chain(noon)...)).Result.Figures, first)
}

func idConflict(k *kit) {
	k.tree()
	ls := chain(noon)
	k.run(quota.Applied, k.charge(noon, "c1", 5, ls...))
	k.run(quota.Applied, k.charge(noon, "c2", 5, ls...))
	k.run(quota.Applied, k.reserve(noon, "r1", 5, hour, ls...))
	k.run(quota.Applied, k.refund(noon, "f1", "c1", 1))
	before := k.snapshot(noon, ls...)
	other := k.charge(noon, "c1", 5, ls...)
	other.Caller = key2
	for name, o := range map[string]*quota.Op{
		"another amount":      k.charge(noon, "c1", 6, ls...),
		"another caller":      other,
		"another verb":        k.reserve(noon, "c1", 5, hour, ls...),
		"a charge's verb":     k.charge(noon, "r1", 5, ls...),
		"another TTL":         k.reserve(noon, "r1", 5, 2*hour, ls...),
		"another amount held": k.reserve(noon, "r1", 4, hour, ls...),
		"another charge":      k.refund(noon, "f1", "c2", 1),
		"another refund":      k.refund(noon, "f1", "c1", 2),
	} {
		k.apply(o)
		if o.Result.Outcome != quota.Conflict {
			k.failf("an id used again with %s: %s, want conflict", name, o.Result.Outcome)
		}
	}
	same(k, "all that counts after conflicts", k.snapshot(noon, ls...), before)
}

func idNamespace(k *kit) {
	k.tree()
	ls := chain(noon)
	k.run(quota.Applied, k.charge(noon, "x", 5, ls...))
	k.run(quota.Conflict, k.reserve(noon, "x", 5, hour, ls...))
	k.run(quota.Conflict, k.refund(noon, "x", "x", 5))
	k.run(quota.Applied, k.refund(noon, "f", "x", 5))
	k.run(quota.Conflict, k.charge(noon, "f", 5, ls...))
	k.run(quota.Conflict, k.commit(noon, "x", 5))
	k.run(quota.Conflict, k.release(noon, "f"))
	k.run(quota.Conflict, k.refund(noon, "", "f", 5)) // a refund is no charge
	by2 := k.charge(noon, "x", 5, level(key2, noon), level(org, noon))
	by2.Caller = key2
	k.run(quota.Conflict, by2)
}

func idDerived(k *kit) {
	k.tree()
	l := level(key1, noon, daily(10, 1, noon))
	first := k.run(quota.Applied, k.charge(noon, "c1", 5, l))
	figures := slices.Clone(first.Result.Figures)
	was := daily(10, 1, noon)
	k.edit(noon, saccount.KindKey, "k1", opening(key1, monthly(3, 2, noon), &was))
	for name, l := range map[string]*quota.Level{
		"in the next window":      level(key1, noon+day, daily(10, 1, noon+day)),
		"under a lower limit":     level(key1, noon, daily(1, 1, noon)),
		"under a new period":      level(key1, noon, monthly(3, 2, noon)),
		"without the limit":       level(key1, noon),
		"with one more level":     level(key1, noon, named("other", never(0))),
		"in another quarter hour": level(key1, noon+quarter, daily(10, 1, noon)),
	} {
		o := k.charge(noon+day, "c1", 5, l)
		o.Keep += day
		k.apply(o)
		if o.Result.Outcome != quota.Replayed {
			k.failf("a retry %s: %s, want replayed", name, o.Result.Outcome)
		}
		same(k, "figures of a retry "+name, o.Result.Figures, figures)
	}
	k.buckets(key1, 5, 1)
}

func idForgotten(k *kit) {
	k.tree()
	ls := chain(noon)
	o := k.charge(noon, "c1", 5, ls...)
	o.Keep = noon + 8*day
	k.run(quota.Applied, o)
	again := func(now int64) *quota.Op {
		o := k.charge(now, "c1", 5, chain(now)...)
		o.Keep = now + 8*day
		return o
	}
	k.run(quota.Replayed, again(noon+8*day-1))
	k.run(quota.Excess, k.refund(noon+8*day-1, "", "c1", 6))
	k.run(quota.Unknown, k.refund(noon+8*day, "", "c1", 1))
	k.run(quota.Applied, again(noon+8*day))
	k.run(quota.Replayed, again(noon+16*day-1))
	k.stands(noon, ls[2], 10, 0, 0)
	k.run(quota.Applied, k.refund(noon+9*day, "", "c1", 5)) // the second, in its own bucket
	c, _ := k.spent(key1, noon+8*day, noon+8*day+quarter)
	same(k, "the second charge's bucket", c, 0)

	// What is held is remembered as long as it is held, and a day longer.
	r := k.reserve(noon, "r1", 5, 20*day, ls...)
	r.Keep = noon + 7*day
	k.run(quota.Applied, r)
	k.run(quota.Replayed, k.reserve(noon+19*day, "r1", 5, 20*day, ls...))
	k.run(quota.Conflict, k.reserve(noon+19*day, "r1", 6, 20*day, ls...))
	k.run(quota.Expired, k.commit(noon+20*day+hour, "r1", 5))
	k.run(quota.Unknown, k.commit(noon+21*day, "r1", 5))
}

func idRefusal(k *kit) {
	k.tree()
	low, high := level(key1, noon, never(4)), level(key1, noon, never(5))
	k.run(quota.Refused, k.charge(noon, "c1", 5, low))
	k.run(quota.Applied, k.charge(noon, "c1", 5, high))
	k.run(quota.Replayed, k.charge(noon, "c1", 5, low))
	k.run(quota.Excess, k.refund(noon, "f1", "c1", 6))
	k.run(quota.Applied, k.refund(noon, "f1", "c1", 5))
	k.run(quota.Replayed, k.refund(noon, "f1", "c1", 5))
}

func idBytes(k *kit) {
	k.tree()
	all := append(oddNames(), "hold_1", "HOLD_1", string(slices.Repeat([]byte("é"), quota.MaxIDLen/2)))
	for _, id := range all {
		k.run(quota.Applied, k.charge(noon, id, 1, chain(noon)...))
	}
	for _, id := range all {
		k.run(quota.Replayed, k.charge(noon, id, 1, chain(noon)...))
	}
	k.buckets(key1, quota.Credits(len(all)), int64(len(all)))
}

func idRace(k *kit) {
	k.tree()
	for _, id := range []string{"a", "b", "c"} {
		var wg sync.WaitGroup
		var mu sync.Mutex
		count := map[quota.Outcome]int{}
		start := make(chan struct{})
		for range 50 {
			o := k.charge(noon, id, 5, chain(noon)...)
			wg.Go(func() {
				<-start
				if err := k.Apply(background(), []*quota.Op{o}); err != nil {
					k.failf("apply: %v", err)
				}
				mu.Lock()
				count[o.Result.Outcome]++
				mu.Unlock()
			})
		}
		close(start)
		wg.Wait()
		same(k, "outcomes of 50 charges with one id", count, map[quota.Outcome]int{quota.Applied: 1, quota.Replayed: 49})
	}
	k.buckets(org, 15, 3)
}
