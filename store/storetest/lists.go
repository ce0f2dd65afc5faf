package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/keypurse/keypurse/saccount"
)

func lists() []guarantee {
	return []guarantee{
		{"the order is byte by byte, of ids or of names", "a page's end means the same in every store, whatever its collation", listOrder},
		{"pages meet without gap or overlap, and more is told truly", "a caller that follows the cursor sees each record once", listPages},
		{"filters narrow a list and never a page's meaning", "a page is full unless nothing follows", listFilters},
		{"the deleted are listed only where asked for", "a list is of what lives", listDeleted},
		{"a record that was there throughout is listed exactly once", "paging goes on while records are made, renamed and deleted", listChanging},
		{"lists stay within their organization and parent", "an account's keys are its own", listBounds},
		{"organizations are listed without naming one", "the host goes through its customers", listOrgs},
		{"every filter, order and cursor together list what the rule says", "an index that is chosen for one filter must not forget the others", listRule},
		{"a list that cannot be answered is ErrInvalid", "a page without bound is how a store is brought down", listInvalid},
	}
}

// pages follows the cursor to the end, n at a time, and checks what it is told.
func (k *kit) pages(q saccount.ListQuery, n int) (all []saccount.Record) {
	k.t.Helper()
	q.Limit = n
	for {
		page, more, err := k.List(background(), q)
		k.must(err, "list")
		if len(page) > n || more && len(page) < n {
			k.fatalf("a page of %d records, more %t; at most %d, and fewer only at the end", len(page), more, n)
		}
		all = append(all, page...)
		if !more {
			return all
		}
		last := q.Cursor(&page[len(page)-1])
		if last <= q.After {
			k.fatalf("a page after %q ends with %q", q.After, last)
		}
		q.After = last
	}
}

func idsOf(rs []saccount.Record) []string {
	out := make([]string, len(rs))
	for i := range rs {
		out[i] = rs[i].ID
	}
	return out
}

func namesOf(rs []saccount.Record) []string {
	out := make([]string, len(rs))
	for i := range rs {
		out[i] = rs[i].Name
	}
	return out
}

func listOrder(k *kit) {
	k.tree()
	odd := append(oddNames(), "10", "9", "a-b", "a.b", "aB", "a b", "Ä", "Z", "z", "~", "日本")
	ids, names := []string{"k1", "k2"}, []string{"Backend", "Staging"}
	for i, s := range odd {
		k.put(record(saccount.KindKey, s, "a1", odd[len(odd)-1-i]))
		ids, names = append(ids, s), append(names, s)
	}
	slices.Sort(ids)
	slices.Sort(names)
	for _, n := range []int{1, 3, 1000} {
		same(k, fmt.Sprintf("ids in pages of %d", n), idsOf(k.pages(saccount.ListQuery{Kind: saccount.KindKey, Org: acme, Parent: "a1"}, n)), ids)
		same(k, fmt.Sprintf("names in pages of %d", n), namesOf(k.pages(saccount.ListQuery{Kind: saccount.KindKey, Org: acme, Parent: "a1", ByName: true}, n)), names)
	}
	same(k, "accounts by name", namesOf(k.pages(saccount.ListQuery{Kind: saccount.KindAccount, Org: acme, ByName: true}, 1)), []string{"Nightly Export", "Production Worker"})
}

func listPages(k *kit) {
	k.tree()
	var want []string
	for i := range 20 {
		id := fmt.Sprintf("p%02d", i)
		k.put(record(saccount.KindMember, id, acme, "Person"))
		want = append(want, id)
	}
	want = append([]string{"ann"}, want...)
	for n := 1; n <= len(want)+1; n++ {
		same(k, fmt.Sprintf("members in pages of %d", n), idsOf(k.pages(saccount.ListQuery{Kind: saccount.KindMember, Org: acme}, n)), want)
	}
	for after, first := range map[string]int{"": 0, "a": 0, "ann": 1, "anna": 1, "p03x": 5, "p18": 20, "p19": 21, "q": 21} {
		page, more, err := k.List(background(), saccount.ListQuery{Kind: saccount.KindMember, Org: acme, After: after, Limit: 2})
		k.must(err, "list")
		same(k, "two members after "+after, idsOf(page), append([]string{}, want[first:min(first+2, len(want))]...))
		same(k, "more after them", more, first+2 < len(want))
	}
}

func listFilters(k *kit) {
	k.tree()
	var prod, off, expired, both []string
	for i := range 30 {
		r := record(saccount.KindKey, fmt.Sprintf("f%02d", i), "a2", fmt.Sprintf("%s key %02d", []string{"web", "Web", "batch"}[i%3], i))
		r.Labels = map[string]string{"env": []string{"prod", "dev"}[i%2], "team": "a"}
		r.Disabled = i%5 == 0
		if i%7 == 0 {
			r.Expires = at(noon - 1)
		}
		if i%2 == 0 {
			prod = append(prod, r.ID)
		}
		switch {
		case r.Disabled:
			off = append(off, r.ID)
		case i%7 == 0:
			expired = append(expired, r.ID)
		}
		if i%2 == 0 && i%3 == 0 {
			both = append(both, r.ID)
		}
		k.put(r)
	}
	for _, n := range []int{1, 4, 100} {
		list := func(q saccount.ListQuery) []string {
			q.Kind, q.Org, q.Now = saccount.KindKey, acme, at(noon)
			return idsOf(k.pages(q, n))
		}
		same(k, "keys labelled prod", list(saccount.ListQuery{Labels: map[string]string{"env": "prod"}}), prod)
		same(k, "disabled keys", list(saccount.ListQuery{Statuses: []saccount.Status{saccount.StatusDisabled}}), off)
		same(k, "expired keys", list(saccount.ListQuery{Statuses: []saccount.Status{saccount.StatusExpired}}), expired)
		same(k, "web keys of prod and team a", list(saccount.ListQuery{NamePrefix: "web", Labels: map[string]string{"env": "prod", "team": "a"}}), both)
		same(k, "keys of no such label", list(saccount.ListQuery{Labels: map[string]string{"env": ""}}), []string{})
		same(k, "keys of no such name", list(saccount.ListQuery{NamePrefix: "%"}), []string{})
		byName := k.pages(saccount.ListQuery{Kind: saccount.KindKey, Org: acme, Parent: "a2", ByName: true, NamePrefix: "Web"}, n)
		if len(byName) != 10 || !slices.IsSorted(namesOf(byName)) {
			k.failf("keys by name, named Web…: %q", namesOf(byName))
		}
	}
}

func listDeleted(k *kit) {
	k.tree()
	r := k.get(saccount.KindKey, "k1")
	r.Deleted = at(noon)
	k.put(r)
	q := saccount.ListQuery{Kind: saccount.KindKey, Org: acme, Parent: "a1", Now: at(noon)}
	same(k, "keys", idsOf(k.pages(q, 1)), []string{"k2"})
	q.ByName = true
	same(k, "keys by name", idsOf(k.pages(q, 1)), []string{"k2"})
	q.ByName, q.Statuses = false, []saccount.Status{saccount.StatusDeleted}
	same(k, "deleted keys", idsOf(k.pages(q, 1)), []string{"k1"})
	q.Statuses = append(q.Statuses, saccount.StatusActive)
	same(k, "all keys", idsOf(k.pages(q, 1)), []string{"k1", "k2"})
}

func listChanging(k *kit) {
	k.tree()
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 40 {
		k.put(record(saccount.KindKey, fmt.Sprintf("s%02d", i), "a2", fmt.Sprintf("stays %02d", i)))
		k.put(record(saccount.KindKey, fmt.Sprintf("t%02d", i), "a2", fmt.Sprintf("turns %02d", i)))
	}
	made := 0
	for _, q := range []saccount.ListQuery{{Parent: "a2"}, {Parent: "a2", ByName: true}, {}} {
		q.Kind, q.Org, q.Limit = saccount.KindKey, acme, 7
		seen := map[string]int{}
		for {
			page, more, err := k.List(background(), q)
			k.must(err, "list")
			for _, r := range page {
				seen[r.ID]++
			}
			if !more {
				break
			}
			last := q.Cursor(&page[len(page)-1])
			if last <= q.After {
				k.fatalf("a page after %q ends with %q", q.After, last)
			}
			q.After = last
			for range 3 { // meanwhile
				made++
				r := k.get(saccount.KindKey, fmt.Sprintf("t%02d", rng.IntN(40)))
				switch {
				case !r.Deleted.IsZero():
					k.put(record(saccount.KindKey, fmt.Sprintf("%cnew%d", 'a'+rune(rng.IntN(26)), made), "a2", fmt.Sprintf("%cnew%d", 'a'+rune(rng.IntN(26)), made)))
				case rng.IntN(2) == 0:
					r.Deleted = at(noon)
					k.put(r)
				default:
					r.Name = fmt.Sprintf("%cturned %d", 'a'+rune(rng.IntN(26)), made)
					k.put(r)
				}
			}
		}
		for i := range 40 {
			if id := fmt.Sprintf("s%02d", i); seen[id] != 1 {
				k.failf("key %s, which nobody touched, was listed %d times (by name %t)", id, seen[id], q.ByName)
			}
		}
		for id, n := range seen {
			if n > 1 && (!q.ByName || strings.HasPrefix(id, "s")) {
				k.failf("key %s was listed %d times in order of ids", id, n)
			}
		}
	}
}

func listBounds(k *kit) {
	k.tree()
	same(k, "keys of a1", idsOf(k.pages(saccount.ListQuery{Kind: saccount.KindKey, Org: acme, Parent: "a1"}, 10)), []string{"k1", "k2"})
	same(k, "keys of a2", idsOf(k.pages(saccount.ListQuery{Kind: saccount.KindKey, Org: acme, Parent: "a2"}, 10)), []string{"k3"})
	same(k, "keys of acme", idsOf(k.pages(saccount.ListQuery{Kind: saccount.KindKey, Org: acme}, 10)), []string{"k1", "k2", "k3"})
	same(k, "keys of the other a1", idsOf(k.pages(saccount.ListQuery{Kind: saccount.KindKey, Org: "other", Parent: "a1"}, 10)), []string{"x1"})
	same(k, "keys of nobody", idsOf(k.pages(saccount.ListQuery{Kind: saccount.KindKey, Org: acme, Parent: "nobody"}, 10)), []string{})
	same(k, "members of acme", idsOf(k.pages(saccount.ListQuery{Kind: saccount.KindMember, Org: acme}, 10)), []string{"ann"})
	same(k, "members of other", idsOf(k.pages(saccount.ListQuery{Kind: saccount.KindMember, Org: "other"}, 10)), []string{})
}

func listOrgs(k *kit) {
	k.tree()
	for _, id := range []string{"Acme", "b", "zeta"} {
		k.put(root(id))
	}
	gone := root("b")
	gone.Revision, gone.Deleted = 1, at(noon)
	k.put(gone)
	for _, n := range []int{1, 2, 10} {
		same(k, "organizations", idsOf(k.pages(saccount.ListQuery{Kind: saccount.KindOrg}, n)), []string{"Acme", acme, "other", "zeta"})
	}
	same(k, "one organization", idsOf(k.pages(saccount.ListQuery{Kind: saccount.KindOrg, Org: acme}, 10)), []string{acme})
	same(k, "deleted organizations", idsOf(k.pages(saccount.ListQuery{Kind: saccount.KindOrg, Statuses: []saccount.Status{saccount.StatusDeleted}}, 10)), []string{"b"})
}

// listRule compares lists of many accounts and keys, in every state, under random
// queries with what ListQuery.Match and the order say of all of them.
func listRule(k *kit) {
	k.tree()
	rng := rand.New(rand.NewPCG(3, 4))
	words := []string{"a", "ab", "abc", "b", "é", "日本", "z\U0010ffff", "a%"}
	var all []saccount.Record
	put := func(r saccount.Record) {
		r.Labels = map[string]string{"n": fmt.Sprint(rng.IntN(3))}
		r.Disabled = rng.IntN(4) == 0
		if rng.IntN(3) == 0 {
			r.Expires = at(noon + int64(rng.IntN(3)-1))
		}
		if rng.IntN(4) == 0 {
			r.Deleted = at(noon)
		}
		all = append(all, r)
	}
	for i := range 150 {
		put(record(saccount.KindAccount, fmt.Sprintf("l%03d", i), acme, fmt.Sprintf("%s %d", words[rng.IntN(len(words))], i)))
		put(record(saccount.KindKey, fmt.Sprintf("m%03d", i), []string{"a1", "a2"}[rng.IntN(2)], fmt.Sprintf("%s %d", words[rng.IntN(len(words))], i)))
	}
	for part := range slices.Chunk(all, 100) {
		k.put(part...)
	}
	for i := range all { // and changed once: what an index said is taken back
		if i%2 == 0 {
			r := k.get(all[i].Kind, all[i].ID)
			r.Disabled, r.Deleted = !r.Disabled, at(noon)
			if rng.IntN(2) == 0 {
				r.Deleted = all[i].Deleted
			}
			k.put(r)
		}
	}
	for _, kind := range []saccount.Kind{saccount.KindAccount, saccount.KindKey} {
		every := k.pages(saccount.ListQuery{Kind: kind, Org: acme, Now: at(noon), Statuses: everyStatus()}, 1000)
		for range 300 {
			q := saccount.ListQuery{Kind: kind, Org: acme, Now: at(noon), ByName: rng.IntN(2) == 0}
			if kind == saccount.KindKey && (q.ByName || rng.IntN(2) == 0) {
				q.Parent = []string{"a1", "a2"}[rng.IntN(2)]
			}
			for _, st := range everyStatus() {
				if rng.IntN(4) == 0 {
					q.Statuses = append(q.Statuses, st)
				}
			}
			if rng.IntN(2) == 0 {
				q.NamePrefix = words[rng.IntN(len(words))]
			}
			if rng.IntN(4) == 0 {
				q.Labels = map[string]string{"n": "1"}
			}
			if from := every[rng.IntN(len(every))]; rng.IntN(2) == 0 {
				q.After = q.Cursor(&from)
			}
			var want []saccount.Record
			for _, r := range every {
				if q.Match(&r) && (q.Parent == "" || r.Parent == q.Parent) && q.Cursor(&r) > q.After && (!q.ByName || r.Deleted.IsZero()) {
					want = append(want, r)
				}
			}
			slices.SortFunc(want, func(a, b saccount.Record) int { return strings.Compare(q.Cursor(&a), q.Cursor(&b)) })
			same(k, fmt.Sprintf("the list of %+v", q), idsOf(k.pages(q, 1+rng.IntN(40))), idsOf(want))
		}
	}
}

func everyStatus() []saccount.Status {
	return []saccount.Status{saccount.StatusActive, saccount.StatusDisabled, saccount.StatusExpired, saccount.StatusDeleted}
}

func listInvalid(k *kit) {
	k.tree()
	for name, q := range map[string]saccount.ListQuery{
		"no bound":                    {Kind: saccount.KindKey, Org: acme},
		"a page too large":            {Kind: saccount.KindKey, Org: acme, Limit: saccount.MaxPage + 1},
		"a negative page":             {Kind: saccount.KindKey, Org: acme, Limit: -1},
		"no kind":                     {Org: acme, Limit: 10},
		"an unknown kind":             {Kind: 9, Org: acme, Limit: 10},
		"keys of every organization":  {Kind: saccount.KindKey, Limit: 10},
		"members by name":             {Kind: saccount.KindMember, Org: acme, ByName: true, Limit: 10},
		"keys by name, of no account": {Kind: saccount.KindKey, Org: acme, ByName: true, Limit: 10},
	} {
		_, _, err := k.List(background(), q)
		k.is(err, saccount.ErrInvalid, "a list with "+name)
	}
	if page, _, err := k.List(background(), saccount.ListQuery{Kind: saccount.KindKey, Org: acme, Limit: saccount.MaxPage}); err != nil || len(page) != 3 {
		k.failf("the largest page: %d keys, error %v; want 3", len(page), err)
	}
}
