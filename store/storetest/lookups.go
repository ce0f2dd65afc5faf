package storetest

import (
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
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				l, err := k.Lookup(background(), "", saccount.KindKey, "k1")
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
