package usage_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/usage"
)

// december is a limit of December 2026, of which used is spent.
func december(most, used quota.Credits) quota.LimitStatus {
	return quota.LimitStatus{
		Max: most, Used: used, Remaining: max(0, most-used),
		Start: instant("2026-12-01T00:00:00Z"), ResetAt: instant("2027-01-01T00:00:00Z"),
	}
}

func pace(now string, day, week quota.Credits) usage.Pace {
	return usage.Pace{Now: instant(now), Day: usage.Span{Credits: day, Over: 24 * time.Hour}, Week: usage.Span{Credits: week, Over: 168 * time.Hour}}
}

func at(t *testing.T, want string, got time.Time) {
	t.Helper()
	if want == "" {
		assert.True(t, got.IsZero(), "got %v", got)
		return
	}
	assert.Equal(t, instant(want).UTC(), got)
}

// Every figure here was worked out on paper.
func TestProjectionWorkedByHand(t *testing.T) {
	never := quota.LimitStatus{Max: 1000, Used: 400, Remaining: 600}
	held := december(1000, 400)
	held.Held, held.Remaining = 550, 50
	over := december(1000, 1000)
	over.Overage = 20
	for name, c := range map[string]struct {
		limit              quota.LimitStatus
		pace               usage.Pace
		out, byDay, byWeek string
		atEnd              quota.Credits
	}{
		// 600 left: 50 tomorrow, then 550 at 30 a day are 18 days and 8 hours.
		// By the day 600/50 = 12 days, by the week 600/30 = 20. At the end
		// 400 + 50 + 20 days of 30.
		"a day busier than the week": {december(1000, 400), pace("2026-12-11T00:00:00Z", 50, 210),
			"2026-12-30T08:00:00Z", "2026-12-23T00:00:00Z", "2026-12-31T00:00:00Z", 1050},
		// 30 left, 120 a day: 6 hours. By the week 210/7 = 30 a day: a day.
		"out within the day": {december(1000, 970), pace("2026-12-11T00:00:00Z", 120, 210),
			"2026-12-11T06:00:00Z", "2026-12-11T06:00:00Z", "2026-12-12T00:00:00Z", 970 + 120 + 600},
		// A batch of 500 yesterday and nothing else in the week: out tomorrow by
		// the day, in a week by the week.
		"a weekly batch": {december(1000, 500), pace("2026-12-11T12:00:00Z", 500, 500),
			"2026-12-12T12:00:00Z", "2026-12-12T12:00:00Z", "2026-12-18T12:00:00Z", 500 + 500 + 500*39/14},
		// Quiet since yesterday: nothing the next day, then 600/30 = 20 days,
		// which is the moment of the reset: not before it.
		"quiet since yesterday": {december(1000, 400), pace("2026-12-11T00:00:00Z", 0, 210), "", "", "2026-12-31T00:00:00Z", 1000},
		"enough":                {december(2000, 400), pace("2026-12-11T00:00:00Z", 50, 210), "", "", "", 1050},
		"idle":                  {december(1000, 400), pace("2026-12-11T00:00:00Z", 0, 0), "", "", "", 400},
		// 12 hours to go at 50 a day.
		"the last hours": {december(1000, 400), pace("2026-12-31T12:00:00Z", 50, 210), "", "", "", 425},
		"spent already":  {over, pace("2026-12-11T00:00:00Z", 50, 210), "2026-12-11T00:00:00Z", "2026-12-11T00:00:00Z", "2026-12-11T00:00:00Z", 1020 + 650},
		// 50 left beside what is held: a day of 50 to the hour.
		"held credits stand in the way": {held, pace("2026-12-11T00:00:00Z", 50, 210), "2026-12-12T00:00:00Z", "2026-12-12T00:00:00Z", "2026-12-12T16:00:00Z", 1050},
		"a limit that never resets":     {never, pace("2026-12-11T00:00:00Z", 50, 210), "2026-12-30T08:00:00Z", "2026-12-23T00:00:00Z", "2026-12-31T00:00:00Z", 0},
		"later than anybody will see":   {quota.LimitStatus{Max: math.MaxInt64, Remaining: math.MaxInt64}, pace("2026-12-11T00:00:00Z", 1, 7), "", "", "", 0},
		"amounts beyond int64 stay there": {december(math.MaxInt64, math.MaxInt64-5), pace("2026-12-11T00:00:00Z", math.MaxInt64, math.MaxInt64),
			// 5 of 9223372036854775807 a day is less than a microsecond.
			"2026-12-11T00:00:00.000001Z", "2026-12-11T00:00:00.000001Z", "2026-12-11T00:00:00.000001Z", math.MaxInt64},
		// There for 12 hours: 60 in them are 120 a day, 20 days of it are
		// 2400; 240 left are gone in 2 days.
		"younger than a day": {december(300, 60), pace("2026-12-11T00:00:00Z", 60, 60).Since(instant("2026-12-10T12:00:00Z")),
			"2026-12-13T00:00:00Z", "2026-12-13T00:00:00Z", "2026-12-13T00:00:00Z", 60 + 21*120},
		// There for 2 days, 100 in them, 60 of them today: 60 tomorrow, then 50
		// a day: 160 left are gone after 1 + 2 days.
		"younger than a week": {december(260, 100), pace("2026-12-11T00:00:00Z", 60, 100).Since(instant("2026-12-09T00:00:00Z")),
			"2026-12-14T00:00:00Z", "2026-12-13T16:00:00Z", "2026-12-14T04:48:00Z", 100 + 60 + 20*50},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := usage.Project(c.limit, c.pace)
			require.NoError(t, err)
			assert.True(t, got.Known)
			at(t, c.out, got.RunsOut)
			at(t, c.byDay, got.ByDay)
			at(t, c.byWeek, got.ByWeek)
			assert.Equal(t, c.atEnd, got.AtEnd)
		})
	}
}

func TestProjectionNeedsHistoryAndSense(t *testing.T) {
	young := pace("2026-12-11T00:00:00Z", 60, 60).Since(instant("2026-12-10T18:00:01Z"))
	got, err := usage.Project(december(1000, 400), young)
	require.NoError(t, err)
	assert.Zero(t, got, "a second short of six hours")
	got, err = usage.Project(december(1000, 400), pace("2026-12-11T00:00:00Z", 60, 60).Since(instant("2026-12-12T00:00:00Z")))
	require.NoError(t, err)
	assert.Zero(t, got, "made by a clock that is ahead")

	for name, p := range map[string]usage.Pace{
		"negative":               pace("2026-12-11T00:00:00Z", -1, 60),
		"more a day than a week": pace("2026-12-11T00:00:00Z", 61, 60),
		"a long day":             {Now: instant("2026-12-11T00:00:00Z"), Day: usage.Span{Over: 200 * time.Hour}, Week: usage.Span{Over: 168 * time.Hour}},
		"a day of no length":     {Now: instant("2026-12-11T00:00:00Z"), Day: usage.Span{Credits: 1}, Week: usage.Span{Credits: 1, Over: 168 * time.Hour}},
		"before the window":      pace("2026-11-30T23:59:59Z", 1, 2),
		"behind the window":      pace("2027-01-01T00:00:00Z", 1, 2),
	} {
		_, err := usage.Project(december(1000, 400), p)
		assert.ErrorIs(t, err, quota.ErrInvalid, name)
	}
}

// Whatever the figures, what is left lasts longer where more is left, and no
// projection lies outside its window.
func TestProjectionsAreInOrder(t *testing.T) {
	rnd := rand.New(rand.NewPCG(11, 12))
	amount := func() quota.Credits { return quota.Credits(rnd.Int64() >> rnd.IntN(63)) }
	for range 20000 {
		day, week := amount(), amount()
		p := pace("2026-12-11T07:31:12Z", min(day, week), max(day, week)).Since(instant("2026-12-11T01:00:00Z").Add(-time.Duration(rnd.Int64N(int64(300 * time.Hour)))))
		most := amount()
		var last time.Time
		for _, used := range []quota.Credits{most, most - most/3, most / 2, 0} {
			got, err := usage.Project(december(most, used), p)
			require.NoError(t, err)
			if got.RunsOut.IsZero() {
				last = instant("2027-01-01T00:00:00Z")
				continue
			}
			require.False(t, got.RunsOut.Before(p.Now) || !got.RunsOut.Before(december(1, 0).ResetAt), "%v", got)
			require.False(t, got.RunsOut.Before(last), "more is left and it runs out earlier: %v, %v", got, p)
			last = got.RunsOut
			require.GreaterOrEqual(t, got.AtEnd, used)
		}
	}
}

func TestPacesReadTheLastDayAndWeekInOneCall(t *testing.T) {
	s := &sliceStore{}
	s.spend(web, "2026-12-04T07:15:00Z", 1, 1)    // before the week
	s.spend(web, "2026-12-04T07:30:00Z", 10, 1)   // its first quarter
	s.spend(web, "2026-12-10T07:29:00Z", 100, 1)  // a day and more ago
	s.spend(web, "2026-12-10T07:30:00Z", 1000, 1) // the day's first quarter
	s.spend(web, "2026-12-11T07:31:00Z", 10000, 1)
	s.refuse(web, "2026-12-11T07:31:00Z", quota.ReasonLimit, 9)
	s.spend(org, "2026-12-11T07:31:00Z", 5, 1)
	now := instant("2026-12-11T07:36:00Z")
	got, err := usage.Paces(t.Context(), s, "acme", []quota.Subject{job, web}, now)
	require.NoError(t, err)
	day, week := 24*time.Hour+6*time.Minute, 168*time.Hour+6*time.Minute
	assert.Equal(t, []usage.Pace{
		{Now: now, Day: usage.Span{Over: day}, Week: usage.Span{Over: week}},
		{Now: now, Day: usage.Span{Credits: 11000, Over: day}, Week: usage.Span{Credits: 11110, Over: week}},
	}, got)
	assert.Len(t, s.calls, 1)
	s.spend("key:edge", "2026-12-10T07:30:00Z", 3, 1) // in the day's first quarter alone
	s.spend("key:edge", "2026-12-10T07:15:00Z", 4, 1)
	got, err = usage.Paces(t.Context(), s, "acme", []quota.Subject{"key:edge"}, now)
	require.NoError(t, err)
	assert.Equal(t, []quota.Credits{3, 7}, []quota.Credits{got[0].Day.Credits, got[0].Week.Credits})

	_, err = usage.Paces(t.Context(), s, "acme", []quota.Subject{web}, time.Time{})
	assert.ErrorIs(t, err, quota.ErrInvalid)
	_, err = usage.Paces(t.Context(), s, "acme", nil, now)
	assert.ErrorIs(t, err, quota.ErrInvalid)
	s.spend(web, "2026-12-10T12:00:00Z", math.MaxInt64, 1)
	_, err = usage.Paces(t.Context(), s, "acme", []quota.Subject{web}, now)
	assert.ErrorIs(t, err, quota.ErrOverflow)
}
