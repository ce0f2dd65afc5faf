package storetest

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/usage"
)

func usages() []guarantee {
	return []guarantee{
		{"buckets add up at every level", "usage always agrees with the quota, and parents with their children", usageLevels},
		{"everything is booked in its quarter of an hour", "a bucket folds exactly into the days of every zone", usageQuarters},
		{"a range holds what starts in it", "two ranges that meet neither share a bucket nor lose one", usageRange},
		{"refused requests are counted by reason, apart", "a refusal costs nothing and tells something", usageRefused},
		{"rows come subject by subject as they are named", "whoever adds up needs no memory of the others", usageOrder},
		{"the history of the deleted stays", "a deleted key's credits stay in its parents' totals, and its own stay readable", usageDeleted},
		{"an error of the caller's function ends the reading", "a caller that has enough says so", usageError},
		{"every subject of a kind comes once, the deleted too", "who spent most can only be found where nobody is left out", usageKind},
		{"between two edges everything is one row", "a month of days of 10,000 accounts must not bring every quarter of an hour", usageEdges},
		{"a folded day keeps its mark between edges", "whether a day reaches beyond its point is told by where it begins", usageEdgesOfDays},
		{"a sum beyond int64 is an error", "a wrong number is worse than none", usageEdgesOverflow},
		{"nothing is held while rows are handed over", "a slow export must not stop charges, and may use the Store", usageUnheld},
		{"a range that says two things is ErrInvalid", "a guess would answer another question", usageInvalid},
		{"what is not there has no rows", "an unknown subject has spent nothing", usageNone},
	}
}

func usageLevels(k *kit) {
	k.tree()
	var sum quota.Credits
	for i := range 60 {
		now := noon + int64(i)*7*minute
		key, account := key1, acc1
		switch i % 3 {
		case 1:
			key = key2
		case 2:
			key, account = key3, acc2
		}
		amount := quota.Credits(i * i)
		ls := []*quota.Level{level(key, now), level(account, now), level(org, now)}
		id := fmt.Sprint("o", i)
		switch i % 4 {
		case 0:
			k.run(quota.Applied, k.charge(now, "", amount, ls...))
		case 1:
			k.run(quota.Applied, k.charge(now, id, amount+5, ls...))
			k.run(quota.Applied, k.refund(now+3*hour, "", id, 5))
		default:
			k.run(quota.Applied, k.reserve(now, id, amount+9, hour, ls...))
			k.run(quota.Applied, k.commit(now+20*minute, id, amount))
		}
		sum += amount
	}
	k.run(quota.Applied, k.charge(noon, "", 11, level(ann, noon), level(org, noon)))
	from, to := ever()
	total := map[quota.Subject]map[int64]usage.Row{}
	for _, s := range []quota.Subject{key1, key2, key3, acc1, acc2, ann, org} {
		total[s] = map[int64]usage.Row{}
		for _, r := range k.rows(s, from, to) {
			if _, twice := total[s][r.Start]; twice || r.Subject != s || r.Start != quota.BucketStart(r.Start) || r.Day {
				k.failf("a row of %s that is twice there, of another subject, or no quarter of an hour: %+v", s, r)
			}
			total[s][r.Start] = r
		}
	}
	for parent, children := range map[quota.Subject][]quota.Subject{acc1: {key1, key2}, acc2: {key3}, org: {acc1, acc2, ann}} {
		added := map[int64]usage.Row{}
		for _, c := range children {
			for start, r := range total[c] {
				a := added[start]
				added[start] = usage.Row{Subject: parent, Start: start, Credits: a.Credits + r.Credits, Requests: a.Requests + r.Requests}
			}
		}
		same(k, "buckets of "+string(parent)+" beside the sum of its children's", total[parent], added)
	}
	k.buckets(org, sum+11, 61)
}

func usageQuarters(k *kit) {
	k.tree()
	for _, now := range []int64{noon, noon + quarter - 1, noon + quarter, noon + 2*quarter - 1, noon - 1} {
		k.run(quota.Applied, k.charge(now, "", 1, level(key1, now)))
	}
	rows := k.rows(key1, 0, noon+day)
	slices.SortFunc(rows, func(a, b usage.Row) int { return int(a.Start/second - b.Start/second) })
	same(k, "rows", rows, []usage.Row{
		{Subject: key1, Start: noon - quarter, Credits: 1, Requests: 1},
		{Subject: key1, Start: noon, Credits: 2, Requests: 2},
		{Subject: key1, Start: noon + quarter, Credits: 2, Requests: 2},
	})
}

func usageRange(k *kit) {
	k.tree()
	for i := range int64(8) {
		k.run(quota.Applied, k.charge(noon+i*quarter, "", 1, level(key1, noon+i*quarter)))
	}
	for _, c := range []struct{ from, to, want int64 }{
		{noon, noon + 8*quarter, 8}, {noon, noon + 8*quarter - 1, 8}, {noon + 1, noon + 8*quarter, 7}, {noon, noon + 7*quarter, 7},
		{noon + quarter, noon + 2*quarter, 1}, {noon + quarter, noon + quarter + 1, 1}, {noon, noon, 0}, {noon + hour, noon, 0}, {0, noon, 0}, {noon + 8*quarter, noon + day, 0},
	} {
		if got := int64(len(k.rows(key1, c.from, c.to))); got != c.want {
			k.failf("[%s, %s): %d buckets, want %d", at(c.from), at(c.to), got, c.want)
		}
	}
}

// refused counts refused requests of a subject.
func (k *kit) refused(now int64, s quota.Subject, reason quota.Reason, n int64) *quota.Op {
	return &quota.Op{Verb: quota.VerbCount, Org: acme, Counts: []quota.Count{{Subject: s, Series: reason.Series(), Bucket: quota.BucketStart(now), Requests: n}}}
}

func usageRefused(k *kit) {
	k.tree()
	k.run(quota.Applied, k.charge(noon, "", 5, chain(noon)...))
	before := k.peek(noon, chain(noon)...)
	one := k.refused(noon, key1, quota.ReasonLimit, 3)
	one.Counts = append(one.Counts, k.refused(noon, org, quota.ReasonLimit, 3).Counts...)
	k.apply(one, k.refused(noon, key1, quota.ReasonScope, 2), k.refused(noon+quarter-1, key1, quota.ReasonLimit, 4),
		k.refused(noon+quarter, key1, quota.ReasonLimit, 1), k.refused(noon, key1, "own_reason", 1), k.refused(noon, key1, quota.ReasonRate, 0))
	got := map[string]int64{}
	for _, r := range k.rows(key1, 0, noon+day) {
		if r.Reason != "" && r.Credits != 0 {
			k.failf("refused requests cost %d: %+v", r.Credits, r)
		}
		got[fmt.Sprintf("%s at %d", r.Reason, (r.Start-noon)/quarter)] += r.Requests
	}
	same(k, "requests", got, map[string]int64{" at 0": 1, "limit at 0": 7, "limit at 1": 1, "scope at 0": 2, "own_reason at 0": 1})
	k.buckets(key1, 5, 1)
	k.buckets(org, 5, 1)
	same(k, "figures", k.peek(noon, chain(noon)...), before)
}

func usageOrder(k *kit) {
	k.tree()
	for _, now := range []int64{noon, noon + hour} {
		k.run(quota.Applied, k.charge(now, "", 1, level(key1, now), level(acc1, now), level(org, now)))
		k.run(quota.Applied, k.charge(now, "", 1, level(key3, now), level(acc2, now), level(org, now)))
	}
	for _, subjects := range [][]quota.Subject{{key1, key3, org}, {org, acc2, "key:nobody", key1}, {key3}} {
		var got []quota.Subject
		err := k.Usage(background(), usage.Range{Org: acme, Subjects: subjects, From: 0, To: noon + day}, func(r usage.Row) error {
			if len(got) == 0 || got[len(got)-1] != r.Subject {
				got = append(got, r.Subject)
			}
			return nil
		})
		k.must(err, "read usage")
		same(k, "subjects in order", got, slices.DeleteFunc(slices.Clone(subjects), func(s quota.Subject) bool { return s == "key:nobody" }))
	}
}

func usageDeleted(k *kit) {
	k.tree()
	k.run(quota.Applied, k.charge(noon, "", 5, chain(noon)...))
	key, account := k.get(saccount.KindKey, "k1"), k.get(saccount.KindAccount, "a1")
	key.Deleted, account.Deleted = at(noon), at(noon)
	k.put(key, account)
	k.refresh()
	k.run(quota.Applied, k.charge(noon, "", 7, level(key3, noon), level(acc2, noon), level(org, noon)))
	k.buckets(key1, 5, 1)
	k.buckets(acc1, 5, 1)
	k.buckets(org, 12, 2)
}

func usageError(k *kit) {
	k.tree()
	for i := range int64(4) {
		k.run(quota.Applied, k.charge(noon+i*quarter, "", 1, level(key1, noon+i*quarter)))
	}
	enough, calls := errors.New("enough"), 0
	err := k.Usage(background(), usage.Range{Org: acme, Subjects: []quota.Subject{key1, key1}, From: 0, To: noon + day}, func(usage.Row) error {
		calls++
		if calls == 2 {
			return enough
		}
		return nil
	})
	k.is(err, enough, "a reading that the caller ended")
	same(k, "calls", calls, 2)
}

func usageNone(k *kit) {
	k.tree()
	if r := k.rows("key:nobody", 0, noon+day); len(r) != 0 {
		k.failf("an unknown subject has rows: %+v", r)
	}
	err := k.Usage(background(), usage.Range{Org: "nobody", Subjects: []quota.Subject{org}, From: 0, To: noon}, func(r usage.Row) error {
		k.failf("an unknown organization has a row: %+v", r)
		return nil
	})
	k.must(err, "read the usage of an unknown organization")
	n, err := k.Fold(background(), "nobody", []int64{midnight, midnight + day}, 10)
	if n != 0 || err != nil {
		k.failf("folding an unknown organization: %d folded, error %v; want nothing", n, err)
	}
}

// read is what a range brings, and fails where a subject comes in two parts.
func (k *kit) read(r usage.Range) (all []usage.Row) {
	k.t.Helper()
	r.Org = acme
	done := map[quota.Subject]bool{}
	k.must(k.Usage(background(), r, func(row usage.Row) error {
		if n := len(all); n > 0 && all[n-1].Subject != row.Subject {
			done[all[n-1].Subject] = true
		}
		if done[row.Subject] {
			k.failf("%s comes twice", row.Subject)
		}
		all = append(all, row)
		return nil
	}), "read usage")
	slices.SortFunc(all, func(a, b usage.Row) int {
		return cmp.Or(cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Start, b.Start))
	})
	return all
}

func usageKind(k *kit) {
	k.tree()
	var want []usage.Row
	var ops []*quota.Op
	// More than any backend looks for at once, of lengths of their own, and
	// some that spend beside or before the range alone.
	for i := range 5000 {
		s := quota.NewSubject(quota.KindAccount, fmt.Sprint("x", i*i*i))
		now := int64(noon)
		switch i % 1000 {
		case 7:
			now = noon - day
		case 8:
			now = noon + hour
		default:
			want = append(want, usage.Row{Subject: s, Start: noon, Credits: quota.Credits(i), Requests: 1})
		}
		ops = append(ops, k.charge(now, "", quota.Credits(i), level(s, now), level(org, now)),
			k.charge(now, "", 1, level(quota.NewSubject(quota.KindKey, fmt.Sprint("x", i)), now)))
	}
	for part := range slices.Chunk(ops, 1000) {
		k.apply(part...)
		for _, o := range part {
			same(k, "outcome", o.Result.Outcome, quota.Applied)
		}
	}
	k.run(quota.Applied, k.charge(noon, "", 5, level(acc1, noon)))
	gone := k.get(saccount.KindAccount, "a1")
	gone.Deleted = at(noon)
	k.put(gone)
	want = append(want, usage.Row{Subject: acc1, Start: noon, Credits: 5, Requests: 1})
	slices.SortFunc(want, func(a, b usage.Row) int { return cmp.Compare(a.Subject, b.Subject) })
	got := k.read(usage.Range{Kind: quota.KindAccount, From: noon, To: noon + hour})
	if !slices.Equal(got, want) {
		k.failf("%d accounts came, want %d, each with its row", len(got), len(want))
	}
	same(k, "organizations", len(k.read(usage.Range{Kind: quota.KindOrg, From: noon, To: noon + quarter, Edges: []int64{noon, noon + quarter}})), 1)
	same(k, "members", len(k.read(usage.Range{Kind: quota.KindMember, From: 0, To: noon + day})), 0)
	enough, calls := errors.New("enough"), 0
	err := k.Usage(background(), usage.Range{Org: acme, Kind: quota.KindAccount, From: noon, To: noon + hour}, func(usage.Row) error { calls++; return enough })
	k.is(err, enough, "a reading that the caller ended")
	same(k, "calls", calls, 1)
}

func usageEdges(k *kit) {
	k.tree()
	for i := range int64(12) { // 12:00 to 14:45
		k.run(quota.Applied, k.charge(noon+i*quarter, "", quota.Credits(1)<<i, level(key1, noon+i*quarter), level(acc1, noon+i*quarter)))
		k.apply(k.refused(noon+i*quarter, key1, quota.ReasonLimit, 1), k.refused(noon+i*quarter, key1, quota.ReasonRate, i))
	}
	edges := []int64{noon + 1, noon + hour, noon + hour + quarter, noon + 3*hour, noon + 4*hour}
	row := func(s quota.Subject, reason quota.Reason, start int64, credits quota.Credits, requests int64) usage.Row {
		return usage.Row{Subject: s, Reason: reason, Start: noon + start*quarter, Credits: credits, Requests: requests}
	}
	want := []usage.Row{
		row(acc1, "", 3, 2+4+8, 3), row(acc1, "", 4, 16, 1), row(acc1, "", 11, 32+64+128+256+512+1024+2048, 7),
		row(key1, "", 3, 2+4+8, 3), row(key1, "", 4, 16, 1), row(key1, "", 11, 32+64+128+256+512+1024+2048, 7),
		row(key1, "limit", 3, 0, 3), row(key1, "limit", 4, 0, 1), row(key1, "limit", 11, 0, 7),
		row(key1, "rate", 3, 0, 1+2+3), row(key1, "rate", 4, 0, 4), row(key1, "rate", 11, 0, 5+6+7+8+9+10+11),
	}
	r := usage.Range{Subjects: []quota.Subject{key1, "key:nobody", acc1}, From: edges[0], To: edges[4], Edges: edges}
	same(k, "rows between edges", k.read(r), want)
	r.Subjects, r.Kind = nil, quota.KindKey
	same(k, "rows of every key", k.read(r), want[3:])
}

func usageEdgesOfDays(k *kit) {
	days, _, _ := k.history()
	k.foldAll(days, 1000)
	late := days[1] + hour
	k.run(quota.Applied, k.charge(late, "", 7, level(key1, late)))
	got := k.read(usage.Range{Subjects: []quota.Subject{key1}, From: days[0] - day, To: days[3], Edges: []int64{days[0] - day, days[2], days[3]}})
	same(k, "rows", got, []usage.Row{
		{Subject: key1, Day: true, Start: days[1], Credits: 6*1 + 15 + 6*11 + 15, Requests: 12},
		{Subject: key1, Start: quota.BucketStart(late), Credits: 7, Requests: 1},
		{Subject: key1, Day: true, Start: days[2], Credits: 6*21 + 15, Requests: 6},
		{Subject: key1, Reason: quota.ReasonLimit, Day: true, Start: days[1], Requests: 24},
		{Subject: key1, Reason: quota.ReasonLimit, Day: true, Start: days[2], Requests: 12},
	})
}

func usageEdgesOverflow(k *kit) {
	k.tree()
	for i := range int64(2) {
		k.run(quota.Applied, k.charge(noon+i*quarter, "", math.MaxInt64, level(key1, noon+i*quarter)))
	}
	r := usage.Range{Org: acme, Subjects: []quota.Subject{key1}, From: noon, To: noon + hour, Edges: []int64{noon, noon + hour}}
	err := k.Usage(background(), r, func(r usage.Row) error { k.failf("a row: %+v", r); return nil })
	k.is(err, quota.ErrOverflow, "a sum beyond int64")
	r.Edges = []int64{noon, noon + quarter, noon + hour}
	same(k, "rows that fit", len(k.read(r)), 2)
}

func usageUnheld(k *kit) {
	k.tree()
	for _, s := range []quota.Subject{key1, key2, key3} {
		k.run(quota.Applied, k.charge(noon, "", 1, level(s, noon)))
	}
	seen := 0
	for _, r := range []usage.Range{{Subjects: []quota.Subject{key1, key2, key3}}, {Kind: quota.KindKey}} {
		r.Org, r.From, r.To = acme, noon, noon+hour
		k.must(k.Usage(background(), r, func(row usage.Row) error {
			seen++
			k.run(quota.Applied, k.charge(noon+2*hour, "", 1, level(row.Subject, noon+2*hour)))
			k.rows(key1, noon, noon+day)
			k.put(record(saccount.KindKey, fmt.Sprint("n", seen), "a1", fmt.Sprint("New ", seen)))
			k.refresh()
			return nil
		}), "read usage")
	}
	same(k, "rows", seen, 6)
}

func usageInvalid(k *kit) {
	k.tree()
	for name, r := range map[string]usage.Range{
		"subjects and a kind":    {Subjects: []quota.Subject{key1}, Kind: quota.KindKey},
		"no such kind":           {Kind: "team"},
		"one edge":               {Subjects: []quota.Subject{key1}, Edges: []int64{noon}},
		"no edges":               {Subjects: []quota.Subject{key1}, Edges: []int64{}},
		"edges that begin late":  {Subjects: []quota.Subject{key1}, Edges: []int64{noon + 1, noon + hour}},
		"edges that end early":   {Subjects: []quota.Subject{key1}, Edges: []int64{noon, noon + minute}},
		"edges that go back":     {Subjects: []quota.Subject{key1}, Edges: []int64{noon, noon + 2*hour, noon + hour}},
		"edges that stand still": {Subjects: []quota.Subject{key1}, Edges: []int64{noon, noon + minute, noon + minute, noon + hour}},
	} {
		r.Org, r.From, r.To = acme, noon, noon+hour
		err := k.Usage(background(), r, func(usage.Row) error { return nil })
		k.is(err, quota.ErrInvalid, "a range with "+name)
	}
	k.must(k.Usage(background(), usage.Range{Org: acme, From: noon, To: noon + hour}, func(r usage.Row) error {
		k.failf("nobody was asked for and a row came: %+v", r)
		return nil
	}), "read the usage of nobody")
}
