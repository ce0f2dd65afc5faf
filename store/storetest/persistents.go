package storetest

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/usage"
)

func persistents() []guarantee {
	return []guarantee{
		{"records, uses and audit entries are there after reopening", "what was acknowledged is durable", keepRecords},
		{"marks of the audit log, and what was cut from it, are there after reopening", "a log that begins anew after a restart proves nothing", keepAudit},
		{"counters, usage and settings are there after reopening", "a restart is no reset", keepCounters},
		{"every subject that spent is found after reopening", "who spent most can only be found where nobody is left out", keepSubjects},
		{"ids, holds and their ends are there after reopening", "a retry after a restart charges nothing twice", keepIDs},
		{"windows that were opened by a new period are there after reopening", "a restart must not grant what an edit took away", keepOpenings},
		{"deliveries, posted ids and turns are there after reopening", "what was sent before a restart must not be sent again", keepDeliveries},
		{"alerts are there after reopening, and none comes twice", "a threshold that alerted before a restart has alerted", keepAlerts},
		{"what was purged and folded stays so after reopening", "a restart must not bring back what is over", keepCleaned},
		{"management keys and requests are there after reopening", "a retry after a restart makes no second key", keepManagement},
		{"an empty store reopens empty", "the first start may end before the first write", keepNothing},
		{"a random history comes out as a plain model of it, reopened all along", "what nobody thought of is found by trying everything", func(k *kit) {
			modelRun(k, 2, 500)
			k.reopen()
		}},
		{"another random history comes out as a plain model of it, reopened all along", "what nobody thought of is found by trying everything", func(k *kit) {
			modelRun(k, rand.Uint64()>>1, 500)
		}},
	}
}

func keepSubjects(k *kit) {
	k.tree()
	var want []usage.Row
	var ops []*quota.Op
	for i := range 1200 {
		s := quota.NewSubject(quota.KindKey, fmt.Sprint(i*i))
		ops = append(ops, k.charge(noon, "", 1, level(s, noon), level(acc1, noon)))
		want = append(want, usage.Row{Subject: s, Start: noon, Credits: 1, Requests: 1})
	}
	k.apply(ops...)
	k.reopen()
	for i := range 1200 { // some stored, some new, some both
		if s := quota.NewSubject(quota.KindKey, fmt.Sprint(i*i)); i%3 == 0 {
			k.run(quota.Applied, k.charge(noon, "", 1, level(s, noon)))
			want[i].Credits, want[i].Requests = 2, 2
		}
	}
	k.run(quota.Applied, k.charge(noon, "", 1, level(key1, noon)))
	want = append(want, usage.Row{Subject: key1, Start: noon, Credits: 1, Requests: 1})
	slices.SortFunc(want, func(a, b usage.Row) int { return cmp.Compare(a.Subject, b.Subject) })
	for range 2 {
		got := k.read(usage.Range{Kind: quota.KindKey, From: noon, To: noon + quarter, Edges: []int64{noon, noon + quarter}})
		if !slices.Equal(got, want) {
			k.failf("%d keys came, want %d, each with its row", len(got), len(want))
		}
		k.reopen()
	}
}

func keepRecords(k *kit) {
	k.tree()
	r := record(saccount.KindKey, "k9", "a2", "Na\u0301me ")
	r.Expires, r.Labels, r.Data = at(noon+day+123456), map[string]string{"env": "prod"}, []byte{0, 1, 0xff}
	b := changes(r)
	b.Audit = []saccount.Entry{{At: at(noon), Data: []byte("made")}}
	k.must(k.Write(background(), b), "write")
	gone := k.get(saccount.KindKey, "k3")
	gone.Deleted = at(noon)
	k.put(gone)
	k.touch(noon+1, "192.0.2.7", "k9")
	type state struct {
		Keys  []saccount.Record
		Audit []saccount.Entry
		One   saccount.Lineage
	}
	read := func() (s state) {
		s.Keys = k.pages(saccount.ListQuery{Kind: saccount.KindKey, Org: acme, Statuses: []saccount.Status{saccount.StatusActive, saccount.StatusDeleted}, Now: at(noon)}, 2)
		s.Audit = k.audits()
		l, err := k.Lookup(background(), "", saccount.KindKey, "k9")
		k.must(err, "look up")
		s.One = l
		return s
	}
	want := read()
	for round := range 3 {
		k.reopen()
		same(k, "all records", read(), want)
		k.is(k.Write(background(), changes(record(saccount.KindKey, "k3", "a1", "Again"))), saccount.ErrExists, "use a deleted key's id again")
		k.is(k.Write(background(), changes(record(saccount.KindKey, "k10", "a1", "Backend"))), saccount.ErrExists, "take a living name")
		next := changes(k.get(saccount.KindKey, "k9"))
		next.Audit = []saccount.Entry{{At: at(noon), Data: fmt.Append(nil, round)}}
		k.must(k.Write(background(), next), "write")
		want = read()
		if n := int64(len(want.Audit)); want.Audit[n-1].Seq != n {
			k.failf("entry %d of the audit log is number %d", n, want.Audit[n-1].Seq)
		}
	}
	k.put(record(saccount.KindKey, "k11", "a2", "Backend")) // free since k3 is deleted
}

func keepCounters(k *kit) {
	k.tree()
	for i := range int64(4) {
		now := noon + i*day
		ls := func() []*quota.Level {
			return []*quota.Level{level(key1, now, named("d", daily(100, 1, now)), named("m", monthly(1000, 2, now))), level(acc1, now), level(org, now, never(10000))}
		}
		k.run(quota.Applied, k.charge(now, "", 60, ls()...))
		k.run(quota.Applied, k.reserve(now, fmt.Sprint("r", i), 30, 90*minute, ls()...))
		k.run(quota.Applied, k.commit(now, fmt.Sprint("r", i), 50))
		k.run(quota.Applied, k.refused(now, key1, quota.ReasonRate, 3))
		before := k.snapshot(now, ls()...)
		k.reopen()
		same(k, "all that counts", k.snapshot(now, ls()...), before)
		o := k.run(quota.Refused, k.charge(now, "", 1, ls()...))
		same(k, "limits in the way", o.Result.Refused, 0b1)
		k.edit(now, saccount.KindKey, "k1")
	}
	k.buckets(org, 440, 8)
	stale := k.charge(noon, "", 1, chain(noon)...)
	stale.Settings--
	k.reopen()
	k.run(quota.Stale, stale)
}

func keepIDs(k *kit) {
	k.tree()
	k.run(quota.Applied, k.charge(noon, "c", 10, chain(noon)...))
	for _, id := range []string{"commit", "release", "expire", "renew", "done"} {
		k.run(quota.Applied, k.reserve(noon, id, 20, hour, chain(noon)...))
	}
	k.run(quota.Applied, k.commit(noon, "done", 5))
	k.reopen()
	first := k.run(quota.Replayed, k.charge(noon, "c", 10, chain(noon)...)).Result.Figures
	same(k, "figures of a replay", first, []quota.Figure{{Max: 1e6, Used: 10}, {Max: 1e6, Used: 10}, {Max: 1e6, Used: 10}})
	k.run(quota.Conflict, k.charge(noon, "c", 11, chain(noon)...))
	k.run(quota.Replayed, k.commit(noon, "done", 5))
	k.run(quota.Conflict, k.commit(noon, "done", 6))
	k.stands(noon, chain(noon)[2], 15, 80, 0)
	k.run(quota.Applied, k.commit(noon, "commit", 20))
	k.run(quota.Applied, k.renew(noon, "renew", 2*hour))
	k.reopen()
	k.run(quota.Applied, k.release(noon, "release"))
	k.stands(noon, chain(noon)[2], 35, 40, 0)
	k.stands(noon+hour, chain(noon)[2], 35, 20, 0)
	k.reopen()
	k.stands(noon+hour, chain(noon)[2], 35, 20, 0)
	k.run(quota.Expired, k.commit(noon+hour, "expire", 20))
	k.reopen()
	k.run(quota.Expired, k.commit(noon, "expire", 20))
	k.run(quota.Applied, k.refund(noon, "f", "c", 4))
	k.run(quota.Applied, k.commit(noon+hour, "renew", 1))
	k.reopen()
	k.run(quota.Replayed, k.refund(noon, "f", "c", 4))
	k.run(quota.Excess, k.refund(noon, "", "c", 7))
	k.run(quota.Applied, k.refund(noon, "", "c", 6))
	k.stands(noon, chain(noon)[0], 26, 0, 0)
	k.buckets(org, 26, 6)
}

func keepOpenings(k *kit) {
	k.tree()
	was := monthly(500, 1, noon)
	k.run(quota.Applied, k.charge(noon-2*day, "", 370, level(key1, noon-2*day, monthly(500, 1, noon-2*day))))
	k.run(quota.Applied, k.charge(noon, "c", 10, level(key1, noon, was)))
	k.run(quota.Applied, k.reserve(noon, "r", 20, hour, level(key1, noon, was)))
	k.edit(noon, saccount.KindKey, "k1", opening(key1, daily(500, 2, noon), &was))
	today := func() *quota.Level { return level(key1, noon, daily(500, 2, noon)) }
	k.reopen()
	k.stands(noon, today(), 10, 20, 0)
	k.left(noon, today(), 100)
	k.reopen()
	k.run(quota.Applied, k.commit(noon, "r", 15))
	k.run(quota.Applied, k.refund(noon, "", "c", 10))
	k.reopen()
	k.stands(noon, today(), 15, 0, 0)
	k.left(noon, today(), 115)
	k.stands(noon, level(key1, noon, was), 385, 0, 0)
}

func keepAlerts(k *kit) {
	k.tree()
	l := func() *quota.Level { return level(key1, noon, watched(never(100))) }
	var last int64
	for i, amount := range []quota.Credits{45, 10, 20, 10, 15} {
		k.run(quota.Applied, k.charge(noon, fmt.Sprint("c", i), amount, l()))
		before := k.outbox()
		k.reopen()
		same(k, "alerts", k.outbox(), before)
		k.run(quota.Replayed, k.charge(noon, fmt.Sprint("c", i), amount, l()))
	}
	same(k, "alerts", k.fired(), map[string]int{"key:k1 50%": 1, "key:k1 80%": 1, "key:k1 100%": 1})
	for _, a := range k.outbox() {
		last = a.Seq
	}
	k.purge(saccount.Purge{Alerts: at(noon + 1), Most: 10})
	k.reopen()
	k.run(quota.Applied, k.charge(noon, "", 60, level(key2, noon, watched(never(100)))))
	next, err := k.Outbox(background(), last, 10)
	k.must(err, "read the outbox")
	same(k, "alerts behind the last that was purged", len(next), 1)
}

func keepCleaned(k *kit) {
	days, credits, requests := k.history()
	o := k.charge(noon, "over", 5, level(key1, noon, watched(daily(8, 1, noon))))
	o.Keep = noon + 7*day
	k.run(quota.Applied, o)
	k.foldAll(days, 10)
	k.purge(saccount.Purge{Receipts: at(noon + 7*day), Windows: at(noon + 2*day), Alerts: at(noon + 1), Most: 10})
	rows := len(k.rows(key1, 0, noon+day))
	k.reopen()
	same(k, "rows", len(k.rows(key1, 0, noon+day)), rows)
	same(k, "buckets that are folded again", k.foldAll(days, 10), 0)
	same(k, "alerts", len(k.outbox()), 0)
	k.run(quota.Unknown, k.refund(noon, "", "over", 1))
	k.buckets(key1, credits+5, requests+1)
	k.buckets(org, credits, requests)
}

func keepManagement(k *kit) {
	k.tree()
	k.put(managed(acme, "m1"), request(acme, "r1", noon+day), request(acme, "r2", noon+2*day))
	k.must(k.Write(background(), changes(managed(saccount.HostPartition, "m2"))), "make a management key of the host")
	k.touch(noon, "192.0.2.1", "m1")
	k.reopen()
	same(k, "last use", k.get(saccount.KindManagementKey, "m1").Use, saccount.Use{At: at(noon), Addr: "192.0.2.1"})
	l, err := k.Lookup(background(), "", saccount.KindManagementKey, "m2")
	k.must(err, "look up a management key of the host")
	same(k, "its partition", l.Record.Org, saccount.HostPartition)
	k.is(k.Write(background(), changes(request(acme, "r1", noon+day))), saccount.ErrExists, "make a request again")
	same(k, "dropped", k.purge(saccount.Purge{Receipts: at(noon + day), Most: 100}), 1)
	k.reopen()
	same(k, "dropped after reopening", k.purge(saccount.Purge{Receipts: at(noon + 2*day), Most: 100}), 1)
}

func keepNothing(k *kit) {
	k.reopen()
	_, err := k.Lookup(background(), acme, saccount.KindOrg, acme)
	k.is(err, saccount.ErrNotFound, "look up in an empty store")
	same(k, "organizations", len(k.pages(saccount.ListQuery{Kind: saccount.KindOrg}, 10)), 0)
	k.tree()
	k.reopen()
	k.run(quota.Applied, k.charge(noon, "", 1, chain(noon)...))
}
