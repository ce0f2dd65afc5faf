package storetest

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store"
	"github.com/keypurse/keypurse/usage"
)

// kit is the Store under test with what the cases need around it.
type kit struct {
	store.Store
	t *testing.T
	guarantee
	again    func() store.Store // opens the same data again; nil where nothing outlives the Store
	settings int64              // of acme, as this kit last knew it
}

// Instants and spans, as the contract counts them: microseconds.
const (
	second  = 1_000_000
	minute  = 60 * second
	quarter = 15 * minute
	hour    = 60 * minute
	day     = 24 * hour
	// noon is Tuesday, 10 March 2026, 12:00 UTC.
	noon     = 1773144000 * second
	midnight = noon - 12*hour
	keep     = 35 * day
)

// The tree that tree makes.
const (
	acme = "acme"
	org  = quota.Subject("org:acme")
	acc1 = quota.Subject("account:a1")
	acc2 = quota.Subject("account:a2")
	key1 = quota.Subject("key:k1")
	key2 = quota.Subject("key:k2")
	key3 = quota.Subject("key:k3")
	ann  = quota.Subject("member:ann")
)

// background is the context of every call that is not about contexts.
func background() context.Context { return context.Background() }

// failf reports a failure, with the rule and why it exists. It may be called
// from any goroutine.
func (k *kit) failf(format string, a ...any) {
	k.t.Helper()
	k.t.Errorf(format+"\n\trule: %s\n\twhy:  %s", append(a, k.rule, k.why)...)
}

// fatalf is failf that ends the case.
func (k *kit) fatalf(format string, a ...any) {
	k.t.Helper()
	k.failf(format, a...)
	k.t.FailNow()
}

// must ends the case where err is not nil.
func (k *kit) must(err error, doing string) {
	k.t.Helper()
	if err != nil {
		k.fatalf("%s: %v", doing, err)
	}
}

// is checks that err wraps target.
func (k *kit) is(err, target error, doing string) {
	k.t.Helper()
	if !errors.Is(err, target) {
		k.failf("%s: got error %v, want one that wraps %q", doing, err, target)
	}
}

// same checks that got is want, deeply.
func same[T any](k *kit, what string, got, want T) {
	k.t.Helper()
	if !reflect.DeepEqual(got, want) {
		k.failf("%s:\n\tgot  %+v\n\twant %+v", what, got, want)
	}
}

// record makes a living record of acme.
func record(kind saccount.Kind, id, parent, name string) saccount.Record {
	return saccount.Record{Kind: kind, Org: acme, ID: id, Parent: parent, Name: name, Created: quota.Time(midnight)}
}

// root is the record of an organization.
func root(id string) saccount.Record {
	return saccount.Record{Kind: saccount.KindOrg, Org: id, ID: id, Name: "Organization " + id, Created: quota.Time(midnight)}
}

// tree writes organization acme with accounts a1 (keys k1, k2) and a2 (key k3)
// and member ann, and organization other with account a1 and key x1.
func (k *kit) tree() {
	k.t.Helper()
	k.put(
		root(acme),
		record(saccount.KindAccount, "a1", acme, "Production Worker"),
		record(saccount.KindAccount, "a2", acme, "Nightly Export"),
		record(saccount.KindMember, "ann", acme, "Ann"),
		record(saccount.KindKey, "k1", "a1", "Backend"),
		record(saccount.KindKey, "k2", "a1", "Staging"),
		record(saccount.KindKey, "k3", "a2", "Backend"),
	)
	account, key := record(saccount.KindAccount, "a1", "other", "Production Worker"), record(saccount.KindKey, "x1", "a1", "Backend")
	account.Org, key.Org = "other", "other"
	k.put(root("other"), account, key)
	k.refresh()
}

// put writes records, in one batch of the first one's organization.
func (k *kit) put(rs ...saccount.Record) {
	k.t.Helper()
	k.must(k.Write(background(), changes(rs...)), "write records")
}

// changes is a batch that puts records.
func changes(rs ...saccount.Record) saccount.Batch {
	b := saccount.Batch{Org: rs[0].Org, At: quota.Time(noon)}
	for _, r := range rs {
		b.Changes = append(b.Changes, saccount.Change{Record: r})
	}
	return b
}

// get reads a record of acme.
func (k *kit) get(kind saccount.Kind, id string) saccount.Record {
	k.t.Helper()
	l, err := k.Lookup(background(), acme, kind, id)
	k.must(err, "look up "+kind.String()+" "+id)
	return l.Record
}

// number is acme's settings number as the Store has it.
func (k *kit) number() int64 {
	k.t.Helper()
	l, err := k.Lookup(background(), acme, saccount.KindOrg, acme)
	k.must(err, "look up the organization")
	return l.Settings
}

// refresh reads acme's settings number for the charges to come.
func (k *kit) refresh() { k.t.Helper(); k.settings = k.number() }

// edit changes a record of acme so that the settings number moves, opening
// counters in the same step, as an edit of a limit does.
func (k *kit) edit(at int64, kind saccount.Kind, id string, open ...saccount.Opening) {
	k.t.Helper()
	b := changes(k.get(kind, id))
	b.At, b.Open = quota.Time(at), open
	k.must(k.Write(background(), b), "edit a limit")
	k.refresh()
}

// audits is every audit entry of acme.
func (k *kit) audits() []saccount.Entry {
	k.t.Helper()
	var all []saccount.Entry
	for after := int64(0); ; {
		page, err := k.Audit(background(), acme, after, 100)
		k.must(err, "read the audit log")
		if all = append(all, page...); len(page) == 0 {
			return all
		}
		after = k.follows(after, page[len(page)-1].Seq)
	}
}

// follows is the next cursor, which must be beyond the one before.
func (k *kit) follows(after, next int64) int64 {
	k.t.Helper()
	if next <= after {
		k.fatalf("a page after number %d ends with number %d", after, next)
	}
	return next
}

// outbox is every alert.
func (k *kit) outbox() []quota.Alert {
	k.t.Helper()
	var all []quota.Alert
	for after := int64(0); ; {
		page, err := k.Outbox(background(), after, 100)
		k.must(err, "read the outbox")
		if all = append(all, page...); len(page) == 0 {
			return all
		}
		after = k.follows(after, page[len(page)-1].Seq)
	}
}

// rows is the usage of one subject of acme in [from, to).
func (k *kit) rows(s quota.Subject, from, to int64) []usage.Row {
	k.t.Helper()
	var all []usage.Row
	err := k.Usage(background(), usage.Range{Org: acme, Subjects: []quota.Subject{s}, From: from, To: to}, func(r usage.Row) error {
		all = append(all, r)
		return nil
	})
	k.must(err, "read usage")
	return all
}

// spent sums what was admitted of one subject of acme in [from, to).
func (k *kit) spent(s quota.Subject, from, to int64) (c quota.Credits, requests int64) {
	k.t.Helper()
	for _, r := range k.rows(s, from, to) {
		if r.Reason == "" {
			c, requests = c+r.Credits, requests+r.Requests
		}
	}
	return c, requests
}

// ever spans every instant of the cases.
func ever() (from, to int64) { return 0, noon + 10*365*day }

// reopen closes the Store and opens its data again.
func (k *kit) reopen() {
	k.t.Helper()
	k.must(k.Close(), "close")
	s := k.again()
	if s == nil {
		k.fatalf("open gave no Store the second time")
	}
	k.Store = s
}

// at is an instant as a time.
func at(micros int64) time.Time { return quota.Time(micros) }

// isAny reports whether err wraps one of the targets.
func isAny(err error, targets ...error) bool {
	for _, t := range targets {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}
