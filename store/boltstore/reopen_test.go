package boltstore

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// abandon leaves a Store as a crash does: the journal is not written out.
func abandon(t testing.TB, s *Store) {
	t.Helper()
	s.closed.Store(true)
	require.NoError(t, s.release())
}

// What was acknowledged is there again, whether the journal was written into
// the tables, in part, or not at all.
func TestReopen(t *testing.T) {
	for name, cfg := range map[string]Config{"in the journal": {NoSyncForTests: true}, "in part": small} {
		for _, clean := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, closed %v", name, clean), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "store.db")
				keys := names("key", 60)
				total := map[string]quota.Credits{}
				for round := range 4 {
					s := openAt(t, path, cfg)
					if round == 0 {
						plant(t, s, "acme", keys...)
					}
					l := ledger(t, s)
					for i := range 200 {
						k := keys[(i*7+round)%len(keys)]
						amount := quota.Credits(i + 1)
						id := ""
						if i%3 == 0 {
							id = fmt.Sprintf("r%d-%d", round, i)
						}
						charge(t, l, chain("acme", k, much), id, amount, now.Add(time.Duration(i)*time.Minute))
						total[k] += amount
					}
					d, err := l.Reserve(ctx, chain("acme", keys[0], much), quota.Reserve{ID: fmt.Sprintf("hold%d", round), Amount: 5, TTL: 20 * 24 * time.Hour, At: now})
					require.NoError(t, err)
					require.True(t, d.Allowed)
					if round > 0 { // an earlier life's reservation
						_, err := l.Commit(ctx, "acme", quota.Commit{Of: fmt.Sprintf("hold%d", round-1), Amount: 3, At: now})
						require.NoError(t, err)
						total[keys[0]] += 3
					}
					require.NoError(t, l.Close())
					if clean {
						require.NoError(t, s.Close())
					} else {
						abandon(t, s)
					}
				}
				s := openAt(t, path, cfg)
				for k, want := range total {
					u, sum, _ := used(t, s, chain("acme", k, much), now)
					require.Equal(t, want, u, k)
					require.Equal(t, want, sum, k)
				}
				st, err := ledger(t, s).Status(ctx, chain("acme", keys[0], much), now)
				require.NoError(t, err)
				assert.Equal(t, quota.Credits(5), st[0].Held)
				d, err := ledger(t, s).Charge(ctx, chain("acme", keys[0], much), quota.Charge{ID: "r0-0", Amount: 1, At: now})
				require.NoError(t, err)
				assert.True(t, d.Replayed, "an id of an earlier life is remembered")
				problems, err := s.Check(ctx)
				require.NoError(t, err)
				assert.Empty(t, problems)
			})
		}
	}
}

// A change of a record in one life stops the charges of the next that do not
// know of it.
func TestSettingsSurvive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openAt(t, path, Config{})
	plant(t, s, "acme", "k1")
	l, err := s.Lookup(ctx, "", saccount.KindKey, "k1")
	require.NoError(t, err)
	r := l.Record
	r.Disabled = true
	require.NoError(t, s.Write(ctx, saccount.Batch{Org: "acme", At: now, Changes: []saccount.Change{{Record: r}}}))
	abandon(t, s)
	s = openAt(t, path, Config{})
	l, err = s.Lookup(ctx, "acme", saccount.KindKey, "k1")
	require.NoError(t, err)
	assert.True(t, l.Record.Disabled)
	assert.Equal(t, int64(1), l.Settings)
	assert.Equal(t, int64(2), l.Record.Revision)
	_, err = ledger(t, s).Charge(ctx, chain("acme", "k1", much), quota.Charge{Amount: 1, At: now})
	assert.ErrorIs(t, err, quota.ErrBusy, "computed from the records before the change")
}

// A file that was made before there was a table gets it when it is opened.
func TestOlderFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openAt(t, path, small)
	plant(t, s, "acme", "k1")
	require.NoError(t, s.db.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket(tabRequests.name) }))
	require.NoError(t, s.Close())
	s = openAt(t, path, small)
	r := saccount.Record{Kind: saccount.KindRequest, Org: "acme", ID: "r1", Parent: "acme", Expires: now}
	require.NoError(t, s.Write(ctx, saccount.Batch{Org: "acme", At: now, Changes: []saccount.Change{{Record: r, Quiet: true}}}))
	problems, err := s.Check(ctx)
	require.NoError(t, err)
	assert.Empty(t, problems)
	n, err := s.Purge(ctx, saccount.Purge{Receipts: now, Most: 10})
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	require.NoError(t, s.Close())
}
