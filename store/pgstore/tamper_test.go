package pgstore

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/internal/pgtest"
	"github.com/keypurse/keypurse/internal/tamper"
	"github.com/keypurse/keypurse/saccount"
)

// Rows are written by SQL, by who may write to the tables.
func TestTamperedAuditLogs(t *testing.T) {
	t.Parallel()
	pgtest.DSN(t)
	tamper.Run(t, func(t *testing.T) tamper.Target {
		dsn, schema := pgtest.Schema(t)
		s := openAt(t, dsn, Config{Schema: schema, Timeout: patient})
		table := `"` + s.cfg.Schema + `".audit`
		return tamper.Target{Store: s, Put: func(t *testing.T, org string, cut saccount.Cut, es []saccount.Entry) {
			tx, err := s.db.Begin()
			require.NoError(t, err)
			exec := func(text string, args ...any) {
				_, err := tx.Exec(text, args...)
				require.NoError(t, err)
			}
			exec(`DELETE FROM `+table+` WHERE org = $1`, org)
			if cut.Through != 0 {
				exec(`INSERT INTO `+table+` (org, seq, through, mark, data) VALUES ($1, 0, $2, $3, $4)`, org, cut.Through, cut.Mark, []byte(cut.Seal))
			}
			last := cut.Through
			for _, e := range es {
				exec(`INSERT INTO `+table+` (org, seq, at, data, mark) VALUES ($1, $2, $3, $4, $5)`, org, e.Seq, e.At.UnixMicro(), e.Data, e.Mark)
				last = max(last, e.Seq)
			}
			exec(`UPDATE "`+s.cfg.Schema+`".orgs SET audit = $2 WHERE org = $1`, org, last)
			require.NoError(t, tx.Commit())
		}}
	})
}
