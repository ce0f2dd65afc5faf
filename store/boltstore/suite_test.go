package boltstore

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/keypurse/keypurse/store"
	"github.com/keypurse/keypurse/store/storetest"
)

func TestStore(t *testing.T) {
	for name, cfg := range map[string]Config{"default": {NoSyncForTests: true}, "small": {NoSyncForTests: true, JournalBytes: minJournalBytes, MaxRows: minRows}} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) store.Store { return openNew(t, cfg) })
			storetest.RunPersistent(t, func(t *testing.T, dir string) store.Store {
				return openAt(t, filepath.Join(dir, "store.db"), cfg)
			})
		})
	}
}

// A host's own handle, with the host's own bucket in it, is as good.
func TestStoreInHostsFile(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		db, err := bbolt.Open(filepath.Join(t.TempDir(), "host.db"), 0o600, &bbolt.Options{NoSync: true})
		require.NoError(t, err)
		require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucket([]byte("host"))
			if err != nil {
				return err
			}
			return b.Put([]byte("k"), []byte("v"))
		}))
		s, err := New(db, Config{NoSyncForTests: true})
		require.NoError(t, err)
		t.Cleanup(func() {
			require.NoError(t, s.Close())
			require.NoError(t, db.View(func(tx *bbolt.Tx) error {
				require.Equal(t, []byte("v"), tx.Bucket([]byte("host")).Get([]byte("k")))
				return nil
			}))
			require.NoError(t, db.Close())
		})
		return s
	})
}
