package storetest

import (
	"errors"
	"fmt"
	"sync"

	"github.com/keypurse/keypurse/saccount"
)

func lookups() []guarantee {
	return []guarantee{
		{"a key comes with its account and organization", "authentication is one read", lookupLineage},
		{"a key is found without its organization, and not in another", "an id of another organization is an unknown id", lookupForeign},
		{"the deleted are found", "history and refusals need tombstones", lookupDeleted},
		{"a lineage is of one moment", "a key judged with an account of another moment lets a revoked caller in", lookupMoment},
		{"many are looked up at once, each as it would be alone", "a page of a list is a handful of reads", lookupMany},
		{"keys are counted account by account, up to a bound", "a list of accounts says how many keys they have without reading them", countKeys},
	}
}

func lookupLineage(k *kit) {
	k.tree()
	l, err := k.Lookup(background(), acme, saccount.KindKey, "k1")
	k.must(err, "look up a key")
	if l.Account == nil || l.Org == nil || l.Record.ID != "k1" || l.Account.ID != "a1" || l.Account.Org != acme || l.Org.ID != acme {
		k.failf("key k1 came as %+v", l)
	}
	same(k, "its settings number", l.Settings, k.settings)
	for kind, id := range map[saccount.Kind]string{saccount.KindAccount: "a1", saccount.KindMember: "ann"} {
		l, err := k.Lookup(background(), acme, kind, id)
		k.must(err, "look up "+id)
		if l.Account != nil || l.Org == nil || l.Org.ID != acme || l.Record.ID != id || l.Settings != k.settings {
			k.failf("%s %s came as %+v", kind, id, l)
		}
	}
	l, err = k.Lookup(background(), acme, saccount.KindOrg, acme)
	k.must(err, "look up the organization")
	if l.Account != nil || l.Org != nil || l.Record.ID != acme {
		k.failf("organization acme came as %+v", l)
	}
}

func lookupForeign(k *kit) {
	k.tree()
	for id, owner := range map[string]string{"k1": acme, "x1": "other"} {
		l, err := k.Lookup(background(), "", saccount.KindKey, id)
		k.must(err, "look up a key without its organization")
		if l.Record.Org != owner || l.Org == nil || l.Org.ID != owner || l.Account == nil || l.Account.Org != owner {
			k.failf("key %s came as %+v, want it in organization %s", id, l, owner)
		}
	}
	for _, c := range []struct {
		org  string
		kind saccount.Kind
		id   string
	}{
		{"other", saccount.KindKey, "k1"}, {acme, saccount.KindKey, "x1"}, {"other", saccount.KindMember, "ann"},
		{"other", saccount.KindAccount, "a2"}, {"other", saccount.KindOrg, acme}, {"nobody", saccount.KindKey, "k1"},
	} {
		_, err := k.Lookup(background(), c.org, c.kind, c.id)
		k.is(err, saccount.ErrNotFound, fmt.Sprintf("look up %s %s in organization %s", c.kind, c.id, c.org))
	}
	page, _, err := k.List(background(), saccount.ListQuery{Kind: saccount.KindKey, Org: acme, Limit: 100})
	k.must(err, "list")
	for _, r := range page {
		if r.Org != acme {
			k.failf("the keys of acme list %q of %q", r.ID, r.Org)
		}
	}
}

func lookupDeleted(k *kit) {
	k.tree()
	for kind, id := range map[saccount.Kind]string{saccount.KindKey: "k3", saccount.KindMember: "ann"} {
		r := k.get(kind, id)
		r.Deleted = at(noon)
		k.put(r)
		same(k, "the tombstone's time", k.get(kind, id).Deleted, at(noon))
	}
}

// lookupMoment writes one number into key, account and organization in each
// batch; whoever reads them sees one number, and the settings that go with it.
func lookupMoment(k *kit) {
	k.tree()
	base, stop := k.number(), make(chan struct{})
	var wg sync.WaitGroup
	alone := func() (saccount.Lineage, error) { return k.Lookup(background(), "", saccount.KindKey, "k1") }
	among := func() (l saccount.Lineage, err error) {
		ls, err := k.Lookups(background(), acme, saccount.KindKey, []string{"k2", "k1"})
		if err == nil {
			l = ls[1]
		}
		return l, err
	}
	for i := range 4 {
		look := alone
		if i%2 == 0 {
			look = among
		}
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				l, err := look()
				if err != nil {
					k.failf("look up: %v", err)
					return
				}
				want := string(l.Record.Data)
				if string(l.Account.Data) != want || string(l.Org.Data) != want || (want != "" || l.Settings != base) && fmt.Sprint(l.Settings-base) != want {
					k.failf("one look-up saw key %q, account %q, organization %q, settings %d after the first", want, l.Account.Data, l.Org.Data, l.Settings-base)
					return
				}
			}
		})
	}
	for i := 1; i <= 60; i++ {
		key, account, o := k.get(saccount.KindKey, "k1"), k.get(saccount.KindAccount, "a1"), k.get(saccount.KindOrg, acme)
		key.Data = fmt.Append(nil, i)
		account.Data, o.Data = key.Data, key.Data
		k.put(key, account, o)
	}
	close(stop)
	wg.Wait()
}

func lookupMany(k *kit) {
	k.tree()
	gone := k.get(saccount.KindKey, "k2")
	gone.Deleted = at(noon)
	k.put(gone)
	k.refresh()
	k.must(k.Touch(background(), []saccount.Touch{{Org: acme, Key: "k3", Use: saccount.Use{At: at(noon), Addr: "192.0.2.1"}}}), "touch")
	ids := append([]string{"k3", "nobody", "k1", "x1", "k2", "k1", ""}, oddNames()...)
	got, err := k.Lookups(background(), acme, saccount.KindKey, ids)
	k.must(err, "look up many")
	if len(got) != len(ids) {
		k.fatalf("%d answers to %d ids", len(got), len(ids))
	}
	for i, id := range ids {
		want, err := k.Lookup(background(), acme, saccount.KindKey, id)
		if errors.Is(err, saccount.ErrNotFound) {
			want, err = saccount.Lineage{}, nil
		}
		k.must(err, "look up "+id)
		same(k, fmt.Sprintf("key %q among others", id), got[i], want)
	}
	if got[0].Record.ID != "k3" || got[0].Account.ID != "a2" || got[4].Record.Deleted.IsZero() {
		k.failf("keys k3 and k2 came as %+v and %+v", got[0], got[4])
	}
	for kind, id := range map[saccount.Kind]string{saccount.KindAccount: "a2", saccount.KindMember: "ann", saccount.KindOrg: acme} {
		want, err := k.Lookup(background(), acme, kind, id)
		k.must(err, "look up "+id)
		got, err := k.Lookups(background(), acme, kind, []string{id, "other", "a9"})
		k.must(err, "look up many")
		same(k, kind.String()+" among others", got, []saccount.Lineage{want, {}, {}})
	}
	got, err = k.Lookups(background(), acme, saccount.KindKey, nil)
	k.must(err, "look up none")
	same(k, "answers to no id", len(got), 0)
	got, err = k.Lookups(background(), "nobody", saccount.KindKey, []string{"k1"})
	k.must(err, "look up keys of nobody")
	same(k, "keys of nobody", got, []saccount.Lineage{{}})
	_, err = k.Lookups(background(), acme, saccount.KindKey, make([]string, saccount.MaxPage))
	k.must(err, "look up as many as there may be")
	_, err = k.Lookups(background(), acme, saccount.KindKey, make([]string, saccount.MaxPage+1))
	k.is(err, saccount.ErrInvalid, "look up more than a page")
	_, err = k.Lookups(background(), acme, 99, []string{"k1"})
	k.is(err, saccount.ErrInvalid, "look up records of no kind")
}

func countKeys(k *kit) {
	k.tree()
	k.put(record(saccount.KindAccount, "a3", acme, "Empty"))
	for i := range 20 {
		r := record(saccount.KindKey, fmt.Sprintf("c%02d", i), "a2", fmt.Sprintf("Counted %d", i))
		r.Disabled = i%3 == 0
		r.Expires = at(noon - 1)
		k.put(r)
	}
	for _, id := range []string{"c07", "k2"} {
		r := k.get(saccount.KindKey, id)
		r.Deleted = at(noon)
		k.put(r)
	}
	k.must(k.Touch(background(), []saccount.Touch{
		{Org: acme, Key: "c03", Use: saccount.Use{At: at(noon)}}, {Org: acme, Key: "c05", Use: saccount.Use{At: at(noon + second), Addr: "192.0.2.1"}},
		{Org: acme, Key: "c07", Use: saccount.Use{At: at(noon + minute)}}, {Org: acme, Key: "k2", Use: saccount.Use{At: at(noon)}},
	}), "touch")
	accounts := append([]string{"a2", "nobody", "a1", "a3", "a2", ""}, oddNames()...)
	for _, most := range []int{1, 4, 19, 20, 21, 1000} {
		got, err := k.CountKeys(background(), acme, accounts, most)
		k.must(err, "count keys")
		if len(got) != len(accounts) {
			k.fatalf("%d answers about %d accounts", len(got), len(accounts))
		}
		want := saccount.KeyCount{Keys: min(most, 20), More: most < 20}
		switch { // c07 is not counted, the others in the order of their ids
		case most >= 6:
			want.LastUsed = at(noon + second)
		case most >= 4:
			want.LastUsed = at(noon)
		}
		same(k, fmt.Sprintf("keys of a2, at most %d", most), got[0], want)
		same(k, "keys of a2 again", got[4], want)
		same(k, "keys of a1", got[2], saccount.KeyCount{Keys: 1})
		for _, i := range []int{1, 3, 5, 6} {
			same(k, fmt.Sprintf("keys of %q", accounts[i]), got[i], saccount.KeyCount{})
		}
	}
	got, err := k.CountKeys(background(), "other", []string{"a1", "a2"}, 10)
	k.must(err, "count keys")
	same(k, "keys of another organization", got, []saccount.KeyCount{{Keys: 1}, {}})
	_, err = k.CountKeys(background(), acme, make([]string, saccount.MaxPage+1), 1)
	k.is(err, saccount.ErrInvalid, "count the keys of more than a page")
	_, err = k.CountKeys(background(), acme, accounts, 0)
	k.is(err, saccount.ErrInvalid, "count no keys")
}
