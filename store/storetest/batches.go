package storetest

import (
	"fmt"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

func batches() []guarantee {
	return []guarantee{
		{"a batch is written wholly or not at all", "an account without its audit entry, or a limit without its counter, cannot be explained afterwards", batchAtomic},
		{"each change of a batch sees those before it", "an organization, its first account and its first key are one step", batchOrder},
		{"a batch that is not quiet raises the settings number by one", "every cached bound is void after an edit, whatever it touched", batchSettings},
		{"a quiet batch raises no settings number", "making keys must not make every charge in flight read the records again", batchQuiet},
		{"audit entries are numbered from 1 without gaps, in each organization", "a gap is how a removed entry shows", batchAudit},
		{"audit entries are read in order, after a cursor, so many at a time", "a log is read in pages", batchAuditPages},
	}
}

func batchAtomic(k *kit) {
	k.tree()
	k.run(quota.Applied, k.charge(noon, "c1", 15, level(key1, noon, daily(100, 1, noon))))
	was := daily(100, 1, noon)
	for name, bad := range map[string]saccount.Record{
		"a stale revision": func() saccount.Record {
			r := k.get(saccount.KindKey, "k2")
			r.Revision = 5
			return r
		}(),
		"a used id":        record(saccount.KindKey, "k3", "a1", "New"),
		"a used name":      record(saccount.KindKey, "k9", "a1", "Staging"),
		"an unknown id":    func() saccount.Record { r := record(saccount.KindKey, "k9", "a1", "New"); r.Revision = 1; return r }(),
		"no living parent": record(saccount.KindKey, "k9", "nobody", "New"),
	} {
		for _, last := range []bool{false, true} {
			good, fresh := k.get(saccount.KindAccount, "a1"), record(saccount.KindKey, "k8", "a1", "Fresh")
			good.Data = []byte("half done")
			b := changes(good, fresh, bad)
			if !last {
				b = changes(bad, good, fresh)
			}
			b.Open = []saccount.Opening{opening(key1, monthly(300, 2, noon), &was)}
			b.Audit = []saccount.Entry{{At: at(noon), Data: []byte("half done")}}
			before := k.snapshot(noon, level(key1, noon, monthly(300, 2, noon)))
			if err := k.Write(background(), b); err == nil {
				k.fatalf("a batch with %s was written", name)
			}
			same(k, "all that counts, after a batch with "+name, k.snapshot(noon, level(key1, noon, monthly(300, 2, noon))), before)
			if r := k.get(saccount.KindAccount, "a1"); r.Revision != 1 || r.Data != nil {
				k.failf("a batch with %s changed a record: revision %d, data %q", name, r.Revision, r.Data)
			}
			_, err := k.Lookup(background(), "", saccount.KindKey, "k8")
			k.is(err, saccount.ErrNotFound, "look up a key of a batch with "+name)
		}
	}
	// What failed left no trace that stands in the way of what is right.
	k.put(record(saccount.KindKey, "k8", "a1", "Fresh"), record(saccount.KindKey, "k9", "a1", "New"))
	// Nor did it open the counter: what is spent meanwhile is in it when it opens.
	k.refresh()
	k.run(quota.Applied, k.charge(noon, "", 5, level(key1, noon, daily(100, 1, noon))))
	k.edit(noon, saccount.KindKey, "k1", opening(key1, monthly(300, 2, noon), &was))
	k.stands(noon, level(key1, noon, monthly(300, 2, noon)), 20, 0, 0)
}

func batchOrder(k *kit) {
	k.put(root(acme), record(saccount.KindAccount, "a1", acme, "Production Worker"), record(saccount.KindKey, "k1", "a1", "Backend"))
	r, gone := k.get(saccount.KindKey, "k1"), k.get(saccount.KindAccount, "a1")
	r.Deleted, gone.Deleted = at(noon), at(noon)
	k.is(k.Write(background(), changes(gone, record(saccount.KindKey, "k2", "a1", "Late"))), saccount.ErrNotFound, "make a key behind its account's deletion in one batch")
	k.must(k.Write(background(), changes(r, gone)), "delete a key and its account in one batch")
	k.is(k.Write(background(), changes(record(saccount.KindAccount, "a2", acme, "Twin"), record(saccount.KindAccount, "a3", acme, "Twin"))),
		saccount.ErrExists, "make two accounts of one name in one batch")
	k.is(k.Write(background(), changes(record(saccount.KindAccount, "a2", acme, "One"), record(saccount.KindAccount, "a2", acme, "Two"))),
		saccount.ErrExists, "make an account twice in one batch")
}

func batchSettings(k *kit) {
	k.tree()
	before := k.number()
	k.put(k.get(saccount.KindKey, "k1"))
	k.put(k.get(saccount.KindAccount, "a1"), k.get(saccount.KindKey, "k1"), k.get(saccount.KindOrg, acme))
	if got := k.number(); got != before+2 {
		k.failf("two batches of changes raised the settings number from %d to %d, want %d", before, got, before+2)
	}
	l, err := k.Lookup(background(), "other", saccount.KindOrg, "other")
	k.must(err, "look up the other organization")
	k.put(k.get(saccount.KindKey, "k1"))
	m, err := k.Lookup(background(), "other", saccount.KindOrg, "other")
	k.must(err, "look up the other organization")
	same(k, "the other organization's settings number", m.Settings, l.Settings)
	mixed := changes(k.get(saccount.KindKey, "k1"), k.get(saccount.KindKey, "k2"))
	mixed.Changes[0].Quiet = true
	before = k.number()
	k.must(k.Write(background(), mixed), "write a quiet and a loud change")
	same(k, "the settings number after a quiet and a loud change", k.number(), before+1)
}

func batchQuiet(k *kit) {
	k.tree()
	before := k.number()
	b := changes(k.get(saccount.KindKey, "k1"), record(saccount.KindKey, "k9", "a1", "New"))
	for i := range b.Changes {
		b.Changes[i].Quiet = true
	}
	k.must(k.Write(background(), b), "write quietly")
	k.must(k.Write(background(), saccount.Batch{Org: acme, At: at(noon), Audit: []saccount.Entry{{At: at(noon)}}}), "write an audit entry alone")
	k.must(k.Touch(background(), []saccount.Touch{{Org: acme, Key: "k1", Use: saccount.Use{At: at(noon)}}}), "touch")
	same(k, "the settings number", k.number(), before)
	k.run(quota.Applied, k.charge(noon, "", 1, chain(noon)...))
}

func batchAudit(k *kit) {
	k.tree()
	for i := range 10 {
		b := changes(k.get(saccount.KindKey, "k1"))
		for j := range i % 4 {
			b.Audit = append(b.Audit, saccount.Entry{At: at(noon + int64(i)), Data: fmt.Appendf(nil, "%d.%d", i, j)})
		}
		k.must(k.Write(background(), b), "write")
		b.Changes[0].Record.Revision = 1 << 40
		k.is(k.Write(background(), b), saccount.ErrConflict, "write at a revision to come")
	}
	o := changes(root("third"))
	o.Audit = []saccount.Entry{{Seq: 77, At: at(noon), Data: []byte("third")}}
	k.must(k.Write(background(), o), "write in another organization")
	var want []saccount.Entry
	for i := range 10 {
		for j := range i % 4 {
			want = append(want, saccount.Entry{Seq: int64(len(want)) + 1, At: at(noon + int64(i)), Data: fmt.Appendf(nil, "%d.%d", i, j)})
		}
	}
	same(k, "the audit log", k.audits(), want)
	third, err := k.Audit(background(), "third", 0, 10)
	k.must(err, "read the audit log")
	same(k, "the audit log of another organization", third, []saccount.Entry{{Seq: 1, At: at(noon), Data: []byte("third")}})
}

func batchAuditPages(k *kit) {
	k.tree()
	for range 25 {
		k.must(k.Write(background(), saccount.Batch{Org: acme, At: at(noon), Audit: []saccount.Entry{{At: at(noon)}}}), "write an audit entry")
	}
	for _, c := range []struct{ after, first, n int64 }{{0, 1, 10}, {10, 11, 10}, {20, 21, 5}, {24, 25, 1}, {25, 0, 0}, {99, 0, 0}} {
		page, err := k.Audit(background(), acme, c.after, 10)
		k.must(err, "read the audit log")
		if int64(len(page)) != c.n || c.n > 0 && page[0].Seq != c.first {
			k.failf("10 entries after %d: %+v, want %d from %d", c.after, page, c.n, c.first)
		}
	}
	if page, err := k.Audit(background(), "nobody", 0, 10); err != nil || len(page) != 0 {
		k.failf("the audit log of an unknown organization: %v, error %v; want nothing", page, err)
	}
}
