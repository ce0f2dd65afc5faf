package usage_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/usage"
)

func query(from, to string, step usage.Step, zone string, subjects ...quota.Subject) usage.Query {
	return usage.Query{Org: "acme", Subjects: subjects, From: instant(from), To: instant(to), Step: step, Zone: zone}
}

func read(t *testing.T, s usage.Store, q usage.Query) []usage.Series {
	t.Helper()
	out, err := usage.Read(t.Context(), s, q)
	require.NoError(t, err)
	return out
}

// starts are the starts of the points and the end of the last.
func starts(s usage.Series) []string {
	var out []string
	for _, p := range s.Points {
		out = append(out, p.Start.Format(time.RFC3339))
	}
	return append(out, s.Points[len(s.Points)-1].End.Format(time.RFC3339))
}

func TestSeriesTileTheRangeOnTheZonesCalendar(t *testing.T) {
	week := func(q usage.Query, start string) usage.Query { q.WeekStart = start; return q }
	for name, c := range map[string]struct {
		q    usage.Query
		want []string
	}{
		"quarters": {query("2026-05-01T10:00:00Z", "2026-05-01T10:45:00Z", usage.QuarterHour, "Asia/Tokyo", org),
			[]string{"2026-05-01T19:00:00+09:00", "2026-05-01T19:15:00+09:00", "2026-05-01T19:30:00+09:00", "2026-05-01T19:45:00+09:00"}},
		"hours in UTC where no zone is given": {query("2026-05-01T10:00:00Z", "2026-05-01T12:00:00Z", usage.Hour, "", org),
			[]string{"2026-05-01T10:00:00Z", "2026-05-01T11:00:00Z", "2026-05-01T12:00:00Z"}},
		"hours of Kathmandu begin at a quarter past": {query("2026-05-01T10:15:00Z", "2026-05-01T12:15:00Z", usage.Hour, "Asia/Kathmandu", org),
			[]string{"2026-05-01T16:00:00+05:45", "2026-05-01T17:00:00+05:45", "2026-05-01T18:00:00+05:45"}},
		"hours of Lord Howe are cut by its half hour": {query("2026-10-03T14:30:00Z", "2026-10-03T16:00:00Z", usage.Hour, "Australia/Lord_Howe", org),
			[]string{"2026-10-04T01:00:00+10:30", "2026-10-04T02:30:00+11:00", "2026-10-04T03:00:00+11:00"}},
		"a day of 23 hours": {query("2026-03-27T23:00:00Z", "2026-03-29T22:00:00Z", usage.Day, "Europe/Berlin", org),
			[]string{"2026-03-28T00:00:00+01:00", "2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00"}},
		"a day of 25 hours": {query("2026-10-24T22:00:00Z", "2026-10-26T23:00:00Z", usage.Day, "Europe/Berlin", org),
			[]string{"2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00", "2026-10-27T00:00:00+01:00"}},
		"a day of 24.5 hours": {query("2026-04-04T13:00:00Z", "2026-04-06T13:30:00Z", usage.Day, "Australia/Lord_Howe", org),
			[]string{"2026-04-05T00:00:00+11:00", "2026-04-06T00:00:00+10:30", "2026-04-07T00:00:00+10:30"}},
		"days of Kathmandu": {query("2026-05-01T18:15:00Z", "2026-05-03T18:15:00Z", usage.Day, "Asia/Kathmandu", org),
			[]string{"2026-05-02T00:00:00+05:45", "2026-05-03T00:00:00+05:45", "2026-05-04T00:00:00+05:45"}},
		"a midnight that is missing": {query("2023-09-02T04:00:00Z", "2023-09-04T03:00:00Z", usage.Day, "America/Santiago", org),
			[]string{"2023-09-02T00:00:00-04:00", "2023-09-03T01:00:00-03:00", "2023-09-04T00:00:00-03:00"}},
		"a date that is missing": {query("2011-12-29T10:00:00Z", "2011-12-31T10:00:00Z", usage.Day, "Pacific/Apia", org),
			[]string{"2011-12-29T00:00:00-10:00", "2011-12-31T00:00:00+14:00", "2012-01-01T00:00:00+14:00"}},
		"weeks from Monday": {query("2026-05-04T00:00:00Z", "2026-05-18T00:00:00Z", usage.Week, "UTC", org),
			[]string{"2026-05-04T00:00:00Z", "2026-05-11T00:00:00Z", "2026-05-18T00:00:00Z"}},
		"weeks from Sunday": {week(query("2026-05-03T04:00:00Z", "2026-05-17T04:00:00Z", usage.Week, "America/New_York", org), "sunday"),
			[]string{"2026-05-03T00:00:00-04:00", "2026-05-10T00:00:00-04:00", "2026-05-17T00:00:00-04:00"}},
		"months": {query("2025-12-31T23:00:00Z", "2026-03-31T22:00:00Z", usage.Month, "Europe/Berlin", org),
			[]string{"2026-01-01T00:00:00+01:00", "2026-02-01T00:00:00+01:00", "2026-03-01T00:00:00+01:00", "2026-04-01T00:00:00+02:00"}},
		"an offset with seconds is written in UTC": {query("1971-06-01T00:44:30Z", "1971-06-02T00:44:30Z", usage.Day, "Africa/Monrovia", org),
			[]string{"1971-06-01T00:30:00Z", "1971-06-01T00:44:30Z", "1971-06-02T00:44:30Z", "1971-06-02T00:45:00Z"}},
		"the last day there is": {query("9899-12-30T00:00:00Z", "9900-01-01T00:00:00Z", usage.Day, "UTC", org),
			[]string{"9899-12-30T00:00:00Z", "9899-12-31T00:00:00Z", "9900-01-01T00:00:00Z"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &sliceStore{}
			at := c.q.From.UTC().Format(time.RFC3339)
			s.spend(org, at, 3, 2)
			out := read(t, s, c.q)
			require.Len(t, out, 1)
			assert.Equal(t, c.want, starts(out[0]))
			for i, p := range out[0].Points {
				want := usage.Counts{}
				if i == 0 {
					want = usage.Counts{Credits: 3, Requests: 2}
				}
				assert.Equal(t, want, p.Counts, "point %d", i)
				if name != "an offset with seconds is written in UTC" {
					assert.False(t, p.Partial, "point %d", i)
				}
				assert.False(t, p.Coarse, "point %d", i)
			}
			assert.Equal(t, usage.Counts{Credits: 3, Requests: 2}, out[0].Total)
		})
	}
}

func TestRangesAreWidenedToBucketsAndCutPointsAreMarked(t *testing.T) {
	s := &sliceStore{}
	s.spend(org, "2026-05-01T09:45:00Z", 1, 1) // before
	s.spend(org, "2026-05-01T10:00:00Z", 10, 1)
	s.spend(org, "2026-05-03T06:15:00Z", 100, 1)
	s.spend(org, "2026-05-03T06:30:00Z", 1000, 1) // after

	q := query("2026-05-01T10:14:59.999999999Z", "2026-05-03T06:15:00.000000001Z", usage.Day, "UTC", org)
	out := read(t, s, q)[0]
	assert.Equal(t, []string{"2026-05-01T10:00:00Z", "2026-05-02T00:00:00Z", "2026-05-03T00:00:00Z", "2026-05-03T06:30:00Z"}, starts(out))
	assert.Equal(t, []bool{true, false, true}, []bool{out.Points[0].Partial, out.Points[1].Partial, out.Points[2].Partial})
	assert.Equal(t, quota.Credits(10), out.Points[0].Credits)
	assert.Equal(t, quota.Credits(100), out.Points[2].Credits)
	assert.Equal(t, usage.Counts{Credits: 110, Requests: 2}, out.Total)

	q.To = instant("2026-05-03T06:15:00Z")
	assert.Equal(t, quota.Credits(10), read(t, s, q)[0].Total.Credits, "To itself is not in the range")

	q.From, q.To = instant("2026-05-01T10:01:00Z"), instant("2026-05-01T10:02:00Z")
	out = read(t, s, q)[0]
	require.Len(t, out.Points, 1)
	assert.True(t, out.Points[0].Partial)
	assert.Equal(t, quota.Credits(10), out.Points[0].Credits, "the bucket that the minute lies in, whole")
}

func TestGroupingAndReasons(t *testing.T) {
	s := &sliceStore{}
	s.spend(web, "2026-05-01T10:00:00Z", 5, 2)
	s.spend(web, "2026-05-01T23:45:00Z", 6, 1)
	s.spend(job, "2026-05-02T00:00:00Z", 7, 3)
	s.refuse(web, "2026-05-01T10:00:00Z", quota.ReasonRate, 4)
	s.refuse(web, "2026-05-01T11:00:00Z", quota.ReasonLimit, 1)
	s.refuse(job, "2026-05-01T11:15:00Z", quota.ReasonLimit, 2)
	s.refuse(job, "2026-05-02T11:15:00Z", "maintenance", 9)
	s.spend(org, "2026-05-01T10:00:00Z", 1000, 1000) // not asked for

	q := query("2026-05-01T00:00:00Z", "2026-05-03T00:00:00Z", usage.Day, "UTC", job, "key:never", web)
	sum := read(t, s, q)
	require.Len(t, sum, 1)
	assert.Empty(t, sum[0].Subject)
	assert.Equal(t, usage.Counts{Credits: 11, Requests: 3, Refused: 7, Reasons: usage.Refusals{{"limit", 3}, {"rate", 4}}}, sum[0].Points[0].Counts)
	assert.Equal(t, usage.Counts{Credits: 7, Requests: 3, Refused: 9, Reasons: usage.Refusals{{"maintenance", 9}}}, sum[0].Points[1].Counts)
	assert.Equal(t, usage.Counts{Credits: 18, Requests: 6, Refused: 16, Reasons: usage.Refusals{{"limit", 3}, {"maintenance", 9}, {"rate", 4}}}, sum[0].Total)
	assert.EqualValues(t, 3, sum[0].Total.Reasons.Of(quota.ReasonLimit))
	assert.Zero(t, sum[0].Total.Reasons.Of(quota.ReasonScope))

	q.GroupBySubject = true
	by := read(t, s, q)
	require.Len(t, by, 3)
	assert.Equal(t, []quota.Subject{job, "key:never", web}, []quota.Subject{by[0].Subject, by[1].Subject, by[2].Subject})
	assert.Equal(t, usage.Counts{}, by[1].Total)
	assert.Len(t, by[1].Points, 2)
	assert.Equal(t, quota.Credits(0), by[0].Points[0].Credits)
	assert.Equal(t, quota.Credits(7), by[0].Points[1].Credits)
	assert.Equal(t, quota.Credits(11), by[2].Points[0].Credits)

	alone := query("2026-05-01T00:00:00Z", "2026-05-03T00:00:00Z", usage.Day, "UTC", web)
	assert.Equal(t, web, read(t, s, alone)[0].Subject, "a sum of one is that one's")
}

func TestEachGivesWhatReadGivesOneAfterAnother(t *testing.T) {
	s := &sliceStore{}
	s.spend(web, "2026-05-01T10:00:00Z", 5, 2)
	s.spend(job, "2026-05-01T10:00:00Z", 7, 2)
	q := query("2026-05-01T00:00:00Z", "2026-05-02T00:00:00Z", usage.Hour, "UTC", web, job, "key:never")
	for _, grouped := range []bool{false, true} {
		q.GroupBySubject = grouped
		want := read(t, s, q)
		var got []usage.Series
		for one, err := range usage.Each(t.Context(), s, q) {
			require.NoError(t, err)
			got = append(got, one)
		}
		assert.Equal(t, want, got, "grouped %v", grouped)
	}

	s.calls = nil
	for one, err := range usage.Each(t.Context(), s, q) {
		require.NoError(t, err)
		assert.Equal(t, web, one.Subject)
		break
	}
	assert.Equal(t, [][]quota.Subject{{web, job, "key:never"}}, s.calls, "one call, however many subjects")

	// Every subject of a kind, with those alone that spent.
	s.spend(org, "2026-05-01T10:00:00Z", 12, 4)
	kind := q
	kind.Subjects, kind.Kind, kind.GroupBySubject = nil, quota.KindKey, true
	got := map[quota.Subject]quota.Credits{}
	for one, err := range usage.Each(t.Context(), s, kind) {
		require.NoError(t, err)
		got[one.Subject] += one.Total.Credits
		assert.Len(t, one.Points, 24)
	}
	assert.Equal(t, map[quota.Subject]quota.Credits{web: 5, job: 7}, got)
	_, err := usage.Read(t.Context(), s, kind)
	require.ErrorIs(t, err, quota.ErrInvalid, "nobody knows how many there are")
	kind.GroupBySubject = false
	assert.Equal(t, quota.Credits(12), read(t, s, kind)[0].Total.Credits)

	// More points in all than Read holds, no more than it in one series.
	q = query("2025-01-01T00:00:00Z", "2027-01-01T00:00:00Z", usage.QuarterHour, "UTC", web, job)
	q.GroupBySubject = true
	_, err = usage.Read(t.Context(), s, q)
	require.ErrorIs(t, err, quota.ErrInvalid)
	n := 0
	for one, err := range usage.Each(t.Context(), s, q) {
		require.NoError(t, err)
		n += len(one.Points)
	}
	assert.Equal(t, 2*2*365*96, n)
}

func TestFoldedDaysAreMarkedWhereTheyReachBeyondTheirPoint(t *testing.T) {
	const berlin = "Europe/Berlin"
	day := func(start string) usage.Row {
		return usage.Row{Subject: org, Day: true, Start: micros(start), Credits: 7, Requests: 1}
	}
	for name, c := range map[string]struct {
		row    usage.Row
		from   string
		to     string
		step   usage.Step
		zone   string
		coarse bool
	}{
		"its own day":                  {day("2026-05-01T22:00:00Z"), "2026-04-30T22:00:00Z", "2026-05-05T22:00:00Z", usage.Day, berlin, false},
		"its own day of 25 hours":      {day("2026-10-24T22:00:00Z"), "2026-10-23T22:00:00Z", "2026-10-26T23:00:00Z", usage.Day, berlin, false},
		"an hour of it":                {day("2026-05-01T22:00:00Z"), "2026-05-01T22:00:00Z", "2026-05-02T22:00:00Z", usage.Hour, berlin, true},
		"a quarter of an hour of it":   {day("2026-05-01T22:00:00Z"), "2026-05-01T22:00:00Z", "2026-05-02T22:00:00Z", usage.QuarterHour, berlin, true},
		"another zone's day":           {day("2026-05-01T22:00:00Z"), "2026-05-01T00:00:00Z", "2026-05-05T00:00:00Z", usage.Day, "UTC", true},
		"the middle of another's week": {day("2026-05-05T22:00:00Z"), "2026-05-04T00:00:00Z", "2026-05-18T00:00:00Z", usage.Week, "UTC", false},
		"the end of another's week":    {day("2026-05-10T22:00:00Z"), "2026-05-04T00:00:00Z", "2026-05-18T00:00:00Z", usage.Week, "UTC", true},
		"the end of its own month":     {day("2026-05-30T22:00:00Z"), "2026-04-30T22:00:00Z", "2026-06-30T22:00:00Z", usage.Month, berlin, false},
		"a day that To cuts":           {day("2026-05-01T22:00:00Z"), "2026-04-30T22:00:00Z", "2026-05-02T10:00:00Z", usage.Day, berlin, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := &sliceStore{rows: []usage.Row{c.row}}
			s.spend(org, c.from, 1, 1)
			out := read(t, s, query(c.from, c.to, c.step, c.zone, org))[0]
			assert.Equal(t, usage.Counts{Credits: 8, Requests: 2}, out.Total, "no credit in the range is dropped")
			for _, p := range out.Points {
				at := time.UnixMicro(c.row.Start)
				here := !at.Before(p.Start) && at.Before(p.End)
				assert.Equal(t, here && c.coarse, p.Coarse, "%v", p.Start)
				if here {
					assert.GreaterOrEqual(t, p.Credits, quota.Credits(7))
				}
			}
		})
	}
}

func TestSumsThatLeaveInt64AreErrors(t *testing.T) {
	q := query("2026-05-01T00:00:00Z", "2026-05-03T00:00:00Z", usage.Day, "UTC", org)
	for name, rows := range map[string][]usage.Row{
		"credits of a point": {{Credits: quota.MaxCredits, Start: micros("2026-05-01T00:00:00Z")}, {Credits: 1, Start: micros("2026-05-01T00:15:00Z")}},
		"credits in total":   {{Credits: quota.MaxCredits, Start: micros("2026-05-01T00:00:00Z")}, {Credits: 1, Start: micros("2026-05-02T00:15:00Z")}},
		"requests":           {{Requests: math.MaxInt64, Start: micros("2026-05-01T00:00:00Z")}, {Requests: 1, Start: micros("2026-05-02T00:15:00Z")}},
		"refused": {{Requests: math.MaxInt64, Reason: "limit", Start: micros("2026-05-01T00:00:00Z")},
			{Requests: 1, Reason: "rate", Start: micros("2026-05-02T00:15:00Z")}},
	} {
		t.Run(name, func(t *testing.T) {
			for i := range rows {
				rows[i].Subject = org
			}
			s := &sliceStore{rows: rows}
			out, err := usage.Read(t.Context(), s, q)
			assert.ErrorIs(t, err, quota.ErrOverflow)
			assert.Nil(t, out)
			totals, err := usage.Totals(t.Context(), s, "acme", []quota.Subject{org}, q.From, q.To)
			assert.ErrorIs(t, err, quota.ErrOverflow)
			assert.Nil(t, totals)

			s.rows = rows[:1] // at the bound itself
			_, err = usage.Read(t.Context(), s, q)
			assert.NoError(t, err)
		})
	}
}

func TestHostileQueriesAreRefused(t *testing.T) {
	good := query("2026-05-01T00:00:00Z", "2026-05-03T00:00:00Z", usage.Day, "Europe/Berlin", org)
	require.NoError(t, good.Validate())
	secret := quota.Subject("acme_live_secret")
	many := func(n int) []quota.Subject {
		out := make([]quota.Subject, n)
		for i := range out {
			out[i] = quota.NewSubject(quota.KindKey, fmt.Sprint(i))
		}
		return out
	}
	for name, c := range map[string]struct {
		change func(*usage.Query)
		says   string
	}{
		"no organization":       {func(q *usage.Query) { q.Org = "" }, "organization"},
		"a huge organization":   {func(q *usage.Query) { q.Org = string(make([]byte, 4096)) }, "organization"},
		"no subject":            {func(q *usage.Query) { q.Subjects = nil }, "0 subjects"},
		"too many subjects":     {func(q *usage.Query) { q.Subjects = many(usage.MaxSubjects + 1) }, "10001 subjects"},
		"what is no subject":    {func(q *usage.Query) { q.Subjects = []quota.Subject{org, secret} }, "subject 2"},
		"a subject without id":  {func(q *usage.Query) { q.Subjects = []quota.Subject{"key:"} }, "no id"},
		"a huge subject":        {func(q *usage.Query) { q.Subjects = []quota.Subject{"key:" + quota.Subject(make([]byte, 4096))} }, "bytes"},
		"a subject twice":       {func(q *usage.Query) { q.Subjects = []quota.Subject{org, web, org} }, "subject 3 is the same as subject 1"},
		"From after To":         {func(q *usage.Query) { q.From, q.To = q.To, q.From }, "not before"},
		"an empty range":        {func(q *usage.Query) { q.To = q.From }, "not before"},
		"the zero From":         {func(q *usage.Query) { q.From = time.Time{} }, "From lies outside"},
		"before 1970":           {func(q *usage.Query) { q.From = instant("1969-12-31T23:59:59.999999999Z") }, "From lies outside"},
		"year 10000":            {func(q *usage.Query) { q.To = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, "To lies outside"},
		"the end of time":       {func(q *usage.Query) { q.From, q.To = time.Unix(1<<62, 0), time.Unix(1<<62, 1) }, "outside"},
		"the zero To":           {func(q *usage.Query) { q.To = time.Time{} }, "To lies outside"},
		"no step":               {func(q *usage.Query) { q.Step = 0 }, "step"},
		"what is no step":       {func(q *usage.Query) { q.Step = 200 }, "step"},
		"an unknown zone":       {func(q *usage.Query) { q.Zone = "Europe/Atlantis" }, "Europe/Atlantis"},
		"the local zone":        {func(q *usage.Query) { q.Zone = "Local" }, "IANA"},
		"a path as zone":        {func(q *usage.Query) { q.Zone = "../../etc/passwd" }, "IANA"},
		"an unknown zone, raw":  {func(q *usage.Query) { q.Step, q.Zone = usage.QuarterHour, "Nope" }, "Nope"},
		"no weekday":            {func(q *usage.Query) { q.Step, q.WeekStart = usage.Week, "Mon" }, "monday to sunday"},
		"a week start with day": {func(q *usage.Query) { q.WeekStart = "monday" }, "leave it out"},
		"too many points": {func(q *usage.Query) {
			q.Step, q.From, q.To = usage.Hour, time.Unix(0, 0), time.Date(9900, 1, 1, 0, 0, 0, 0, time.UTC)
		}, "more than 100000 points"},
		"too many points in all": {func(q *usage.Query) {
			q.Step, q.GroupBySubject, q.Subjects = usage.QuarterHour, true, many(1000)
		}, "192 points for each of 1000 subjects"},
	} {
		t.Run(name, func(t *testing.T) {
			q := good
			c.change(&q)
			s := &sliceStore{}
			err := q.Validate()
			require.ErrorIs(t, err, quota.ErrInvalid)
			assert.ErrorContains(t, err, c.says)
			assert.NotContains(t, err.Error(), string(secret))
			assert.Less(t, len(err.Error()), 500)

			out, readErr := usage.Read(t.Context(), s, q)
			assert.Nil(t, out)
			assert.EqualError(t, readErr, err.Error())
			assert.Empty(t, s.calls, "the store was not asked")
			if name == "too many points in all" {
				return // what Each is for
			}
			n := 0
			for _, err := range usage.Each(t.Context(), s, q) {
				assert.ErrorIs(t, err, quota.ErrInvalid)
				n++
			}
			assert.Equal(t, 1, n)
			assert.Empty(t, s.calls)
		})
	}
	most := good
	most.Step, most.From = usage.QuarterHour, instant("2026-05-01T00:00:00Z")
	most.To = most.From.Add(usage.MaxPoints * quota.BucketWidth)
	assert.NoError(t, most.Validate())
	most.To = most.To.Add(1)
	assert.ErrorIs(t, most.Validate(), quota.ErrInvalid)
}

func TestReasonsWithoutEndAreRefused(t *testing.T) {
	q := query("2026-05-01T00:00:00Z", "2026-05-13T00:00:00Z", usage.QuarterHour, "UTC", org)
	_, err := usage.Read(t.Context(), &inventive{reasons: usage.MaxReasons + 1, points: 1}, q)
	require.ErrorIs(t, err, quota.ErrInvalid)
	assert.ErrorContains(t, err, "more than 1000 reasons")

	_, err = usage.Read(t.Context(), &inventive{reasons: usage.MaxReasons, points: 1100}, q)
	require.ErrorIs(t, err, quota.ErrInvalid)
	assert.ErrorContains(t, err, "by point and reason")

	_, err = usage.Read(t.Context(), &inventive{reasons: usage.MaxReasons, points: 900}, q)
	assert.NoError(t, err)
}

// inventive has so many reasons in each of so many buckets.
type inventive struct {
	sliceStore
	reasons, points int
}

func (s *inventive) Usage(_ context.Context, r usage.Range, fn func(usage.Row) error) error {
	for i := range s.reasons {
		reason := quota.Reason(fmt.Sprintf("r_%04d", i))
		for j := range s.points {
			at := r.From + int64(j)*quota.BucketWidth.Microseconds()
			if err := fn(usage.Row{Subject: r.Subjects[0], Start: at, Reason: reason, Requests: 1}); err != nil {
				return err
			}
		}
	}
	return nil
}

// broken is a backend with a fault.
type broken struct {
	sliceStore
	row usage.Row
	err error
}

func (b *broken) Usage(_ context.Context, _ usage.Range, fn func(usage.Row) error) error {
	if b.err != nil {
		return b.err
	}
	return fn(b.row)
}

// disorder gives a row of each of these, whatever was asked for.
type disorder []quota.Subject

func (d disorder) Fold(context.Context, string, []int64, int) (int, error) { return 0, nil }

func (d disorder) Usage(_ context.Context, r usage.Range, fn func(usage.Row) error) error {
	for _, s := range d {
		if err := fn(usage.Row{Subject: s, Start: r.From}); err != nil {
			return err
		}
	}
	return nil
}

func TestWhatTheStoreDoesWrongIsAnError(t *testing.T) {
	q := query("2026-05-01T00:00:00Z", "2026-05-02T00:00:00Z", usage.Day, "UTC", web, job)
	q.GroupBySubject = true
	at := micros("2026-05-01T12:00:00Z")
	away := errors.New("connection lost")
	for name, s := range map[string]*broken{
		"a foreign subject": {row: usage.Row{Subject: org, Start: at}},
		"too early":         {row: usage.Row{Subject: web, Start: micros("2026-04-30T23:45:00Z")}},
		"too late":          {row: usage.Row{Subject: web, Start: micros("2026-05-02T00:00:00Z")}},
		"away":              {err: away},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := usage.Read(t.Context(), s, q)
			require.Error(t, err)
			if s.err != nil {
				assert.ErrorIs(t, err, away)
			}
			_, err = usage.Totals(t.Context(), s, "acme", q.Subjects, q.From, q.To)
			assert.Error(t, err)
			for _, err = range usage.Each(t.Context(), s, q) {
				assert.Error(t, err)
			}
		})
	}
	// Each adds up one subject at a time: what comes back to one that is done is
	// an error, after those that were whole.
	for _, back := range [][]quota.Subject{{job, web}, {web, job, web}} {
		var whole []quota.Subject
		var last error
		for one, err := range usage.Each(t.Context(), disorder(back), q) {
			if last = err; err == nil {
				whole = append(whole, one.Subject)
			}
		}
		assert.Error(t, last)
		assert.Equal(t, []quota.Subject{web}, whole)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := usage.Read(ctx, &sliceStore{}, q)
	assert.ErrorIs(t, err, context.Canceled)
}

func TestTotals(t *testing.T) {
	s := &sliceStore{}
	s.spend(web, "1970-01-01T00:00:00Z", 1, 1)
	s.spend(web, "2026-04-30T21:45:00Z", 10, 1)
	s.spend(web, "2026-04-30T22:00:00Z", 100, 1)
	s.refuse(web, "2026-05-30T22:00:00Z", quota.ReasonLimit, 4)
	s.spend(web, "2026-05-31T21:45:00Z", 1000, 1)
	s.spend(web, "2026-05-31T22:00:00Z", 10000, 1)
	s.spend(web, "9899-12-31T23:45:00Z", 100000, 1)
	s.spend(job, "2026-05-15T00:00:00Z", 7, 7)

	w, err := quota.Period{Unit: quota.Month, Zone: "Europe/Berlin"}.WindowAt(instant("2026-05-10T00:00:00Z"))
	require.NoError(t, err)
	got, err := usage.Totals(t.Context(), s, "acme", []quota.Subject{job, web, "key:never"}, w.Start, w.End)
	require.NoError(t, err)
	assert.Equal(t, []usage.Total{
		{Subject: job, Counts: usage.Counts{Credits: 7, Requests: 7}},
		{Subject: web, Counts: usage.Counts{Credits: 1100, Requests: 2, Refused: 4, Reasons: usage.Refusals{{"limit", 4}}}},
		{Subject: "key:never"},
	}, got)

	got, err = usage.Totals(t.Context(), s, "acme", []quota.Subject{web}, time.Time{}, time.Time{})
	require.NoError(t, err)
	assert.Equal(t, quota.Credits(111111), got[0].Credits, "the window of a limit that never resets")

	for name, c := range map[string]struct {
		subjects []quota.Subject
		from, to time.Time
	}{
		"no subject":    {nil, w.Start, w.End},
		"twice":         {[]quota.Subject{web, web}, w.Start, w.End},
		"turned around": {[]quota.Subject{web}, w.End, w.Start},
		"too early":     {[]quota.Subject{web}, time.Unix(-1, 0), w.Start},
		"too late":      {[]quota.Subject{web}, time.Time{}, time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		_, err := usage.Totals(t.Context(), s, "acme", c.subjects, c.from, c.to)
		assert.ErrorIs(t, err, quota.ErrInvalid, name)
	}
}

var someZones = []string{
	"", "UTC", "Europe/Berlin", "America/New_York", "America/St_Johns", "Asia/Kathmandu", "Australia/Lord_Howe",
	"Pacific/Apia", "Pacific/Chatham", "America/Santiago", "Africa/Cairo", "Asia/Kolkata", "Africa/Casablanca", "America/Havana",
}

// Whatever the step, the zone and the range: points tile it, and their sum is
// that of the buckets that start in it.
func TestSumOverAnyStepAndZoneIsTheSumOfTheBuckets(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2026, 7))
	begin := instant("2009-01-01T00:00:00Z").Unix() / 900
	for range 150 {
		from, length := begin+rnd.Int64N(20*365*96), 1+rnd.Int64N(400*96)
		s := &sliceStore{}
		var want usage.Counts
		for range 60 {
			at := from - 200 + rnd.Int64N(length+400)
			row := usage.Row{Subject: []quota.Subject{web, job}[rnd.IntN(2)], Start: at * 900e6, Requests: rnd.Int64N(5), Day: rnd.IntN(5) == 0}
			if rnd.IntN(3) == 0 {
				row.Reason = quota.ReasonLimit
			} else {
				row.Credits = quota.Credits(rnd.Int64N(1e9))
			}
			s.add(row)
			if at >= from && at < from+length {
				want.Credits += row.Credits
				if row.Reason == "" {
					want.Requests += row.Requests
				} else {
					want.Refused += row.Requests
				}
			}
		}
		q := usage.Query{
			Org: "acme", Subjects: []quota.Subject{web, job}, GroupBySubject: rnd.IntN(2) == 0,
			From: time.Unix(from*900+rnd.Int64N(900), 0), To: time.Unix((from+length)*900-rnd.Int64N(900), 0),
			Step: usage.Step(1 + rnd.IntN(5)), Zone: someZones[rnd.IntN(len(someZones))],
		}
		if !q.From.Before(q.To) {
			continue
		}
		var points, totals usage.Counts
		for _, one := range read(t, s, q) {
			at := time.Unix(from*900, 0)
			for _, p := range one.Points {
				require.True(t, p.Start.Equal(at) && p.End.After(at), "%+v: gap or overlap at %v", q, p.Start)
				at = p.End
				points.Credits, points.Requests, points.Refused = points.Credits+p.Credits, points.Requests+p.Requests, points.Refused+p.Refused
			}
			require.True(t, at.Equal(time.Unix((from+length)*900, 0)), "%+v ends at %v", q, at)
			totals.Credits, totals.Requests, totals.Refused = totals.Credits+one.Total.Credits, totals.Requests+one.Total.Requests, totals.Refused+one.Total.Refused
		}
		require.Equal(t, want, points, "%+v", q)
		require.Equal(t, want, totals, "%+v", q)
	}
}

func TestStepsAsText(t *testing.T) {
	for step, name := range map[usage.Step]string{
		usage.QuarterHour: "quarter_hour", usage.Hour: "hour", usage.Day: "day", usage.Week: "week", usage.Month: "month",
	} {
		assert.Equal(t, name, step.String())
		text, err := step.MarshalText()
		require.NoError(t, err)
		var back usage.Step
		require.NoError(t, back.UnmarshalText(text))
		assert.Equal(t, step, back)
	}
	for _, bad := range []string{"", "Day", "days", "year", "\x00", "day "} {
		_, err := usage.ParseStep(bad)
		assert.ErrorIs(t, err, quota.ErrInvalid, "%q", bad)
		step := usage.Week
		assert.ErrorIs(t, step.UnmarshalText([]byte(bad)), quota.ErrInvalid)
		assert.Equal(t, usage.Week, step)
	}
	assert.Equal(t, "Step(0)", usage.Step(0).String())
	_, err := usage.Step(6).MarshalText()
	assert.ErrorIs(t, err, quota.ErrInvalid)
}

func TestParseSeries(t *testing.T) {
	for series, want := range map[string]usage.Row{
		quota.SeriesUsage:                              {},
		quota.ReasonLimit.Series():                     {Reason: quota.ReasonLimit},
		quota.SeriesFolded:                             {Day: true},
		quota.SeriesFolded + quota.ReasonRate.Series(): {Day: true, Reason: quota.ReasonRate},
	} {
		day, reason := usage.ParseSeries(series)
		assert.Equal(t, want, usage.Row{Day: day, Reason: reason}, "%q", series)
	}
}

func FuzzQuery(f *testing.F) {
	f.Add("acme", "key:web", "key:job", int64(1777593600), int64(0), int64(1777766400), int64(0), uint8(3), "Europe/Berlin", "", true)
	f.Add("acme", "org:acme", "member:a", int64(-62135596800), int64(0), int64(253402300800), int64(1), uint8(2), "Local", "", false)
	f.Add("a", "account:1", "account:1", int64(0), int64(999999999), int64(900), int64(1), uint8(4), "../zone", "sunday", false)
	f.Add("a", "key:", "x", int64(math.MinInt64), int64(0), int64(math.MaxInt64), int64(0), uint8(255), "", "Mon", true)
	f.Add("a", "key:1", "key:2", int64(250246627199), int64(0), int64(250246627200), int64(0), uint8(5), "Pacific/Apia", "", true)
	f.Fuzz(func(t *testing.T, org, one, two string, from, fromNano, to, toNano int64, step uint8, zone, weekStart string, grouped bool) {
		q := usage.Query{
			Org: org, Subjects: []quota.Subject{quota.Subject(one), quota.Subject(two)},
			From: time.Unix(from, fromNano), To: time.Unix(to, toNano),
			Step: usage.Step(step), Zone: zone, WeekStart: weekStart, GroupBySubject: grouped,
		}
		if err := q.Validate(); err != nil {
			require.ErrorIs(t, err, quota.ErrInvalid)
			return
		}
		out, err := usage.Read(t.Context(), &sliceStore{}, q)
		require.NoError(t, err)
		for _, s := range out {
			require.NotEmpty(t, s.Points)
			require.LessOrEqual(t, len(s.Points), usage.MaxPoints)
			require.False(t, s.Points[0].Start.After(q.From))
			require.False(t, s.Points[len(s.Points)-1].End.Before(q.To))
			for i, p := range s.Points {
				require.True(t, p.Start.Before(p.End))
				if i > 0 {
					require.True(t, p.Start.Equal(s.Points[i-1].End))
				}
			}
		}
	})
}
