package pgstore

import (
	"fmt"
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
	hours := map[int64]quota.Credits{}
	require.NoError(t, f.store.Usage(ctx, rangeOf("org:acme"), func(r row) error {
		hours[r.Start/3_600_000_000] += r.Credits
		return nil
	}))
	require.Greater(t, len(hours), 1, "the windows turned")
	for h, c := range hours {
		assert.LessOrEqual(t, c, quota.Credits(most), "hour %d", h)
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
