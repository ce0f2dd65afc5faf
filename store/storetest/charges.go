package storetest

import (
	"github.com/keypurse/keypurse/quota"
)

func charges() []guarantee {
	return []guarantee{
		{"every level is charged, or none", "key, account and organization must always agree", chargeAllOrNone},
		{"a limit holds exactly", "one micro-credit over is a limit that does not hold; one under is a customer short of what was paid for", chargeExact},
		{"a refusal names every limit in the way", "the caller is told what to wait for, and one limit is not all of it", chargeRefusals},
		{"a refusal leaves nothing behind", "a refused request is not work", chargeRefusedNothing},
		{"an amount of nothing is charged wherever nothing is overdrawn", "a free request still counts, and passes at nothing left", chargeZero},
		{"a Max of nothing admits nothing", "it is how a host stops spending without deleting", chargeMaxZero},
		{"figures are in the order of the chain, as the operation left them", "a level's answer must not be read as another's", chargeFigures},
		{"a subject may have several limits at once", "10 a day and 100 a month", chargeTwoWindows},
		{"a window that ends ends exactly", "the instant of the reset belongs to the new window", chargeWindows},
		{"a soft limit counts and never refuses", "reporting must not stand in the way of work", chargeSoft},
		{"what is on top of a Max is spent too, and holds as exactly", "a raise or a top-up was paid for", chargeExtra},
		{"a lowered limit keeps what was used", "what was spent was spent; nothing left is nothing, not less", chargeLowered},
		{"a sum that leaves int64 is refused", "a wrapped counter is a limit that begins anew", chargeOverflow},
		{"operations of a batch are decided in their order", "each decides on what those before it left", chargeOrder},
		{"one bad operation never fails its neighbours", "a batch holds the calls of strangers", chargeNeighbours},
		{"a batch may hold operations of many organizations", "callers of all of them wait for the same commit", chargeOrgs},
		{"organizations never share a counter", "an account's id in another organization is another account", chargeApart},
		{"a chain may be short, and a subject without limits still counts", "a member has no account, and no limit is no reason not to know", chargeShort},
		{"an empty batch is no error", "there may be nothing to do", func(k *kit) { k.tree(); k.apply() }},
	}
}

func chargeAllOrNone(k *kit) {
	k.tree()
	for tight := range 3 {
		ls := []*quota.Level{
			level(key1, noon, named("a", never(1000))),
			level(acc1, noon, named("a", never(1000))),
			level(org, noon, named("a", never(1000))),
		}
		for _, l := range ls {
			l.Limits = append(l.Limits, named("tight", never(1e6)))
		}
		used := k.peek(noon, ls[tight])[1].Used
		ls[tight].Limits[1].Max = used + 5
		before := k.snapshot(noon, ls...)
		k.run(quota.Refused, k.charge(noon, "", 6, ls...))
		same(k, "all that counts after a refusal", k.snapshot(noon, ls...), before)
		k.run(quota.Applied, k.charge(noon, "", 5, ls...))
		for i, f := range k.peek(noon, ls...) {
			if want := quota.Credits(5 * (tight + 1)); f.Used != want {
				k.failf("limit %d of the chain: %d used, want %d", i, f.Used, want)
			}
		}
	}
	for _, s := range []quota.Subject{key1, acc1, org} {
		k.buckets(s, 15, 3)
	}
}

func chargeExact(k *kit) {
	k.tree()
	l := level(key1, noon, never(100))
	k.run(quota.Refused, k.charge(noon, "", 101, l))
	k.run(quota.Applied, k.charge(noon, "", 99, l))
	k.run(quota.Refused, k.charge(noon, "", 2, l))
	k.run(quota.Applied, k.charge(noon, "", 1, l))
	k.run(quota.Refused, k.charge(noon, "", 1, l))
	k.stands(noon, l, 100, 0, 0)
	m := level(key2, noon, never(100))
	k.run(quota.Applied, k.reserve(noon, "r", 40, hour, m))
	k.run(quota.Applied, k.charge(noon, "", 60, m))
	k.run(quota.Refused, k.charge(noon, "", 1, m))
	k.run(quota.Refused, k.reserve(noon, "r2", 1, hour, m))
	k.stands(noon, m, 60, 40, 0)
}

func chargeRefusals(k *kit) {
	k.tree()
	ls := []*quota.Level{
		level(key1, noon, named("a", never(10)), named("b", never(50))),
		level(acc1, noon, named("a", never(20))),
		level(org, noon, named("a", never(100)), named("b", never(15)), named("c", never(30))),
	}
	for _, c := range []struct {
		amount  quota.Credits
		refused uint64
	}{{10, 0}, {11, 0b000001}, {16, 0b010001}, {21, 0b010101}, {31, 0b110101}, {51, 0b110111}, {101, 0b111111}, {quota.MaxCredits, 0b111111}} {
		for _, verb := range []quota.Verb{quota.VerbCharge, quota.VerbReserve} {
			if c.refused == 0 {
				continue
			}
			o := k.reserve(noon, "r", c.amount, hour, ls...)
			if o.Verb = verb; verb == quota.VerbCharge {
				o.TTL = 0
			}
			k.run(quota.Refused, o)
			if o.Result.Refused != c.refused {
				k.failf("%s of %d: refused by %06b, want %06b", verb, c.amount, o.Result.Refused, c.refused)
			}
			if len(o.Result.Figures) != 6 || o.Result.Figures[4] != (quota.Figure{Max: 15}) {
				k.failf("%s of %d: figures %+v, want all six as they were found", verb, c.amount, o.Result.Figures)
			}
		}
	}
	o := k.run(quota.Applied, k.charge(noon, "", 10, ls...))
	same(k, "limits in the way of what was admitted", o.Result.Refused, 0)
	// limits of 16 on four levels are 64: one bit each
	var deep []*quota.Level
	for i, s := range []quota.Subject{key2, acc1, ann, org} {
		l := level(s, noon)
		for j := range quota.MaxLimits {
			l.Limits = append(l.Limits, named("n"+string(rune('a'+j)), never(quota.Credits(100*i+j))))
		}
		l.Sequence = 1
		deep = append(deep, l)
	}
	o = k.run(quota.Refused, k.charge(noon, "", 1000, deep...))
	same(k, "64 limits in the way", o.Result.Refused, ^uint64(0))
	o = k.run(quota.Refused, k.charge(noon, "", 310, deep...))
	same(k, "58 limits in the way", o.Result.Refused, ^uint64(0)>>6)
}

func chargeRefusedNothing(k *kit) {
	k.tree()
	tight := never(10)
	tight.Thresholds = quota.DefaultThresholds()
	ls := []*quota.Level{level(key1, noon, never(1000)), level(acc1, noon, tight), level(org, noon, never(1000))}
	before := k.snapshot(noon, ls...)
	for _, id := range []string{"", "c1"} {
		k.run(quota.Refused, k.charge(noon, id, 11, ls...))
	}
	k.run(quota.Refused, k.reserve(noon, "r1", 11, hour, ls...))
	k.run(quota.Unknown, k.commit(noon, "r1", 5))
	k.run(quota.Unknown, k.refund(noon, "", "c1", 1))
	same(k, "all that counts after refusals", k.snapshot(noon, ls...), before)
	for _, s := range []quota.Subject{key1, acc1, org} {
		if from, to := ever(); len(k.rows(s, from, to)) != 0 {
			k.failf("usage of %s has buckets after refusals alone: %+v", s, k.rows(s, from, to))
		}
	}
	k.run(quota.Applied, k.charge(noon, "c1", 10, ls...)) // a refusal is not remembered
	k.run(quota.Refused, k.reserve(noon, "r1", 1, hour, ls...))
}

func chargeZero(k *kit) {
	k.tree()
	ls := []*quota.Level{level(key1, noon, never(10)), level(org, noon, never(0))}
	k.run(quota.Applied, k.charge(noon, "", 0, ls...))
	k.run(quota.Applied, k.charge(noon, "", 10, ls[0]))
	k.run(quota.Applied, k.charge(noon, "z", 0, ls...))
	k.run(quota.Applied, k.reserve(noon, "r", 0, hour, ls...))
	k.run(quota.Applied, k.commit(noon, "r", 0))
	k.run(quota.Applied, k.refund(noon, "", "z", 0))
	k.buckets(org, 0, 3)
	lowered := level(key1, noon, never(9))
	k.run(quota.Refused, k.charge(noon, "", 0, lowered))
}

func chargeMaxZero(k *kit) {
	k.tree()
	l := level(key1, noon, never(0))
	k.run(quota.Refused, k.charge(noon, "", 1, l))
	k.run(quota.Refused, k.reserve(noon, "r", 1, hour, l))
	k.left(noon, l, 0)
}

func chargeFigures(k *kit) {
	k.tree()
	ls := []*quota.Level{level(key1, noon, named("x", never(100)), named("y", never(200))), level(acc1, noon), level(org, noon, never(300))}
	o := k.run(quota.Applied, k.charge(noon, "", 7, ls...))
	same(k, "figures of a charge", o.Result.Figures, []quota.Figure{{Max: 100, Used: 7}, {Max: 200, Used: 7}, {Max: 300, Used: 7}})
	o = k.run(quota.Applied, k.reserve(noon, "r", 3, hour, ls[1], ls[2]))
	same(k, "figures of a reservation", o.Result.Figures, []quota.Figure{{Max: 300, Used: 7, Held: 3}})
	o = k.run(quota.Refused, k.charge(noon, "", 94, ls...))
	same(k, "figures of a refusal", o.Result.Figures, []quota.Figure{{Max: 100, Used: 7}, {Max: 200, Used: 7}, {Max: 300, Used: 7, Held: 3}})
	backwards := []*quota.Level{ls[2], ls[1], ls[0]}
	o = k.run(quota.Applied, k.charge(noon, "", 1, backwards...))
	same(k, "figures of the chain backwards", o.Result.Figures, []quota.Figure{{Max: 300, Used: 8, Held: 3}, {Max: 100, Used: 8}, {Max: 200, Used: 8}})
	same(k, "figures of a peek", k.peek(noon, ls...), []quota.Figure{{Max: 100, Used: 8}, {Max: 200, Used: 8}, {Max: 300, Used: 8, Held: 3}})
	o = k.run(quota.Applied, k.commit(noon, "r", 2))
	same(k, "figures of a commit", o.Result.Figures, []quota.Figure{{Max: 300, Used: 10}})
	// Figures are appended to the room that the caller brings.
	o = k.charge(noon, "", 1, ls...)
	o.Result.Figures = make([]quota.Figure, 2, 8)
	k.run(quota.Applied, o)
	same(k, "figures in the caller's room", len(o.Result.Figures), 3)
}

func chargeTwoWindows(k *kit) {
	k.tree()
	two := func(now int64) *quota.Level {
		return level(key1, now, named("d", daily(10, 1, now)), named("m", monthly(25, 2, now)))
	}
	for i := range int64(3) {
		now := noon + i*day
		left := min(10, 25-10*quota.Credits(i))
		k.left(now, two(now), left)
		k.run(quota.Applied, k.charge(now, "", left, two(now)))
		k.run(quota.Refused, k.charge(now, "", 1, two(now)))
	}
	now := int64(noon + 3*day)
	o := k.run(quota.Refused, k.charge(now, "", 1, two(now)))
	same(k, "limits in the way", o.Result.Refused, 0b10)
	// Two limits of one window are two counters.
	l := level(key2, noon, daily(10, 1, noon), named("other", daily(10, 2, noon)))
	k.run(quota.Applied, k.charge(noon, "", 4, l))
	same(k, "two counters", k.peek(noon, l), []quota.Figure{{Max: 10, Used: 4}, {Max: 10, Used: 4}})
}

func chargeWindows(k *kit) {
	k.tree()
	const last = midnight + day - 1
	k.run(quota.Applied, k.charge(last, "", 10, level(key1, last, daily(10, 1, last))))
	k.run(quota.Refused, k.charge(last, "", 1, level(key1, last, daily(10, 1, last))))
	k.run(quota.Applied, k.charge(last+1, "", 10, level(key1, last+1, daily(10, 1, last+1))))
	// A clock that runs back meets the old window as it was left, and the new
	// one after it.
	k.run(quota.Refused, k.charge(last, "", 1, level(key1, last, daily(10, 1, last))))
	k.run(quota.Refused, k.charge(last+1, "", 1, level(key1, last+1, daily(10, 1, last+1))))
	for _, jump := range []int64{-40 * day, 40 * day} { // each way, another window
		now := int64(noon) + jump
		k.run(quota.Applied, k.charge(now, "", 10, level(key1, now, daily(10, 1, now))))
		k.run(quota.Refused, k.charge(last, "", 1, level(key1, last, daily(10, 1, last))))
	}
	for _, b := range []int64{last, last + 1} {
		c, _ := k.spent(key1, quota.BucketStart(b), quota.BucketStart(b)+quarter)
		same(k, "credits in the bucket", c, 10)
	}
}

func chargeSoft(k *kit) {
	k.tree()
	soft := never(10)
	soft.Soft = true
	ls := []*quota.Level{level(key1, noon, named("s", soft)), level(org, noon, never(50))}
	k.run(quota.Applied, k.charge(noon, "", 30, ls...))
	k.run(quota.Applied, k.reserve(noon, "r", 10, hour, ls...))
	o := k.run(quota.Refused, k.charge(noon, "", 11, ls...))
	same(k, "limits in the way", o.Result.Refused, 0b10)
	k.stands(noon, ls[0], 30, 10, 0)
	k.run(quota.Applied, k.commit(noon, "r", 25))
	f := k.peek(noon, ls[0])[0]
	if f.Used+f.Overage != 55 || f.Remaining() != 0 {
		k.failf("a soft limit of 10 after 55: %+v", f)
	}
	k.run(quota.Refused, k.charge(noon, "", 0, ls...)) // the organization is overdrawn
}

func chargeExtra(k *kit) {
	k.tree()
	e := never(10)
	e.Extra = 5
	l := level(key1, noon, e)
	k.run(quota.Refused, k.charge(noon, "", 16, l))
	k.run(quota.Applied, k.charge(noon, "", 15, l))
	k.run(quota.Refused, k.charge(noon, "", 1, l))
	same(k, "the bound in force", k.peek(noon, l)[0].Max, 15)
	e.Extra = 0
	over := level(key1, noon, e)
	k.run(quota.Refused, k.charge(noon, "", 0, over))
	k.stands(noon, over, 15, 0, 0)
	e.Extra = quota.MaxCredits
	wide := level(key1, noon, e)
	same(k, "a bound beyond int64", k.peek(noon, wide)[0].Max, quota.MaxCredits)
	k.run(quota.Applied, k.charge(noon, "", 1000, wide))
}

func chargeLowered(k *kit) {
	k.tree()
	k.run(quota.Applied, k.charge(noon, "", 80, level(key1, noon, never(100))))
	k.run(quota.Applied, k.reserve(noon, "r", 10, hour, level(key1, noon, never(100))))
	low := level(key1, noon, never(50))
	f := k.peek(noon, low)[0]
	if f.Remaining() != 0 || f.Max != 50 || f.Used != 80 {
		k.failf("a limit lowered to 50 after 80: %+v, remaining %d; want 80 used and nothing left", f, f.Remaining())
	}
	k.run(quota.Refused, k.charge(noon, "", 1, low))
	k.run(quota.Applied, k.commit(noon, "r", 10)) // what was admitted settles
	k.stands(noon, low, 90, 0, 0)
	k.run(quota.Applied, k.charge(noon, "", 5, level(key1, noon, never(95))))
}
