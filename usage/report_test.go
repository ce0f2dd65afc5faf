package usage_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/usage"
)

func TestThePeriodBefore(t *testing.T) {
	for name, c := range map[string]struct{ from, to, zone, before string }{
		"a month":                 {"2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z", "", "2026-02-01T00:00:00Z"},
		"a quarter":               {"2026-01-01T00:00:00Z", "2026-04-01T00:00:00Z", "UTC", "2025-10-01T00:00:00Z"},
		"a month of Berlin":       {"2026-03-31T22:00:00Z", "2026-04-30T22:00:00Z", "Europe/Berlin", "2026-02-28T23:00:00Z"},
		"the same in UTC":         {"2026-03-31T22:00:00Z", "2026-04-30T22:00:00Z", "", "2026-03-01T22:00:00Z"},
		"a week with a change":    {"2026-03-23T23:00:00Z", "2026-03-30T22:00:00Z", "Europe/Berlin", "2026-03-16T23:00:00Z"},
		"a week behind one":       {"2026-03-30T22:00:00Z", "2026-04-06T22:00:00Z", "Europe/Berlin", "2026-03-23T23:00:00Z"},
		"twelve days":             {"2026-03-01T00:00:00Z", "2026-03-13T00:00:00Z", "", "2026-02-17T00:00:00Z"},
		"a month to date":         {"2026-03-01T00:00:00Z", "2026-03-12T15:00:00Z", "", "2026-02-17T09:00:00Z"},
		"hours":                   {"2026-03-29T00:00:00Z", "2026-03-29T06:00:00Z", "Europe/Berlin", "2026-03-28T18:00:00Z"},
		"a date that was skipped": {"2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z", "Pacific/Apia", "2011-12-29T10:00:00Z"},
		"nothing before 1970":     {"1970-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "", "1970-01-01T00:00:00Z"},
	} {
		got, err := usage.Compare(instant(c.from), instant(c.to), c.zone)
		require.NoError(t, err, name)
		assert.Equal(t, c.before, got.Before.UTC().Format(time.RFC3339), name)
		assert.True(t, got.From.Equal(instant(c.from)) && got.To.Equal(instant(c.to)), name)
	}
	_, err := usage.Compare(instant("2026-03-02T00:00:00Z"), instant("2026-03-01T00:00:00Z"), "")
	assert.ErrorIs(t, err, quota.ErrInvalid)
	_, err = usage.Compare(instant("2026-03-01T00:00:00Z"), instant("2026-03-02T00:00:00Z"), "Nowhere")
	assert.ErrorIs(t, err, quota.ErrInvalid)
}

func TestRankingKeepsTheFirstAlone(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	s := &sliceStore{}
	var want []usage.Ranked
	for i := range 300 {
		one := usage.Ranked{Subject: quota.Subject(fmt.Sprint("key:k", i))}
		one.Credits, one.Requests = quota.Credits(rnd.IntN(40)), 1+int64(rnd.IntN(2)) // many alike
		one.Before = usage.Counts{Credits: quota.Credits(i), Requests: 1}
		s.spend(one.Subject, "2026-03-10T12:00:00Z", one.Credits, one.Requests)
		s.spend(one.Subject, "2026-02-20T12:00:00Z", one.Before.Credits, 1)
		s.spend(one.Subject, "2026-01-31T23:59:00Z", 1000, 1) // before both
		s.spend(one.Subject, "2026-04-01T00:00:00Z", 1000, 1) // behind both
		want = append(want, one)
	}
	s.spend("key:idle", "2026-02-20T12:00:00Z", 1000, 1) // in the period before alone
	s.spend("account:a", "2026-03-10T12:00:00Z", 1000, 1)
	slices.SortFunc(want, func(a, b usage.Ranked) int {
		switch {
		case a.Credits != b.Credits:
			return int(b.Credits - a.Credits)
		case a.Requests != b.Requests:
			return int(b.Requests - a.Requests)
		case a.Subject < b.Subject:
			return -1
		}
		return 1
	})
	c, err := usage.Compare(instant("2026-03-01T00:00:00Z"), instant("2026-04-01T00:00:00Z"), "")
	require.NoError(t, err)
	for _, n := range []int{1, 7, 300, 1000} {
		r, err := usage.NewRanking(n, c)
		require.NoError(t, err)
		s.calls = nil
		require.NoError(t, r.Read(t.Context(), s, "acme", quota.KindKey))
		assert.Equal(t, want[:min(n, 300)], r.Top())
		assert.Equal(t, 300, r.Subjects())
		assert.Len(t, s.calls, 1)
	}
	// In parts, by name, with nothing to compare with.
	r, err := usage.NewRanking(3, usage.Comparison{From: c.From, To: c.To})
	require.NoError(t, err)
	for i := 0; i < 300; i += 100 {
		var part []quota.Subject
		for _, x := range want[i : i+100] {
			part = append(part, x.Subject)
		}
		require.NoError(t, r.Read(t.Context(), s, "acme", "", part...))
	}
	for i, x := range r.Top() {
		assert.Equal(t, usage.Ranked{Subject: want[i].Subject, Counts: want[i].Counts}, x)
	}
	for _, n := range []int{0, -1, usage.MaxTop + 1} {
		_, err = usage.NewRanking(n, c)
		assert.ErrorIs(t, err, quota.ErrInvalid)
	}
	assert.ErrorIs(t, r.Read(t.Context(), s, "acme", "team"), quota.ErrInvalid)
	s.spend("key:k1", "2026-03-10T14:00:00Z", math.MaxInt64, 1)
	s.spend("key:k1", "2026-03-10T13:00:00Z", math.MaxInt64, 1)
	assert.ErrorIs(t, r.Read(t.Context(), s, "acme", quota.KindKey), quota.ErrOverflow)
}

// The figures were worked out on paper.
func TestSuggestions(t *testing.T) {
	series := func(credits ...quota.Credits) (s usage.Series) {
		for _, c := range credits {
			s.Points = append(s.Points, usage.Point{Counts: usage.Counts{Credits: c * quota.Credit, Requests: 1}})
		}
		return s
	}
	twenty := series(20, 3, 2, 1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19)
	suggest := func(s usage.Series, step usage.Step, room int) usage.Suggestion {
		got, err := usage.Suggest(s, step, room)
		require.NoError(t, err)
		return got
	}
	// 95 of 100 of 20 are 19: the greatest does not count. 19 + 25 % = 23.75.
	assert.Equal(t, usage.Suggestion{Step: usage.Day, Enough: true, Have: 20, Need: 14, Max: 24 * quota.Credit, P95: 19 * quota.Credit, Peak: 20 * quota.Credit, HeadRoom: 25},
		suggest(twenty, usage.Day, 25))
	// Without head room the greatest would have been refused something.
	got := suggest(twenty, usage.Day, 0)
	assert.Equal(t, 19*quota.Credit, got.Max)
	assert.Equal(t, 1, got.Over)
	// Weekends and what has not ended say nothing.
	for range 30 {
		twenty.Points = append(twenty.Points, usage.Point{Counts: usage.Counts{Requests: 1}})
	}
	twenty.Points = append(twenty.Points, usage.Point{Counts: usage.Counts{Credits: 9000 * quota.Credit}, Partial: true})
	twenty.Points[3].Reasons = usage.Refusals{{Reason: quota.ReasonLimit, Requests: 2}}
	got = suggest(twenty, usage.Day, 25)
	assert.Equal(t, 24*quota.Credit, got.Max)
	assert.Equal(t, 1, got.Capped, "a day on which a limit refused requests hides what was needed")
	// Two digits, upwards: 1234 + 10 % = 1357.4.
	assert.Equal(t, 1400*quota.Credit, suggest(series(1234, 1, 1), usage.Month, 10).Max)
	// Too little: what is there is said, and no limit.
	assert.Equal(t, usage.Suggestion{Step: usage.Week, Have: 5, Need: 6, P95: 5 * quota.Credit, Peak: 5 * quota.Credit, HeadRoom: 25}, suggest(series(1, 2, 3, 4, 5, 0), usage.Week, 25))
	assert.Equal(t, usage.Suggestion{Step: usage.Day, Need: 14}, suggest(usage.Series{}, usage.Day, 0))
	most := usage.Series{Points: slices.Repeat([]usage.Point{{Counts: usage.Counts{Credits: math.MaxInt64}}}, 3)}
	assert.Equal(t, quota.Credits(math.MaxInt64), suggest(most, usage.Month, 1000).Max)

	for name, c := range map[string]struct {
		step usage.Step
		room int
	}{"by the hour": {usage.Hour, 25}, "by nothing": {0, 25}, "negative": {usage.Day, -1}, "too much": {usage.Day, 1001}} {
		_, err := usage.Suggest(twenty, c.step, c.room)
		assert.ErrorIs(t, err, quota.ErrInvalid, name)
	}
}

func TestLinesBesideTheLimit(t *testing.T) {
	s := &sliceStore{}
	s.spend(web, "2026-03-05T12:00:00Z", 10, 1) // in the month, before the range
	s.spend(web, "2026-03-30T09:00:00Z", 20, 1)
	s.spend(web, "2026-03-30T21:00:00Z", 5, 1)
	s.spend(web, "2026-03-31T12:00:00Z", 30, 1)
	s.spend(web, "2026-04-01T00:00:00Z", 7, 1)
	s.spend(web, "2026-04-03T00:00:00Z", 2, 1) // behind the range
	q := query("2026-03-30T00:00:00Z", "2026-04-02T00:00:00Z", usage.Day, "UTC", web)
	points := read(t, s, q)[0].Points
	monthly := usage.Limited{
		Limit:  quota.Limit{Max: 100, Period: quota.Period{Unit: quota.Month}},
		Status: quota.LimitStatus{Max: 150, Start: instant("2026-04-01T00:00:00Z"), ResetAt: instant("2026-05-01T00:00:00Z")},
	}
	// Noon to noon: the day's first half belongs to the window before.
	daily := usage.Limited{
		Limit:  quota.Limit{Max: 40, Period: quota.Period{Unit: quota.Day, Anchor: instant("2026-01-01T12:00:00Z")}},
		Status: quota.LimitStatus{Max: 40, Start: instant("2026-04-03T12:00:00Z")},
	}
	hourly := usage.Limited{Limit: quota.Limit{Max: 30, Period: quota.Period{Unit: quota.Hour}}}
	// 60 are used now; 2 and 7 of them came later, and it was set when 53 of
	// the 65 before it were still to come: what was before it is not its own.
	never := usage.Limited{Limit: quota.Limit{Max: 80}, Status: quota.LimitStatus{Max: 80, Used: 55, Overage: 5}}
	s.calls = nil
	got, err := usage.Lines(t.Context(), s, "acme", web, []usage.Limited{monthly, daily, hourly, never}, points, instant("2026-04-03T13:00:00Z"))
	require.NoError(t, err)
	assert.Equal(t, [][]usage.LinePoint{
		{{Reached: 10 + 25, Max: 100}, {Reached: 10 + 25 + 30, Max: 100}, {Reached: 7, Max: 150}},
		{{Reached: 20, Max: 40}, {Reached: 30, Max: 40}, {Reached: 37, Max: 40}},
		{{Reached: 20, Max: 30}, {Reached: 30, Max: 30}, {Reached: 7, Max: 30}},
		{{Reached: 60 - 2 - 7 - 30, Max: 80}, {Reached: 60 - 2 - 7, Max: 80}, {Reached: 60 - 2, Max: 80}},
	}, got)
	assert.Len(t, s.calls, 1)

	got, err = usage.Lines(t.Context(), s, "acme", web, nil, points, instant("2026-04-03T13:00:00Z"))
	require.NoError(t, err)
	assert.Empty(t, got)
	q.From, q.To, q.Step = instant("2000-01-01T00:00:00Z"), instant("2020-01-01T00:00:00Z"), usage.Month
	_, err = usage.Lines(t.Context(), s, "acme", web, []usage.Limited{hourly}, read(t, s, q)[0].Points, instant("2026-04-03T13:00:00Z"))
	assert.ErrorIs(t, err, quota.ErrInvalid, "175,320 hours")
	_, err = usage.Lines(t.Context(), s, "acme", "web", []usage.Limited{hourly}, points, instant("2026-04-03T13:00:00Z"))
	assert.ErrorIs(t, err, quota.ErrInvalid)
}
