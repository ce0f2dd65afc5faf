package storetest

import (
	"fmt"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/usage"
)

func folds() []guarantee {
	return []guarantee{
		{"folding loses no credit and no request", "a fold is for space, not for forgetting", foldTotals},
		{"folding again folds nothing", "a fold that was cut off is begun again", foldTwice},
		{"one call folds about so many buckets, each subject's day wholly", "a store must not stand still for a year of history", foldBounded},
		{"what was folded late joins its day", "a bucket that was written behind the fold is of that day all the same", foldLate},
		{"a window that opens counts its folded days", "a new monthly limit must not grant the folded part again", foldOpens},
		{"days that are no days are ErrInvalid", "a fold without bounds would put all history into one row", foldInvalid},
	}
}

// history spends on three days, in an organization whose day begins at 05:00.
func (k *kit) history() (days []int64, credits quota.Credits, requests int64) {
	k.t.Helper()
	k.tree()
	first := int64(midnight - 60*day + 5*hour)
	for i := range int64(4) {
		days = append(days, first+i*day)
	}
	for d := range int64(3) {
		for i := range int64(6) {
			now := first + d*day + i*4*hour
			k.run(quota.Applied, k.charge(now, "", quota.Credits(1+d*10+i), level(key1, now), level(org, now)))
			k.run(quota.Applied, k.refused(now, key1, quota.ReasonLimit, 2))
			credits, requests = credits+quota.Credits(1+d*10+i), requests+1
		}
	}
	return days, credits, requests
}

// foldAll folds until nothing is left, and says how much that was.
func (k *kit) foldAll(days []int64, most int) (folded int) {
	k.t.Helper()
	for {
		n, err := k.Fold(background(), acme, days, most)
		k.must(err, "fold")
		if n == 0 {
			return folded
		}
		if folded += n; folded > 1e6 {
			k.fatalf("folding does not end")
		}
	}
}

func foldTotals(k *kit) {
	days, credits, requests := k.history()
	now := days[3] // not folded: it starts where the last day ends
	k.run(quota.Applied, k.charge(now, "", 100, level(key1, now), level(org, now)))
	k.run(quota.Applied, k.charge(days[0]-1, "", 100, level(key1, days[0]-1), level(org, days[0]-1)))
	same(k, "buckets folded: 18 of key and organization, 18 of refusals", k.foldAll(days, 1000), 54)
	for _, s := range []quota.Subject{key1, org} {
		k.buckets(s, credits+200, requests+2)
		got := map[string]usage.Row{}
		for _, r := range k.rows(s, 0, noon) {
			got[fmt.Sprint(r.Day, r.Start, r.Reason)] = r
		}
		want := map[string]usage.Row{}
		add := func(r usage.Row) { r.Subject = s; want[fmt.Sprint(r.Day, r.Start, r.Reason)] = r }
		for d := range int64(3) {
			add(usage.Row{Day: true, Start: days[d], Credits: quota.Credits(6*(1+d*10) + 15), Requests: 6})
			if s == key1 {
				add(usage.Row{Day: true, Start: days[d], Reason: quota.ReasonLimit, Requests: 12})
			}
		}
		add(usage.Row{Start: days[3], Credits: 100, Requests: 1})
		add(usage.Row{Start: quota.BucketStart(days[0] - 1), Credits: 100, Requests: 1})
		same(k, "rows of "+string(s), got, want)
	}
	c, n := k.spent(key1, days[1], days[2])
	same(k, "credits of the second day", c, 6*11+15)
	same(k, "requests of the second day", n, 6)
}

func foldTwice(k *kit) {
	days, credits, requests := k.history()
	k.foldAll(days, 1000)
	before := k.rows(key1, 0, noon)
	n, err := k.Fold(background(), acme, days, 1000)
	k.must(err, "fold")
	same(k, "buckets folded the second time", n, 0)
	same(k, "rows", len(k.rows(key1, 0, noon)), len(before))
	k.buckets(key1, credits, requests)
}

func foldBounded(k *kit) {
	days, credits, requests := k.history()
	rounds, folded := 0, 0
	for {
		n, err := k.Fold(background(), acme, days, 7)
		k.must(err, "fold")
		if n == 0 {
			break
		}
		if n > 12 {
			k.failf("one call folded %d buckets where about 7 were asked for, 6 a day", n)
		}
		rounds, folded = rounds+1, folded+n
		k.buckets(key1, credits, requests) // at every moment
		k.buckets(org, credits, requests)
		if rounds > 100 {
			k.fatalf("folding does not end")
		}
	}
	same(k, "buckets folded", folded, 54)
	if rounds < 5 {
		k.failf("54 buckets were folded in %d calls of about 7", rounds)
	}
}

func foldLate(k *kit) {
	days, credits, requests := k.history()
	k.foldAll(days, 1000)
	now := days[1] + hour
	k.run(quota.Applied, k.charge(now, "", 5, level(key1, now)))
	k.buckets(key1, credits+5, requests+1)
	same(k, "buckets folded", k.foldAll(days, 1000), 1)
	k.buckets(key1, credits+5, requests+1)
	same(k, "rows", len(k.rows(key1, 0, noon)), 6)
}

func foldOpens(k *kit) {
	days, credits, _ := k.history()
	k.foldAll(days, 1000)
	now := days[3] + day
	k.run(quota.Applied, k.charge(now, "", 1000, level(key1, now)))
	window := quota.Entry{Limit: "credits", Number: 1, Max: 5000, Start: days[0], End: days[0] + 30*day}
	k.stands(now, level(key1, now, window), credits+1000, 0, 0)
	k.edit(now, saccount.KindKey, "k1", opening(key1, window, nil))
	k.left(now, level(key1, now, window), 4000-credits)
	part := window
	part.Number, part.Start = 2, days[1]
	k.edit(now, saccount.KindKey, "k1", opening(key1, part, &window))
	k.stands(now, level(key1, now, part), credits-(6+15)+1000, 0, 0)
	// An opened window stays what it is when its days are folded.
	later := append(days, days[3]+day, days[3]+2*day)
	k.foldAll(later, 1000)
	k.stands(now, level(key1, now, window), credits+1000, 0, 0)
	k.run(quota.Applied, k.charge(now, "", 1, level(key1, now, part)))
	k.stands(now, level(key1, now, part), credits-(6+15)+1001, 0, 0)
}

func foldInvalid(k *kit) {
	days, credits, requests := k.history()
	for name, c := range map[string]struct {
		days []int64
		most int
	}{
		"no days": {nil, 10}, "one instant": {days[:1], 10}, "days that go back": {[]int64{days[1], days[0]}, 10},
		"no bound": {days, 0}, "a negative bound": {days, -1},
	} {
		_, err := k.Fold(background(), acme, c.days, c.most)
		k.is(err, saccount.ErrInvalid, "folding with "+name)
	}
	k.buckets(key1, credits, requests)
}
