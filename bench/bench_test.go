package bench

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

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

// Every case that a ratio needs is measured, beside the others of it, and no name
// is there twice.
func TestRatiosNameCases(t *testing.T) {
	group := map[string]string{}
	for _, s := range Sections() {
		for _, c := range s.Cases(harness.Env{}) {
			n := harness.Name(s.Name, c.Work, c.Who)
			assert.NotContains(t, group, n, "twice")
			group[n] = s.Name + "/" + c.Group
		}
	}
	for _, l := range lines() {
		for _, r := range l.Ratios {
			groups := map[string]bool{}
			for _, f := range slices.Concat(r.Over, r.Under) {
				for _, n := range []string{f.Case, f.Above} {
					if n == "" || !assert.Contains(t, group, n, "not measured") {
						continue
					}
					groups[group[n]] = true
					assert.True(t, strings.HasPrefix(n, l.Section+"/"), "%s is not of section %s", n, l.Section)
				}
			}
			assert.Len(t, groups, 1, "%s, %s: a ratio is taken between cases that run side by side", r.What, r.At)
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
	for _, section := range Sections() {
		r := result("a", harness.Round{Rate: 1e6, P50: 900, P99: 2e6})
		b := Report(section.Name, Conditions{Command: "go run ./cmd/bench"}, []*harness.Result{r})
		n := 0
		for _, l := range lines() {
			row := "\n| " + l.Path + " | " + l.Must + " | " + l.Aim + " | "
			if l.Section != section.Name {
				assert.NotContains(t, b.Text, row)
				continue
			}
			n++
			assert.Contains(t, b.Text, row)
		}
		assert.Positive(t, n, "%s is held to nothing", section.Name)
		assert.Equal(t, fmt.Sprintf("must 0 of %d, aim 0", n), b.Met)
		assert.Contains(t, b.Text, "| w | a | 1 µs | 1.00M | 1.00M..1.00M | 900 ns | 2 ms |")
	}
}

// Sections that are not measured anew stay byte for byte.
func TestMergeKeepsWhatItDoesNotReplace(t *testing.T) {
	at := func(section string, day int) Block {
		return Report(section, Conditions{Date: time.Date(2026, 1, day, 0, 0, 0, 0, time.UTC)}, []*harness.Result{result("a", harness.Round{Rate: float64(day)})})
	}
	var blocks []Block
	for i, name := range []string{secPostgres, secAuthenticate, secGrowth} { // in any order
		blocks = Merge(blocks, at(name, i+1))
	}
	read, err := Blocks(Render(blocks))
	require.NoError(t, err)
	assert.Equal(t, []Block{blocks[1], blocks[0], blocks[2]}, read, "in the order of sections")
	assert.Equal(t, Render(blocks), Render(read))

	again := Merge(read, at(secPostgres, 9))
	require.Len(t, again, 3)
	text := Render(again)
	assert.Contains(t, text, blocks[1].Text)
	assert.Contains(t, text, blocks[2].Text)
	assert.NotContains(t, text, blocks[0].Text)
	assert.Contains(t, text, "| [postgres](#postgres) | 2026-01-09 00:00 UTC | must 0 of ")
	assert.Contains(t, text, "| large | not yet; `make bench-full` does | |")
	assert.Contains(t, text, "| bbolt | not yet | |")

	none, err := Blocks("")
	require.NoError(t, err)
	assert.Empty(t, none)
	for name, bad := range map[string]string{
		"something else": "# Results\n\nof another form\n",
		"cut off":        text[:len(text)-len(blockEnd)],
		"no date":        "\n<!-- section postgres -->\nx\n<!-- end of section -->\n",
	} {
		_, err := Blocks(bad)
		assert.Error(t, err, name)
	}
}

// What stands in RESULTS.md can be read.
func TestResultsCanBeMerged(t *testing.T) {
	text, err := os.ReadFile("RESULTS.md")
	require.NoError(t, err)
	blocks, err := Blocks(string(text))
	require.NoError(t, err)
	assert.NotEmpty(t, blocks)
	for _, b := range blocks {
		assert.Contains(t, string(text), b.Text)
	}
}

func TestLazy(t *testing.T) {
	made, stopped := 0, 0
	l := &lazy[int]{make: func(context.Context) (int, func() error, error) {
		made++
		return made, func() error { stopped++; return nil }, nil
	}}
	for want := 1; want <= 2; want++ {
		for range 3 {
			v, err := l.get(t.Context())
			require.NoError(t, err)
			assert.Equal(t, want, v)
		}
		for i := range 3 {
			assert.Equal(t, want-1, stopped, i)
			require.NoError(t, l.release())
		}
		assert.Equal(t, want, stopped)
	}
	l.make = func(context.Context) (int, func() error, error) { return 0, nil, harness.NotRun("none") }
	_, err := l.get(t.Context())
	assert.ErrorIs(t, err, harness.NotRun("none"))
}
