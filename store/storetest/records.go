package storetest

import (
	"bytes"
	"fmt"
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

func records() []guarantee {
	return []guarantee{
		{"what was written is read", "a record is all that is known of a customer's key", recordRoundTrip},
		{"what is not there is ErrNotFound", "callers tell absence from failure by the sentinel", recordNotFound},
		{"a new record's id was never used before, by the deleted neither", "an id in a log or an invoice means one thing for ever", recordIDs},
		{"a key's id is unique in the whole store", "a token names its key without naming an organization", recordKeyIDs},
		{"a stale revision is ErrConflict", "two people who edit at once must not undo each other unseen", recordRevisions},
		{"each change raises the revision by one", "the revision is the only proof that a reader is up to date", recordCounting},
		{"a living sibling's name is taken", "two keys of one name cannot be told apart in a list", recordNames},
		{"a deleted record's name is free again", "a rotated-out worker's successor has its name", recordNamesFreed},
		{"names are unique per parent and kind only", "every account may have a key named Production", recordNamesApart},
		{"people and organizations may share a name", "two people are called Ann", recordNamesShared},
		{"a living record's parent is living", "a key under a deleted account would be charged to nobody", recordParents},
		{"deleting an account is one change", "a key lives while its account does; the cascade must not depend on the number of keys", recordCascade},
		{"ids, names and data are kept byte for byte", "folding case or Unicode forms lets one customer read another's record (openfga's CVE-2026-55170)", recordBytes},
		{"times are UTC and cut to microseconds", "a time that comes back changed breaks every comparison with it", recordTimes},
		{"what is read and what was written are copies", "a caller that changes what it was given must not change the store", recordCopies},
	}
}

func recordRoundTrip(k *kit) {
	k.tree()
	r := record(saccount.KindKey, "k9", "a1", "Nightly")
	r.Disabled, r.Expires = true, at(noon+day)
	r.Labels, r.Data = map[string]string{"env": "prod", "": "empty key"}, []byte(`{"scopes":["words"]}`)
	k.put(r)
	want := r.Clone()
	want.Revision = 1
	same(k, "the record that was made", k.get(saccount.KindKey, "k9"), want)

	want.Name, want.Disabled, want.Expires, want.Labels, want.Data = "Nightly 2", false, time.Time{}, nil, []byte{0}
	k.put(want)
	want.Revision = 2
	same(k, "the record that was changed", k.get(saccount.KindKey, "k9"), want)
}

func recordNotFound(k *kit) {
	ctx := background()
	for _, kind := range []saccount.Kind{saccount.KindOrg, saccount.KindAccount, saccount.KindMember, saccount.KindKey} {
		_, err := k.Lookup(ctx, acme, kind, "nobody")
		k.is(err, saccount.ErrNotFound, "look up a "+kind.String()+" in an empty store")
	}
	k.tree()
	for _, kind := range []saccount.Kind{saccount.KindAccount, saccount.KindMember, saccount.KindKey} {
		_, err := k.Lookup(ctx, acme, kind, "nobody")
		k.is(err, saccount.ErrNotFound, "look up an unknown "+kind.String())
		r := record(kind, "nobody", acme, "")
		if kind == saccount.KindKey {
			r.Parent = "a1"
		}
		r.Revision = 1
		k.is(k.Write(ctx, changes(r)), saccount.ErrNotFound, "change an unknown "+kind.String())
	}
	_, err := k.Lookup(ctx, acme, saccount.KindMember, "a1")
	k.is(err, saccount.ErrNotFound, "look up an account's id among the members")
	page, more, err := k.List(ctx, saccount.ListQuery{Kind: saccount.KindAccount, Org: "nobody", Limit: 10})
	if len(page) != 0 || more || err != nil {
		k.failf("the accounts of an unknown organization: %d, more %t, error %v; want none", len(page), more, err)
	}
}

func recordIDs(k *kit) {
	k.tree()
	again := func(kind saccount.Kind, id, parent string) {
		k.t.Helper()
		k.is(k.Write(background(), changes(record(kind, id, parent, "Another name"))), saccount.ErrExists, "make "+kind.String()+" "+id+" again")
	}
	again(saccount.KindAccount, "a2", acme)
	again(saccount.KindMember, "ann", acme)
	again(saccount.KindKey, "k3", "a2")
	key, account := k.get(saccount.KindKey, "k3"), k.get(saccount.KindAccount, "a2")
	key.Deleted, account.Deleted = at(noon), at(noon)
	k.put(key, account)
	again(saccount.KindKey, "k3", "a1")
	again(saccount.KindAccount, "a2", acme)
}

func recordKeyIDs(k *kit) {
	k.tree()
	x := record(saccount.KindKey, "k1", "a1", "Mine now")
	x.Org = "other"
	k.is(k.Write(background(), changes(x)), saccount.ErrExists, "make a key with the id of another organization's key")
	a := record(saccount.KindAccount, "a2", "other", "Nightly Export")
	a.Org = "other"
	k.must(k.Write(background(), changes(a)), "make an account with the id of another organization's account")
}

func recordRevisions(k *kit) {
	k.tree()
	first, second := k.get(saccount.KindAccount, "a1"), k.get(saccount.KindAccount, "a1")
	first.Data = []byte("first")
	k.put(first)
	second.Data = []byte("second")
	k.is(k.Write(background(), changes(second)), saccount.ErrConflict, "change a record at a revision that is over")
	second.Revision = 7
	k.is(k.Write(background(), changes(second)), saccount.ErrConflict, "change a record at a revision to come")
	if got := k.get(saccount.KindAccount, "a1"); string(got.Data) != "first" || got.Revision != 2 {
		k.failf("after two refused changes: data %q at revision %d, want %q at 2", got.Data, got.Revision, "first")
	}
}

func recordCounting(k *kit) {
	k.tree()
	for i := int64(1); i <= 5; i++ {
		r := k.get(saccount.KindKey, "k1")
		if r.Revision != i {
			k.fatalf("revision %d after %d changes, want %d", r.Revision, i-1, i)
		}
		k.put(r)
	}
}

func recordNames(k *kit) {
	k.tree()
	taken := func(r saccount.Record, doing string) {
		k.t.Helper()
		k.is(k.Write(background(), changes(r)), saccount.ErrExists, doing)
	}
	taken(record(saccount.KindAccount, "a9", acme, "Production Worker"), "make an account with a living sibling's name")
	taken(record(saccount.KindKey, "k9", "a1", "Backend"), "make a key with a living sibling's name")
	r := k.get(saccount.KindKey, "k2")
	r.Name = "Backend"
	taken(r, "give a key a living sibling's name")
	r = k.get(saccount.KindKey, "k2")
	r.Disabled = true
	k.put(r)
	taken(record(saccount.KindKey, "k9", "a1", "Staging"), "make a key with a disabled sibling's name")
	r = k.get(saccount.KindKey, "k1")
	k.must(k.Write(background(), changes(r)), "change a key and leave it its own name")
}

func recordNamesFreed(k *kit) {
	k.tree()
	r := k.get(saccount.KindKey, "k1")
	r.Deleted = at(noon)
	k.put(r)
	k.put(record(saccount.KindKey, "k9", "a1", "Backend"))
	k.is(k.Write(background(), changes(record(saccount.KindKey, "k10", "a1", "Backend"))), saccount.ErrExists, "take the successor's name")

	r = k.get(saccount.KindKey, "k2")
	r.Name = "Staging 2"
	k.put(r)
	k.put(record(saccount.KindKey, "k11", "a1", "Staging"))

	// In one batch each change sees what those before it did.
	gone := k.get(saccount.KindAccount, "a2")
	gone.Deleted = at(noon)
	k.must(k.Write(background(), changes(gone, record(saccount.KindAccount, "a9", acme, gone.Name))), "delete an account and give its name to another in one batch")
}

func recordNamesApart(k *kit) {
	k.tree()
	k.put(
		record(saccount.KindKey, "k9", "a2", "Staging"),               // a1 has one
		record(saccount.KindKey, "k10", "a2", "Production Worker"),    // an account's name
		record(saccount.KindAccount, "a9", acme, "production worker"), // other bytes
		record(saccount.KindAccount, "a10", acme, "Production Worker "),
	)
}

func recordNamesShared(k *kit) {
	k.tree()
	k.put(record(saccount.KindMember, "ann2", acme, "Ann"))
	o := root("third")
	o.Name = "Organization acme"
	k.put(o)
	k.put(record(saccount.KindAccount, "a9", acme, ""), record(saccount.KindAccount, "a10", acme, ""))
}

func recordParents(k *kit) {
	orphan := func(r saccount.Record, doing string) {
		k.t.Helper()
		k.is(k.Write(background(), changes(r)), saccount.ErrNotFound, doing)
	}
	orphan(record(saccount.KindAccount, "a1", acme, "Early"), "make an account before its organization")
	k.tree()
	orphan(record(saccount.KindKey, "k9", "nobody", "Stray"), "make a key under an unknown account")
	orphan(record(saccount.KindKey, "k9", "ann", "Stray"), "make a key under a member")
	r := k.get(saccount.KindAccount, "a2")
	r.Deleted = at(noon)
	k.put(r)
	orphan(record(saccount.KindKey, "k9", "a2", "Late"), "make a key under a deleted account")
	orphan(k.get(saccount.KindKey, "k3"), "change a key of a deleted account and leave it living")
	key := k.get(saccount.KindKey, "k3")
	key.Deleted = at(noon)
	k.must(k.Write(background(), changes(key)), "delete a key of a deleted account")
	o := k.get(saccount.KindOrg, acme)
	o.Deleted = at(noon)
	k.put(o)
	orphan(record(saccount.KindAccount, "a9", acme, "Late"), "make an account in a deleted organization")
	orphan(record(saccount.KindKey, "k9", "a1", "Late"), "make a key in a deleted organization")
}

func recordCascade(k *kit) {
	k.tree()
	r := k.get(saccount.KindAccount, "a1")
	r.Deleted = at(noon)
	k.put(r)
	l, err := k.Lookup(background(), "", saccount.KindKey, "k1")
	k.must(err, "look up a key of a deleted account")
	if l.Record.Revision != 1 || l.Account == nil || !l.Account.Deleted.Equal(at(noon)) {
		k.failf("a key of a deleted account: revision %d, account %+v; want the key untouched and the account's tombstone with it", l.Record.Revision, l.Account)
	}
}

// oddNames differ in bytes and are equal to whoever folds case, Unicode forms
// or spaces.
func oddNames() []string {
	return []string{"key", "Key", "KEY", "key ", " key", "ke\u0301y", "k\u00e9y", "k\u00c9y", "key%", "key_", `key\`, "key'", "ﬀ", "ff", "straße", "strasse", "ı", "i"}
}

func recordBytes(k *kit) {
	k.tree()
	for i, name := range oddNames() {
		r := record(saccount.KindKey, "id-"+name, "a1", name)
		r.Data = append([]byte{0, 0xff, '\n', byte(i)}, name...)
		k.put(r)
	}
	for i, name := range oddNames() {
		r := k.get(saccount.KindKey, "id-"+name)
		if r.ID != "id-"+name || r.Name != name || !bytes.Equal(r.Data, append([]byte{0, 0xff, '\n', byte(i)}, name...)) {
			k.failf("key %q named %q came back as %q named %q with data %q", "id-"+name, name, r.ID, r.Name, r.Data)
		}
	}
	for _, id := range []string{"id-kEy", "ID-key", "id-key  ", "id-", "id-ke", "id-%"} {
		if _, err := k.Lookup(background(), acme, saccount.KindKey, id); err == nil {
			k.failf("%q found a record, and none has this id", id)
		}
	}
	big := record(saccount.KindKey, "big", "a1", "Big")
	big.Data = bytes.Repeat([]byte("0123456789abcdef"), 4096)
	k.put(big)
	if got := k.get(saccount.KindKey, "big").Data; !bytes.Equal(got, big.Data) {
		k.failf("64 kB of data came back as %d other bytes", len(got))
	}
	k.refresh()
	for _, s := range []quota.Subject{"key:K1", "key:k1 ", "key:k1"} {
		k.run(quota.Applied, k.charge(noon, "", quota.Credits(len(s)), level(s, noon, never(1000))))
	}
	for _, s := range []quota.Subject{"key:K1", "key:k1 ", "key:k1"} {
		k.stands(noon, level(s, noon, never(1000)), quota.Credits(len(s)), 0, 0)
	}
}

func recordTimes(k *kit) {
	k.tree()
	zone := time.FixedZone("UTC+05:30", 5*3600+1800)
	odd := time.Date(2026, 3, 10, 12, 34, 56, 123456789, zone)
	want := time.Date(2026, 3, 10, 7, 4, 56, 123456000, time.UTC)
	r := record(saccount.KindKey, "k9", "a1", "Timed")
	r.Created, r.Expires = odd, odd.Add(time.Hour)
	b := changes(r)
	b.Audit = []saccount.Entry{{At: odd}}
	k.must(k.Write(background(), b), "write a record")
	k.must(k.Touch(background(), []saccount.Touch{{Org: acme, Key: "k9", Use: saccount.Use{At: odd, Addr: "192.0.2.1"}}}), "touch")
	got := k.get(saccount.KindKey, "k9")
	same(k, "created", got.Created, want)
	same(k, "expires", got.Expires, want.Add(time.Hour))
	same(k, "deleted", got.Deleted, time.Time{})
	same(k, "used", got.Use.At, want)
	if a := k.audits(); len(a) != 1 {
		k.failf("%d audit entries, want 1", len(a))
	} else {
		same(k, "audited", a[0].At, want)
	}
	if !k.get(saccount.KindKey, "k1").Use.At.IsZero() {
		k.failf("a key that was never used was used at %v", k.get(saccount.KindKey, "k1").Use.At)
	}
}

func recordCopies(k *kit) {
	k.tree()
	mine := record(saccount.KindKey, "k9", "a1", "Copied")
	mine.Labels, mine.Data = map[string]string{"env": "prod"}, []byte("data")
	b := changes(mine)
	b.Audit = []saccount.Entry{{At: at(noon), Data: []byte("data")}}
	k.must(k.Write(background(), b), "write a record")
	// whatever they did with mine, and whatever comes back, is the caller's
	spoil := func(r *saccount.Record) { copy(r.Data, "XXXX"); r.Labels["env"] = "XXXX" }
	check := func(after string) {
		k.t.Helper()
		if r := k.get(saccount.KindKey, "k9"); string(r.Data) != "data" || r.Labels["env"] != "prod" {
			k.failf("after the caller changed %s, the store has data %q and label %q", after, r.Data, r.Labels["env"])
		}
	}
	spoil(&mine)
	check("what it had written")
	got := k.get(saccount.KindKey, "k9")
	spoil(&got)
	check("what Lookup gave")
	page, _, err := k.List(background(), saccount.ListQuery{Kind: saccount.KindKey, Org: acme, Limit: 10, Labels: map[string]string{"env": "prod"}})
	k.must(err, "list")
	if len(page) != 1 {
		k.fatalf("%d keys with the label, want 1", len(page))
	}
	spoil(&page[0])
	check("what List gave")

	copy(b.Audit[0].Data, "XXXX")
	for range 2 {
		a := k.audits()
		if len(a) != 1 || string(a[0].Data) != "data" {
			k.fatalf("after the caller changed its audit entry, the store has %q", fmt.Sprint(a))
		}
		copy(a[0].Data, "XXXX")
	}

	l := level(key1, noon, never(100))
	f := k.peek(noon, l)
	f[0].Used = 99
	k.stands(noon, l, 0, 0, 0)
}
