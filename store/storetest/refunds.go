package storetest

import (
	"fmt"

	"github.com/keypurse/keypurse/quota"
)

func refunds() []guarantee {
	return []guarantee{
		{"a refund gives back at every level, in parts, never more than was charged", "the sum of refunds is bounded by what they refund", refundParts},
		{"a commit is refunded as a charge is", "it is what was charged in the end", refundCommit},
		{"only charges and commits are refunded", "what was never spent cannot be given back", refundOnly},
		{"a refund takes from overage first", "what is overdrawn is made good before room is made", refundOverage},
		{"a refund lands in the window and bucket of its charge", "a new window must not grow by an old window's refund", refundWindow},
		{"a refund makes room", "credits given back are credits", refundRoom},
		{"a refund is no request", "requests count work that was asked for", refundRequests},
	}
}

func refundParts(k *kit) {
	k.tree()
	ls := chain(noon)
	k.run(quota.Applied, k.charge(noon, "c", 30, ls...))
	k.run(quota.Applied, k.refund(noon, "f1", "c", 10))
	o := k.run(quota.Applied, k.refund(noon, "", "c", 5))
	if len(o.Result.Figures) != 3 || o.Result.Figures[1].Used != 15 {
		k.failf("figures of a refund: %+v, want 15 used at each level", o.Result.Figures)
	}
	before := k.snapshot(noon, ls...)
	k.run(quota.Excess, k.refund(noon, "", "c", 16))
	k.run(quota.Excess, k.refund(noon, "f2", "c", quota.MaxCredits))
	k.run(quota.Replayed, k.refund(noon, "f1", "c", 10))
	same(k, "all that counts after refused refunds", k.snapshot(noon, ls...), before)
	k.run(quota.Applied, k.refund(noon, "f2", "c", 15))
	k.run(quota.Excess, k.refund(noon, "", "c", 1))
	k.run(quota.Applied, k.refund(noon, "", "c", 0))
	for _, l := range ls {
		k.stands(noon, l, 0, 0, 0)
		k.buckets(l.Subject, 0, 1)
	}
}

func refundCommit(k *kit) {
	k.tree()
	ls := chain(noon)
	k.run(quota.Applied, k.reserve(noon, "r", 30, hour, ls...))
	k.run(quota.Applied, k.commit(noon, "r", 20))
	k.run(quota.Excess, k.refund(noon, "", "r", 21))
	k.run(quota.Applied, k.refund(noon, "", "r", 8))
	k.run(quota.Excess, k.refund(noon, "", "r", 13))
	k.run(quota.Applied, k.refund(noon, "", "r", 12))
	k.stands(noon, ls[0], 0, 0, 0)
	k.run(quota.Replayed, k.commit(noon, "r", 20))
	k.run(quota.Replayed, k.reserve(noon, "r", 30, hour, ls...))
	k.stands(noon, ls[0], 0, 0, 0)
}

func refundOnly(k *kit) {
	k.tree()
	ls := chain(noon)
	for _, id := range []string{"open", "released", "expired"} {
		k.run(quota.Applied, k.reserve(noon, id, 10, hour, ls...))
	}
	k.run(quota.Applied, k.release(noon, "released"))
	k.run(quota.Conflict, k.refund(noon, "", "open", 1))
	k.run(quota.Conflict, k.refund(noon, "", "released", 1))
	k.run(quota.Conflict, k.refund(noon+hour, "", "expired", 1))
	k.run(quota.Unknown, k.refund(noon, "", "nothing", 1))
	k.run(quota.Unknown, k.refund(noon, "f", "nothing", 1))
	k.run(quota.Applied, k.charge(noon, "", 10, ls...)) // without an id it cannot be refunded
	k.run(quota.Unknown, k.refund(noon, "", "", 1))
	k.buckets(key1, 10, 4)
}

func refundOverage(k *kit) {
	k.tree()
	ls := []*quota.Level{level(key1, noon, never(50)), level(org, noon, never(1000))}
	k.run(quota.Applied, k.charge(noon, "c", 40, ls...))
	k.run(quota.Applied, k.reserve(noon, "r", 10, hour, ls...))
	k.run(quota.Applied, k.commit(noon, "r", 30))
	k.stands(noon, ls[0], 50, 0, 20)
	k.run(quota.Applied, k.refund(noon, "", "c", 5))
	k.stands(noon, ls[0], 50, 0, 15)
	k.run(quota.Applied, k.refund(noon, "", "r", 30))
	k.stands(noon, ls[0], 35, 0, 0)
	k.stands(noon, ls[1], 35, 0, 0)
	k.buckets(key1, 35, 2)
}

func refundWindow(k *kit) {
	k.tree()
	today, tomorrow := level(key1, noon, daily(10, 1, noon)), level(key1, noon+day, daily(10, 1, noon+day))
	k.run(quota.Applied, k.charge(noon, "c", 10, today))
	k.run(quota.Applied, k.charge(noon+day, "d", 10, tomorrow))
	k.run(quota.Applied, k.refund(noon+day, "", "c", 10))
	k.run(quota.Refused, k.charge(noon+day, "", 1, tomorrow))
	k.stands(noon+day, today, 0, 0, 0)
	k.stands(noon+day, tomorrow, 10, 0, 0)
	for start, want := range map[int64]quota.Credits{noon: 0, noon + day: 10} {
		c, n := k.spent(key1, start, start+quarter)
		if c != want || n != 1 {
			k.failf("bucket of %s: %d in %d requests, want %d in 1", at(start), c, n, want)
		}
	}
}

func refundRoom(k *kit) {
	k.tree()
	l := level(key1, noon, never(10))
	for i := range 5 {
		id := fmt.Sprint("c", i)
		k.run(quota.Applied, k.charge(noon, id, 10, l))
		k.run(quota.Refused, k.charge(noon, "", 1, l))
		k.run(quota.Applied, k.refund(noon, "", id, 10))
	}
	k.left(noon, l, 10)
}

func refundRequests(k *kit) {
	k.tree()
	k.run(quota.Applied, k.charge(noon, "c", 10, chain(noon)...))
	k.run(quota.Applied, k.refund(noon+hour, "", "c", 10))
	k.buckets(key1, 0, 1)
	same(k, "buckets", len(k.rows(key1, 0, noon+day)), 1)
}
