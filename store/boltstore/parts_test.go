package boltstore

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/keypurse/keypurse/quota"
)

// together charges every key in one batch, so that its value takes many parts.
func together(t *testing.T, s *Store, keys []string) {
	t.Helper()
	var ops []*quota.Op
	for _, k := range keys {
		op := &quota.Op{Verb: quota.VerbCharge, Org: "acme", ID: "id-" + k, Amount: 3, At: now.UnixMicro(), Keep: now.UnixMicro() + 1e12}
		for _, p := range chain("acme", k, much).Purses {
			l, err := p.Level(op.At)
			require.NoError(t, err)
			op.Levels = append(op.Levels, l)
		}
		ops = append(ops, op)
	}
	require.NoError(t, s.Apply(ctx, ops))
	for _, op := range ops {
		require.NoError(t, op.Result.Err)
		require.Equal(t, quota.Applied, op.Result.Outcome)
	}
}

// A transaction whose value is longer than a part is whole after a crash, and
// one of which a part is gone is damage.
func TestJournalParts(t *testing.T) {
	keys := names("key", 200)
	grow := func(t *testing.T) (path string, last uint64) {
		path = filepath.Join(t.TempDir(), "store.db")
		s := openAt(t, path, Config{})
		plant(t, s, "acme", keys...)
		before := s.jour.seq
		together(t, s, keys)
		require.Greater(t, s.jour.seq, before+20, "parts of one value")
		last = s.jour.seq
		abandon(t, s)
		return path, last
	}
	t.Run("whole", func(t *testing.T) {
		path, last := grow(t)
		for range 2 { // the second time from its tables
			s := openAt(t, path, Config{})
			if s.jour.seq != 0 {
				assert.Equal(t, last, s.jour.seq)
			}
			for _, k := range keys {
				u, sum, n := used(t, s, chain("acme", k, much), now)
				require.Equal(t, quota.Credits(3), u)
				require.Equal(t, quota.Credits(3), sum)
				require.Equal(t, int64(1), n)
			}
			problems, err := s.Check(ctx)
			require.NoError(t, err)
			assert.Empty(t, problems)
			require.NoError(t, s.Close())
		}
	})
	for name, c := range map[string]struct {
		do   func(b *bbolt.Bucket, last uint64) error
		says string
	}{
		"a part is gone":       {func(b *bbolt.Bucket, last uint64) error { return b.Delete(seq(last - 3)) }, "is missing"},
		"the last part is cut": {func(b *bbolt.Bucket, last uint64) error { return b.Delete(seq(last)) }, "is missing"},
		"an end too early": {func(b *bbolt.Bucket, last uint64) error {
			return b.Put(seq(last-3), journalTag.seal(seq(last-3), []byte{journalLastPart, 1}))
		}, "journal value"},
		"a whole value within": {func(b *bbolt.Bucket, last uint64) error {
			return b.Put(seq(last-3), journalTag.seal(seq(last-3), []byte{journalVersion, 0}))
		}, "journal value"},
		"an empty part": {func(b *bbolt.Bucket, last uint64) error {
			return b.Put(seq(last-3), journalTag.seal(seq(last-3), nil))
		}, "journal value"},
	} {
		t.Run(name, func(t *testing.T) {
			path, last := grow(t)
			bolt(t, path, func(tx *bbolt.Tx) error { return c.do(tx.Bucket(journalName(1)), last) })
			_, err := Open(path, Config{})
			require.ErrorIs(t, err, quota.ErrCorrupt)
			assert.ErrorContains(t, err, c.says)
		})
	}
}
