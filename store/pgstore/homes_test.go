package pgstore

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store"
	"github.com/keypurse/keypurse/store/storetest"
)

// inTurn is a Store of which other processes do two batches of three.
type inTurn struct {
	*Store
	others [2]*Store
	n      *atomic.Int64
}

func (s inTurn) Apply(ctx context.Context, ops []*quota.Op) error {
	if n := s.n.Add(1) % 3; n < 2 {
		return s.others[n].Apply(ctx, ops)
	}
	return s.Store.Apply(ctx, ops)
}

func (s inTurn) Close() error { return s.Store.Close() }

// Random histories come out as they must where each batch comes from another process
// than the one before, one of which has hardly anything in memory.
func TestStoreInTurn(t *testing.T) {
	t.Parallel()
	dsn, all := suites(t)
	storetest.RunModel(t, func(t *testing.T) store.Store {
		cfg := Config{Schema: all.Take(t), Timeout: patient}
		s := inTurn{openAt(t, dsn, cfg), [2]*Store{openAt(t, dsn, cfg), openAt(t, dsn, cfg)}, new(atomic.Int64)}
		s.others[1].cfg.MaxRows = 1
		return s
	})
}

const quarterHour = int64(quota.BucketWidth / time.Microsecond)

// at moves an op into the nth quarter of an hour since noon.
func at(o *quota.Op, n int64) *quota.Op {
	o.At += n * quarterHour
	for _, l := range o.Levels {
		l.Bucket += n * quarterHour
	}
	return o
}

// charge is one of a credit in the nth quarter of an hour.
func (r *rivals) charge(k int, n int64) *quota.Op { return at(r.op(quota.VerbCharge, k, 1), n) }

// stored is how many buckets have a row of their own, and how many are beside a
// limit.
func (r *rivals) stored() (alone, beside int) {
	r.t.Helper()
	require.NoError(r.t, r.of[0].db.QueryRow(`SELECT count(*) FILTER (WHERE number = 0), count(bucket) FROM "`+r.of[0].cfg.Schema+`".counters`).Scan(&alone, &beside))
	return alone, beside
}

// usage is what each quarter of an hour of the organization counted, as read from
// the server.
func (r *rivals) usage() map[int64]int64 {
	r.t.Helper()
	out := map[int64]int64{}
	require.NoError(r.t, r.of[0].Usage(ctx, rangeOf("org:acme"), func(u row) error {
		if !u.Day {
			out[(u.Start-noon)/quarterHour] += u.Requests
		}
		return nil
	}))
	return out
}

func TestBucketsBesideLimits(t *testing.T) {
	t.Parallel()
	r := newRivals(t)
	expect := func(alone, beside int, usage map[int64]int64, why string) {
		t.Helper()
		a, b := r.stored()
		assert.Equal(t, alone, a, "alone: %s", why)
		assert.Equal(t, beside, b, "beside: %s", why)
		assert.Equal(t, usage, r.usage(), why)
	}
	r.apply(0, r.charge(1, 0), r.charge(1, 0))
	expect(0, 2, map[int64]int64{0: 2}, "the key's and the organization's")
	r.apply(0, r.charge(1, 1))
	expect(2, 2, map[int64]int64{0: 2, 1: 1}, "the next bucket takes the place of the first")
	r.apply(1, r.charge(1, 1))
	expect(2, 2, map[int64]int64{0: 2, 1: 2}, "another process finds it there")
	r.apply(1, r.charge(1, 2), r.charge(2, 2))
	expect(4, 3, map[int64]int64{0: 2, 1: 2, 2: 2}, "another process takes its place")
	r.apply(0, r.charge(1, 1), r.charge(1, 2), r.charge(1, 0))
	expect(4, 3, map[int64]int64{0: 3, 1: 3, 2: 3}, "the first knows: what is late goes where it is kept")
	r.apply(1, r.charge(1, 2), r.charge(1, 3), r.charge(1, 4), r.charge(1, 3))
	a, b := r.stored()
	assert.Equal(t, 11, a+b, "six buckets of the organization and the key, and one of another key, each once")
	assert.Equal(t, map[int64]int64{0: 3, 1: 3, 2: 4, 3: 2, 4: 1}, r.usage(), "a batch over three buckets")
	r.apply(0, r.charge(1, 3), r.charge(1, 4), r.charge(3, 4))
	assert.Equal(t, map[int64]int64{0: 3, 1: 3, 2: 4, 3: 3, 4: 3}, r.usage())
}

// What one process finds in the database another one made of it.
func TestBucketsAreFound(t *testing.T) {
	t.Parallel()
	r := newRivals(t)
	for n := range int64(3) {
		r.apply(0, r.charge(1, n))
	}
	reserve := at(r.op(quota.VerbReserve, 1, 100), 2)
	reserve.TTL = 1e9
	r.apply(0, reserve)
	late := r.charge(1, 2)
	late.Levels = late.Levels[:1]
	late.Levels[0].Limits = nil
	r.apply(1, late)
	assert.Equal(t, map[int64]int64{0: 1, 1: 1, 2: 2}, r.usage())
	var requests int64
	require.NoError(t, r.of[0].db.QueryRow(`SELECT sum(requests) FROM "`+r.of[0].cfg.Schema+`".buckets WHERE subject = 'key:1'`).Scan(&requests))
	assert.EqualValues(t, 5, requests, "without its limit a bucket is found beside it all the same")
	commit := r.op(quota.VerbCommit, 1, 60)
	commit.At, commit.Of, commit.Levels = noon+2*quarterHour, reserve.ID, nil
	r.apply(1, commit)
	got, err := r.of[0].Peek(ctx, "acme", r.charge(1, 2).Levels, noon+2*quarterHour)
	require.NoError(t, err)
	assert.Equal(t, quota.Credits(63), got[0].Used)
	assert.Zero(t, got[0].Held)
	assert.Equal(t, map[int64]int64{0: 1, 1: 1, 2: 2}, r.usage())
}

// Only a limit whose window holds the whole bucket carries it, and of those the one
// that lasts longest.
func TestWhichLimitCarries(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limits []quota.Entry
		by     string // "": none
	}{
		"no limit":         {nil, ""},
		"a minute":         {[]quota.Entry{{Limit: "minute", Start: noon, End: noon + 60e6}}, ""},
		"began within":     {[]quota.Entry{{Limit: "late", Start: noon + 1, End: noon + 1e12}}, ""},
		"ends within":      {[]quota.Entry{{Limit: "soon", Start: noon - 1e12, End: noon + quarterHour - 1}}, ""},
		"just the quarter": {[]quota.Entry{{Limit: "quarter", Start: noon, End: noon + quarterHour}}, "quarter"},
		"several": {[]quota.Entry{
			{Limit: "a", Start: noon, End: noon + quarterHour}, {Limit: "b", Start: noon, End: noon + 60e6}, {Limit: "c", Start: noon, End: noon + 1e12},
			{Limit: "d", Start: noon, End: noon + 1e11},
		}, "c"},
		"one for ever": {[]quota.Entry{{Limit: "a", Start: noon, End: noon + 1e15}, {Limit: "b"}, {Limit: "c", Start: noon, End: noon + 1e16}}, "b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRivals(t)
			for n := range 4 {
				o := r.op(quota.VerbCharge, 1, 1)
				o.Levels = o.Levels[:1]
				o.At += 2
				o.Levels[0].Limits = nil
				for _, e := range c.limits {
					e.Number, e.Max = 1, 1000
					o.Levels[0].Limits = append(o.Levels[0].Limits, e)
				}
				r.apply(n%2, o)
			}
			var by string
			require.NoError(t, r.of[0].db.QueryRow(`SELECT coalesce(string_agg(series, ','), '') FROM "`+r.of[0].cfg.Schema+`".counters WHERE bucket IS NOT NULL`).Scan(&by))
			assert.Equal(t, c.by, by)
			alone, _ := r.stored()
			assert.Equal(t, by == "", alone == 1)
			var requests int64
			require.NoError(t, r.of[0].db.QueryRow(`SELECT sum(requests) FROM "`+r.of[0].cfg.Schema+`".buckets`).Scan(&requests))
			assert.EqualValues(t, 4, requests)
		})
	}
}

// A bucket outlives the counter that it is beside: a purge and a fold give it a row
// of its own first.
func TestBucketsOutliveTheirLimits(t *testing.T) {
	t.Parallel()
	r := newRivals(t)
	r.apply(0, r.charge(1, 0))
	r.apply(1, r.charge(1, 1), r.charge(2, 1))
	n, err := r.of[0].Purge(ctx, saccount.Purge{Windows: time.UnixMicro(noon + 2e12), Most: 100})
	require.NoError(t, err)
	assert.Equal(t, 3, n, "the counters of three limits")
	alone, beside := r.stored()
	assert.Equal(t, 5, alone)
	assert.Zero(t, beside)
	assert.Equal(t, map[int64]int64{0: 1, 1: 2}, r.usage())
	r.apply(1, r.charge(1, 1), r.charge(3, 1))
	assert.Equal(t, map[int64]int64{0: 1, 1: 4}, r.usage(), "and is charged there")

	_, beside = r.stored()
	assert.Equal(t, 1, beside, "of the key that is new")
	folded, err := r.of[0].Fold(ctx, "acme", []int64{noon - 86400e6/2, noon + 86400e6/2}, 100)
	require.NoError(t, err)
	assert.Equal(t, 6, folded)
	alone, beside = r.stored()
	assert.Equal(t, 4, alone, "a day each")
	assert.Zero(t, beside)
	r.apply(1, r.charge(3, 1))
	got, err := r.of[0].Peek(ctx, "acme", r.charge(3, 1).Levels, noon+quarterHour)
	require.NoError(t, err)
	assert.Equal(t, quota.Credits(2), got[0].Used)
}

// A bucket that should be new is charged without a look first; where it is stored
// after all, it is found before anything is written.
func TestBucketsThoughtToBeNew(t *testing.T) {
	t.Parallel()
	only := func(o *quota.Op, limits ...string) *quota.Op {
		o.Levels = o.Levels[:1]
		o.Levels[0].Limits = nil
		for _, l := range limits {
			o.Levels[0].Limits = append(o.Levels[0].Limits, quota.Entry{Limit: l, Number: 1, Max: 1000, Start: noon, End: noon + 1e12})
		}
		return o
	}
	for name, first := range map[string][]string{"is": nil, "stands alone": {}, "is beside another limit": {"other"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRivals(t)
			want := map[int64][2]int64{0: {1, 2}, 1: {1, 1}}
			if first != nil {
				r.apply(1, only(r.charge(1, 1), first...))
				want[1] = [2]int64{1, 2}
			}
			r.apply(1, only(r.charge(1, 0), "month"))
			r.apply(0, only(r.charge(1, 0), "month"))
			r.apply(0, only(r.op(quota.VerbCharge, 2, 1), "month"))
			require.Zero(t, r.book(0).contended)
			r.apply(0, only(r.charge(1, 1), "month"))
			if first == nil {
				assert.Len(t, r.book(0).view.fresh, 1)
				assert.Empty(t, r.book(0).view.kept, "nothing was read")
				assert.Zero(t, r.book(0).contended)
			} else {
				assert.Equal(t, contention-1, r.book(0).contended, "refused, and decided again under the lock")
			}
			got := map[int64][2]int64{}
			rows, err := r.of[0].db.Query(`SELECT start, count(*), sum(requests) FROM "` + r.of[0].cfg.Schema + `".buckets WHERE subject = 'key:1' GROUP BY start`)
			require.NoError(t, err)
			defer rows.Close()
			for rows.Next() {
				var start, n, requests int64
				require.NoError(t, rows.Scan(&start, &n, &requests))
				got[(start-noon)/quarterHour] = [2]int64{n, requests}
			}
			require.NoError(t, rows.Err())
			assert.Equal(t, want, got, "each bucket once, with all its requests")
			var counted int64
			require.NoError(t, r.of[0].db.QueryRow(`SELECT used FROM "`+r.of[0].cfg.Schema+`".counters WHERE subject = 'key:1' AND series = 'month'`).Scan(&counted))
			assert.EqualValues(t, want[0][1]+want[1][1], counted)
		})
	}
}
