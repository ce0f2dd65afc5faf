package proof

import (
	"context"
	"database/sql"
	"os"
	"strconv"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx
	_ "github.com/lib/pq"              // the driver postgres
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/keypurse/keypurse/internal/pgtest"
	"github.com/keypurse/keypurse/store/pgstore"
)

var ctx = context.Background()

// patient is for suites that run beside each other under the race detector.
const patient = 2 * time.Minute

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// way is a driver with what its connection string needs for a way of pooling.
type way struct {
	name, driver, dsn string
	unprepared        bool
}

// direct are the ways without a pooler.
var direct = []way{
	{name: "lib pq", driver: "postgres"},
	{name: "lib pq unprepared", driver: "postgres", dsn: " binary_parameters=yes", unprepared: true},
	{name: "pgx", driver: "pgx"},
}

// pooled are the ways through a pooler of transactions.
var pooled = []way{
	{name: "lib pq through PgBouncer", driver: "postgres", dsn: " binary_parameters=yes", unprepared: true},
	{name: "pgx through PgBouncer", driver: "pgx", dsn: " default_query_exec_mode=exec", unprepared: true},
}

// whole says that the run may take long: see make proof.
func whole() bool { return os.Getenv("KEYPURSE_PROOF_WHOLE") != "" }

// count is n, or what the environment says for long runs.
func count(t *testing.T, name string, n int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return n
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, name)
	return n
}

func open(t *testing.T, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() }) // it fails where a connection was cut before
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
	return db
}

// store makes a Store on a pool, of a schema that it migrates.
func store(t *testing.T, db *sql.DB, cfg pgstore.Config) *pgstore.Store {
	t.Helper()
	require.NoError(t, pgstore.Migrate(ctx, db, cfg))
	s, err := pgstore.New(db, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// suites are migrated schemas for subtests of t.
func suites(t *testing.T, dsn string) *pgtest.Schemas {
	t.Helper()
	db := open(t, "postgres", dsn)
	return pgtest.NewSchemas(t, dsn, func(schema string) error {
		return pgstore.Migrate(ctx, db, pgstore.Config{Schema: schema, Timeout: patient})
	})
}

func (w way) config(schema string) pgstore.Config {
	return pgstore.Config{Schema: schema, Timeout: patient, Unprepared: w.unprepared}
}

// private is the directory of the socket of the test binary's own server.
func private(t *testing.T) (host string) {
	t.Helper()
	if os.Getenv(pgtest.EnvDSN) != "" {
		t.Skip("it needs a private server: unset " + pgtest.EnvDSN)
	}
	pgtest.DSN(t)
	return pgtest.Host()
}

// throughBouncer is the connection string of a PgBouncer in front of it.
func throughBouncer(t *testing.T) string {
	t.Helper()
	b, err := pgtest.StartBouncer(private(t), 24)
	pgtest.Need(t, err)
	t.Cleanup(func() { require.NoError(t, b.Stop()) })
	return b.DSN()
}

// throughProxy is a proxy in front of a server.
func throughProxy(t *testing.T, host string) *pgtest.Proxy {
	t.Helper()
	p, err := pgtest.NewProxy(host)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}
