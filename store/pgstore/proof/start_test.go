package proof

import (
	"database/sql"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/internal/pgtest"
	"github.com/keypurse/keypurse/store/pgstore"
)

// Eight processes that start at once on an empty schema, through a pooler of
// transactions, all get through: the lock of migrations is one of a
// transaction. Each step is taken once.
func TestStartTogetherThroughPooler(t *testing.T) {
	t.Parallel()
	dsn := throughBouncer(t)
	for _, w := range pooled {
		t.Run(w.name, func(t *testing.T) {
			_, schema := pgtest.Schema(t)
			begin := time.Now()
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					db, err := sql.Open(w.driver, dsn+w.dsn)
					if !assert.NoError(t, err) {
						return
					}
					defer db.Close()
					if !assert.NoError(t, pgstore.Migrate(ctx, db, w.config(schema))) {
						return
					}
					s, err := pgstore.New(db, w.config(schema))
					if assert.NoError(t, err) {
						assert.NoError(t, s.Close())
					}
				})
			}
			wg.Wait()
			t.Logf("eight starts took %v", time.Since(begin).Round(time.Millisecond))
			db := open(t, "postgres", pgtest.DSN(t))
			var rows, locks int
			require.NoError(t, db.QueryRow(fmt.Sprintf(`SELECT count(*) FROM %s.keypurse_schema`, schema)).Scan(&rows))
			assert.Equal(t, 1, rows)
			require.NoError(t, db.QueryRow(`SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'`).Scan(&locks))
			assert.Zero(t, locks, "a lock that a connection of the pool keeps")
		})
	}
}
