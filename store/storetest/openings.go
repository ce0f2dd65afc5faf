package storetest

import (
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

func openings() []guarantee {
	return []guarantee{
		{"a shorter period grants no more than the old limit had left", "monthly, 400 of 500 used, made daily at noon: 100 till midnight, then 500", openShorter},
		{"a longer period counts what was spent since its window began", "10 a day made 300 a month after 15 were spent: 285", openLonger},
		{"a new limit opens its window as if it had always run", "it bounds the window, not the time since somebody thought of it", openFirst},
		{"a limit that never resets starts at nothing", "it has no start to count from but its own", openNever},
		{"reservations are carried over, and settle in both windows", "held credits must not be free for a moment, nor held for ever", openHolds},
		{"a commit above its reservation finds its room in the new window too", "the new limit holds for what is spent under it", openExcess},
		{"a refund after the change reaches both windows", "what is given back is room wherever it was counted", openRefunds},
		{"what counted in a window stays in its sum, however often the period changes", "used and overage of a window are the sum of its buckets", openTwice},
		{"windows that the new period had before the change count what their buckets say", "a clock that runs back finds no second allowance", openBack},
		{"an overdrawn or soft limit hands on what it had left", "no more is granted than was left, and a limit that never refused bounds nothing", openOverdrawn},
		{"a raise is not granted twice", "what the old limit had left has the raise in it already", openRaised},
		{"a counter that was opened is not opened again", "an edit of the Max alone leaves what is used", openAgain},
		{"a look at a window that was never opened shows it as it would open, and opens nothing", "Status is asked for before the first charge", openPeek},
	}
}

func openShorter(k *kit) {
	k.tree()
	month := func(now int64) *quota.Level { return level(key1, now, monthly(500, 1, now)) }
	today := func(now int64) *quota.Level { return level(key1, now, daily(500, 2, now)) }
	k.run(quota.Applied, k.charge(noon-3*day, "", 370, month(noon-3*day)))
	k.run(quota.Applied, k.charge(noon-hour, "", 30, month(noon-hour)))
	was := monthly(500, 1, noon)
	k.edit(noon, saccount.KindKey, "k1", opening(key1, daily(500, 2, noon), &was))
	k.stands(noon, today(noon), 30, 0, 0)
	k.left(noon, today(noon), 100)
	k.run(quota.Applied, k.charge(noon, "", 60, today(noon)))
	k.left(midnight+day-1, today(midnight+day-1), 40)
	k.left(midnight+day, today(midnight+day), 500)
	k.run(quota.Applied, k.charge(midnight+day, "", 500, today(midnight+day)))
	k.left(noon, today(noon), 40) // and again, when the clock runs back

	// Where less is asked for than was left, that holds.
	k.run(quota.Applied, k.charge(noon, "", 10, level(key2, noon, monthly(500, 1, noon))))
	k.edit(noon, saccount.KindKey, "k2", opening(key2, daily(50, 2, noon), &was))
	k.left(noon, level(key2, noon, daily(50, 2, noon)), 40)
}

func openLonger(k *kit) {
	k.tree()
	k.run(quota.Applied, k.charge(noon-day, "", 5, level(key1, noon-day, daily(10, 1, noon-day))))
	k.run(quota.Applied, k.charge(noon, "", 10, level(key1, noon, daily(10, 1, noon))))
	was := daily(10, 1, noon)
	k.edit(noon, saccount.KindKey, "k1", opening(key1, monthly(300, 2, noon), &was))
	month := level(key1, noon, monthly(300, 2, noon))
	k.stands(noon, month, 15, 0, 0)
	k.left(noon, month, 285)
	k.run(quota.Applied, k.charge(noon+day, "", 285, level(key1, noon+day, monthly(300, 2, noon+day))))
	k.left(noon+2*day, level(key1, noon+2*day, monthly(300, 2, noon+2*day)), 0)
}

func openFirst(k *kit) {
	k.tree()
	k.run(quota.Applied, k.charge(noon-day, "", 7, level(acc1, noon-day)))
	k.run(quota.Applied, k.charge(noon-12*hour, "", 5, level(acc1, noon-12*hour))) // at midnight, today
	k.run(quota.Applied, k.charge(noon, "", 6, level(acc1, noon)))
	k.edit(noon, saccount.KindAccount, "a1", opening(acc1, daily(20, 1, noon), nil), opening(acc1, named("m", monthly(100, 2, noon)), nil))
	l := level(acc1, noon, daily(20, 1, noon), named("m", monthly(100, 2, noon)))
	same(k, "figures", k.peek(noon, l), []quota.Figure{{Max: 20, Used: 11}, {Max: 100, Used: 18}})
	k.left(noon, l, 9)
	// Spent above it already: nothing is left, and nothing is forgotten.
	k.edit(noon, saccount.KindAccount, "a1", opening(acc1, named("low", daily(3, 3, noon)), nil))
	low := level(acc1, noon, named("low", daily(3, 3, noon)))
	k.stands(noon, low, 11, 0, 0)
	k.left(noon, low, 0)
}

func openNever(k *kit) {
	k.tree()
	l := level(key1, noon, daily(100, 1, noon))
	k.run(quota.Applied, k.charge(noon, "c", 30, l))
	k.run(quota.Applied, k.reserve(noon, "r", 20, hour, l))
	was := daily(100, 1, noon)
	always := never(100)
	always.Number = 2
	k.edit(noon, saccount.KindKey, "k1", opening(key1, always, &was))
	n := level(key1, noon, always)
	k.stands(noon, n, 0, 0, 0)
	k.run(quota.Applied, k.charge(noon, "", 50, n))
	k.run(quota.Applied, k.commit(noon, "r", 20))
	k.run(quota.Applied, k.refund(noon, "", "c", 30))
	k.stands(noon, n, 50, 0, 0)
	k.stands(noon, l, 20, 0, 0) // the charge under the new limit is not in the old
	k.left(noon+300*day, level(key1, noon+300*day, always), 50)
	// From one that never resets, what was left goes on.
	day3 := daily(200, 3, noon)
	k.edit(noon, saccount.KindKey, "k1", opening(key1, day3, &always))
	k.left(noon, level(key1, noon, day3), 50)
	k.left(noon+day, level(key1, noon+day, daily(200, 3, noon+day)), 200)
}

func openHolds(k *kit) {
	k.tree()
	was := monthly(500, 1, noon)
	month := level(key1, noon, was)
	for _, id := range []string{"commit", "release", "expire", "less"} {
		k.run(quota.Applied, k.reserve(noon, id, 100, hour, month))
	}
	k.edit(noon, saccount.KindKey, "k1", opening(key1, daily(500, 2, noon), &was))
	today := level(key1, noon, daily(500, 2, noon))
	k.stands(noon, today, 0, 400, 0)
	k.left(noon, today, 100)
	k.run(quota.Applied, k.commit(noon, "commit", 100))
	k.run(quota.Applied, k.release(noon, "release"))
	k.run(quota.Applied, k.commit(noon, "less", 30))
	k.stands(noon, today, 130, 100, 0)
	k.stands(noon, month, 130, 100, 0)
	k.stands(noon+hour, today, 130, 0, 0)
	k.run(quota.Applied, k.charge(noon+hour, "", 1, level(key1, noon+hour, daily(500, 2, noon+hour))))
	k.stands(noon+hour, today, 131, 0, 0)
	k.stands(noon+hour, month, 130, 0, 0)
	k.buckets(key1, 131, 5)
	// The bucket's window is not there yet when the period changes, and opens
	// when the clock gets there with what it holds.
	late := int64(midnight + day - minute)
	k.run(quota.Applied, k.reserve(late, "late", 50, hour, level(key1, late, daily(500, 2, late))))
	now := late + 2*minute
	next := daily(500, 2, now)
	k.edit(now, saccount.KindKey, "k1", opening(key1, monthly(1000, 3, now), &next))
	m3 := level(key1, now, monthly(1000, 3, now))
	k.stands(now, m3, 131, 50, 0)
	k.run(quota.Applied, k.commit(now, "late", 60))
	k.stands(now, m3, 191, 0, 0)
}

func openExcess(k *kit) {
	k.tree()
	was := monthly(500, 1, noon)
	month := level(key1, noon, was)
	for _, id := range []string{"loose", "strict"} {
		k.run(quota.Applied, k.reserve(noon, id, 20, hour, month))
	}
	k.edit(noon, saccount.KindKey, "k1", opening(key1, daily(50, 2, noon), &was))
	today := level(key1, noon, daily(50, 2, noon))
	k.run(quota.Applied, k.commit(noon, "loose", 40)) // 10 are free today
	k.stands(noon, today, 30, 20, 10)
	k.stands(noon, month, 40, 20, 0)
	strict := k.commit(noon, "strict", 21)
	strict.Strict = true
	k.run(quota.Excess, strict)
	strict = k.commit(noon, "strict", 20)
	strict.Strict = true
	k.run(quota.Applied, strict)
	k.stands(noon, today, 50, 0, 10)
	k.buckets(key1, 60, 2)
}

func openRefunds(k *kit) {
	k.tree()
	was := daily(100, 1, noon)
	l := level(key1, noon, was)
	k.run(quota.Applied, k.charge(noon, "c", 40, l))
	k.run(quota.Applied, k.reserve(noon, "r", 40, hour, l))
	k.run(quota.Applied, k.commit(noon, "r", 30))
	k.edit(noon, saccount.KindKey, "k1", opening(key1, monthly(300, 2, noon), &was))
	month := level(key1, noon, monthly(300, 2, noon))
	k.stands(noon, month, 70, 0, 0)
	k.run(quota.Applied, k.refund(noon, "", "c", 25))
	k.run(quota.Applied, k.refund(noon, "", "r", 30))
	k.stands(noon, month, 15, 0, 0)
	k.stands(noon, l, 15, 0, 0)
	k.left(noon, month, 285)
	k.buckets(key1, 15, 2)
	// What is charged under the new limit is not in the old one's window.
	k.run(quota.Applied, k.charge(noon, "d", 10, month))
	k.run(quota.Applied, k.refund(noon, "", "d", 4))
	k.stands(noon, l, 15, 0, 0)
	k.stands(noon, month, 21, 0, 0)
}

func openTwice(k *kit) {
	k.tree()
	const most = 1000
	type period func(quota.Credits, uint32, int64) quota.Entry
	was := monthly(most, 1, noon)
	k.run(quota.Applied, k.charge(noon-2*day, "c0", 10, level(key1, noon-2*day, monthly(most, 1, noon-2*day))))
	want := quota.Credits(10)
	now := int64(noon)
	for i, next := range []period{daily, monthly, daily, monthly, monthly, daily, monthly} {
		e := next(most, uint32(i)+2, now)
		k.edit(now, saccount.KindKey, "k1", opening(key1, e, &was))
		k.run(quota.Applied, k.charge(now, "c"+string(rune('1'+i)), 7, level(key1, now, e)))
		k.run(quota.Applied, k.refund(now, "", "c0", 1))
		want += 6
		from, to := e.Start, e.End
		sum, _ := k.spent(key1, from, to)
		f := k.peek(now, level(key1, now, e))[0]
		if f.Used+f.Overage != sum {
			k.failf("change %d: used %d and overage %d of the window, its buckets sum up to %d", i, f.Used, f.Overage, sum)
		}
		if e.End-e.Start > day && f.Used != want {
			k.failf("change %d: %d used this month, want %d", i, f.Used, want)
		}
		was = e
		now += 7 * hour
	}
}

func openBack(k *kit) {
	k.tree()
	was := monthly(500, 1, noon)
	k.run(quota.Applied, k.charge(noon-day, "c", 40, level(key1, noon-day, monthly(500, 1, noon-day))))
	k.run(quota.Applied, k.reserve(noon-day, "r", 5, 3*day, level(key1, noon-day, monthly(500, 1, noon-day))))
	k.edit(noon, saccount.KindKey, "k1", opening(key1, daily(50, 2, noon), &was))
	yesterday := level(key1, noon-day, daily(50, 2, noon-day))
	k.stands(noon-day, yesterday, 40, 5, 0)
	k.left(noon-day, yesterday, 5)
	k.run(quota.Applied, k.charge(noon-day, "", 5, yesterday))
	k.run(quota.Refused, k.charge(noon-day, "", 1, yesterday))
	k.run(quota.Applied, k.commit(noon, "r", 3)) // reaches the window that was opened meanwhile
	k.run(quota.Applied, k.refund(noon, "", "c", 10))
	k.stands(noon-day, yesterday, 38, 0, 0)
	k.stands(noon, level(key1, noon, daily(50, 2, noon)), 0, 0, 0)
}

func openOverdrawn(k *kit) {
	k.tree()
	was := monthly(50, 1, noon)
	l := level(key1, noon, was)
	k.run(quota.Applied, k.charge(noon-day, "", 40, level(key1, noon-day, monthly(50, 1, noon-day))))
	k.run(quota.Applied, k.reserve(noon, "r", 10, hour, l))
	k.run(quota.Applied, k.commit(noon, "r", 30))
	k.stands(noon, l, 50, 0, 20)
	k.edit(noon, saccount.KindKey, "k1", opening(key1, daily(50, 2, noon), &was))
	today := level(key1, noon, daily(50, 2, noon))
	f := k.peek(noon, today)[0]
	if f.Used+f.Overage != 30 || f.Remaining() != 0 {
		k.failf("the day of an overdrawn month: %+v, want 30 spent and nothing left", f)
	}
	k.run(quota.Refused, k.charge(noon, "", 1, today))
	k.left(noon+day, level(key1, noon+day, daily(50, 2, noon+day)), 50)

	soft := monthly(50, 1, noon)
	soft.Soft = true
	k.run(quota.Applied, k.charge(noon-day, "", 500, level(key2, noon-day, soft)))
	k.edit(noon, saccount.KindKey, "k2", opening(key2, daily(50, 2, noon), &soft))
	k.left(noon, level(key2, noon, daily(50, 2, noon)), 50)
}

func openRaised(k *kit) {
	k.tree()
	raised := func(e quota.Entry, extra quota.Credits) quota.Entry { e.Extra = extra; return e }
	was := raised(monthly(100, 1, noon), 900)
	k.run(quota.Applied, k.charge(noon-day, "", 950, level(key1, noon-day, was)))
	k.left(noon, level(key1, noon, was), 50)
	next := raised(daily(100, 2, noon), 900)
	k.edit(noon, saccount.KindKey, "k1", opening(key1, next, &was))
	k.left(noon, level(key1, noon, next), 50)
	k.left(noon, level(key1, noon, raised(next, 920)), 70) // a top-up given today is on top
	k.left(noon, level(key1, noon, raised(next, 0)), 0)    // the raise ends
	k.left(noon+day, level(key1, noon+day, raised(daily(100, 2, noon+day), 900)), 1000)
}

func openAgain(k *kit) {
	k.tree()
	e := monthly(100, 1, noon)
	k.edit(noon, saccount.KindKey, "k1", opening(key1, e, nil))
	k.run(quota.Applied, k.charge(noon, "", 60, level(key1, noon, e)))
	for _, most := range []quota.Credits{200, 80, 100} {
		e.Max = most
		k.edit(noon, saccount.KindKey, "k1", opening(key1, e, &e))
		k.stands(noon, level(key1, noon, e), 60, 0, 0)
		k.left(noon, level(key1, noon, e), most-60)
	}
}

func openPeek(k *kit) {
	k.tree()
	free := level(key1, noon)
	k.run(quota.Applied, k.charge(noon, "", 30, free))
	k.run(quota.Applied, k.reserve(noon, "r1", 20, minute, free))
	k.run(quota.Applied, k.reserve(noon, "r2", 5, hour, free))
	today := func() *quota.Level { return level(key1, noon, daily(100, 1, noon)) }
	k.stands(noon, today(), 30, 25, 0)
	k.stands(noon+minute, today(), 30, 5, 0)
	k.stands(noon+hour, today(), 30, 0, 0)
	k.stands(noon, today(), 30, 25, 0)
	k.stands(noon+day, level(key1, noon+day, daily(100, 1, noon+day)), 0, 0, 0)
	// Had looking opened it, this would not be in it.
	k.run(quota.Applied, k.charge(noon, "", 10, free))
	k.stands(noon, today(), 40, 25, 0)
	k.run(quota.Applied, k.commit(noon, "r1", 20))
	k.stands(noon, today(), 60, 5, 0)
}
