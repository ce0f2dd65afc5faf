package pgstore

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/internal/pgtest"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

func limit(most quota.Credits, unit quota.Unit) saccount.Limits {
	return saccount.Limits{"": saccount.NewLimit(most, quota.Period{Unit: unit})}
}

// From four processes, a limit admits exactly what it may, whatever its shape,
// on the organization that they share and on accounts of it.
func TestProcessesAreExact(t *testing.T) {
	for _, c := range []struct {
		most, cost     quota.Credits
		workers, calls int
		onAccounts     bool
	}{
		{1, 1, 25, 4, false},
		{500, 10, 5, 10, false},
		{400, 1, 8, 30, false},
		{777, 5, 16, 10, false},
		{100, 1, 8, 20, true},
	} {
		t.Run(fmt.Sprintf("%d credits, %d each, %d workers, on accounts %v", c.most, c.cost, c.workers, c.onAccounts), func(t *testing.T) {
			t.Parallel()
			dsn, schema := pgtest.Schema(t)
			org, account, limits := limit(c.most, quota.Month), saccount.Limits(nil), quota.Credits(1)
			if c.onAccounts {
				org, account, limits = limit(quota.MaxCredits, quota.Month), limit(c.most, quota.Month), 2
			}
			f := newFleet(t, openAt(t, dsn, Config{Schema: schema}), org, account, nil)
			j := job{DSN: dsn, Schema: schema, Tokens: f.tokens, Workers: c.workers, Calls: c.calls, Cost: c.cost}
			var admitted, refused int64
			for _, d := range processes(t, j, j, j, j) {
				admitted += d.Admitted
				refused += d.Refused
			}
			bound := int64(limits * (c.most / c.cost))
			assert.Equal(t, bound, admitted, "admitted and bound")
			assert.Equal(t, int64(4*c.workers*c.calls), admitted+refused)
			credits, requests := f.sums(t)
			assert.Equal(t, quota.Credits(admitted)*c.cost, credits)
			assert.Equal(t, admitted, requests)
		})
	}
}

// Windows that turn while four processes charge: each is filled to its limit
// and no credit further.
func TestWindowsTurnInProcesses(t *testing.T) {
	t.Parallel()
	dsn, schema := pgtest.Schema(t)
	const most, speed = 60, 3600 // an hour a second
	start := time.Now()
	f := newFleet(t, openAt(t, dsn, Config{Schema: schema}), limit(most, quota.Hour), nil, fast(start, speed))
	j := job{DSN: dsn, Schema: schema, Tokens: f.tokens, Workers: 4, Calls: 200, Cost: 1, Fast: speed, Start: start}
	var admitted int64
	for _, d := range processes(t, j, j, j, j) {
		admitted += d.Admitted
	}
	credits, _ := f.sums(t)
	assert.Equal(t, quota.Credits(admitted), credits)
	// Every hour by its buckets.
	hours, full := map[int64]quota.Credits{}, map[int64]bool{}
	require.NoError(t, f.store.Usage(ctx, rangeOf("org:acme"), func(r row) error {
		hours[r.Start/3_600_000_000] += r.Credits
		return nil
	}))
	for _, k := range f.keys {
		require.NoError(t, f.store.Usage(ctx, rangeOf(quota.NewSubject(quota.KindKey, k.ID)), func(r row) error {
			full[r.Start/3_600_000_000] = full[r.Start/3_600_000_000] || r.Reason != ""
			return nil
		}))
	}
	require.Greater(t, len(hours), 1, "the windows turned")
	for h, c := range hours {
		assert.LessOrEqual(t, c, quota.Credits(most), "hour %d", h)
		if full[h] {
			assert.Equal(t, quota.Credits(most), c, "hour %d, in which one was refused", h)
		}
	}
}

// Processes whose clocks are 90 seconds off either way go by the server's.
func TestClocksThatDiffer(t *testing.T) {
	t.Parallel()
	dsn, schema := pgtest.Schema(t)
	st := openAt(t, dsn, Config{Schema: schema})
	f := newFleet(t, st, limit(200, quota.Month), nil, nil)
	j := job{DSN: dsn, Schema: schema, Tokens: f.tokens, Workers: 4, Calls: 40, Cost: 1}
	ahead, behind := j, j
	ahead.Skew, behind.Skew = 90*time.Second, -90*time.Second
	var admitted int64
	for _, d := range processes(t, ahead, behind) {
		admitted += d.Admitted
		assert.Less(t, d.Clock.Abs(), 5*time.Second, "the Store's clock, by the machine's")
	}
	assert.Equal(t, int64(200), admitted, "one window for both")
	f.sums(t)
}

// A reservation of a process whose clock is 90 seconds behind holds in one
// whose clock is as much ahead, and the other way round, until its time is over
// by the server's clock: either may commit it.
func TestHoldsOfClocksThatDiffer(t *testing.T) {
	t.Parallel()
	dsn, schema := pgtest.Schema(t)
	var stores [2]*Store
	var services [2]*saccount.Service
	for i, skew := range []time.Duration{-90 * time.Second, 90 * time.Second} {
		stores[i] = openAt(t, dsn, Config{Schema: schema, Timeout: patient, now: func() time.Time { return time.Now().Add(skew) }})
	}
	f := newFleet(t, stores[0], limit(10, quota.Month), nil, nil)
	services[0] = f.svc
	var err error
	services[1], err = saccount.New(stores[1], saccount.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, services[1].Close()) })
	for i := range 2 {
		one, other := services[i], services[1-i]
		p, err := one.Authenticate(ctx, f.tokens[0], netip.Addr{})
		require.NoError(t, err)
		id := []string{"behind", "ahead"}[i]
		_, d, err := one.Reserve(ctx, p, saccount.Reserve{ID: id, Amount: 5, TTL: time.Minute})
		require.NoError(t, err)
		require.True(t, d.Allowed)
		_, d, err = other.AuthenticateAndCharge(ctx, f.tokens[1], nil, saccount.Charge{Amount: quota.Credits(10 - 5*i)})
		require.NoError(t, err)
		assert.False(t, d.Allowed, "%s: what is held is not free", id)
		_, err = other.Commit(ctx, "acme", saccount.Commit{Of: id, Amount: 5})
		require.NoError(t, err, "%s: its time is not over", id)
	}
	credits, requests := f.sums(t)
	assert.Equal(t, quota.Credits(10), credits)
	assert.Equal(t, int64(2), requests)
}
