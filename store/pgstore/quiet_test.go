package pgstore

import (
	"database/sql"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/internal/pgtest"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// Refusals of whatever kind, from two processes at once, are nothing to the
// server: no line of its log speaks of them.
func TestRefusalsLeaveNoLine(t *testing.T) {
	t.Parallel()
	server, err := pgtest.Start(pgtest.Config{Settings: []string{"log_checkpoints=off", "log_min_messages=notice"}})
	pgtest.Need(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	f := newFleet(t, openAt(t, server.DSN(), Config{Timeout: patient}), limit(20, quota.Month), nil, nil)
	two, err := saccount.New(openAt(t, server.DSN(), Config{Timeout: patient}), saccount.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, two.Close()) })
	before, err := server.Log()
	require.NoError(t, err)

	services := []*saccount.Service{f.svc, two}
	var mu sync.Mutex
	refused := map[string]int{}
	note := func(kind string) {
		mu.Lock()
		refused[kind]++
		mu.Unlock()
	}
	is := func(kind string, err, want error) {
		if assert.ErrorIs(t, err, want, kind) {
			note(kind)
		}
	}
	var wg sync.WaitGroup
	for w := range 8 {
		svc := services[w%2]
		wg.Go(func() {
			for i := range 20 {
				token := f.tokens[w%len(f.tokens)]
				_, d, err := svc.AuthenticateAndCharge(ctx, token, nil, saccount.Charge{Amount: 1})
				if assert.NoError(t, err) && !d.Allowed {
					note("limit")
				}
				if i%5 > 0 {
					continue
				}
				_, err = svc.CreateAccount(ctx, actor, "acme", saccount.AccountSpec{Name: "Worker 0"})
				is("name", err, saccount.ErrExists)
				_, err = svc.CreateOrg(ctx, actor, saccount.OrgSpec{ID: "acme"})
				is("id", err, saccount.ErrExists)
				_, err = svc.GetOrg(ctx, "nobody")
				is("unknown", err, saccount.ErrNotFound)
				_, _, err = svc.AuthenticateAndCharge(ctx, strings.Repeat("x", 60), nil, saccount.Charge{Amount: 1})
				is("token", err, saccount.ErrUnauthenticated)
			}
		})
	}
	wg.Wait()
	credits, _ := f.sums(t)
	assert.Equal(t, quota.Credits(20), credits)
	for _, kind := range []string{"limit", "name", "id", "unknown", "token"} {
		assert.Positive(t, refused[kind], kind)
	}
	after, err := server.Log()
	require.NoError(t, err)
	assert.Empty(t, strings.TrimPrefix(after, before))

	// What the server refuses does leave one.
	db, err := sql.Open("postgres", server.DSN())
	require.NoError(t, err)
	defer db.Close()
	_, err = db.Exec("INSERT INTO keypurse.orgs (org) VALUES ('acme')")
	require.Error(t, err)
	after, err = server.Log()
	require.NoError(t, err)
	assert.Contains(t, strings.TrimPrefix(after, before), "ERROR")
}
