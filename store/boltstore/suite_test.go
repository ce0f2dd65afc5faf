package boltstore

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/store"
	"github.com/keypurse/keypurse/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		s := openNew(t, small)
		s.fewRows = 20 // so that lists go both ways
		return s
	})
	storetest.RunPersistent(t, func(t *testing.T, dir string) store.Store {
		return openAt(t, filepath.Join(dir, "store.db"), Config{NoSyncForTests: true})
	})
}

// A host's own handle, with the host's own bucket in it, is as good; neither
// harms the other.
func TestNew(t *testing.T) {
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "host.db"), 0o600, nil)
	require.NoError(t, err)
	hosts := func(n string) {
		require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("host"))
			require.NoError(t, err)
			return b.Put([]byte("k"), []byte(n))
		}))
	}
	for life := range 3 {
		hosts("before")
		s, err := New(db, Config{JournalBytes: minJournalBytes})
		require.NoError(t, err)
		if life == 0 {
			plant(t, s, "acme", "k1")
		}
		l := ledger(t, s)
		for i := range 50 {
			charge(t, l, chain("acme", "k1", much), "", 1, now)
			if i%10 == 0 {
				hosts("between")
			}
		}
		require.NoError(t, l.Close())
		u, sum, _ := used(t, s, chain("acme", "k1", much), now)
		assert.Equal(t, quota.Credits(50*(life+1)), u)
		assert.Equal(t, u, sum)
		problems, err := s.Check(ctx)
		require.NoError(t, err)
		assert.Empty(t, problems)
		require.NoError(t, s.Compact(ctx, filepath.Join(t.TempDir(), "compact")))
		require.NoError(t, s.Close())
		require.NoError(t, db.View(func(tx *bbolt.Tx) error { // the handle is still open
			assert.Equal(t, []byte("between"), tx.Bucket([]byte("host")).Get([]byte("k")))
			return nil
		}))
	}
	require.NoError(t, db.Close())
}

// Many organizations and subjects pass through little memory.
func TestMemoryIsBounded(t *testing.T) {
	s := openNew(t, small)
	l := ledger(t, s)
	for org := range 20 {
		id := fmt.Sprintf("org%d", org)
		plant(t, s, id)
		for i, k := range names("key", 100) {
			charge(t, l, chain(id, k, much), "", quota.Credits(i+1), now)
		}
	}
	for range 3000 { // so that the first are long idle
		charge(t, l, chain("org19", "key000000", much), "", 1, now)
	}
	assert.LessOrEqual(t, s.rows, 2*minRows+minRows/2, "those that wait to be written, and the rest")
	assert.Less(t, len(s.books), 20)
	rows := 0
	for _, b := range s.books {
		rows += b.Rows()
	}
	assert.Equal(t, rows, s.rows)
	for org := range 20 {
		u, sum, _ := used(t, s, chain(fmt.Sprintf("org%d", org), "key000042", much), now)
		assert.Equal(t, quota.Credits(43), u)
		assert.Equal(t, quota.Credits(43), sum)
	}
}
