package usage_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/usage"
)

func TestFoldDays(t *testing.T) {
	for name, c := range map[string]struct {
		from, to, zone string
		want           []string
	}{
		"whole days":              {"2026-05-01T00:00:00Z", "2026-05-03T00:00:00Z", "", []string{"2026-05-01T00:00:00Z", "2026-05-02T00:00:00Z", "2026-05-03T00:00:00Z"}},
		"from within a day":       {"2026-05-01T17:20:00Z", "2026-05-02T00:00:00Z", "UTC", []string{"2026-05-01T00:00:00Z", "2026-05-02T00:00:00Z"}},
		"to within a day":         {"2026-05-01T00:00:00Z", "2026-05-02T23:59:59Z", "UTC", []string{"2026-05-01T00:00:00Z", "2026-05-02T00:00:00Z"}},
		"within one day":          {"2026-05-01T01:00:00Z", "2026-05-01T23:00:00Z", "UTC", nil},
		"one instant":             {"2026-05-01T00:00:00Z", "2026-05-01T00:00:00Z", "UTC", nil},
		"clock set forward":       {"2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", "Europe/Berlin", []string{"2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"}},
		"clock set back":          {"2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", "Europe/Berlin", []string{"2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"}},
		"three quarters off":      {"2026-05-01T18:15:00Z", "2026-05-02T18:15:00Z", "Asia/Kathmandu", []string{"2026-05-01T18:15:00Z", "2026-05-02T18:15:00Z"}},
		"half an hour set back":   {"2026-04-04T13:00:00Z", "2026-04-05T13:30:00Z", "Australia/Lord_Howe", []string{"2026-04-04T13:00:00Z", "2026-04-05T13:30:00Z"}},
		"a date that is missing":  {"2011-12-29T10:00:00Z", "2011-12-31T10:00:00Z", "Pacific/Apia", []string{"2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"}},
		"begins before the epoch": {"1970-01-01T00:00:00Z", "1970-01-01T23:00:00Z", "Europe/Berlin", []string{"1969-12-31T23:00:00Z", "1970-01-01T23:00:00Z"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := usage.FoldDays(instant(c.from), instant(c.to), c.zone)
			require.NoError(t, err)
			var want []int64
			for _, s := range c.want {
				want = append(want, micros(s))
			}
			assert.Equal(t, want, got)
		})
	}

	from := instant("2000-01-01T00:00:00Z")
	got, err := usage.FoldDays(from, from.Add(usage.MaxDays*24*time.Hour-1), "UTC")
	require.NoError(t, err)
	assert.Len(t, got, usage.MaxDays)
	for name, c := range map[string]struct {
		from, to time.Time
		zone     string
	}{
		"too many":        {from, from.Add(usage.MaxDays * 24 * time.Hour), "UTC"},
		"turned around":   {from.Add(1), from, "UTC"},
		"unknown zone":    {from, from.Add(time.Hour), "Nope"},
		"local zone":      {from, from.Add(time.Hour), "Local"},
		"zero time":       {time.Time{}, from, "UTC"},
		"year 10000":      {from, time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), "UTC"},
		"the end of time": {from, time.Unix(1<<62, 0), "UTC"},
	} {
		_, err := usage.FoldDays(c.from, c.to, c.zone)
		assert.ErrorIs(t, err, quota.ErrInvalid, name)
	}
}

const days = 24 * time.Hour

// filled has 200 buckets over 100 days up to now, some of them refusals.
func filled(now time.Time) *sliceStore {
	rnd := rand.New(rand.NewPCG(1, 2))
	s := &sliceStore{}
	for range 2500 {
		at := now.Add(-time.Duration(rnd.Int64N(int64(100 * days)))).UTC().Format(time.RFC3339)
		subject := []quota.Subject{org, web, job}[rnd.IntN(3)]
		s.spend(subject, at, quota.Credits(1+rnd.Int64N(1e6)), 1+rnd.Int64N(3))
		if rnd.IntN(4) == 0 {
			s.refuse(subject, at, quota.ReasonLimit, 1+rnd.Int64N(3))
		}
	}
	return s
}

func TestRetainFoldsWhatIsOldAndKeepsSums(t *testing.T) {
	now := instant("2026-06-11T09:17:23Z")
	for _, zone := range []string{"Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", ""} {
		t.Run(zone, func(t *testing.T) {
			s := filled(now)
			q := query("2026-01-01T00:00:00Z", "2026-06-12T00:00:00Z", usage.Day, zone, org, web, job)
			midnight, err := quota.Period{Unit: quota.Day, Zone: zone}.WindowAt(q.From)
			require.NoError(t, err)
			q.From, q.GroupBySubject = midnight.Start, true
			before := read(t, s, q)
			rows := len(s.rows)

			r := usage.Retention{Org: "acme", Zone: zone, Keep: 40 * days, MinKeep: 35 * days, Since: instant("2026-02-01T12:00:00Z")}
			folded, err := usage.Retain(t.Context(), s, r, now)
			require.NoError(t, err)
			assert.Greater(t, folded, 1000, "more than one call's worth")
			assert.Greater(t, s.folds, 2)
			assert.Less(t, len(s.rows), rows)
			assert.Equal(t, before, read(t, s, q), "days in the organization's zone are what they were")

			// What is kept begins with the first whole day that reaches into it.
			keep, err := quota.Period{Unit: quota.Day, Zone: zone}.WindowAt(now.Add(-r.Keep))
			require.NoError(t, err)
			for _, row := range s.rows {
				assert.Equal(t, row.Start < quota.Micros(keep.Start), row.Day, "%v", time.UnixMicro(row.Start).UTC())
			}

			s.folds = 0
			folded, err = usage.Retain(t.Context(), s, r, now)
			require.NoError(t, err)
			assert.Zero(t, folded)
			assert.Equal(t, 1, s.folds, "where nothing is old it costs one call")

			// A day later one day more is old, and a zone that changed moves nothing.
			r.Zone = "Pacific/Auckland"
			_, err = usage.Retain(t.Context(), s, r, now.Add(10*days))
			require.NoError(t, err)
			after := read(t, s, q)
			for i := range before {
				assert.Equal(t, before[i].Total, after[i].Total)
			}
		})
	}
}

func TestRetainGoesOnWhereItFailed(t *testing.T) {
	now := instant("2026-06-11T09:17:23Z")
	s := filled(now)
	s.failAfter = 1
	all := []quota.Subject{org, web, job}
	before, err := usage.Totals(t.Context(), s, "acme", all, time.Time{}, time.Time{})
	require.NoError(t, err)

	r := usage.Retention{Org: "acme", Keep: 66 * days}
	folded, err := usage.Retain(t.Context(), s, r, now)
	require.ErrorIs(t, err, errFull)
	assert.Positive(t, folded)
	s.failAfter = 0
	more, err := usage.Retain(t.Context(), s, r, now)
	require.NoError(t, err)

	whole := filled(now)
	once, err := usage.Retain(t.Context(), whole, r, now)
	require.NoError(t, err)
	assert.Equal(t, once, folded+more)
	after, err := usage.Totals(t.Context(), s, "acme", all, time.Time{}, time.Time{})
	require.NoError(t, err)
	assert.Equal(t, before, after)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s = filled(now)
	folded, err = usage.Retain(ctx, s, r, now)
	assert.ErrorIs(t, err, context.Canceled)
	assert.Zero(t, folded)
	assert.Zero(t, s.folds)
}

func TestRetentionThatIsWrongIsRefused(t *testing.T) {
	now := instant("2026-06-11T09:17:23Z")
	good := usage.Retention{Org: "acme", Keep: 66 * days, Since: instant("2026-01-01T00:00:00Z")}
	for name, c := range map[string]struct {
		change func(*usage.Retention, *time.Time)
		says   string
	}{
		"no organization":                  {func(r *usage.Retention, _ *time.Time) { r.Org = "" }, "organization"},
		"no keep":                          {func(r *usage.Retention, _ *time.Time) { r.Keep = 0 }, "keep them for 1584h0m0s at least"},
		"negative keep":                    {func(r *usage.Retention, _ *time.Time) { r.Keep = -days }, "at least"},
		"less than the default":            {func(r *usage.Retention, _ *time.Time) { r.Keep = 66*days - 1 }, "at least"},
		"less than ids of the host live":   {func(r *usage.Retention, _ *time.Time) { r.MinKeep = 66*days + 1 }, "can be refunded"},
		"ids that live less than they can": {func(r *usage.Retention, _ *time.Time) { r.MinKeep = quota.MinKeep - 1 }, "MinKeep"},
		"negative ids":                     {func(r *usage.Retention, _ *time.Time) { r.MinKeep = -1 }, "MinKeep"},
		"unknown zone":                     {func(r *usage.Retention, _ *time.Time) { r.Zone = "Nope" }, "Nope"},
		"unknown zone, nothing old":        {func(r *usage.Retention, _ *time.Time) { r.Zone, r.Since = "Nope", now }, "Nope"},
		"since before 1970":                {func(r *usage.Retention, _ *time.Time) { r.Since = time.Unix(-1, 0) }, "1970"},
		"since the end of time":            {func(r *usage.Retention, _ *time.Time) { r.Since = time.Unix(1<<62, 0) }, "9899"},
		"no now":                           {func(_ *usage.Retention, n *time.Time) { *n = time.Time{} }, "now"},
		"now in year 10000":                {func(_ *usage.Retention, n *time.Time) { *n = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, "now"},
		"too many days":                    {func(_ *usage.Retention, n *time.Time) { *n = time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC) }, "40000 days"},
	} {
		t.Run(name, func(t *testing.T) {
			r, n, s := good, now, filled(now)
			c.change(&r, &n)
			folded, err := usage.Retain(t.Context(), s, r, n)
			require.ErrorIs(t, err, quota.ErrInvalid)
			assert.ErrorContains(t, err, c.says)
			assert.Zero(t, folded)
			assert.Zero(t, s.folds, "nothing was done")
		})
	}
	// Nothing can be old: no error, no call.
	for name, r := range map[string]usage.Retention{
		"a young organization": {Org: "acme", Keep: 66 * days, Since: now.Add(-65 * days)},
		"one of the future":    {Org: "acme", Keep: 66 * days, Since: now.Add(days)},
		"kept for ever":        {Org: "acme", Keep: 1<<63 - 1},
	} {
		s := filled(now)
		folded, err := usage.Retain(t.Context(), s, r, now)
		require.NoError(t, err, name)
		assert.Zero(t, folded, name)
		assert.Zero(t, s.folds, name)
	}
}
