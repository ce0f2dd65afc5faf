package proof

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/internal/pgtest"
	"github.com/keypurse/keypurse/store/pgstore"
	"github.com/keypurse/keypurse/store/storetest"

	kp "github.com/keypurse/keypurse/store"
)

// The contract on the newest Postgres beside that of the other tests: what
// outlives a Store, with a random history, and the whole where
// KEYPURSE_PROOF_WHOLE is set.
func TestNewestPostgres(t *testing.T) {
	t.Parallel()
	bin := pgtest.Newest()
	if bin == "" || os.Getenv(pgtest.EnvDSN) != "" {
		t.Skip("there is one version of Postgres only: go run ./internal/setup brings the newest by npm")
	}
	server, err := pgtest.Start(pgtest.Config{Bin: bin})
	pgtest.Need(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	w := direct[0]
	all := suites(t, server.DSN())
	var version string
	require.NoError(t, open(t, w.driver, server.DSN()).QueryRow("SELECT version()").Scan(&version))
	t.Log(version)
	schema := map[string]string{}
	storetest.RunPersistent(t, func(t *testing.T, dir string) kp.Store {
		if schema[dir] == "" {
			schema[dir] = all.Take(t)
		}
		return store(t, open(t, w.driver, server.DSN()), w.config(schema[dir]))
	})
	if !whole() {
		return
	}
	storetest.RunShared(t, func(t *testing.T) (one, other kp.Store) {
		schema := all.Take(t)
		made := func() *pgstore.Store { return store(t, open(t, w.driver, server.DSN()), w.config(schema)) }
		return made(), made()
	})
}
