package storetest

import (
	"fmt"
	"sync"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

func alerts() []guarantee {
	return []guarantee{
		{"a threshold that is passed alerts, once, with what was passed", "an alert that comes twice is noise, one that does not come is an outage", alertOnce},
		{"each threshold alerts once under any concurrency", "many charges cross a line at the same moment", alertRace},
		{"a jump over several thresholds alerts for each", "whoever watches for 80 percent must hear of it though 100 came first", alertJump},
		{"the next window alerts anew", "a threshold is of a window", alertWindows},
		{"giving back and spending again does not alert again", "once is once", alertRefund},
		{"a reservation alerts when it is spent", "what is held may be given back", alertHolds},
		{"overage alerts", "spending beyond the room is what the host most needs to hear of", alertOverage},
		{"an absolute rest alerts", "20 credits left is the same warning for every size of limit", alertLeft},
		{"refusals, replays and stale charges alert nobody", "they changed nothing", alertNothing},
		{"a changed bound alerts with what is spent next, and never again", "a lowered limit may stand above its thresholds at once", alertBounds},
		{"a period that is changed to and fro alerts no second time in its window", "one alert for each subject, limit, window and threshold", alertToAndFro},
		{"the outbox is read in order, after a cursor, so many at a time", "whoever delivers must lose none and know where it was", alertOutbox},
	}
}

// watched is a limit with thresholds.
func watched(e quota.Entry, ts ...quota.Threshold) quota.Entry {
	e.Thresholds = ts
	if len(ts) == 0 {
		e.Thresholds = quota.DefaultThresholds()
	}
	return e
}

// fired says which thresholds alerted, and how often.
func (k *kit) fired() map[string]int {
	k.t.Helper()
	got := map[string]int{}
	last := int64(0)
	for _, a := range k.outbox() {
		got[fmt.Sprintf("%s %s", a.Subject, a.Threshold)]++
		if a.Seq <= last {
			k.failf("alert %+v comes behind number %d", a, last)
		}
		last = a.Seq
	}
	return got
}

func alertOnce(k *kit) {
	k.tree()
	l := level(key1, noon, watched(monthly(100, 1, noon)))
	k.run(quota.Applied, k.charge(noon, "", 49, l))
	same(k, "alerts at 49", len(k.outbox()), 0)
	k.run(quota.Applied, k.charge(noon+1, "", 1, l))
	e := l.Limits[0]
	want := quota.Alert{Org: acme, Subject: key1, Limit: e.Limit, Start: e.Start, End: e.End, Threshold: 50, Max: 100, Used: 50, At: noon + 1}
	got := k.outbox()
	if len(got) != 1 {
		k.fatalf("%d alerts at 50 percent, want 1", len(got))
	}
	want.Seq = got[0].Seq
	same(k, "the alert", got[0], want)
	for range 30 {
		k.run(quota.Applied, k.charge(noon, "", 1, l))
	}
	same(k, "alerts", k.fired(), map[string]int{"key:k1 50%": 1, "key:k1 80%": 1})
	k.run(quota.Applied, k.charge(noon, "", 19, l))
	same(k, "alerts at 99", len(k.outbox()), 2)
	k.run(quota.Applied, k.charge(noon, "", 1, l))
	same(k, "alerts", k.fired(), map[string]int{"key:k1 50%": 1, "key:k1 80%": 1, "key:k1 100%": 1})
}

func alertRace(k *kit) {
	k.tree()
	const workers, each = 100, 100
	var wg sync.WaitGroup
	start := make(chan struct{})
	ls := []*quota.Level{
		level(key1, noon, watched(never(workers*each))),
		level(acc1, noon, watched(never(workers*each+1))),
		level(org, noon, watched(never(2*workers*each))),
	}
	for range workers {
		ops := make([]*quota.Op, each)
		for i := range ops {
			ops[i] = k.charge(noon, "", 1, ls...)
		}
		wg.Go(func() {
			<-start
			if err := k.Apply(background(), ops); err != nil {
				k.failf("apply: %v", err)
			}
		})
	}
	close(start)
	wg.Wait()
	k.stands(noon, ls[0], workers*each, 0, 0)
	same(k, "alerts of 10,000 charges", k.fired(), map[string]int{
		"key:k1 50%": 1, "key:k1 80%": 1, "key:k1 100%": 1, "account:a1 50%": 1, "account:a1 80%": 1, "org:acme 50%": 1,
	})
}

func alertJump(k *kit) {
	k.tree()
	k.run(quota.Applied, k.charge(noon, "", 100, level(key1, noon, watched(never(100)))))
	same(k, "alerts", k.fired(), map[string]int{"key:k1 50%": 1, "key:k1 80%": 1, "key:k1 100%": 1})
	soft := watched(never(100), quota.Percent(100), quota.Percent(250), quota.Percent(1000))
	soft.Soft = true
	k.run(quota.Applied, k.charge(noon, "", 2600, level(key2, noon, soft)))
	same(k, "alerts", len(k.outbox()), 6)
	// where 100 times the amount leaves int64
	k.run(quota.Applied, k.charge(noon, "", quota.MaxCredits/2, level(key3, noon, watched(never(quota.MaxCredits)))))
	same(k, "alerts just under half of everything", len(k.outbox()), 6)
	k.run(quota.Applied, k.charge(noon, "", 1, level(key3, noon, watched(never(quota.MaxCredits)))))
	same(k, "alerts at half of everything", len(k.outbox()), 7)
}

func alertWindows(k *kit) {
	k.tree()
	for i := range int64(3) {
		now := noon + i*day
		k.run(quota.Applied, k.charge(now, "", 60, level(key1, now, watched(daily(100, 1, now)))))
		same(k, "alerts", k.fired(), map[string]int{"key:k1 50%": int(i) + 1})
	}
	k.run(quota.Applied, k.charge(noon, "", 1, level(key1, noon, watched(daily(100, 1, noon))))) // the clock runs back
	same(k, "alerts", k.fired(), map[string]int{"key:k1 50%": 3})
}

func alertRefund(k *kit) {
	k.tree()
	l := level(key1, noon, watched(never(100)))
	for i := range 3 {
		id := fmt.Sprint("c", i)
		k.run(quota.Applied, k.charge(noon, id, 90, l))
		k.run(quota.Applied, k.refund(noon, "", id, 90))
	}
	same(k, "alerts", k.fired(), map[string]int{"key:k1 50%": 1, "key:k1 80%": 1})
}

func alertHolds(k *kit) {
	k.tree()
	ls := []*quota.Level{level(key1, noon, watched(never(100))), level(org, noon, watched(never(100)))}
	k.run(quota.Applied, k.reserve(noon, "r", 90, hour, ls...))
	k.run(quota.Applied, k.reserve(noon, "x", 10, hour, ls...))
	k.run(quota.Applied, k.release(noon, "x"))
	same(k, "alerts of what is held", len(k.outbox()), 0)
	k.run(quota.Applied, k.commit(noon, "r", 70))
	same(k, "alerts", k.fired(), map[string]int{"key:k1 50%": 1, "org:acme 50%": 1})
	k.run(quota.Replayed, k.commit(noon, "r", 70))
	same(k, "alerts", len(k.outbox()), 2)
}

func alertOverage(k *kit) {
	k.tree()
	ls := []*quota.Level{level(key1, noon, watched(never(100))), level(org, noon, watched(never(1000), quota.Percent(15)))}
	for i := range 2 {
		id := fmt.Sprint("r", i)
		k.run(quota.Applied, k.reserve(noon, id, 40, hour, ls...))
	}
	k.run(quota.Applied, k.commit(noon, "r0", 70))
	same(k, "alerts", k.fired(), map[string]int{"key:k1 50%": 1, "key:k1 overage": 1})
	k.run(quota.Applied, k.commit(noon, "r1", 80))
	same(k, "alerts", k.fired(), map[string]int{"key:k1 50%": 1, "key:k1 80%": 1, "key:k1 100%": 1, "key:k1 overage": 1, "org:acme 15%": 1})
}

func alertLeft(k *kit) {
	k.tree()
	l := level(key1, noon, watched(never(100), quota.Left(20), quota.Left(0)))
	k.run(quota.Applied, k.charge(noon, "", 79, l))
	same(k, "alerts with 21 left", len(k.outbox()), 0)
	k.run(quota.Applied, k.charge(noon, "", 1, l))
	k.run(quota.Applied, k.charge(noon, "", 19, l))
	same(k, "alerts with 1 left", k.fired(), map[string]int{"key:k1 left 0.00002": 1})
	k.run(quota.Applied, k.charge(noon, "", 1, l))
	same(k, "alerts with nothing left", len(k.outbox()), 2)
	k.run(quota.Applied, k.charge(noon, "", 0, level(key2, noon, watched(never(10), quota.Left(50), quota.Percent(1)))))
	same(k, "alerts before anything is spent", len(k.outbox()), 2)
}

func alertNothing(k *kit) {
	k.tree()
	ls := []*quota.Level{level(key1, noon, watched(never(100))), level(org, noon, watched(never(60)))}
	k.run(quota.Refused, k.charge(noon, "", 90, ls...))
	stale := k.charge(noon, "", 55, ls...)
	stale.Settings--
	k.run(quota.Stale, stale)
	k.run(quota.Unknown, k.commit(noon, "nothing", 90))
	same(k, "alerts", len(k.outbox()), 0)
	k.run(quota.Applied, k.charge(noon, "c", 59, ls...))
	n := len(k.outbox())
	k.run(quota.Replayed, k.charge(noon, "c", 59, ls...))
	k.run(quota.Conflict, k.charge(noon, "c", 60, ls...))
	k.run(quota.Refused, k.charge(noon, "", 41, ls...))
	same(k, "alerts", len(k.outbox()), n)
}

func alertBounds(k *kit) {
	k.tree()
	at100, at200 := level(key1, noon, watched(never(100))), level(key1, noon, watched(never(200)))
	k.run(quota.Applied, k.charge(noon, "", 100, at200))
	same(k, "alerts", k.fired(), map[string]int{"key:k1 50%": 1})
	k.run(quota.Applied, k.charge(noon, "", 0, at100)) // lowered
	same(k, "alerts", k.fired(), map[string]int{"key:k1 50%": 1, "key:k1 80%": 1, "key:k1 100%": 1})
	k.run(quota.Applied, k.charge(noon, "", 70, at200)) // raised again
	k.run(quota.Applied, k.charge(noon, "", 30, at200))
	same(k, "alerts", len(k.outbox()), 3)
	wider := watched(never(200), append(quota.DefaultThresholds(), quota.Percent(90))...)
	k.run(quota.Applied, k.charge(noon, "", 0, level(key1, noon, wider))) // a threshold more
	same(k, "alerts of a threshold that was added behind what is spent", k.fired()["key:k1 90%"], 1)
	k.run(quota.Applied, k.charge(noon, "", 40, level(key2, noon, watched(never(100), quota.Percent(100)))))
	k.run(quota.Applied, k.charge(noon, "", 20, level(key2, noon, watched(never(100), quota.Percent(60), quota.Percent(100)))))
	same(k, "alerts of a threshold that was added before it was passed", k.fired()["key:k2 60%"], 1)
}

func alertToAndFro(k *kit) {
	k.tree()
	was, now := watched(monthly(100, 1, noon)), int64(noon)
	k.run(quota.Applied, k.charge(now, "", 85, level(key1, now, was)))
	same(k, "alerts", k.fired(), map[string]int{"key:k1 50%": 1, "key:k1 80%": 1})
	for i, period := range []func(quota.Credits, uint32, int64) quota.Entry{daily, monthly, monthly} {
		e := watched(period(100, uint32(i)+2, now))
		k.edit(now, saccount.KindKey, "k1", opening(key1, e, &was))
		now += day
		was = watched(period(100, uint32(i)+2, now))
		k.run(quota.Applied, k.charge(now, "", 1, level(key1, now, was)))
	}
	same(k, "alerts", k.fired(), map[string]int{"key:k1 50%": 1, "key:k1 80%": 1})
}

func alertOutbox(k *kit) {
	k.tree()
	l, err := k.Lookup(background(), "other", saccount.KindOrg, "other")
	k.must(err, "look up the other organization")
	for i := range 10 {
		s := quota.Subject(fmt.Sprint("key:o", i))
		o := k.charge(noon, "", 60, level(s, noon, watched(never(100))))
		if i%2 == 1 {
			o.Org, o.Settings = "other", l.Settings
		}
		k.run(quota.Applied, o)
	}
	all := k.outbox()
	if len(all) != 10 {
		k.fatalf("%d alerts, want 10", len(all))
	}
	for i, a := range all {
		if a.Subject.ID() != fmt.Sprint("o", i) || (a.Org == acme) != (i%2 == 0) {
			k.failf("alert %d is of %s in %s", i, a.Subject, a.Org)
		}
		page, err := k.Outbox(background(), a.Seq, 3)
		k.must(err, "read the outbox")
		same(k, "three alerts after one", append([]quota.Alert{}, page...), append([]quota.Alert{}, all[i+1:min(i+4, len(all))]...))
	}
	if all[0].Seq < 1 {
		k.failf("the first alert has number %d; a cursor of 0 must come before all", all[0].Seq)
	}
}
