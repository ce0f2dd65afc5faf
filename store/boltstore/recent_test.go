package boltstore

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// A file of a version that did not list alerts has them listed when it is
// opened; and Check sees where the lists do not say what there is.
func TestAlertsOfOlderFilesAreListed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	ctx, now := t.Context(), time.Date(2030, 1, 15, 12, 0, 0, 0, time.UTC)
	s := openAt(t, path, Config{})
	var posts []alert.Post
	for _, sub := range []quota.Subject{"key:k1", "key:k2", "key:k1"} {
		posts = append(posts, alert.Post{Alert: quota.Alert{Kind: "test", Subject: sub, At: now.UnixMicro()}})
	}
	require.NoError(t, s.Write(ctx, saccount.Batch{Org: "acme", At: now, Alerts: posts}))
	var ds []alert.Delivery
	for seq := range int64(3) {
		ds = append(ds, alert.Delivery{Alert: quota.Alert{Seq: seq + 1}, Sink: "mail", State: alert.State(seq + 1)})
	}
	require.NoError(t, s.Dispatch(ctx, 0, 3, ds))
	list := func(s *Store) (out []any) {
		t.Helper()
		for _, subjects := range [][]quota.Subject{nil, {"key:k1"}, {"key:k2"}} {
			got, err := s.Alerts(ctx, alert.Recent{Org: "acme", Subjects: subjects, N: 10})
			require.NoError(t, err)
			require.NotEmpty(t, got)
			out = append(out, got)
		}
		for state := range alert.Dead + 1 {
			got, err := s.Deliveries(ctx, alert.Query{Sink: "mail", State: state, Newest: true, N: 10})
			require.NoError(t, err)
			require.NotEmpty(t, got)
			out = append(out, got)
		}
		return out
	}
	want := list(s)
	require.NoError(t, s.Close())
	bolt(t, path, func(tx *bbolt.Tx) error {
		for _, table := range []*table{tabRecent, tabSinks} {
			if err := tx.DeleteBucket(table.name); err != nil {
				return err
			}
		}
		return nil
	})
	s = openAt(t, path, Config{})
	assert.Equal(t, want, list(s))
	problems, err := s.Check(ctx)
	require.NoError(t, err)
	require.Empty(t, problems)
	require.NoError(t, s.Close())

	bolt(t, path, func(tx *bbolt.Tx) error {
		if err := tabRecent.delete(tx, recentKey(nil, "acme", "key:k2", 2)); err != nil {
			return err
		}
		return tabSinks.put(tx, sinkKey(nil, "mail", alert.Dead, 1), nil)
	})
	problems, err = openAt(t, path, Config{}).Check(ctx)
	require.NoError(t, err)
	require.Len(t, problems, 3)
	assert.ErrorContains(t, problems[0], "alert 2 is not listed")
	assert.ErrorContains(t, problems[2], "keypurse/sinks has 4 rows and should have 3")
}
