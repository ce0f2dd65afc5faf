package boltstore

import (
	"encoding/binary"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/usage"
)

// spoil damages a stored value, but not its key.
func spoil(t *table, key []byte) func(tx *bbolt.Tx) error {
	return func(tx *bbolt.Tx) error {
		b := tx.Bucket(t.name)
		v := append([]byte{}, b.Get(key)...)
		v[0] ^= 0x40
		return b.Put(key, v)
	}
}

// grown is a store with two keys, charges with and without ids, and an open
// reservation, all of it in the tables.
func grown(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "store.db")
	s := openAt(t, path, Config{})
	plant(t, s, "acme", "k1", "k2")
	l := ledger(t, s)
	for _, k := range []string{"k1", "k2"} {
		charge(t, l, chain("acme", k, 5000), "id-"+k, 2000, now)
		d, err := l.Reserve(ctx, chain("acme", k, 5000), quota.Reserve{ID: "hold-" + k, Amount: 7, TTL: time.Hour, At: now})
		require.NoError(t, err)
		require.True(t, d.Allowed)
	}
	require.NoError(t, l.Close())
	require.NoError(t, s.Close())
	return path
}

// One damaged row fails what needs it, by name, and nothing else.
func TestDamagedRow(t *testing.T) {
	month := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	limit := quota.CounterID{Subject: "key:k1", Series: quota.DefaultLimitName, Number: 1, Start: month}
	bucket := quota.CounterID{Subject: "key:k1", Start: quota.BucketStart(now.UnixMicro())}
	chargeErr := func(s *Store, key, id string) error {
		_, err := ledger(t, s).Charge(ctx, chain("acme", key, 5000), quota.Charge{ID: id, Amount: 1, At: now})
		return err
	}
	for name, c := range map[string]struct {
		spoil func(tx *bbolt.Tx) error
		fails func(s *Store) error
		says  string
	}{
		"a counter": {spoil(tabCounters, counterKey(nil, "acme", limit)), func(s *Store) error { return chargeErr(s, "k1", "") }, "counter"},
		"a bucket":  {spoil(tabCounters, counterKey(nil, "acme", bucket)), func(s *Store) error { return chargeErr(s, "k1", "") }, "counter"},
		"a bucket, read": {spoil(tabCounters, counterKey(nil, "acme", bucket)), func(s *Store) error {
			return s.Usage(ctx, usage.Range{Org: "acme", Subjects: []quota.Subject{"key:k1"}, To: now.AddDate(1, 0, 0).UnixMicro()}, func(usage.Row) error { return nil })
		}, "counter"},
		"an id": {spoil(tabReceipts, pairKey(nil, "acme", "id-k1")), func(s *Store) error { return chargeErr(s, "k1", "id-k1") }, "id-k1"},
		"a reservation": {spoil(tabReceipts, pairKey(nil, "acme", "hold-k1")), func(s *Store) error {
			_, err := ledger(t, s).Commit(ctx, "acme", quota.Commit{Of: "hold-k1", Amount: 1, At: now})
			return err
		}, "hold-k1"},
		"a record": {spoil(tabRecords, recordKey(nil, saccount.KindKey, "acme", "k1")), func(s *Store) error {
			_, err := s.Lookup(ctx, "", saccount.KindKey, "k1")
			return err
		}, "k1"},
		"a key's organization": {spoil(tabKeys, []byte("k1")), func(s *Store) error {
			_, err := s.Lookup(ctx, "", saccount.KindKey, "k1")
			return err
		}, "k1"},
		"a list": {spoil(tabRecords, recordKey(nil, saccount.KindKey, "acme", "k1")), func(s *Store) error {
			_, _, err := s.List(ctx, saccount.ListQuery{Kind: saccount.KindKey, Org: "acme", Limit: 10})
			return err
		}, "k1"},
		"an audit entry": {spoil(tabAudit, seqKey(nil, "acme", 1)), func(s *Store) error {
			_, err := s.Audit(ctx, "acme", 0, 10)
			return err
		}, "audit entry"},
		"an alert": {spoil(tabOutbox, appendOrdered(nil, 1)), func(s *Store) error {
			_, err := s.Outbox(ctx, 0, 10)
			return err
		}, "alert"},
	} {
		t.Run(name, func(t *testing.T) {
			path := grown(t)
			bolt(t, path, c.spoil)
			s := openAt(t, path, Config{})
			err := c.fails(s)
			require.ErrorIs(t, err, quota.ErrCorrupt)
			assert.ErrorContains(t, err, c.says)
			require.NoError(t, chargeErr(s, "k2", "another"), "its neighbour goes on")
			_, err = s.Lookup(ctx, "", saccount.KindKey, "k2")
			require.NoError(t, err)
			problems, err := s.Check(ctx)
			require.NoError(t, err)
			require.NotEmpty(t, problems)
			require.ErrorIs(t, problems[0], quota.ErrCorrupt)
		})
	}
}

// A damaged value of the journal keeps the store from opening, and is named.
func TestDamagedJournal(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(b *bbolt.Bucket) error
		says string
	}{
		"a value":       {func(b *bbolt.Bucket) error { return b.Put(seq(3), append([]byte{9}, b.Get(seq(3))...)) }, "journal value 3 "},
		"a missing one": {func(b *bbolt.Bucket) error { return b.Delete(seq(3)) }, "journal value 3 is missing"},
		"the first":     {func(b *bbolt.Bucket) error { return b.Delete(seq(1)) }, "journal value 1 is missing"},
		"its form":      {func(b *bbolt.Bucket) error { return b.Put(seq(3), journalTag.seal(seq(3), []byte{journalVersion, 1})) }, "journal value 3"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store.db")
			s := openAt(t, path, Config{})
			plant(t, s, "acme", "k1")
			l := ledger(t, s)
			for range 5 {
				charge(t, l, chain("acme", "k1", much), "", 1, now)
			}
			require.NoError(t, l.Close())
			abandon(t, s)
			bolt(t, path, func(tx *bbolt.Tx) error { return c.do(tx.Bucket(journalName(1))) })
			_, err := Open(path, Config{})
			require.ErrorIs(t, err, quota.ErrCorrupt)
			assert.ErrorContains(t, err, c.says)
			_, err = Open(path, Config{})
			assert.NotErrorIs(t, err, saccount.ErrLocked, "the failed opening let go of the file")
		})
	}
}

func seq(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// Check finds what agrees with its checksum and not with the rest.
func TestCheckFinds(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(tx *bbolt.Tx) error
		says string
	}{
		"a name that finds nothing": {func(tx *bbolt.Tx) error {
			return tabNames.put(tx, nameKey(nil, saccount.KindKey, "acme", "worker", "ghost"), []byte("ghost"))
		}, "keypurse/names"},
		"a record without its name": {func(tx *bbolt.Tx) error {
			return tabNames.delete(tx, nameKey(nil, saccount.KindKey, "acme", "worker", "key k1"))
		}, "by its name"},
		"a key that is not listed":    {func(tx *bbolt.Tx) error { return tabChildren.delete(tx, childKey(nil, "acme", "worker", "k1")) }, "with its account"},
		"a key that is not found":     {func(tx *bbolt.Tx) error { return tabKeys.delete(tx, []byte("k1")) }, "by its id"},
		"credits that nobody holds":   {func(tx *bbolt.Tx) error { return tabReceipts.delete(tx, pairKey(nil, "acme", "hold-k1")) }, "holds"},
		"a reservation not listed":    {func(tx *bbolt.Tx) error { return tabHolds.delete(tx, pairKey(nil, "acme", "hold-k1")) }, "hold-k1"},
		"a table that is not there":   {func(tx *bbolt.Tx) error { return tx.DeleteBucket(tabUses.name) }, "keypurse/uses"},
		"a row of another's making":   {func(tx *bbolt.Tx) error { return tabUses.put(tx, []byte("k1"), []byte{7}) }, "last use"},
		"an unreadable counter's key": {func(tx *bbolt.Tx) error { return tabCounters.put(tx, []byte("x"), nil) }, "counter"},
	} {
		t.Run(name, func(t *testing.T) {
			path := grown(t)
			bolt(t, path, c.do)
			s := openAt(t, path, Config{})
			problems, err := s.Check(ctx)
			require.NoError(t, err)
			require.NotEmpty(t, problems)
			assert.ErrorContains(t, problems[0], c.says)
			for _, p := range problems {
				assert.ErrorIs(t, p, quota.ErrCorrupt)
			}
		})
	}
}

// Where a table's pages are damaged its counters stay in the journal, and the
// others go on being charged.
func TestDamagedTable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openAt(t, path, small)
	plant(t, s, "acme", "k1")
	require.NoError(t, s.Close())
	bolt(t, path, func(tx *bbolt.Tx) error { return tx.DeleteBucket(tabEnds.name) })
	s = openAt(t, path, small)
	l := ledger(t, s)
	for range 500 {
		charge(t, l, chain("acme", "k1", much), "", 1, now)
	}
	require.NoError(t, l.Close())
	require.Error(t, s.ckpt.broken)
	abandon(t, s)
	s = openAt(t, path, small)
	u, sum, _ := used(t, s, chain("acme", "k1", much), now)
	assert.Equal(t, quota.Credits(500), u)
	assert.Equal(t, quota.Credits(500), sum)
}
