package storetest

import (
	"math"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

func blocks() []guarantee {
	return []guarantee{
		{"a block holds a share of what is left at every level, and counts no request", "what a process spends in memory must not be there for others", blockTake},
		{"a block that would be too small to be of use is refused and leaves nothing", "near the limit every charge is decided strictly", blockRefused},
		{"a settlement spends what was spent, counts its requests, and keeps or ends the block", "usage and quota agree when it returns", blockSettle},
		{"a settlement grows a block by no more than a share, and shrinks it at once", "one busy process must not keep the others out", blockGrow},
		{"a settlement that comes twice or late spends nothing twice", "a reply may be lost, and a message be slow", blockRetry},
		{"the same id takes the same block", "a reply may be lost", blockTakeRetry},
		{"a settlement that keeps the block names the settings number, one that ends it none", "an edit or a revocation reaches a block, and what was admitted settles", blockStale},
		{"a block whose time is over is stranded, not free, to the end of its last window", "what a dead owner had not settled may have been spent", blockStrand},
		{"a late settlement of a living owner is taken, and frees the rest", "a process with a wrong clock may have ended the block early", blockLate},
		{"where a limit never resets a stranded block stays until it is settled by hand", "nothing else can tell that its owner is dead", blockByHand},
		{"a purge drops no block that holds something", "what was stranded would be granted again", blockPurge},
		{"a stranded block counts in a window that is opened later", "a period that is set anew is no second allowance", blockOpening},
		{"thresholds alert when a block is settled", "spending is spending", blockAlert},
		{"one batch does with blocks what its operations alone would", "a batch is a matter of speed", blockBatch},
	}
}

// wide is a chain with 16,000 left at the key, 32,000 at the account and no
// limit that refuses at the organization.
func wide(now int64) []*quota.Level {
	soft := never(1)
	soft.Soft = true
	return []*quota.Level{level(key1, now, daily(16000, 1, now)), level(acc1, now, never(32000)), level(org, now, soft)}
}

func blockTake(k *kit) {
	k.tree()
	ls := wide(noon)
	o := k.run(quota.Applied, k.lease(noon, "b", 5000, minute, ls...))
	if r := o.Result.Receipt; r == nil || r.Left != 1000 || r.Of != "owner of b" || r.Expires != noon+minute {
		k.fatalf("the block: %+v; want a sixteenth of 16000 for a minute", r)
	}
	same(k, "figures", o.Result.Figures, []quota.Figure{{Max: 16000, Held: 1000}, {Max: 32000, Held: 1000}, {Max: 1, Held: 1000}})
	same(k, "figures of a peek", k.peek(noon, ls...), o.Result.Figures)
	k.run(quota.Refused, k.charge(noon, "", 15001, ls...))
	k.run(quota.Applied, k.lease(noon, "small", 10, minute, ls...))
	k.stands(noon, ls[0], 0, 1010, 0)
	k.buckets(key1, 0, 0)
	for _, id := range []string{"b", "small"} {
		k.run(quota.Conflict, k.commit(noon, id, 1))
		k.run(quota.Conflict, k.release(noon, id))
		k.run(quota.Conflict, k.renew(noon, id, hour))
		k.run(quota.Conflict, k.refund(noon, "", id, 0))
	}
	r := k.run(quota.Applied, k.reserve(noon, "r", 1, hour, ls...))
	k.run(quota.Conflict, k.settle(noon, r.ID, 1, 1, 1))
	k.run(quota.Unknown, k.settle(noon, "nothing", 1, 1, 1))
}

func blockRefused(k *kit) {
	k.tree()
	ls := wide(noon)
	k.run(quota.Applied, k.charge(noon, "", 15000, ls...))
	before := k.snapshot(noon, ls...)
	o := k.lease(noon, "b", 5000, minute, ls...)
	o.Size = 63 // a sixteenth of 1000 is 62
	k.run(quota.Refused, o)
	if o.Result.Refused != 1 {
		k.failf("refused by %b, want the key's limit alone", o.Result.Refused)
	}
	o.Settings--
	k.run(quota.Stale, o)
	same(k, "all that counts", k.snapshot(noon, ls...), before)
	k.run(quota.Unknown, k.settle(noon, "b", 1, 0, 0))
	o.Settings++
	o.Size = 62
	k.run(quota.Applied, o)
	for _, bad := range []*quota.Op{
		k.lease(noon, "", 5, minute, ls...), k.lease(noon, "c", 5, 0, ls...), k.lease(noon, "c", 0, minute, ls...),
		k.settle(noon, "b", 0, 0, 0), k.settle(noon, "b", 1, 0, -1),
	} {
		k.apply(bad)
		k.is(bad.Result.Err, quota.ErrInvalid, "an operation that no Ledger sends")
	}
}

func blockSettle(k *kit) {
	k.tree()
	ls := wide(noon)
	k.run(quota.Applied, k.lease(noon, "b", 1000, minute, ls...))
	o := k.run(quota.Applied, keeps(k.settle(noon+second, "b", 1, 300, 3), 700, minute))
	same(k, "figures", o.Result.Figures, []quota.Figure{{Max: 16000, Used: 300, Held: 700}, {Max: 32000, Used: 300, Held: 700}, {Max: 1, Used: 300, Held: 700}})
	k.run(quota.Excess, k.settle(noon+second, "b", 2, 1001, 4))
	for _, l := range ls {
		k.stands(noon+minute, l, 300, 700, 0)
		k.buckets(l.Subject, 300, 3)
	}
	o = k.run(quota.Applied, k.settle(noon+2*second, "b", 2, 450, 5))
	if r := o.Result.Receipt; r.Left != 0 || r.Actual != 450 || r.Held() {
		k.failf("the block that was ended: %+v", r)
	}
	for _, l := range ls {
		k.stands(noon+2*second, l, 450, 0, 0)
		k.buckets(l.Subject, 450, 5)
	}
	k.run(quota.Conflict, k.settle(noon+2*second, "b", 3, 460, 6))
	k.run(quota.Conflict, func() *quota.Op { o := k.settle(noon, "b", 3, 450, 5); o.Caller = key2; return o }())
}

func blockGrow(k *kit) {
	k.tree()
	ls := wide(noon)
	k.run(quota.Applied, k.lease(noon, "b", 100, minute, ls...))
	left := func(o *quota.Op, want quota.Credits) {
		k.t.Helper()
		k.run(quota.Applied, o)
		same(k, "left in the block", o.Result.Receipt.Left, want)
	}
	left(keeps(k.settle(noon, "b", 1, 60, 1), 500, minute), 500)
	left(keeps(k.settle(noon, "b", 2, 60, 1), 9000, minute), 500+(16000-560)/quota.BlockShare)
	left(keeps(k.settle(noon, "b", 3, 60, 1), 20, minute), 20)
	k.stands(noon, ls[1], 60, 20, 0)
	k.run(quota.Applied, k.charge(noon, "", 15905, ls...)) // 15 are left: a sixteenth is nothing
	left(keeps(k.settle(noon, "b", 4, 60, 1), 500, minute), 20)
	left(k.settle(noon, "b", 5, 80, 2), 0)
	k.stands(noon, ls[0], 15985, 0, 0)
	k.left(noon, ls[0], 15)
}

func blockRetry(k *kit) {
	k.tree()
	ls := wide(noon)
	k.run(quota.Applied, k.lease(noon, "b", 1000, minute, ls...))
	first := func() *quota.Op { return keeps(k.settle(noon, "b", 1, 300, 3), 700, minute) }
	k.run(quota.Applied, first())
	k.run(quota.Replayed, first())
	second := func() *quota.Op { return keeps(k.settle(noon, "b", 2, 400, 4), 600, minute) }
	k.run(quota.Applied, second())
	k.run(quota.Replayed, first()) // overtaken
	// The third never came: the fourth says all that was spent.
	k.run(quota.Applied, k.settle(noon, "b", 4, 650, 7))
	for _, o := range []*quota.Op{first(), second(), k.settle(noon, "b", 3, 500, 5), k.settle(noon, "b", 4, 650, 7)} {
		k.run(quota.Replayed, o)
	}
	k.stands(noon, ls[0], 650, 0, 0)
	k.buckets(org, 650, 7)
}

func blockTakeRetry(k *kit) {
	k.tree()
	ls := wide(noon)
	k.run(quota.Applied, k.lease(noon, "b", 1000, minute, ls...))
	k.run(quota.Applied, keeps(k.settle(noon, "b", 1, 300, 3), 700, minute))
	o := k.run(quota.Replayed, k.lease(noon, "b", 1000, minute, ls...))
	if r := o.Result.Receipt; r.Left != 700 || r.Seq != 1 {
		k.failf("the block again: %+v", r)
	}
	k.run(quota.Conflict, k.lease(noon, "b", 999, minute, ls...))
	k.run(quota.Conflict, k.charge(noon, "b", 1000, ls...))
	k.stands(noon, ls[0], 300, 700, 0)
}

func blockStale(k *kit) {
	k.tree()
	ls := wide(noon)
	k.run(quota.Applied, k.lease(noon, "b", 1000, minute, ls...))
	old := k.settings
	k.edit(noon, saccount.KindKey, "k1")
	o := keeps(k.settle(noon, "b", 1, 300, 3), 700, minute)
	o.Settings = old
	k.run(quota.Stale, o)
	k.stands(noon, ls[0], 0, 1000, 0)
	o = k.settle(noon, "b", 2, 350, 4)
	o.Settings = old
	k.run(quota.Applied, o)
	k.stands(noon, ls[0], 350, 0, 0)
	k.buckets(org, 350, 4)
}

func blockStrand(k *kit) {
	k.tree()
	ls := []*quota.Level{level(key1, noon, daily(16000, 1, noon)), level(acc1, noon), level(org, noon, monthly(32000, 1, noon))}
	k.run(quota.Applied, k.lease(noon, "b", 1000, minute, ls...))
	k.run(quota.Applied, keeps(k.settle(noon, "b", 1, 300, 3), 700, minute))
	k.strands(noon+minute-1, ls[0], 300, 700, 0)
	k.strands(noon+minute, ls[0], 300, 700, 700) // seen with no operation in between
	k.strands(noon, ls[0], 300, 700, 0)          // and looking changed nothing
	k.run(quota.Refused, k.charge(noon+minute, "", 15001, ls...))
	k.run(quota.Applied, k.charge(noon+minute, "", 15000, ls...))
	k.strands(noon+minute, ls[0], 15300, 700, 700)
	k.strands(noon, ls[0], 15300, 700, 700) // a clock that runs back finds it stranded
	list, err := k.Stranded(background(), acme, noon)
	k.must(err, "list stranded blocks")
	if len(list) != 1 || list[0].ID != "b" || list[0].Left != 700 || list[0].Actual != 300 || list[0].Expires != ls[2].Limits[0].End {
		k.failf("stranded blocks: %+v", list)
	}
	k.run(quota.Applied, k.charge(noon+day, "", 0, level(org, noon+day, monthly(32000, 1, noon+day))))
	k.strands(noon+day, ls[2], 15300, 700, 700) // its day is over, its month is not
	end := ls[2].Limits[0].End
	k.strands(end-1, ls[2], 15300, 700, 700)
	k.strands(end, ls[2], 15300, 0, 0)
	list, err = k.Stranded(background(), acme, end)
	if err != nil || len(list) != 0 {
		k.failf("stranded blocks after the last window: %+v, %v", list, err)
	}
	k.run(quota.Applied, k.charge(end, "", 0, level(org, end, monthly(32000, 1, end))))
	k.stands(noon, ls[2], 15300, 0, 0) // freed by the operation itself, for good
	// What its owner spent all the same is used, where there is room.
	k.run(quota.Applied, k.settle(end, "b", 2, 400, 4))
	k.stands(end, ls[2], 15400, 0, 0)
	// Without a limit there is nothing to protect beyond its own quarter of an hour.
	k.run(quota.Applied, k.lease(noon, "free", 1000, minute, level(ann, noon)))
	list, err = k.Stranded(background(), acme, noon+minute)
	if err != nil || len(list) != 1 {
		k.failf("stranded blocks: %+v, %v; want the one without a limit", list, err)
	}
	list, err = k.Stranded(background(), acme, noon+quarter)
	if err != nil || len(list) != 0 {
		k.failf("stranded blocks after a quarter of an hour: %+v, %v; want none", list, err)
	}
}

func blockLate(k *kit) {
	k.tree()
	ls := wide(noon)
	k.run(quota.Applied, k.lease(noon, "b", 1000, second, ls...))
	k.run(quota.Applied, k.charge(noon+90*second, "", 1, ls...)) // a clock that is ahead
	k.strands(noon, ls[0], 1, 1000, 1000)
	// It is not kept any more, but what was spent counts.
	o := k.run(quota.Applied, keeps(k.settle(noon, "b", 1, 300, 3), 5000, minute))
	if r := o.Result.Receipt; r.Left != 700 || r.Hold != quota.HoldStranded {
		k.failf("a stranded block after a settlement: %+v", r)
	}
	k.strands(noon, ls[0], 301, 700, 700)
	k.run(quota.Applied, k.settle(noon, "b", 2, 320, 4))
	k.strands(noon, ls[0], 321, 0, 0)
	k.left(noon, ls[0], 16000-321)
	for _, l := range ls {
		k.buckets(l.Subject, 321, 5)
	}
}

func blockByHand(k *kit) {
	k.tree()
	ls := wide(noon)
	hand := func(now int64, spent quota.Credits) *quota.Op {
		o := k.settle(now, "b", 0, spent, 0)
		o.Caller = ""
		return o
	}
	k.run(quota.Applied, k.lease(noon, "b", 1000, minute, ls...))
	k.run(quota.Applied, keeps(k.settle(noon, "b", 1, 100, 1), 900, minute))
	k.run(quota.Conflict, hand(noon, 100)) // its owner lives
	const later = noon + 400*day
	k.run(quota.Applied, k.charge(later, "", 0, level(acc1, later, never(32000))))
	k.strands(later, ls[1], 100, 900, 900)
	k.run(quota.Excess, hand(later, 1001))
	k.run(quota.Conflict, hand(later, 99)) // less than its owner said
	k.run(quota.Applied, hand(later, 150))
	k.run(quota.Replayed, hand(later, 150))
	k.run(quota.Conflict, hand(later, 151))
	k.run(quota.Conflict, k.settle(later, "b", 2, 500, 5)) // what is freed may be spent
	k.stands(later, ls[1], 150, 0, 0)
	k.buckets(acc1, 150, 2)
	if list, err := k.Stranded(background(), acme, later); err != nil || len(list) != 0 {
		k.failf("stranded blocks: %+v, %v; want none", list, err)
	}
}

func blockPurge(k *kit) {
	k.tree()
	ls := wide(noon)
	k.run(quota.Applied, k.lease(noon, "open", 500, 20*day, ls...))
	k.run(quota.Applied, k.lease(noon, "b", 500, minute, ls...))
	k.run(quota.Applied, k.charge(noon+minute, "", 0, ls...))
	all := saccount.Purge{Receipts: at(math.MaxInt64 / 2), Windows: at(noon + 10*day), Alerts: at(noon + 10*day), Most: 100}
	k.purge(all)
	k.strands(noon+minute, ls[0], 0, 1000, 500)
	k.run(quota.Applied, k.settle(noon+day, "open", 1, 100, 1))
	k.run(quota.Applied, k.settle(noon+day, "b", 1, 200, 1))
	k.stands(noon, ls[0], 300, 0, 0)
	k.purge(all)
	k.run(quota.Unknown, k.settle(noon+day, "b", 2, 300, 1))
	k.stands(noon, ls[1], 300, 0, 0)
	k.buckets(key1, 300, 3)
}

func blockOpening(k *kit) {
	k.tree()
	today := level(key1, noon, daily(16000, 1, noon))
	k.run(quota.Applied, k.lease(noon, "b", 1000, minute, today))
	k.run(quota.Applied, k.charge(noon+minute, "", 1000, today))
	was, month := daily(16000, 1, noon), monthly(20000, 2, noon)
	shown := level(key1, noon+hour, named("other", monthly(20000, 3, noon))) // as it would open
	k.strands(noon+hour, shown, 1000, 1000, 1000)
	k.edit(noon+hour, saccount.KindKey, "k1", opening(key1, month, &was))
	anew := level(key1, noon+hour, month)
	k.strands(noon+hour, anew, 1000, 1000, 1000)
	k.strands(noon+2*day, anew, 1000, 1000, 1000) // the day is over, the month is not
	k.run(quota.Applied, k.charge(noon+2*day, "", 0, level(key1, noon+2*day, month)))
	k.strands(noon+2*day, anew, 1000, 1000, 1000)
	k.run(quota.Applied, k.settle(noon+2*day, "b", 1, 600, 6))
	k.stands(noon+2*day, anew, 1600, 0, 0)
}

func blockAlert(k *kit) {
	k.tree()
	e := daily(1600, 1, noon)
	e.Thresholds = []quota.Threshold{quota.Percent(5)}
	l := level(key1, noon, e)
	k.run(quota.Applied, k.lease(noon, "b", 100, minute, l))
	k.run(quota.Applied, keeps(k.settle(noon, "b", 1, 79, 1), 21, minute))
	same(k, "alerts below the threshold", len(k.outbox()), 0)
	k.run(quota.Applied, keeps(k.settle(noon+second, "b", 2, 80, 2), 20, minute))
	k.run(quota.Applied, k.settle(noon+2*second, "b", 3, 90, 3))
	all := k.outbox()
	if len(all) != 1 || all[0].Used != 80 || all[0].At != noon+second || all[0].Max != 1600 {
		k.failf("alerts: %+v; want one, of 80 of 1600", all)
	}
}

func blockBatch(k *kit) {
	k.tree()
	ls := wide(noon)
	ops := func(id string) []*quota.Op {
		return []*quota.Op{
			k.lease(noon, id, 100, minute, ls...), k.charge(noon, "", 10, ls...), keeps(k.settle(noon, id, 1, 40, 4), 50, minute),
			k.settle(noon, id, 2, 91, 5), k.settle(noon, id, 3, 60, 5), k.settle(noon, id, 3, 60, 5),
		}
	}
	want := []quota.Outcome{quota.Applied, quota.Applied, quota.Applied, quota.Excess, quota.Applied, quota.Replayed}
	one := ops("together")
	k.apply(one...)
	for i, o := range one {
		same(k, "outcome in a batch of the "+o.Verb.String(), o.Result.Outcome, want[i])
	}
	for i, o := range ops("apart") {
		k.run(want[i], o)
	}
	k.stands(noon, ls[0], 140, 0, 0)
	k.buckets(org, 140, 12)
}
