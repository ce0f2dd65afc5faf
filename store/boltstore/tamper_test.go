package boltstore

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/keypurse/keypurse/internal/tamper"
	"github.com/keypurse/keypurse/saccount"
)

// Rows are written with sums that are right, by who knows the format.
func TestTamperedAuditLogs(t *testing.T) {
	tamper.Run(t, func(t *testing.T) tamper.Target {
		s := openNew(t, Config{NoSyncForTests: true})
		return tamper.Target{Store: s, Put: func(t *testing.T, org string, cut saccount.Cut, es []saccount.Entry) {
			require.NoError(t, s.db.Update(func(tx *bbolt.Tx) error {
				prefix := appendPart(nil, org)
				c := tx.Bucket(tabAudit.name).Cursor()
				for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = c.Seek(prefix) {
					if err := c.Delete(); err != nil {
						return err
					}
				}
				if cut.Through != 0 {
					if err := tabAudit.put(tx, seqKey(nil, org, 0), appendCut(nil, &cut)); err != nil {
						return err
					}
				}
				for i := range es {
					if err := tabAudit.put(tx, seqKey(nil, org, es[i].Seq), appendEntry(nil, &es[i])); err != nil {
						return err
					}
				}
				return nil
			}))
			problems, err := s.Check(ctx)
			require.NoError(t, err)
			require.Empty(t, problems, "the file is sound: only the seal shows it")
		}}
	})
}

// Entries that were written before there were marks are read as they were.
func TestAuditEntriesWithoutMarks(t *testing.T) {
	s := openNew(t, Config{NoSyncForTests: true})
	plant(t, s, "acme")
	require.NoError(t, s.db.Update(func(tx *bbolt.Tx) error {
		return tabAudit.put(tx, seqKey(nil, "acme", 1), append(appendTime(nil, now), `{"actor":"user:alice"}`...))
	}))
	es, err := s.Audit(ctx, "acme", 0, 10)
	require.NoError(t, err)
	require.Equal(t, []saccount.Entry{{Seq: 1, At: now, Data: []byte(`{"actor":"user:alice"}`)}}, es)
}
