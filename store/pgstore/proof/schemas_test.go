package proof

import (
	"crypto/rand"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/store/pgstore"
)

// schemas are those of a test that are in no subtest's use: to empty one takes
// a tenth of the time of making one.
type schemas struct {
	t   *testing.T
	dsn string

	mu   sync.Mutex
	made int
	free []string
	db   *sql.DB
}

func newSchemas(t *testing.T, dsn string) *schemas {
	return &schemas{t: t, dsn: dsn, db: open(t, "postgres", dsn)}
}

// version is the server's.
func (s *schemas) version(t *testing.T) (v string) {
	t.Helper()
	require.NoError(t, s.db.QueryRow("SELECT version()").Scan(&v))
	return v
}

// take gives an empty schema, back from t when t has ended.
func (s *schemas) take(t *testing.T) string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.free) == 0 {
		s.made++
		name := fmt.Sprintf("suite_%s_%d", strings.ToLower(rand.Text()[:8]), s.made)
		s.t.Cleanup(func() {
			_, err := s.db.Exec("DROP SCHEMA " + name + " CASCADE")
			require.NoError(s.t, err)
		})
		require.NoError(t, pgstore.Migrate(ctx, s.db, pgstore.Config{Schema: name, Timeout: patient}))
		s.free = append(s.free, name)
	}
	name := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	t.Cleanup(func() {
		s.empty(t, name)
		s.mu.Lock()
		s.free = append(s.free, name)
		s.mu.Unlock()
	})
	return name
}

// empty leaves what Migrate made.
func (s *schemas) empty(t *testing.T, name string) {
	rows, err := s.db.Query(`SELECT tablename FROM pg_tables WHERE schemaname = $1`, name)
	require.NoError(t, err)
	defer rows.Close()
	var all strings.Builder
	for rows.Next() {
		var table string
		require.NoError(t, rows.Scan(&table))
		switch table {
		case "keypurse_schema":
		case "numbers":
			fmt.Fprintf(&all, "UPDATE %s.%s SET n = 0;", name, table)
		default:
			fmt.Fprintf(&all, "DELETE FROM %s.%s;", name, table)
		}
	}
	require.NoError(t, rows.Err())
	_, err = s.db.Exec(all.String())
	require.NoError(t, err)
}
