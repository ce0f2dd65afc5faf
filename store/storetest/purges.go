package storetest

import (
	"fmt"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

func purges() []guarantee {
	return []guarantee{
		{"an id that is over is dropped, one that is remembered stays", "a purge that runs early charges a retry twice", purgeReceipts},
		{"an open reservation is never dropped", "what is held must be settled or expire", purgeHolds},
		{"a window that has ended is dropped, one that lives stays as it is", "a window dropped early is a second allowance", purgeWindows},
		{"no purge drops usage", "history is dropped by nobody but the host's fold", purgeUsage},
		{"delivered alerts are dropped, and their numbers never used again", "a cursor of before must not pass over an alert of after", purgeAlerts},
		{"one call drops about so many things, and the last finds nothing", "a store must not stand still while it is cleaned", purgeBounded},
	}
}

// purge purges until nothing is left, and says how much that was.
func (k *kit) purge(p saccount.Purge) (dropped int) {
	k.t.Helper()
	for {
		n, err := k.Purge(background(), p)
		k.must(err, "purge")
		if n == 0 {
			return dropped
		}
		if dropped += n; dropped > 1e6 {
			k.fatalf("purging does not end")
		}
	}
}

func purgeReceipts(k *kit) {
	k.tree()
	kept := func(id string, until int64) {
		k.t.Helper()
		o := k.charge(noon, id, 5, chain(noon)...)
		o.Keep = until
		k.run(quota.Applied, o)
	}
	kept("a", noon+7*day)
	kept("b", noon+8*day)
	kept("c", noon+8*day+1)
	same(k, "dropped by a purge of nothing", k.purge(saccount.Purge{Most: 100}), 0)
	if n := k.purge(saccount.Purge{Receipts: at(noon + 8*day), Most: 100}); n != 2 {
		k.failf("dropped %d, want the 2 ids that were over", n)
	}
	k.run(quota.Unknown, k.refund(noon, "", "a", 1))
	k.run(quota.Unknown, k.refund(noon, "", "b", 1))
	k.run(quota.Replayed, k.charge(noon+8*day, "c", 5, chain(noon)...))
	k.run(quota.Applied, k.charge(noon+8*day, "a", 6, chain(noon)...))
	k.buckets(key1, 21, 4)
}

func purgeHolds(k *kit) {
	k.tree()
	l := level(key1, noon, daily(100, 1, noon))
	for _, id := range []string{"commit", "release", "expire"} {
		k.run(quota.Applied, k.reserve(noon, id, 20, 20*day, l))
	}
	k.purge(saccount.Purge{Receipts: at(noon + 365*day), Windows: at(noon + 10*hour), Alerts: at(noon + 365*day), Most: 100})
	k.stands(noon, l, 0, 60, 0)
	k.run(quota.Applied, k.commit(noon, "commit", 15))
	k.run(quota.Applied, k.release(noon, "release"))
	k.stands(noon+20*day-1, l, 15, 20, 0)
	k.stands(noon+20*day, l, 15, 0, 0)
	// Where its window is over and gone, its bucket is not.
	k.run(quota.Applied, k.reserve(noon, "late", 20, 20*day, l))
	k.purge(saccount.Purge{Windows: at(noon + 10*day), Most: 100})
	k.run(quota.Applied, k.commit(noon+10*day, "late", 12))
	k.buckets(key1, 27, 4)
}

func purgeWindows(k *kit) {
	k.tree()
	limits := func(now int64) *quota.Level {
		return level(key1, now, named("d", daily(100, 1, now)), named("m", monthly(1000, 2, now)), never(2000))
	}
	for i := range int64(5) {
		now := noon + i*day
		k.run(quota.Applied, k.charge(now, "", 60, limits(now)))
		id := fmt.Sprint("r", i)
		k.run(quota.Applied, k.reserve(now, id, 30, 30*day, limits(now)))
		k.run(quota.Applied, k.commit(now, id, 50)) // ten of overage in each day
	}
	now := int64(noon + 4*day)
	want := k.peek(now, limits(now))
	same(k, "the living day", want[0], quota.Figure{Max: 100, Used: 100, Overage: 10})
	if n := k.purge(saccount.Purge{Windows: at(midnight + 4*day + 1), Most: 100}); n != 4 {
		k.failf("dropped %d, want the 4 days that had ended", n)
	}
	same(k, "the living windows", k.peek(now, limits(now)), want)
	k.run(quota.Refused, k.charge(now, "", 0, limits(now)))
	k.buckets(key1, 550, 10)
}

func purgeUsage(k *kit) {
	k.tree()
	k.run(quota.Applied, k.charge(noon, "c", 5, chain(noon)...))
	k.apply(k.refused(noon, key1, quota.ReasonLimit, 3))
	before := len(k.rows(key1, 0, noon+day))
	all := at(noon + 1000*day)
	k.purge(saccount.Purge{Receipts: all, Alerts: all, Windows: all, Most: 100})
	k.buckets(key1, 5, 1)
	same(k, "rows", len(k.rows(key1, 0, noon+day)), before)
	k.stands(noon, chain(noon)[0], 5, 0, 0) // and what never resets never ends
}

func purgeAlerts(k *kit) {
	k.tree()
	for i := range int64(3) {
		s := quota.Subject(fmt.Sprint("key:p", i))
		k.run(quota.Applied, k.charge(noon+i, "", 60, level(s, noon, watched(never(100)))))
	}
	first := k.outbox()
	same(k, "alerts", len(first), 3)
	same(k, "dropped", k.purge(saccount.Purge{Alerts: at(noon + 2), Most: 100}), 2)
	same(k, "what is left", k.outbox(), first[2:])
	same(k, "dropped", k.purge(saccount.Purge{Alerts: at(noon + 3), Most: 100}), 1)
	k.run(quota.Applied, k.charge(noon+9, "", 60, level("key:p9", noon, watched(never(100)))))
	next, err := k.Outbox(background(), first[2].Seq, 10)
	k.must(err, "read the outbox")
	same(k, "alerts behind the last that was delivered", len(next), 1)
	// What alerted alerts no second time for having been delivered.
	k.run(quota.Applied, k.charge(noon+9, "", 1, level("key:p1", noon, watched(never(100)))))
	same(k, "alerts", len(k.outbox()), 1)
}

func purgeBounded(k *kit) {
	k.tree()
	for i := range int64(50) {
		now := int64(noon) - i*day
		k.run(quota.Applied, k.charge(now, fmt.Sprint("c", i), 60, level(key1, now, watched(daily(100, 1, now)))))
	}
	all := at(noon + 1000*day)
	total, calls := 0, 0
	for {
		n, err := k.Purge(background(), saccount.Purge{Receipts: all, Alerts: all, Windows: all, Most: 7})
		k.must(err, "purge")
		if n == 0 {
			break
		}
		if n > 14 {
			k.failf("one call dropped %d things where about 7 were asked for", n)
		}
		if total, calls = total+n, calls+1; calls > 1000 {
			k.fatalf("purging does not end")
		}
	}
	if total < 150 {
		k.failf("dropped %d of 50 ids, 50 windows and 50 alerts", total)
	}
	same(k, "alerts", len(k.outbox()), 0)
	for _, most := range []int{0, -1} {
		_, err := k.Purge(background(), saccount.Purge{Alerts: all, Most: most})
		k.is(err, saccount.ErrInvalid, "purge without a bound")
	}
}
