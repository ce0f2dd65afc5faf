package pgstore

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/internal/pgtest"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// Batches of many organizations, in whatever order their Ops come, from Stores
// that write to the same ones: nobody waits for each other in a circle, no call
// fails, and every charge counts once.
func TestCrossingOrders(t *testing.T) {
	t.Parallel()
	dsn, schema := pgtest.Schema(t)
	const stores, callers, batches, orgs = 3, 4, 15, 12
	var counted [orgs]atomic.Int64
	var wg sync.WaitGroup
	for range stores {
		s := openAt(t, dsn, Config{Schema: schema, Timeout: patient})
		for range callers {
			wg.Go(func() {
				for range batches {
					var ops []*quota.Op
					for _, o := range rand.Perm(orgs) {
						sub := quota.Subject(fmt.Sprintf("org:o%d", o))
						ops = append(ops, &quota.Op{Verb: quota.VerbCharge, Org: fmt.Sprintf("o%d", o), Amount: 1, At: 1_000_000, Keep: 1 << 60,
							Levels: []*quota.Level{{Subject: sub, Limits: []quota.Entry{{Limit: "credits", Number: 1, Max: quota.MaxCredits}}}}})
					}
					if !assert.NoError(t, s.Apply(ctx, ops)) {
						return
					}
					for _, op := range ops {
						if assert.Equal(t, quota.Applied, op.Result.Outcome, op.Result.Err) {
							var o int
							_, err := fmt.Sscanf(op.Org, "o%d", &o)
							assert.NoError(t, err)
							counted[o].Add(1)
						}
					}
				}
			})
		}
	}
	wg.Wait()
	s := openAt(t, dsn, Config{Schema: schema})
	for o := range orgs {
		sub := quota.Subject(fmt.Sprintf("org:o%d", o))
		f, err := s.Peek(ctx, fmt.Sprintf("o%d", o), []*quota.Level{{Subject: sub, Limits: []quota.Entry{{Limit: "credits", Number: 1, Max: quota.MaxCredits}}}}, 1_000_000)
		require.NoError(t, err)
		assert.Equal(t, quota.Credits(stores*callers*batches), f[0].Used)
		assert.Equal(t, int64(stores*callers*batches), counted[o].Load())
	}
}

// A thousand callers on one organization, over a server whose transactions are
// SERIALIZABLE unless told otherwise: the limit is exact and no call fails.
func TestThousandCallersSerializable(t *testing.T) {
	t.Parallel()
	dsn, schema := pgtest.Schema(t)
	dsn += " options='-c default_transaction_isolation=serializable'"
	const most = 700
	f := newFleet(t, openAt(t, dsn, Config{Schema: schema, Timeout: patient}), limit(most, quota.Month), nil, nil)
	two, err := saccount.New(openAt(t, dsn, Config{Schema: schema, Timeout: patient}), saccount.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, two.Close()) })
	var admitted atomic.Int64
	var wg sync.WaitGroup
	for w := range 1000 {
		svc := []*saccount.Service{f.svc, two}[w%2]
		wg.Go(func() {
			_, d, err := svc.AuthenticateAndCharge(ctx, f.tokens[w%len(f.tokens)], nil, saccount.Charge{Amount: 1})
			if assert.NoError(t, err) && d.Allowed {
				admitted.Add(1)
			}
		})
	}
	wg.Wait()
	assert.Equal(t, int64(most), admitted.Load())
	credits, _ := f.sums(t)
	assert.Equal(t, quota.Credits(most), credits)
}

// A pool that has no connection to give keeps nobody for longer than Timeout,
// says so, and goes on when it has one again.
func TestNoConnection(t *testing.T) {
	t.Parallel()
	dsn, schema := pgtest.Schema(t)
	db, err := sql.Open("postgres", dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	db.SetMaxOpenConns(1)
	require.NoError(t, Migrate(ctx, db, Config{Schema: schema}))
	s, err := New(db, Config{Schema: schema, Timeout: 300 * time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	f := newFleet(t, s, limit(quota.MaxCredits, quota.Month), nil, nil)
	charge := func(ctx context.Context) error {
		_, _, err := f.svc.AuthenticateAndCharge(ctx, f.tokens[0], nil, saccount.Charge{Amount: 1})
		return err
	}
	require.NoError(t, charge(ctx))
	taken, err := db.Conn(ctx)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			begin := time.Now()
			err := charge(ctx)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.Less(t, time.Since(begin), 10*time.Second)
		})
	}
	wg.Wait()
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, charge(short), context.DeadlineExceeded)
	require.NoError(t, taken.Close())
	assert.Eventually(t, func() bool { return charge(ctx) == nil }, 20*time.Second, 10*time.Millisecond)
}

// A key that one process disables is refused by another within the bound that
// is stated, and its charges at once.
func TestRevocationIsHeardOf(t *testing.T) {
	t.Parallel()
	dsn, schema := pgtest.Schema(t)
	f := newFleet(t, openAt(t, dsn, Config{Schema: schema}), nil, nil, nil)
	other, err := saccount.New(openAt(t, dsn, Config{Schema: schema}), saccount.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, other.Close()) })
	for i, token := range f.tokens {
		p, err := other.Authenticate(ctx, token, netip.Addr{})
		require.NoError(t, err)
		require.NoError(t, f.svc.DisableKey(ctx, actor, "acme", f.keys[i].ID))
		_, err = other.Charge(ctx, p, saccount.Charge{Amount: 1})
		require.ErrorIs(t, err, saccount.ErrUnauthenticated, "charges need no poll")
		require.NoError(t, f.svc.EnableKey(ctx, actor, "acme", f.keys[i].ID))
		require.Eventually(t, func() bool {
			_, err := other.Authenticate(ctx, token, netip.Addr{})
			return err == nil
		}, 20*time.Second, 5*time.Millisecond, "enabled again")
		require.NoError(t, f.svc.DisableKey(ctx, actor, "acme", f.keys[i].ID))
		begin := time.Now()
		require.Eventually(t, func() bool {
			_, err := other.Authenticate(ctx, token, netip.Addr{})
			return err != nil
		}, 20*time.Second, 5*time.Millisecond)
		t.Logf("heard of after %v", time.Since(begin).Round(time.Millisecond))
	}
}

// A schema that is newer or older is refused, and nothing is written to it.
func TestSchemaVersion(t *testing.T) {
	t.Parallel()
	dsn, schema := pgtest.Schema(t)
	db, err := sql.Open("postgres", dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	cfg := Config{Schema: schema}
	_, err = New(db, cfg)
	require.ErrorIs(t, err, ErrSchema)
	assert.ErrorContains(t, err, "run pgstore.Migrate")
	require.NoError(t, Migrate(ctx, db, cfg))
	require.NoError(t, Migrate(ctx, db, cfg), "a second time does nothing")
	_, err = db.Exec(fmt.Sprintf(`UPDATE "%s".%s SET version = 99`, schema, versionTable))
	require.NoError(t, err)
	require.ErrorIs(t, Migrate(ctx, db, cfg), ErrSchema)
	_, err = New(db, cfg)
	require.ErrorIs(t, err, ErrSchema)
	assert.ErrorContains(t, err, "update keypurse")
	_, err = New(db, Config{Schema: "Bad-Name"})
	require.ErrorIs(t, err, saccount.ErrInvalid)
	_, err = New(nil, Config{})
	require.ErrorIs(t, err, saccount.ErrInvalid)
}

// A server that may forget what it acknowledged is refused, unless told otherwise.
func TestUnsafeServer(t *testing.T) {
	t.Parallel()
	server, err := pgtest.Start(pgtest.Config{Settings: []string{"fsync=off"}})
	pgtest.Need(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	_, err = Open(ctx, server.DSN(), Config{})
	require.ErrorIs(t, err, ErrUnsafe)
	s, err := Open(ctx, server.DSN(), Config{AllowUnsafe: true})
	require.NoError(t, err)
	require.NoError(t, s.Close())
}

// A server that is killed under load comes back with every charge that was
// acknowledged, each once, and callers' own retries with an id find them.
func TestKilledServer(t *testing.T) {
	t.Parallel()
	server, err := pgtest.Start(pgtest.Config{})
	pgtest.Need(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	f := newFleet(t, openAt(t, server.DSN(), Config{Timeout: patient}), limit(quota.MaxCredits, quota.Month), nil, nil)
	var acknowledged atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				id := fmt.Sprintf("c%d-%d", w, i)
				for try := 0; ; try++ {
					_, d, err := f.svc.AuthenticateAndCharge(ctx, f.tokens[w%len(f.tokens)], nil, saccount.Charge{Amount: 1, ID: id})
					if err == nil && assert.True(t, d.Allowed) {
						acknowledged.Add(1)
						break
					}
					if try > 1000 {
						assert.NoError(t, err)
						return
					}
				}
			}
		})
	}
	for range 3 {
		at := acknowledged.Load()
		require.Eventually(t, func() bool { return acknowledged.Load() > at+200 }, 60*time.Second, time.Millisecond)
		require.NoError(t, server.Kill())
		require.NoError(t, server.Run())
		begin, at := time.Now(), acknowledged.Load()
		require.Eventually(t, func() bool { return acknowledged.Load() > at }, 30*time.Second, time.Millisecond)
		t.Logf("first charge %v after the server answered", time.Since(begin).Round(time.Millisecond))
	}
	close(stop)
	wg.Wait()
	credits, requests := f.sums(t)
	assert.Equal(t, quota.Credits(acknowledged.Load()), credits)
	assert.Equal(t, acknowledged.Load(), requests)
}
