package boltstore

import (
	"errors"
	"io"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/usage"
)

// Close waits for what is under way; whoever comes later hears ErrClosed and
// nothing else, on a file of our own and on a host's.
func TestCloseUnderWay(t *testing.T) {
	for range 20 {
		for _, host := range []bool{false, true} {
			path := filepath.Join(t.TempDir(), "store.db")
			var s *Store
			if host {
				db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true})
				require.NoError(t, err)
				defer db.Close()
				s, err = New(db, Config{NoSyncForTests: true})
				require.NoError(t, err)
			} else {
				s = openAt(t, path, Config{NoSyncForTests: true})
			}
			plant(t, s, "acme", "k1", "k2")
			c := chain("acme", "k1", much)
			level, err := c.Purses[0].Level(now.UnixMicro())
			require.NoError(t, err)
			calls := []func() error{
				func() error { _, err := s.Lookup(ctx, "", saccount.KindKey, "k1"); return err },
				func() error {
					_, _, err := s.List(ctx, saccount.ListQuery{Kind: saccount.KindOrg, Limit: 5})
					return err
				},
				func() error {
					return s.Apply(ctx, []*quota.Op{{Verb: quota.VerbCharge, Org: "acme", Amount: 1, At: now.UnixMicro(), Levels: []*quota.Level{level}}})
				},
				func() error {
					return s.Usage(ctx, usage.Range{Org: "acme", Subjects: []quota.Subject{"key:k1"}, To: now.UnixMicro()}, func(usage.Row) error { return nil })
				},
				func() error { _, err := s.Fold(ctx, "acme", []int64{0, 1}, 5); return err },
				func() error { _, err := s.Purge(ctx, saccount.Purge{Receipts: now, Windows: now, Most: 5}); return err },
				func() error { _, err := s.Backup(ctx, io.Discard); return err },
				func() error { problems, err := s.Check(ctx); return errors.Join(append(problems, err)...) },
				func() error { _, err := s.Audit(ctx, "acme", 0, 5); return err },
			}
			var wg sync.WaitGroup
			begun := make(chan struct{}, len(calls))
			for _, call := range calls {
				wg.Go(func() {
					for i := 0; ; i++ {
						err := call()
						if i == 0 {
							begun <- struct{}{}
						}
						if err != nil {
							assert.ErrorIs(t, err, saccount.ErrClosed)
							assert.NotErrorIs(t, err, quota.ErrCorrupt)
							return
						}
					}
				})
			}
			for range calls {
				<-begun
			}
			for range 2 {
				wg.Go(func() { assert.NoError(t, s.Close()) })
			}
			wg.Wait()
		}
	}
}
