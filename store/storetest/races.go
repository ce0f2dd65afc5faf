package storetest

import (
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

func races() []guarantee {
	all := []guarantee{
		{"reservations are admitted exactly too", "what is held is as good as spent to those who come next", raceReserve},
		{"of commit, release and renewal at once, one settles", "a panic, a hang-up and a timeout may all try", raceSettle},
		{"refunds at once give back no more than was charged", "retries of a refund race", raceRefund},
		{"of many changes of one revision, one is written", "revisions run 1 to n with no gap and no two alike", raceRevisions},
		{"of many records of one name, one is made", "two keys of one name cannot be told apart", raceNames},
		{"of many keys of one id in several organizations, one is made", "a token names its key without naming an organization", raceKeyIDs},
		{"after an edit returns, no charge of before it is admitted", "a key that was disabled spends nothing from then on, in any process", raceRevoke},
		{"deleting an account while its keys are made leaves no orphan", "a key made under a deleted account would live", raceCascade},
		{"audit entries written at once are numbered without gaps", "a gap is how a removed entry shows", raceAudit},
		{"audit entries written at once make one chain", "two that follow the same entry are one too many", auditRace},
	}
	for _, c := range spends() {
		all = append(all, guarantee{
			fmt.Sprintf("of %d credits, %d calls of %d by %d workers are admitted exactly", c.max, c.calls, c.cost, c.workers),
			"a limit holds exactly under any concurrency, at every level of the chain",
			func(k *kit) { raceSpend(k, c) },
		})
	}
	return all
}

// spend is a race for credits.
type spend struct {
	max, cost      quota.Credits
	workers, calls int
}

func (c spend) admitted() int { return min(c.calls, int(c.max/c.cost)) }

func spends() []spend {
	return []spend{{1, 1, 1000, 1000}, {500, 10, 20, 100}, {100, 1, 50, 200}, {100, 5, 20, 50}, {5, 1, 50, 50}}
}

// crowd runs fn calls times on so many workers, which begin together.
func crowd(workers, calls int, fn func(call int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for w := range workers {
		wg.Go(func() {
			<-start
			for i := w; i < calls; i += workers {
				fn(i)
			}
		})
	}
	close(start)
	wg.Wait()
}

// tally counts outcomes.
type tally struct {
	mu sync.Mutex
	n  map[quota.Outcome]int
}

func (t *tally) add(o quota.Outcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n == nil {
		t.n = map[quota.Outcome]int{}
	}
	t.n[o]++
}

// applyOne applies an Op from any goroutine.
func (k *kit) applyOne(o *quota.Op) quota.Outcome {
	if err := k.Apply(background(), []*quota.Op{o}); err != nil {
		k.failf("apply: %v", err)
	}
	return o.Result.Outcome
}

// tightAt are two chains under one organization, key1 and key3, with the
// limit that is raced for at one level: 0 the keys, 1 the accounts, 2 the
// organization, which both share. The keys and accounts of the two are apart,
// so that at the first two levels only the first chain is raced on.
func tightAt(where int, most quota.Credits) (chains [][]*quota.Level) {
	wide := func(i int, s quota.Subject) *quota.Level {
		e := never(1e9)
		if i == where {
			e.Max = most
		}
		return level(s, noon, named("wide", never(1e9)), e)
	}
	one, two, top := wide(0, key1), wide(0, key3), wide(2, org)
	return [][]*quota.Level{{one, wide(1, acc1), top}, {two, wide(1, acc2), top}}
}

func raceSpend(k *kit, c spend) {
	k.tree()
	var before [3]quota.Credits
	requests := int64(0)
	for where := range 4 { // the fourth time two accounts race for the organization's
		chains := tightAt(min(where, 2), c.max)
		if where < 3 {
			chains = chains[:1]
		}
		for _, l := range chains[0] {
			for i := range l.Limits {
				l.Limits[i].Number = uint32(where) + 1 // each round its own counters
			}
		}
		if where == 3 {
			for i := range chains[1][0].Limits {
				chains[1][0].Limits[i].Number, chains[1][1].Limits[i].Number = 4, 4
			}
		}
		var got tally
		crowd(c.workers, c.calls, func(i int) {
			ls := append([]*quota.Level(nil), chains[i%len(chains)]...)
			rand.Shuffle(len(ls), func(a, b int) { ls[a], ls[b] = ls[b], ls[a] })
			got.add(k.applyOne(k.charge(noon, "", c.cost, ls...)))
		})
		n := c.admitted()
		want := map[quota.Outcome]int{quota.Applied: n}
		if c.calls > n {
			want[quota.Refused] = c.calls - n
		}
		same(k, fmt.Sprintf("outcomes with the limit at level %d", where), got.n, want)
		spent := quota.Credits(n) * c.cost
		requests += int64(n)
		var sums [3]quota.Credits
		for _, chain := range chains {
			for i, l := range chain {
				f := k.peek(noon, l)
				if f[0].Used != f[1].Used || f[0].Held != 0 {
					k.failf("%s: its limits disagree: %+v", l.Subject, f)
				}
				if i < 2 || len(chains) == 1 {
					sums[i] += f[1].Used
				}
			}
		}
		if len(chains) == 2 {
			sums[2] = k.peek(noon, chains[0][2])[1].Used
		}
		same(k, "used at each level", sums, [3]quota.Credits{spent, spent, spent})
		for i := range before {
			before[i] += spent
		}
		k.buckets(org, before[2], requests)
	}
	// Refused calls left nothing, so that the parents' history is the children's.
	from, to := ever()
	a, _ := k.spent(acc1, from, to)
	b, _ := k.spent(acc2, from, to)
	x, _ := k.spent(key1, from, to)
	y, _ := k.spent(key3, from, to)
	if a+b != before[2] || x != a || y != b {
		k.failf("usage of the keys %d and %d, of their accounts %d and %d, of the organization %d", x, y, a, b, before[2])
	}
}

func raceReserve(k *kit) {
	k.tree()
	ls := tightAt(1, 100)[0]
	var got tally
	crowd(40, 40, func(i int) {
		o := k.reserve(noon, fmt.Sprint("r", i), 10, hour, ls...)
		if k.applyOne(o) == quota.Applied {
			got.add(quota.Applied)
			k.applyOne(k.commit(noon, o.ID, 10))
			return
		}
		got.add(o.Result.Outcome)
	})
	same(k, "reservations", got.n, map[quota.Outcome]int{quota.Applied: 10, quota.Refused: 30})
	for _, l := range ls {
		same(k, "figures of "+string(l.Subject), k.peek(noon, l)[1].Used, 100)
		same(k, "held by "+string(l.Subject), k.peek(noon, l)[1].Held, 0)
	}
	k.buckets(org, 100, 10)
}

func raceSettle(k *kit) {
	k.tree()
	ls := chain(noon)
	spent := quota.Credits(0)
	for round := range 20 {
		id := fmt.Sprint("r", round)
		k.run(quota.Applied, k.reserve(noon, id, 10, hour, ls...))
		var committed, released tally
		crowd(12, 12, func(i int) {
			switch i % 3 {
			case 0:
				committed.add(k.applyOne(k.commit(noon, id, 7)))
			case 1:
				released.add(k.applyOne(k.release(noon, id)))
			case 2:
				k.applyOne(k.renew(noon, id, 2*hour))
			}
		})
		c, r := committed.n[quota.Applied], released.n[quota.Applied]
		if c+r != 1 || c == 1 && released.n[quota.Conflict] != 4 || r == 1 && committed.n[quota.Conflict] != 4 {
			k.failf("commits %v, releases %v: want one applied, its like replayed, the others conflicts", committed.n, released.n)
		}
		spent += quota.Credits(7 * c)
	}
	for _, l := range ls {
		k.stands(noon, l, spent, 0, 0)
	}
}

func raceRefund(k *kit) {
	k.tree()
	ls := chain(noon)
	k.run(quota.Applied, k.charge(noon, "c", 100, ls...))
	var got tally
	crowd(30, 30, func(i int) { got.add(k.applyOne(k.refund(noon, fmt.Sprint("f", i), "c", 10))) })
	same(k, "refunds", got.n, map[quota.Outcome]int{quota.Applied: 10, quota.Excess: 20})
	k.stands(noon, ls[2], 0, 0, 0)
}

func raceRevisions(k *kit) {
	k.tree()
	const workers, each = 20, 5
	var mu sync.Mutex
	seen := map[int64]int{}
	crowd(workers, workers, func(w int) {
		for done := 0; done < each; {
			l, err := k.Lookup(background(), acme, saccount.KindAccount, "a1")
			if err != nil {
				k.failf("look up: %v", err)
				return
			}
			l.Record.Data = fmt.Append(nil, w)
			switch err := k.Write(background(), changes(l.Record)); {
			case err == nil:
				mu.Lock()
				seen[l.Record.Revision]++
				mu.Unlock()
				done++
			default:
				if !isAny(err, saccount.ErrConflict) {
					k.failf("a change that lost the race: %v, want one that wraps ErrConflict", err)
					return
				}
			}
		}
	})
	for r := int64(1); r <= workers*each; r++ {
		if seen[r] != 1 {
			k.failf("revision %d was changed %d times", r, seen[r])
		}
	}
	same(k, "the last revision", k.get(saccount.KindAccount, "a1").Revision, workers*each+1)
}

// oneOf runs fn on many workers: one succeeds, the others get target.
func (k *kit) oneOf(n int, target error, fn func(i int) error) {
	k.t.Helper()
	var mu sync.Mutex
	won := 0
	crowd(n, n, func(i int) {
		err := fn(i)
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			won++
		} else if !isAny(err, target) {
			k.failf("whoever lost the race got %v, want an error that wraps %q", err, target)
		}
	})
	same(k, "winners", won, 1)
}

func raceNames(k *kit) {
	k.tree()
	for round := range 10 {
		k.oneOf(10, saccount.ErrExists, func(i int) error {
			return k.Write(background(), changes(record(saccount.KindKey, fmt.Sprintf("n%d.%d", round, i), "a1", fmt.Sprint("Name ", round))))
		})
	}
	same(k, "keys", len(k.pages(saccount.ListQuery{Kind: saccount.KindKey, Org: acme, Parent: "a1", ByName: true}, 5)), 12)
}

func raceKeyIDs(k *kit) {
	k.tree()
	for round := range 40 {
		id := fmt.Sprint("everywhere", round)
		k.oneOf(8, saccount.ErrExists, func(i int) error {
			r := record(saccount.KindKey, id, "a1", fmt.Sprintf("Key %d.%d", round, i))
			r.Org = []string{acme, "other"}[i%2]
			return k.Write(background(), changes(r))
		})
		l, err := k.Lookup(background(), "", saccount.KindKey, id)
		k.must(err, "look up the winner")
		loser := acme
		if l.Record.Org == acme {
			loser = "other"
		}
		_, err = k.Lookup(background(), loser, saccount.KindKey, id)
		k.is(err, saccount.ErrNotFound, "look up the key in the organization that lost")
	}
}

func raceRevoke(k *kit) {
	k.tree()
	ls := chain(noon)
	for round := range 20 {
		old := k.settings
		var mu sync.Mutex
		over := false // the edit has returned
		r := k.get(saccount.KindKey, "k1")
		r.Disabled = round%2 == 0
		crowd(5, 50, func(i int) {
			if i == 7 {
				if err := k.Write(background(), changes(r)); err != nil {
					k.failf("write: %v", err)
				}
				mu.Lock()
				over = true
				mu.Unlock()
				return
			}
			mu.Lock()
			late := over
			mu.Unlock()
			o := k.charge(noon, "", 1, ls...)
			o.Settings = old
			if got := k.applyOne(o); late && got != quota.Stale || got != quota.Stale && got != quota.Applied {
				k.failf("a charge of before the edit, begun after it returned (%t): %s, want stale", late, got)
			}
		})
		k.refresh()
	}
}

func raceCascade(k *kit) {
	k.tree()
	for round := range 20 {
		account := fmt.Sprint("c", round)
		k.put(record(saccount.KindAccount, account, acme, "Cascade "+account))
		r := k.get(saccount.KindAccount, account)
		r.Deleted = at(noon)
		crowd(4, 4, func(i int) {
			if i == 0 {
				if err := k.Write(background(), changes(r)); err != nil {
					k.failf("delete: %v", err)
				}
				return
			}
			err := k.Write(background(), changes(record(saccount.KindKey, fmt.Sprintf("%s.%d", account, i), account, fmt.Sprint(i))))
			if err != nil && !isAny(err, saccount.ErrNotFound) {
				k.failf("make a key while its account is deleted: %v", err)
			}
		})
		for i := 1; i < 4; i++ {
			l, err := k.Lookup(background(), acme, saccount.KindKey, fmt.Sprintf("%s.%d", account, i))
			if err == nil && l.Account.Deleted.IsZero() {
				k.failf("a key of a deleted account comes with the account living")
			}
		}
		late := record(saccount.KindKey, account+".late", account, "late")
		k.is(k.Write(background(), changes(late)), saccount.ErrNotFound, "make a key after its account was deleted")
	}
}

func raceAudit(k *kit) {
	k.tree()
	crowd(10, 60, func(i int) {
		b := saccount.Batch{Org: acme, At: at(noon), Audit: []saccount.Entry{{At: at(noon), Data: fmt.Append(nil, i)}, {At: at(noon), Data: fmt.Append(nil, i)}}}
		if err := k.Write(background(), b); err != nil {
			k.failf("write: %v", err)
		}
	})
	all := k.audits()
	same(k, "entries", len(all), 120)
	for i := range all {
		if all[i].Seq != int64(i)+1 || i%2 == 1 && string(all[i].Data) != string(all[i-1].Data) {
			k.failf("entry %d is number %d; entries of one batch stand together", i+1, all[i].Seq)
		}
	}
}
