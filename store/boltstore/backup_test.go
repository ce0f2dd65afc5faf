package boltstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/usage"
)

// underLoad charges and reads until stop is called; it gives what was charged.
func underLoad(t *testing.T, s *Store, keys []string) (stop func() int64) {
	t.Helper()
	l := ledger(t, s)
	quit := make(chan struct{})
	var charged atomic.Int64
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-quit:
					return
				default:
				}
				k := keys[(i*8+w)%len(keys)]
				id := ""
				if i%2 == 0 {
					id = fmt.Sprintf("%d-%d", w, i)
				}
				if _, err := l.Charge(ctx, chain("acme", k, much), quota.Charge{ID: id, Amount: 1, At: now}); !assert.NoError(t, err) {
					return
				}
				charged.Add(1)
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-quit:
					return
				default:
				}
				k := keys[i%len(keys)]
				_, err := s.Lookup(ctx, "", saccount.KindKey, k)
				assert.NoError(t, err)
				_, _, err = s.List(ctx, saccount.ListQuery{Kind: saccount.KindKey, Org: "acme", Limit: 20})
				assert.NoError(t, err)
				assert.NoError(t, s.Touch(ctx, []saccount.Touch{{Org: "acme", Key: k, Use: saccount.Use{At: now.Add(time.Duration(i)), Addr: "::1"}}}))
				var sum quota.Credits
				assert.NoError(t, s.Usage(ctx, usage.Range{Org: "acme", Subjects: []quota.Subject{"org:acme"}, To: now.AddDate(1, 0, 0).UnixMicro()}, func(r usage.Row) error {
					sum += r.Credits
					return nil
				}))
				assert.LessOrEqual(t, int64(sum), charged.Load()+8)
			}
		})
	}
	return func() int64 {
		close(quit)
		wg.Wait()
		require.NoError(t, l.Close())
		return charged.Load()
	}
}

// copyIsGood opens a copy and checks that it is of one moment.
func copyIsGood(t *testing.T, path string, keys []string, least, most int64) {
	t.Helper()
	s := openAt(t, path, Config{NoSyncForTests: true})
	problems, err := s.Check(ctx)
	require.NoError(t, err)
	require.Empty(t, problems)
	var total quota.Credits
	for _, k := range keys {
		u, sum, _ := used(t, s, chain("acme", k, much), now)
		require.Equal(t, u, sum, k)
		total += u
	}
	st, err := ledger(t, s).Status(ctx, chain("acme", keys[0], much), now)
	require.NoError(t, err)
	assert.Equal(t, total, st[2].Used, "the organization's is the sum of its keys'")
	assert.GreaterOrEqual(t, int64(total), least)
	assert.LessOrEqual(t, int64(total), most)
	page, _, err := s.List(ctx, saccount.ListQuery{Kind: saccount.KindKey, Org: "acme", Parent: "worker", ByName: true, Limit: 1000})
	require.NoError(t, err)
	assert.Len(t, page, len(keys))
	entries, err := s.Audit(ctx, "acme", 0, 10)
	require.NoError(t, err)
	assert.Len(t, entries, 1)
}

// Copies that are made while the store is in use are of one moment and whole.
func TestCopiesUnderLoad(t *testing.T) {
	dir := t.TempDir()
	keys := names("key", 30)
	s := openAt(t, filepath.Join(dir, "store.db"), Config{JournalBytes: 16 << 10, NoSyncForTests: true})
	plant(t, s, "acme", keys...)
	stop := underLoad(t, s, keys)
	least := make([]int64, 0, 3)
	for i := range 3 {
		st, err := ledger(t, s).Status(ctx, chain("acme", keys[0], much), now)
		require.NoError(t, err)
		least = append(least, int64(st[2].Used))
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("backup%d", i)))
		require.NoError(t, err)
		n, err := s.Backup(ctx, f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		info, err := os.Stat(f.Name())
		require.NoError(t, err)
		assert.Equal(t, info.Size(), n)
		require.NoError(t, s.Compact(ctx, filepath.Join(dir, fmt.Sprintf("compact%d", i))))
	}
	problems, err := s.Check(ctx)
	require.NoError(t, err)
	require.Empty(t, problems, "a check under load")
	total := stop()
	for i := range 3 {
		copyIsGood(t, filepath.Join(dir, fmt.Sprintf("backup%d", i)), keys, least[i], total)
		copyIsGood(t, filepath.Join(dir, fmt.Sprintf("compact%d", i)), keys, least[i], total)
	}
}

// Compact gives room back, keeps the mode, and replaces nothing.
func TestCompact(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, filepath.Join(dir, "store.db"), Config{NoSyncForTests: true})
	keys := names("key", 2000)
	plant(t, s, "acme", keys...)
	l := ledger(t, s)
	for i := range 2000 {
		charge(t, l, chain("acme", keys[i], much), fmt.Sprint(i), 1, now)
	}
	for {
		n, err := s.Purge(ctx, saccount.Purge{Receipts: now.AddDate(1, 0, 0), Windows: now.AddDate(1, 0, 0), Most: 1000})
		require.NoError(t, err)
		if n == 0 {
			break
		}
	}
	to := filepath.Join(dir, "compact.db")
	require.NoError(t, s.Compact(ctx, to))
	a, err := os.Stat(s.db.Path())
	require.NoError(t, err)
	b, err := os.Stat(to)
	require.NoError(t, err)
	assert.Less(t, b.Size(), a.Size()/2)
	assert.Equal(t, a.Mode(), b.Mode())
	require.ErrorIs(t, s.Compact(ctx, to), saccount.ErrExists)
	again, err := os.Stat(to)
	require.NoError(t, err)
	assert.Equal(t, b.ModTime(), again.ModTime())
	left, err := filepath.Glob(filepath.Join(dir, ".*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

// A copy that cannot be finished is an error, and leaves nothing.
func TestCopyFails(t *testing.T) {
	s := openNew(t, Config{NoSyncForTests: true})
	plant(t, s, "acme", names("key", 500)...)
	full := errors.New("full")
	_, err := s.Backup(ctx, writerFunc(func([]byte) (int, error) { return 0, full }))
	require.ErrorIs(t, err, full)
	over, cancel := context.WithCancel(ctx)
	cancel()
	_, err = s.Backup(over, new(bytes.Buffer))
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, s.Compact(over, filepath.Join(t.TempDir(), "c")), context.Canceled)

	path := s.db.Path()
	require.NoError(t, s.Close())
	bolt(t, path, func(tx *bbolt.Tx) error {
		return tx.Bucket(tabRecords.name).Put(recordKey(nil, saccount.KindKey, "acme", "key000007"), []byte("damaged"))
	})
	s = openAt(t, path, Config{NoSyncForTests: true})
	dir := t.TempDir()
	require.ErrorIs(t, s.Compact(ctx, filepath.Join(dir, "c")), quota.ErrCorrupt)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
