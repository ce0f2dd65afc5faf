package storetest

import (
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

func settings() []guarantee {
	return []guarantee{
		{"a charge computed from records that moved is Stale and changes nothing", "an edit or a revocation holds for the next charge in every process, cache or not", settingsStale},
		{"levels that the store has seen before do not outlive the settings", "a remembered counter must not carry a remembered right", settingsLevels},
		{"a settlement is never Stale", "what was admitted settles, whatever became of key, account or limit", settingsSettle},
		{"a replay is never Stale", "a lost reply is asked for again after an edit too", settingsReplay},
		{"other organizations' edits make nothing Stale", "one customer's changes are no other's business", settingsOthers},
	}
}

func settingsStale(k *kit) {
	k.tree()
	ls := chain(noon)
	old := k.settings
	k.edit(noon, saccount.KindKey, "k1")
	before := k.snapshot(noon, ls...)
	for _, wrong := range []int64{old, old - 1, 0, k.settings + 1, -1} {
		c, r := k.charge(noon, "c1", 5, ls...), k.reserve(noon, "r1", 5, hour, ls...)
		c.Settings, r.Settings = wrong, wrong
		k.run(quota.Stale, c)
		k.run(quota.Stale, r)
	}
	same(k, "all that counts after stale charges", k.snapshot(noon, ls...), before)
	k.run(quota.Applied, k.charge(noon, "c1", 5, ls...)) // staleness is not remembered
	k.run(quota.Applied, k.reserve(noon, "r1", 5, hour, ls...))
}

func settingsLevels(k *kit) {
	k.tree()
	ls := chain(noon)
	for range 3 {
		k.run(quota.Applied, k.charge(noon, "", 1, ls...))
	}
	old := k.charge(noon, "", 1, ls...)
	r := k.get(saccount.KindKey, "k1")
	r.Disabled = true
	k.put(r)
	k.run(quota.Stale, old)
	k.refresh()
	k.run(quota.Applied, k.charge(noon, "", 1, ls...))
	// In one batch, what comes behind a stale one is decided by itself.
	stale, good := k.charge(noon, "", 1, ls...), k.charge(noon, "", 1, ls...)
	stale.Settings--
	k.apply(stale, good)
	same(k, "outcome of the stale", stale.Result.Outcome, quota.Stale)
	same(k, "outcome of its neighbour", good.Result.Outcome, quota.Applied)
	k.buckets(key1, 5, 5)
}

func settingsSettle(k *kit) {
	k.tree()
	ls := chain(noon)
	for _, id := range []string{"a", "b", "c"} {
		k.run(quota.Applied, k.reserve(noon, id, 10, hour, ls...))
	}
	k.run(quota.Applied, k.charge(noon, "d", 10, ls...))
	for kind, id := range map[saccount.Kind]string{saccount.KindKey: "k1", saccount.KindAccount: "a1"} {
		r := k.get(kind, id)
		r.Deleted = at(noon)
		if kind == saccount.KindAccount {
			r.Disabled = true
		}
		k.put(r)
		// k.settings is what it was: none of these names one
	}
	k.run(quota.Applied, k.renew(noon, "a", 2*hour))
	k.run(quota.Applied, k.commit(noon, "a", 7))
	k.run(quota.Applied, k.commit(noon, "b", 12))
	k.run(quota.Applied, k.release(noon, "c"))
	k.run(quota.Applied, k.refund(noon, "", "d", 4))
	k.stands(noon, ls[2], 25, 0, 0)
	k.buckets(key1, 25, 4)
}

func settingsReplay(k *kit) {
	k.tree()
	ls := chain(noon)
	c, r := k.charge(noon, "c1", 5, ls...), k.reserve(noon, "r1", 5, hour, ls...)
	k.run(quota.Applied, c)
	k.run(quota.Applied, r)
	k.edit(noon, saccount.KindKey, "k1")
	c, r = k.charge(noon, "c1", 5, ls...), k.reserve(noon, "r1", 5, hour, ls...)
	c.Settings, r.Settings = 0, 0
	k.run(quota.Replayed, c)
	k.run(quota.Replayed, r)
}

func settingsOthers(k *kit) {
	k.tree()
	r, err := k.Lookup(background(), "other", saccount.KindKey, "x1")
	k.must(err, "look up a key of the other organization")
	k.put(r.Record)
	k.run(quota.Applied, k.charge(noon, "", 1, chain(noon)...))
}
