package pgstore

import (
	"database/sql"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/internal/pgtest"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// Ten times more callers than may wait for a pool that has no connection to
// give: those that may wait do and are served, the others are told at once.
func TestMoreCallersThanMayWait(t *testing.T) {
	t.Parallel()
	dsn, schema := pgtest.Schema(t)
	db, err := sql.Open("postgres", dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	const may, callers = 20, 200
	db.SetMaxOpenConns(2)
	cfg := Config{Schema: schema, Timeout: patient, MaxCalls: may}
	require.NoError(t, Migrate(ctx, db, cfg))
	s, err := New(db, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	f := newFleet(t, s, limit(quota.MaxCredits, quota.Month), nil, nil)
	var taken []*sql.Conn
	for range 2 {
		c, err := db.Conn(ctx)
		require.NoError(t, err)
		taken = append(taken, c)
	}
	answers := make(chan error, callers)
	for range callers {
		go func() {
			_, err := s.Lookup(ctx, "acme", saccount.KindOrg, "acme")
			answers <- err
		}()
	}
	for range callers - may {
		require.ErrorIs(t, <-answers, quota.ErrBusy)
	}
	err = s.Write(ctx, saccount.Batch{Org: "acme"})
	require.ErrorIs(t, err, quota.ErrBusy)
	assert.ErrorContains(t, err, "20 calls wait for the database")
	for _, c := range taken {
		require.NoError(t, c.Close())
	}
	for range may {
		require.NoError(t, <-answers, "who waited is served")
	}
	_, d, err := f.svc.AuthenticateAndCharge(ctx, f.tokens[0], nil, saccount.Charge{Amount: 1})
	require.NoError(t, err)
	assert.True(t, d.Allowed)
	_, err = New(db, Config{Schema: schema, MaxCalls: -1})
	require.ErrorIs(t, err, saccount.ErrInvalid)
}
