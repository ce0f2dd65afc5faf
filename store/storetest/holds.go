package storetest

import (
	"fmt"
	"slices"

	"github.com/keypurse/keypurse/quota"
)

func holds() []guarantee {
	return []guarantee{
		{"a reservation holds at every level and spends nothing", "credits that are promised are not there for others, and not spent either", holdReserve},
		{"a commit spends what was used and frees the rest", "the cost is known only after the work", holdCommit},
		{"a commit above its reservation takes room where there is room", "credits that are free are spent, not overrun", holdExcessRoom},
		{"what finds no room is overage, apart and visible", "work that was done is never clamped away, and never admitted as new work", holdOverage},
		{"a strict commit refuses what finds no room, and leaves the reservation", "a host may refuse instead", holdStrict},
		{"a release gives everything back", "work that was not done costs nothing", holdRelease},
		{"a reservation's time ends by itself", "the process that held it may be dead, and no job may be needed", holdExpiry},
		{"a commit or release after the end is Expired and changes nothing", "the credits are free again, and perhaps spent", holdExpired},
		{"a renewal moves the end, never to an earlier instant", "a handler that runs long keeps its hold", holdRenew},
		{"a reservation is settled once", "a panic, a hang-up and a timeout may all try", holdOnce},
		{"settling is by who reserved, or by the host itself", "a caller that guesses ids must not free or spend another's hold", holdCaller},
		{"a settlement lands in the window and bucket of its reservation", "a window's sum is of what was admitted in it", holdWindow},
		{"nothing is held when nothing is open", "a leak of held credits is a limit that shrinks", holdNone},
		{"open reservations are bounded", "a bound on everything", holdBound},
	}
}

func holdReserve(k *kit) {
	k.tree()
	ls := []*quota.Level{level(key1, noon, named("a", never(100)), named("b", daily(50, 2, noon))), level(acc1, noon), level(org, noon, never(300))}
	o := k.run(quota.Applied, k.reserve(noon, "r1", 30, hour, ls...))
	want := []quota.Figure{{Max: 100, Held: 30}, {Max: 50, Held: 30}, {Max: 300, Held: 30}}
	same(k, "figures", o.Result.Figures, want)
	same(k, "figures of a peek", k.peek(noon, ls...), want)
	k.run(quota.Refused, k.charge(noon, "", 21, ls...))
	k.run(quota.Refused, k.reserve(noon, "r2", 21, hour, ls...))
	k.run(quota.Applied, k.reserve(noon, "r2", 20, hour, ls...))
	k.buckets(key1, 0, 2) // a request is counted once, with its reservation
}

func holdCommit(k *kit) {
	k.tree()
	ls := chain(noon)
	for i, actual := range []quota.Credits{0, 1, 29, 30} {
		id := fmt.Sprint("r", i)
		k.run(quota.Applied, k.reserve(noon, id, 30, hour, ls...))
		o := k.run(quota.Applied, k.commit(noon+minute, id, actual))
		if len(o.Result.Figures) != 3 || o.Result.Figures[2].Held != 0 || o.Result.Receipt == nil || o.Result.Receipt.Amount != 30 {
			k.failf("a commit of %d of 30: figures %+v, receipt %+v", actual, o.Result.Figures, o.Result.Receipt)
		}
	}
	for _, l := range ls {
		k.stands(noon, l, 60, 0, 0)
		k.buckets(l.Subject, 60, 4)
	}
}

func holdExcessRoom(k *kit) {
	k.tree()
	ls := []*quota.Level{level(key1, noon, never(100)), level(org, noon, never(300))}
	k.run(quota.Applied, k.reserve(noon, "r1", 30, hour, ls...))
	k.run(quota.Applied, k.commit(noon, "r1", 100))
	k.stands(noon, ls[0], 100, 0, 0)
	k.stands(noon, ls[1], 100, 0, 0)
	k.buckets(key1, 100, 1)
}

func holdOverage(k *kit) {
	k.tree()
	ls := []*quota.Level{level(key1, noon, never(100)), level(acc1, noon), level(org, noon, never(300))}
	k.run(quota.Applied, k.charge(noon, "", 50, ls...))
	k.run(quota.Applied, k.reserve(noon, "other", 10, hour, ls...))
	k.run(quota.Applied, k.reserve(noon, "r1", 30, hour, ls...))
	// 10 are free at the key: of 25 beyond the reservation, 15 find no room.
	o := k.run(quota.Applied, k.commit(noon, "r1", 55))
	same(k, "figures", o.Result.Figures, []quota.Figure{{Max: 100, Used: 90, Held: 10, Overage: 15}, {Max: 300, Used: 105, Held: 10}})
	k.run(quota.Refused, k.charge(noon, "", 1, ls...))
	k.run(quota.Applied, k.release(noon, "other"))
	k.run(quota.Refused, k.charge(noon, "", 0, ls...)) // overdrawn by five
	k.stands(noon, ls[0], 90, 0, 15)
	if f := k.peek(noon, ls[0])[0]; f.Remaining() != 0 {
		k.failf("remaining %d of an overdrawn limit, want 0", f.Remaining())
	}
	for _, s := range []quota.Subject{key1, acc1, org} {
		k.buckets(s, 105, 3)
	}
}

func holdStrict(k *kit) {
	k.tree()
	ls := []*quota.Level{level(key1, noon, never(100)), level(org, noon, never(300))}
	k.run(quota.Applied, k.charge(noon, "", 50, ls...))
	k.run(quota.Applied, k.reserve(noon, "r1", 30, hour, ls...))
	before := k.snapshot(noon, ls...)
	strict := func(amount quota.Credits) *quota.Op {
		o := k.commit(noon, "r1", amount)
		o.Strict = true
		return o
	}
	k.run(quota.Excess, strict(51))
	same(k, "all that counts after a strict refusal", k.snapshot(noon, ls...), before)
	k.run(quota.Applied, strict(50))
	k.stands(noon, ls[0], 100, 0, 0)
}

func holdRelease(k *kit) {
	k.tree()
	ls := chain(noon)
	before := k.peek(noon, ls...)
	k.run(quota.Applied, k.reserve(noon, "r1", 30, hour, ls...))
	o := k.run(quota.Applied, k.release(noon, "r1"))
	same(k, "figures of a release", o.Result.Figures, before)
	same(k, "figures after it", k.peek(noon, ls...), before)
	k.buckets(key1, 0, 1) // the request was there all the same
}

func holdExpiry(k *kit) {
	k.tree()
	l := level(key1, noon, never(100))
	k.run(quota.Applied, k.reserve(noon, "short", 60, minute, l))
	k.run(quota.Applied, k.reserve(noon, "long", 40, hour, l))
	k.stands(noon+minute-1, l, 0, 100, 0)
	k.stands(noon+minute, l, 0, 40, 0) // seen with no operation in between
	k.stands(noon, l, 0, 100, 0)       // and looking changed nothing
	k.run(quota.Refused, k.charge(noon+minute-1, "", 1, l))
	k.run(quota.Applied, k.charge(noon+minute, "", 60, l)) // by the operation itself
	k.run(quota.Refused, k.charge(noon+minute, "", 1, l))
	k.stands(noon+hour, l, 60, 0, 0)
	k.buckets(key1, 60, 3)
}

func holdExpired(k *kit) {
	k.tree()
	l := level(key1, noon, never(100))
	k.run(quota.Applied, k.reserve(noon, "r1", 60, minute, l))
	k.run(quota.Applied, k.reserve(noon, "r2", 40, minute, l))
	k.run(quota.Expired, k.commit(noon+minute, "r1", 60))
	k.run(quota.Expired, k.commit(noon+minute, "r1", 0))
	k.run(quota.Expired, k.release(noon+minute, "r2"))
	k.run(quota.Expired, k.renew(noon+minute, "r2", hour))
	k.stands(noon+minute, l, 0, 0, 0)
	// A clock that runs back does not bring back what is over: it may be spent.
	k.run(quota.Applied, k.charge(noon+minute, "", 100, l))
	k.run(quota.Expired, k.commit(noon, "r1", 60))
	k.run(quota.Conflict, k.refund(noon, "", "r1", 1))
	k.stands(noon, l, 100, 0, 0)
	k.buckets(key1, 100, 3)
}

func holdRenew(k *kit) {
	k.tree()
	l := level(key1, noon, never(100))
	k.run(quota.Applied, k.reserve(noon, "r1", 60, minute, l))
	k.run(quota.Applied, k.renew(noon+30*second, "r1", minute))
	k.stands(noon+minute, l, 0, 60, 0)
	k.run(quota.Applied, k.renew(noon+31*second, "r1", second))
	k.stands(noon+minute, l, 0, 60, 0)
	k.stands(noon+90*second, l, 0, 0, 0)
	k.run(quota.Applied, k.commit(noon+90*second-1, "r1", 60))
	k.run(quota.Unknown, k.renew(noon, "nothing", minute))
	k.run(quota.Conflict, k.renew(noon+90*second-1, "r1", minute)) // it is settled
	k.stands(noon+day, l, 60, 0, 0)
	for i := range 5 { // renewed again and again, it holds once
		now := noon + int64(i)*minute
		if i == 0 {
			k.run(quota.Applied, k.reserve(now, "r2", 40, 2*minute, l))
			continue
		}
		k.run(quota.Applied, k.renew(now, "r2", 2*minute))
		k.stands(now, l, 60, 40, 0)
	}
	k.stands(noon+6*minute, l, 60, 0, 0)
}

func holdOnce(k *kit) {
	k.tree()
	l := level(key1, noon, never(100))
	k.run(quota.Applied, k.reserve(noon, "c", 30, hour, l))
	k.run(quota.Applied, k.reserve(noon, "r", 30, hour, l))
	first := slices.Clone(k.run(quota.Applied, k.commit(noon, "c", 20)).Result.Figures)
	k.run(quota.Applied, k.charge(noon, "", 1, l))
	for range 2 {
		o := k.run(quota.Replayed, k.commit(noon+minute, "c", 20))
		same(k, "figures of the second commit", o.Result.Figures, first)
	}
	k.run(quota.Conflict, k.commit(noon, "c", 19))
	k.run(quota.Conflict, k.release(noon, "c"))
	first = slices.Clone(k.run(quota.Applied, k.release(noon, "r")).Result.Figures)
	o := k.run(quota.Replayed, k.release(noon, "r"))
	same(k, "figures of the second release", o.Result.Figures, first)
	k.run(quota.Conflict, k.commit(noon, "r", 0))
	k.run(quota.Replayed, k.commit(noon+2*hour, "c", 20)) // its time would be over: it is settled
	k.run(quota.Replayed, k.release(noon+2*hour, "r"))
	k.stands(noon, l, 21, 0, 0)
	k.run(quota.Unknown, k.commit(noon, "nothing", 1))
	k.run(quota.Unknown, k.release(noon, "nothing"))
}

func holdCaller(k *kit) {
	k.tree()
	l := level(key1, noon, never(100))
	k.run(quota.Applied, k.reserve(noon, "r", 30, hour, l))
	k.run(quota.Applied, k.charge(noon, "c", 30, l))
	for _, o := range []*quota.Op{k.commit(noon, "r", 30), k.release(noon, "r"), k.renew(noon, "r", 2*hour), k.refund(noon, "", "c", 1)} {
		o.Caller = key2
		k.run(quota.Conflict, o)
	}
	k.stands(noon, l, 30, 30, 0)
	for _, o := range []*quota.Op{k.renew(noon, "r", 2*hour), k.commit(noon, "r", 30), k.refund(noon, "", "r", 1), k.refund(noon, "", "c", 1)} {
		o.Caller = ""
		k.run(quota.Applied, o)
	}
	k.stands(noon, l, 58, 0, 0)
}

func holdWindow(k *kit) {
	k.tree()
	const late = midnight + day - minute
	today, tomorrow := level(key1, late, daily(100, 1, late)), level(key1, late+hour, daily(100, 1, late+hour))
	for _, id := range []string{"c", "r", "x", "over"} {
		k.run(quota.Applied, k.reserve(late, id, 20, 2*hour, today))
	}
	k.stands(late+hour, today, 0, 80, 0)
	k.stands(late+hour, tomorrow, 0, 0, 0)
	k.run(quota.Applied, k.charge(late+hour, "", 100, tomorrow)) // a reservation holds only in its window
	k.run(quota.Applied, k.commit(late+hour, "c", 15))
	k.run(quota.Applied, k.release(late+hour, "r"))
	k.run(quota.Applied, k.commit(late+hour, "over", 120))
	k.stands(late+hour, today, 80, 20, 55)
	k.run(quota.Applied, k.refund(late+hour, "", "c", 5))
	k.stands(late+3*hour, today, 80, 0, 50) // and "x" is over
	k.stands(late+3*hour, tomorrow, 100, 0, 0)
	for start, want := range map[int64]quota.Credits{quota.BucketStart(late): 130, quota.BucketStart(late + hour): 100} {
		if got, _ := k.spent(key1, start, start+quarter); got != want {
			k.failf("bucket of %s: %d, want %d", at(start), got, want)
		}
	}
}

func holdNone(k *kit) {
	k.tree()
	ls := chain(noon)
	for i := range 40 {
		id := fmt.Sprint("r", i)
		k.run(quota.Applied, k.reserve(noon, id, 10, int64(i+1)*minute, ls...))
		switch i % 4 {
		case 0:
			k.run(quota.Applied, k.commit(noon, id, quota.Credits(i)))
		case 1:
			k.run(quota.Applied, k.release(noon, id))
		case 2:
			k.run(quota.Applied, k.renew(noon, id, 2*hour))
		}
	}
	k.run(quota.Applied, k.charge(noon+2*hour, "", 0, ls...))
	for _, l := range ls {
		f := k.peek(noon+2*hour, l)[0]
		same(k, "held by "+string(l.Subject), f.Held, 0)
		k.buckets(l.Subject, f.Used+f.Overage, 41)
	}
}

func holdBound(k *kit) {
	k.tree()
	const lot = 4096
	ops := make([]*quota.Op, lot)
	for n := 0; n < quota.MaxHolds; n += lot {
		for i := range ops {
			ops[i] = k.reserve(noon, fmt.Sprint("r", n+i), 1, hour)
		}
		k.apply(ops...)
		for _, o := range ops {
			if o.Result.Outcome != quota.Applied {
				k.fatalf("reservation %s: %s, want applied up to %d", o.ID, o.Result.Outcome, quota.MaxHolds)
			}
		}
	}
	k.run(quota.Full, k.reserve(noon, "more", 1, hour, chain(noon)...))
	k.run(quota.Applied, k.charge(noon, "", 1, chain(noon)...))
	k.run(quota.Applied, k.release(noon, "r5"))
	k.run(quota.Applied, k.reserve(noon, "more", 1, 2*hour, chain(noon)...))
	k.run(quota.Full, k.reserve(noon, "even more", 1, hour, chain(noon)...))
	k.run(quota.Applied, k.reserve(noon+hour, "even more", 1, hour, chain(noon+hour)...)) // the rest are over
}
