package bench

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/bench/internal/fixture"
	"github.com/keypurse/keypurse/bench/internal/harness"
)

func TestFloorChecksWhatItClaims(t *testing.T) {
	f := newFloor(fixture.Shape{Keys: 500, Accounts: 20, Orgs: 3}, 1)
	h := f.hashers[0]
	for i := range f.keys {
		r := f.authenticate(h, f.keys[i].Token)
		require.NotNil(t, r, i)
		require.Same(t, &f.orgs[f.keys[i].Org], r.levels[2])
	}
	good := f.keys[0].Token
	secret := []byte(good)
	secret[30]++
	for name, token := range map[string]string{
		"empty":     "",
		"short":     good[:len(good)-1],
		"long":      good + "0",
		"prefix":    "acme_test_" + good[10:],
		"alphabet":  good[:20] + "-" + good[21:],
		"checksum":  string(secret),
		"not known": fixture.Keys(fixture.Shape{Keys: 501, Accounts: 1, Orgs: 1})[500].Token,
	} {
		assert.Nil(t, f.authenticate(h, token), name)
	}
	r := f.authenticate(h, good)
	r.levels[1].limit = 2
	assert.True(t, r.charge(2))
	assert.False(t, r.charge(1))
	for _, c := range r.levels {
		assert.EqualValues(t, 2, c.used.Load(), "a refusal takes from no level")
	}
	f.clock.Store(1<<62 + 1)
	assert.Nil(t, f.authenticate(h, good), "expired")
}

func TestBoltFloorCharges(t *testing.T) {
	b, err := openBolt(harness.Env{Dir: t.TempDir()}, fixture.Shape{Keys: 10, Accounts: 4, Orgs: 2}, 2)
	require.NoError(t, err)
	defer func() { require.NoError(t, b.Close()) }()
	for range 3 {
		require.NoError(t, b.charge(7, true))
	}
	require.NoError(t, b.charge(3, false))
	tx, err := b.db.Begin(false)
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback()) }()
	path := b.path(7)
	for i, want := range []byte{3, 4, 4} { // keys 3 and 7 share account 3 of organization 1
		assert.Equal(t, want, tx.Bucket(bucketPurses).Get(path[i][:])[7])
		assert.EqualValues(t, 3, tx.Bucket(bucketUsage).Get(usageKey(path[i], b.quarter))[7])
	}
	assert.Equal(t, 16*2*24+3, tx.Bucket(bucketUsage).Stats().KeyN, "a row an hour of the past and three of now")
}

// Every case that a ratio needs is measured, and no name is there twice.
func TestRatiosNameCases(t *testing.T) {
	have := map[string]bool{}
	for _, s := range Sections() {
		for _, c := range s.Cases(harness.Env{}) {
			n := harness.Name(s.Name, c.Work, c.Who)
			assert.False(t, have[n], "%s twice", n)
			have[n] = true
		}
	}
	for _, l := range lines() {
		for _, r := range l.Ratios {
			for _, f := range slices.Concat(r.Over, r.Under) {
				for _, n := range []string{f.Case, f.Above} {
					if n != "" && !strings.HasSuffix(n, "/"+whoKeypurse) {
						assert.True(t, have[n], "%s is not measured", n)
					}
				}
			}
		}
	}
}

func result(who string, rounds ...harness.Round) *harness.Result {
	return &harness.Result{Section: "s", Work: "w", Who: who, Rounds: rounds}
}

func TestRatioIsTakenInQuietRounds(t *testing.T) {
	at := func(rate float64) harness.Round { return harness.Round{Rate: rate} }
	loud := func(rate float64) harness.Round { return harness.Round{Rate: rate, Foreign: .5} }
	rs := index([]*harness.Result{
		result("a", at(10), at(20), loud(999), at(30), at(40)),
		result("b", at(10), at(10), at(1), at(10), loud(1)),
		result("base", at(5), at(5), at(5), at(5), at(5)),
		{Section: "s", Work: "w", Who: "absent", NotRun: "npm not found"},
	})
	r := ratio{Over: of(perSec, "s", "w", "a"), Under: of(perSec, "s", "w", "b")}
	s, missing := rs.measure(r)
	assert.Empty(t, missing)
	assert.Equal(t, stat{Min: 1, Median: 2, Max: 3, N: 3}, s)

	above := ratio{
		Over:  []figure{{perSec, "s/w/a", "s/w/base"}},
		Under: []figure{{perSec, "s/w/b", "s/w/base"}},
	}
	s, _ = rs.measure(above)
	assert.Equal(t, stat{Min: 1, Median: 3, Max: 5, N: 3}, s)

	_, missing = rs.measure(ratio{Over: of(perSec, "s", "w", "a"), Under: of(perSec, "s", "w", "absent")})
	assert.Equal(t, "not run: npm not found", missing)
	_, missing = rs.measure(ratio{Over: of(perSec, "s", "w", "nobody")})
	assert.Equal(t, "not measured", missing)

	louder := loud(5)
	louder.Foreign = .6
	few := index([]*harness.Result{result("a", at(1), louder, loud(3), loud(7))})
	s, _ = few.measure(ratio{Over: of(perSec, "s", "w", "a")})
	assert.Equal(t, stat{Min: 1, Median: 3, Max: 7, N: 3, Disturbed: true}, s, "the least disturbed three")
}

func TestBounds(t *testing.T) {
	assert.True(t, atMost(2).met(2))
	assert.False(t, atMost(2).met(2.1))
	assert.True(t, atLeast(2).met(2))
	assert.False(t, atLeast(2).met(1.9))
	ms := []measured{
		{ratio{What: "x", At: "one", Must: atMost(2)}, stat{Median: 1.5}, ""},
		{ratio{What: "x", At: "two", Must: atMost(2)}, stat{Median: 2.5}, ""},
		{ratio{What: "y", At: "three", Must: atLeast(2)}, stat{}, "not measured"},
	}
	assert.Equal(t, "2.50 x (worst of 2: two); y: not measured", worst(ms))
	assert.Equal(t, "no", all(ms, mustOf), "what fails is not hidden by what was not measured")
	assert.Equal(t, "yes", all(ms[:1], mustOf))
	assert.Equal(t, "not measured", all(ms[2:], mustOf))
}

func TestReportHasARowForEveryLine(t *testing.T) {
	var b strings.Builder
	require.NoError(t, Report(&b, "| head | |\n", []*harness.Result{result("a", harness.Round{Rate: 1e6, P50: 900, P99: 2e6})}))
	for _, l := range lines() {
		assert.Contains(t, b.String(), "\n| "+l.Path+" | "+l.Must+" | "+l.Aim+" | ")
	}
	assert.Contains(t, b.String(), "| w | a | 1 µs | 1.00M | 1.00M..1.00M | 900 ns | 2 ms |")
}
