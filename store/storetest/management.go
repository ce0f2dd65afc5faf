package storetest

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/keypurse/keypurse/saccount"
)

func management() []guarantee {
	return []guarantee{
		{"a management key is found by its id alone, with its organization", "a program that manages presents nothing but its token", managementLookup},
		{"the host has a partition without a record of its own", "the host's keys belong to no customer, whose deletion would end them", managementHost},
		{"keys of both kinds share their ids", "an id in a log means one thing for ever", managementIDs},
		{"a management key's organization is living when it is made", "what was deleted must not be managed by a key that came later", managementParents},
		{"a management key's last use is kept", "an unused key is found by it", managementUse},
		{"a request is remembered with what it did, or neither is", "a retry after a crash must not make a second key", requestWhole},
		{"of the same requests at once one is done", "a client that retries may meet its own first try, in another process", requestRace},
		{"a request that is over is dropped, one that is remembered stays", "a purge that runs early makes a second key of a retry", requestPurge},
		{"a request may be asked again when it is over", "it may be met before a purge drops it", requestAgain},
	}
}

func managed(org, id string) saccount.Record {
	return saccount.Record{Kind: saccount.KindManagementKey, Org: org, ID: id, Parent: org, Name: "Terraform", Created: at(midnight), Data: []byte("hash of " + id)}
}

func request(org, id string, until int64) saccount.Record {
	return saccount.Record{Kind: saccount.KindRequest, Org: org, ID: id, Parent: org, Created: at(noon), Expires: at(until), Data: []byte("done")}
}

func managementLookup(k *kit) {
	k.tree()
	k.put(managed(acme, "m1"))
	for _, org := range []string{"", acme} {
		l, err := k.Lookup(background(), org, saccount.KindManagementKey, "m1")
		k.must(err, "look up a management key")
		want := managed(acme, "m1")
		want.Revision = 1
		same(k, "the management key", l.Record, want)
		if l.Account != nil || l.Org == nil || l.Org.ID != acme {
			k.failf("management key m1 came with account %+v and organization %+v", l.Account, l.Org)
		}
	}
	for _, c := range []struct {
		org  string
		kind saccount.Kind
		id   string
	}{{"other", saccount.KindManagementKey, "m1"}, {"", saccount.KindKey, "m1"}, {acme, saccount.KindKey, "m1"}, {"", saccount.KindManagementKey, "k1"}} {
		_, err := k.Lookup(background(), c.org, c.kind, c.id)
		k.is(err, saccount.ErrNotFound, fmt.Sprintf("look up %s %s in organization %q", c.kind, c.id, c.org))
	}
	same(k, "keys of acme", idsOf(k.pages(saccount.ListQuery{Kind: saccount.KindKey, Org: acme}, 10)), []string{"k1", "k2", "k3"})
	same(k, "management keys of acme", idsOf(k.pages(saccount.ListQuery{Kind: saccount.KindManagementKey, Org: acme}, 10)), []string{"m1"})
	same(k, "management keys of other", len(k.pages(saccount.ListQuery{Kind: saccount.KindManagementKey, Org: "other"}, 10)), 0)
}

func managementHost(k *kit) {
	host := saccount.HostPartition
	b := changes(managed(host, "m1"))
	b.Audit = []saccount.Entry{{At: at(noon), Data: []byte("made")}}
	k.must(k.Write(background(), b), "make a management key of the host in an empty store")
	k.tree()
	l, err := k.Lookup(background(), "", saccount.KindManagementKey, "m1")
	k.must(err, "look up a management key of the host")
	if l.Record.Org != host || l.Org != nil || l.Account != nil {
		k.failf("the host's management key came as %+v", l)
	}
	k.put(l.Record)
	same(k, "organizations", idsOf(k.pages(saccount.ListQuery{Kind: saccount.KindOrg}, 10)), []string{acme, "other"})
	same(k, "management keys of the host", idsOf(k.pages(saccount.ListQuery{Kind: saccount.KindManagementKey, Org: host}, 10)), []string{"m1"})
	es, err := k.Audit(background(), host, 0, 10)
	k.must(err, "read the host's audit log")
	if len(es) != 1 || es[0].Seq != 1 || string(es[0].Data) != "made" {
		k.failf("the host's audit log is %+v, want the one entry", es)
	}
	org := saccount.Record{Kind: saccount.KindOrg, Org: host, ID: host, Name: "Mine"}
	k.is(k.Write(background(), changes(org)), saccount.ErrInvalid, "make an organization of the host's partition")
	account := saccount.Record{Kind: saccount.KindAccount, Org: host, ID: "a1", Parent: host, Name: "Mine"}
	k.is(k.Write(background(), changes(account)), saccount.ErrNotFound, "make an account in the host's partition")
}

func managementIDs(k *kit) {
	k.tree()
	k.put(managed(acme, "m1"))
	for doing, r := range map[string]saccount.Record{
		"make a management key with the id of one":       managed(acme, "m1"),
		"make another's management key with the id":      managed("other", "m1"),
		"make a management key with a key's id":          managed(acme, "k1"),
		"make a management key of the host with the id":  managed(saccount.HostPartition, "m1"),
		"make a key with the id of a management key":     record(saccount.KindKey, "m1", "a1", "New"),
		"make a management key with another's key's id":  managed(acme, "x1"),
		"make the host's management key of a key's name": managed(saccount.HostPartition, "k3"),
	} {
		k.is(k.Write(background(), changes(r)), saccount.ErrExists, doing)
	}
}

func managementParents(k *kit) {
	k.tree()
	k.is(k.Write(background(), changes(managed("nobody", "m1"))), saccount.ErrNotFound, "make a management key of an unknown organization")
	r := managed(acme, "m1")
	r.Parent = "a1"
	k.is(k.Write(background(), changes(r)), saccount.ErrNotFound, "make a management key of an account")
	k.put(managed(acme, "m2"))
	o := k.get(saccount.KindOrg, acme)
	o.Deleted = at(noon)
	k.put(o)
	k.is(k.Write(background(), changes(managed(acme, "m3"))), saccount.ErrNotFound, "make a management key of a deleted organization")
	l, err := k.Lookup(background(), "", saccount.KindManagementKey, "m2")
	k.must(err, "look up a management key of a deleted organization")
	if l.Org == nil || !l.Org.Deleted.Equal(at(noon)) {
		k.failf("it came with organization %+v, want the tombstone", l.Org)
	}
}

func managementUse(k *kit) {
	k.tree()
	k.put(managed(acme, "m1"), managed(acme, "m2"))
	k.touch(noon, "192.0.2.1", "m1")
	k.touch(noon-hour, "192.0.2.2", "m1")
	want := saccount.Use{At: at(noon), Addr: "192.0.2.1"}
	same(k, "last use", k.get(saccount.KindManagementKey, "m1").Use, want)
	page := k.pages(saccount.ListQuery{Kind: saccount.KindManagementKey, Org: acme}, 10)
	same(k, "last use in a list", page[0].Use, want)
	same(k, "last use of another", page[1].Use, saccount.Use{})
}

func requestWhole(k *kit) {
	k.tree()
	ask := func(doing string, want error, rs ...saccount.Record) {
		k.t.Helper()
		b := changes(rs...)
		b.Audit = []saccount.Entry{{At: at(noon), Data: []byte(doing)}}
		if err := k.Write(background(), b); want == nil {
			k.must(err, doing)
		} else {
			k.is(err, want, doing)
		}
	}
	there := func(kind saccount.Kind, id string, want bool) {
		k.t.Helper()
		_, err := k.Lookup(background(), acme, kind, id)
		if want {
			k.must(err, "look up "+kind.String()+" "+id)
		} else {
			k.is(err, saccount.ErrNotFound, "look up "+kind.String()+" "+id)
		}
	}
	ask("make a key", nil, record(saccount.KindKey, "k9", "a1", "New"), request(acme, "r1", noon+day))
	ask("make it again by the same request", saccount.ErrExists, record(saccount.KindKey, "k10", "a1", "Newer"), request(acme, "r1", noon+day))
	there(saccount.KindKey, "k10", false)
	ask("make a key that cannot be made", saccount.ErrExists, record(saccount.KindKey, "k11", "a1", "Backend"), request(acme, "r2", noon+day))
	there(saccount.KindRequest, "r2", false)
	ask("remember what changed nothing", nil, request(acme, "r3", noon+day))
	if n := len(k.audits()); n != 2 {
		k.failf("%d audit entries, want 2", n)
	}
	r := request("other", "r1", noon+day)
	k.must(k.Write(background(), changes(r)), "make a request with an id of another organization")
	same(k, "what it did", string(k.get(saccount.KindRequest, "r1").Data), "done")
	o := k.get(saccount.KindOrg, acme)
	o.Deleted = at(noon)
	ask("delete the organization", nil, o, request(acme, "r4", noon+day))
	there(saccount.KindRequest, "r1", true)
	there(saccount.KindRequest, "r4", true)
	k.must(k.Write(background(), changes(request(saccount.HostPartition, "r1", noon+day))), "make a request of the host")
}

func requestRace(k *kit) {
	k.tree()
	var done, refused atomic.Int64
	crowd(20, 100, func(i int) {
		key := record(saccount.KindKey, fmt.Sprint("new", i), "a1", fmt.Sprint("New ", i))
		switch err := k.Write(background(), changes(key, request(acme, "r1", noon+day))); {
		case err == nil:
			done.Add(1)
		case errors.Is(err, saccount.ErrExists):
			refused.Add(1)
		default:
			k.failf("write: %v", err)
		}
	})
	if done.Load() != 1 || refused.Load() != 99 {
		k.failf("%d were done and %d refused, want 1 and 99", done.Load(), refused.Load())
	}
	same(k, "keys", len(k.pages(saccount.ListQuery{Kind: saccount.KindKey, Org: acme}, 100)), 4)
}

func requestPurge(k *kit) {
	k.tree()
	k.put(request(acme, "r1", noon+day), request(acme, "r2", noon+2*day), request(acme, "r3", noon+2*day+1))
	k.must(k.Write(background(), changes(request(saccount.HostPartition, "r1", noon+day))), "make a request of the host")
	same(k, "dropped by a purge of nothing", k.purge(saccount.Purge{Most: 100}), 0)
	same(k, "dropped too early", k.purge(saccount.Purge{Receipts: at(noon + day - 1), Most: 100}), 0)
	n, err := k.Purge(background(), saccount.Purge{Receipts: at(noon + 2*day), Most: 1})
	k.must(err, "purge")
	if n < 1 || n > 2 {
		k.failf("a purge of about 1 dropped %d", n)
	}
	same(k, "dropped in all", n+k.purge(saccount.Purge{Receipts: at(noon + 2*day), Most: 100}), 3)
	for _, id := range []string{"r1", "r2"} {
		_, err := k.Lookup(background(), acme, saccount.KindRequest, id)
		k.is(err, saccount.ErrNotFound, "look up a request that was dropped")
	}
	same(k, "the one that stays", k.get(saccount.KindRequest, "r3").Expires, at(noon+2*day+1))
	k.put(request(acme, "r1", noon+3*day))
	same(k, "records besides", len(k.pages(saccount.ListQuery{Kind: saccount.KindKey, Org: acme}, 10)), 3)
}

func requestAgain(k *kit) {
	k.tree()
	k.put(request(acme, "r1", noon+day))
	r := k.get(saccount.KindRequest, "r1")
	r.Expires = at(noon + 3*day)
	k.put(r)
	same(k, "dropped by its old end", k.purge(saccount.Purge{Receipts: at(noon + day), Most: 100}), 0)
	same(k, "its new end", k.get(saccount.KindRequest, "r1").Expires, at(noon+3*day))
	same(k, "dropped by its new end", k.purge(saccount.Purge{Receipts: at(noon + 3*day), Most: 100}), 1)
}
