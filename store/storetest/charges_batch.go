package storetest

import (
	"slices"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

func chargeOverflow(k *kit) {
	k.tree()
	const most = quota.MaxCredits
	free := level(key1, noon)
	k.run(quota.Applied, k.charge(noon, "c1", most-1, free))
	k.run(quota.Applied, k.charge(noon, "", 1, free))
	before := k.snapshot(noon, free)
	k.run(quota.Overflow, k.charge(noon, "c2", 1, free))
	k.run(quota.Overflow, k.charge(noon, "", most, free))
	k.run(quota.Overflow, k.reserve(noon, "r", 1, hour, free))
	same(k, "all that counts after overflows", k.snapshot(noon, free), before)
	k.run(quota.Applied, k.refund(noon, "", "c1", 10))
	k.run(quota.Applied, k.charge(noon, "c2", 10, free)) // an overflow is not remembered

	l := level(key2, noon, never(most))
	k.run(quota.Applied, k.reserve(noon, "r", most, hour, l))
	k.run(quota.Refused, k.charge(noon, "", 1, l))
	k.run(quota.Applied, k.commit(noon, "r", most))

	open := level(key3, noon)
	k.run(quota.Applied, k.charge(noon, "", 5, open))
	k.run(quota.Applied, k.reserve(noon, "r2", most-5, hour, open))
	k.run(quota.Overflow, k.commit(noon, "r2", most))
	k.run(quota.Applied, k.commit(noon, "r2", most-5)) // an overflow settled nothing
	k.buckets(key3, most, 2)
}

func chargeOrder(k *kit) {
	k.tree()
	l := level(key1, noon, never(10))
	ops := []*quota.Op{
		k.charge(noon, "a", 6, l), k.charge(noon, "b", 6, l), k.refund(noon, "", "a", 6), k.charge(noon, "b", 6, l),
		k.reserve(noon, "r", 4, hour, l), k.charge(noon, "", 1, l), k.commit(noon, "r", 1), k.charge(noon, "", 3, l), k.charge(noon, "", 1, l),
	}
	k.apply(ops...)
	want := []quota.Outcome{quota.Applied, quota.Refused, quota.Applied, quota.Applied, quota.Applied, quota.Refused, quota.Applied, quota.Applied, quota.Refused}
	got := make([]quota.Outcome, len(ops))
	for i, o := range ops {
		got[i] = o.Result.Outcome
	}
	same(k, "outcomes of a batch", got, want)
	k.stands(noon, l, 10, 0, 0)
	k.buckets(key1, 10, 4)
}

func chargeNeighbours(k *kit) {
	k.tree()
	l := level(key1, noon, never(100))
	k.run(quota.Applied, k.charge(noon, "used", 1, l))
	stale := k.charge(noon, "", 1, l)
	stale.Settings--
	many := make([]*quota.Level, quota.MaxLevels+1)
	for i := range many {
		many[i] = level(quota.Subject("key:m"+string(rune('a'+i))), noon)
	}
	numberless := never(10)
	numberless.Number = 0
	wide := level(key2, noon, slices.Repeat([]quota.Entry{never(1)}, quota.MaxLimits+1)...)
	long := string(slices.Repeat([]byte("x"), quota.MaxIDLen+1))
	bad := []*quota.Op{
		stale, k.charge(noon, "used", 2, l), k.charge(noon, "", 1000, l), k.charge(noon, "", -1, l),
		k.charge(noon, long, 1, l), k.charge(noon, "", 1, many...), k.charge(noon, "", 1, level(key2, noon, numberless)), k.charge(noon, "", 1, wide),
		k.reserve(noon, "", 1, hour, l), k.reserve(noon, "r", 1, 0, l), k.reserve(noon, "r", 1, -hour, l), k.reserve(noon, "r", 1, 400*day, l),
		k.commit(noon, "nothing", 1), k.refund(noon, "", "used", 5), k.op(0, noon), k.op(99, noon),
	}
	var ops []*quota.Op
	for _, b := range bad {
		ops = append(ops, b, k.charge(noon, "", 2, l))
	}
	k.apply(ops...)
	for i, o := range ops {
		ok := o.Result.Outcome == quota.Applied
		if ok != (i%2 == 1) {
			k.failf("operation %d of a batch (%s of %d): %s, error %v", i, o.Verb, o.Amount, o.Result.Outcome, o.Result.Err)
		}
		if o.Result.Outcome == quota.Failed {
			k.is(o.Result.Err, quota.ErrInvalid, "an operation that no Ledger sends")
		}
	}
	k.stands(noon, l, 1+2*quota.Credits(len(bad)), 0, 0)
}

func chargeOrgs(k *kit) {
	k.tree()
	other := func(amount quota.Credits) *quota.Op {
		o := k.charge(noon, "same id", amount, level("key:x1", noon, never(10)), level("org:other", noon, never(100)))
		l, err := k.Lookup(background(), "other", saccount.KindOrg, "other")
		k.must(err, "look up the other organization")
		o.Org, o.Settings, o.Caller = "other", l.Settings, "key:x1"
		return o
	}
	ops := []*quota.Op{k.charge(noon, "same id", 5, chain(noon)...), other(6), k.charge(noon, "same id", 5, chain(noon)...), other(7), other(6)}
	k.apply(ops...)
	for i, want := range []quota.Outcome{quota.Applied, quota.Applied, quota.Replayed, quota.Conflict, quota.Replayed} {
		same(k, "outcome", ops[i].Result.Outcome, want)
	}
	k.buckets(org, 5, 1)
}

func chargeApart(k *kit) {
	k.tree()
	k.run(quota.Applied, k.charge(noon, "", 9, level(acc1, noon, never(10))))
	l, err := k.Lookup(background(), "other", saccount.KindOrg, "other")
	k.must(err, "look up the other organization")
	o := k.charge(noon, "", 10, level(acc1, noon, never(10)))
	o.Org, o.Settings = "other", l.Settings
	k.run(quota.Applied, o)
	k.stands(noon, level(acc1, noon, never(10)), 9, 0, 0)
	k.buckets(acc1, 9, 1)
}

func chargeShort(k *kit) {
	k.tree()
	k.run(quota.Applied, k.charge(noon, "", 3, level(ann, noon), level(org, noon, never(10))))
	k.run(quota.Applied, k.charge(noon, "", 4, level(org, noon, never(10))))
	k.run(quota.Refused, k.charge(noon, "", 4, level(ann, noon), level(org, noon, never(10))))
	k.buckets(ann, 3, 1)
	k.buckets(org, 7, 2)
	if f := k.peek(noon, level(ann, noon)); len(f) != 0 {
		k.failf("a subject without limits has figures: %+v", f)
	}
}
