package storetest

import (
	"fmt"
	"sync"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

func upkeep() []guarantee {
	return []guarantee{
		{"a key's last use is kept, the newest of all", "an unused key is found by it, and notes arrive out of order", touchNewest},
		{"a use changes no revision and no settings", "using a key must not conflict with editing it", touchQuiet},
		{"keys that are not there are passed over", "a key may be of another organization, or mistyped in a backlog", touchUnknown},
		{"Write ignores a record's use", "an edit with an old copy must not turn the last use back", touchIgnored},
		{"uses noted at once leave the newest", "several processes note the same key", touchRace},
	}
}

func (k *kit) touch(now int64, addr string, keys ...string) {
	k.t.Helper()
	var ts []saccount.Touch
	for _, id := range keys {
		ts = append(ts, saccount.Touch{Org: acme, Key: id, Use: saccount.Use{At: at(now), Addr: addr}})
	}
	k.must(k.Touch(background(), ts), "touch")
}

func (k *kit) wasUsed(id string, now int64, addr string) {
	k.t.Helper()
	same(k, "last use of "+id, k.get(saccount.KindKey, id).Use, saccount.Use{At: at(now), Addr: addr})
}

func touchNewest(k *kit) {
	k.tree()
	k.touch(noon, "192.0.2.1", "k1", "k2")
	k.wasUsed("k1", noon, "192.0.2.1")
	k.touch(noon+1, "2001:db8::1", "k1")
	k.wasUsed("k1", noon+1, "2001:db8::1")
	k.touch(noon-hour, "192.0.2.3", "k1", "k2")
	k.wasUsed("k1", noon+1, "2001:db8::1")
	k.wasUsed("k2", noon, "192.0.2.1")
	k.touch(noon+2, "", "k2")
	k.wasUsed("k2", noon+2, "")
	k.must(k.Touch(background(), nil), "touch nothing")
	k.touch(noon+day, "192.0.2.4", "k3", "k3")
	page, _, err := k.List(background(), saccount.ListQuery{Kind: saccount.KindKey, Org: acme, Limit: 10})
	k.must(err, "list")
	for i, want := range []int64{noon + 1, noon + 2, noon + day} {
		same(k, "last use in a list", page[i].Use.At, at(want))
	}
	l, err := k.Lookup(background(), "", saccount.KindKey, "k3")
	k.must(err, "look up")
	same(k, "last use in a look-up", l.Record.Use, saccount.Use{At: at(noon + day), Addr: "192.0.2.4"})
}

func touchQuiet(k *kit) {
	k.tree()
	r, before := k.get(saccount.KindKey, "k1"), k.number()
	k.touch(noon, "192.0.2.1", "k1")
	r.Name = "Renamed"
	k.must(k.Write(background(), changes(r)), "change a key that was used since it was read")
	same(k, "revision", k.get(saccount.KindKey, "k1").Revision, 2)
	same(k, "settings number", k.number(), before+1)
	k.wasUsed("k1", noon, "192.0.2.1")
}

func touchUnknown(k *kit) {
	k.tree()
	k.must(k.Touch(background(), []saccount.Touch{
		{Org: acme, Key: "nobody", Use: saccount.Use{At: at(noon)}},
		{Org: acme, Key: "x1", Use: saccount.Use{At: at(noon)}},
		{Org: "nobody", Key: "k1", Use: saccount.Use{At: at(noon)}},
		{Org: acme, Key: "k1", Use: saccount.Use{At: at(noon), Addr: "192.0.2.1"}},
	}), "touch")
	k.wasUsed("k1", noon, "192.0.2.1")
	l, err := k.Lookup(background(), "", saccount.KindKey, "x1")
	k.must(err, "look up")
	same(k, "last use of another organization's key", l.Record.Use, saccount.Use{})
	k.put(record(saccount.KindKey, "nobody", "a1", "Late"))
	same(k, "last use of a key that was made later", k.get(saccount.KindKey, "nobody").Use, saccount.Use{})
}

func touchIgnored(k *kit) {
	k.tree()
	k.touch(noon, "192.0.2.1", "k1")
	r := k.get(saccount.KindKey, "k1")
	r.Use = saccount.Use{At: at(noon + day), Addr: "192.0.2.9"}
	k.put(r)
	k.wasUsed("k1", noon, "192.0.2.1")
	fresh := record(saccount.KindKey, "k9", "a1", "New")
	fresh.Use = saccount.Use{At: at(noon)}
	k.put(fresh)
	same(k, "last use of a new key", k.get(saccount.KindKey, "k9").Use, saccount.Use{})
}

func touchRace(k *kit) {
	k.tree()
	crowd(20, 100, func(i int) {
		n := int64(i * 37 % 100)
		err := k.Touch(background(), []saccount.Touch{{Org: acme, Key: "k1", Use: saccount.Use{At: at(noon + n*second), Addr: fmt.Sprint(n)}}})
		if err != nil {
			k.failf("touch: %v", err)
		}
	})
	k.wasUsed("k1", noon+99*second, "99")
}

func closes() []guarantee {
	return []guarantee{
		{"Close may be called again", "several owners may each make sure", closeTwice},
		{"after Close every call is ErrClosed", "a call that is answered by a closed store is answered from nowhere", closeUse},
		{"calls under way when the store is closed finish or are ErrClosed", "a shutdown must not tear a charge in two", closeRace},
	}
}

func closeTwice(k *kit) {
	k.tree()
	for range 3 {
		k.must(k.Close(), "close")
	}
	crowd(5, 5, func(int) {
		if err := k.Close(); err != nil {
			k.failf("close: %v", err)
		}
	})
}

func closeUse(k *kit) {
	k.tree()
	k.run(quota.Applied, k.charge(noon, "c", 5, chain(noon)...))
	k.must(k.Close(), "close")
	o := k.charge(noon, "d", 5, chain(noon)...)
	for name, call := range k.calls(o) {
		k.is(call(background()), saccount.ErrClosed, name+" after Close")
	}
	if o.Result.Outcome == quota.Applied {
		k.failf("a closed store applied a charge")
	}
}

func closeRace(k *kit) {
	k.tree()
	ls := chain(noon)
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range 8 {
		wg.Go(func() {
			<-start
			for j := range 200 {
				o := k.charge(noon, fmt.Sprint(i, ".", j), 1, ls...)
				err := k.Apply(background(), []*quota.Op{o})
				if err == nil && o.Result.Outcome != quota.Applied || err != nil && !isAny(err, saccount.ErrClosed) {
					k.failf("a charge while the store is closed: %s, error %v", o.Result.Outcome, err)
				}
				if err != nil {
					return
				}
			}
		})
	}
	wg.Go(func() {
		<-start
		if err := k.Close(); err != nil {
			k.failf("close: %v", err)
		}
	})
	close(start)
	wg.Wait()
}
