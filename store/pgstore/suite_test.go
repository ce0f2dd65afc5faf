package pgstore

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/internal/pgtest"
	"github.com/keypurse/keypurse/store"
	"github.com/keypurse/keypurse/store/storetest"
)

var ctx = context.Background()

// patient is for suites that run beside each other under the race detector.
const patient = 2 * time.Minute

func openAt(t *testing.T, dsn string, cfg Config) *Store {
	t.Helper()
	s, err := Open(ctx, dsn, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// suites are migrated schemas for subtests of t.
func suites(t *testing.T) (dsn string, all *pgtest.Schemas) {
	t.Helper()
	dsn = pgtest.DSN(t)
	return dsn, pgtest.NewSchemas(t, dsn, func(schema string) error {
		s, err := Open(ctx, dsn, Config{Schema: schema, Timeout: patient})
		if err != nil {
			return err
		}
		return s.Close()
	})
}

func TestStore(t *testing.T) {
	t.Parallel()
	dsn, all := suites(t)
	storetest.Run(t, func(t *testing.T) store.Store {
		return openAt(t, dsn, Config{Schema: all.Take(t), Timeout: patient})
	})
}

// Two Stores on one database, as two processes have them.
func TestShared(t *testing.T) {
	t.Parallel()
	dsn, all := suites(t)
	storetest.RunShared(t, func(t *testing.T) (one, other store.Store) {
		schema := all.Take(t)
		return openAt(t, dsn, Config{Schema: schema, Timeout: patient}), openAt(t, dsn, Config{Schema: schema, Timeout: patient})
	})
}

// What a Store left is there for the next.
func TestPersistent(t *testing.T) {
	t.Parallel()
	pgtest.DSN(t)
	schemas := map[string][2]string{}
	storetest.RunPersistent(t, func(t *testing.T, dir string) store.Store {
		if _, ok := schemas[dir]; !ok {
			dsn, schema := pgtest.Schema(t)
			schemas[dir] = [2]string{dsn, schema}
		}
		return openAt(t, schemas[dir][0], Config{Schema: schemas[dir][1], Timeout: patient})
	})
}
