package quota_test

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
)

// oracleRow is a line of testdata/windows: a period and consecutive windows of
// it, which another program found.
type oracleRow struct {
	where  string // file and line
	period quota.Period
	first  time.Time
	runs   string // lengths in seconds, "86400*5 82800"
}

func oracle(tb testing.TB, file string) []oracleRow {
	tb.Helper()
	f, err := os.Open(filepath.Join("testdata", "windows", file))
	require.NoError(tb, err)
	defer f.Close()
	var rows []oracleRow
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, "zone,") {
			continue
		}
		fields := strings.Split(line, ",")
		require.Len(tb, fields, 7, "%s:%d", file, n)
		row := oracleRow{where: fmt.Sprintf("%s:%d %s", file, n, strings.Join(fields[:5], ",")), first: at(fields[5]), runs: fields[6]}
		row.period.Zone, row.period.WeekStart = fields[0], fields[3]
		require.NoError(tb, row.period.Unit.UnmarshalText([]byte(fields[1])))
		row.period.Every, err = strconv.Atoi(fields[2])
		require.NoError(tb, err)
		if fields[4] != "" {
			row.period.Anchor = at(fields[4])
		}
		rows = append(rows, row)
	}
	require.NoError(tb, lines.Err())
	require.NotEmpty(tb, rows)
	return rows
}

// starts returns the starts of the row's windows in Unix seconds, and the end
// of the last, in the memory of starts: some rows have 175,000 hours.
func (row oracleRow) starts(tb testing.TB, starts []int64) []int64 {
	tb.Helper()
	sec := row.first.Unix()
	starts = append(starts[:0], sec)
	for _, run := range strings.Fields(row.runs) {
		length, times, repeated := strings.Cut(run, "*")
		l, err := strconv.ParseInt(length, 10, 64)
		require.NoError(tb, err)
		count := 1
		if repeated {
			count, err = strconv.Atoi(times)
			require.NoError(tb, err)
		}
		for range count {
			sec += l
			starts = append(starts, sec)
		}
	}
	return starts
}

var oracleFiles = []string{"natural.csv", "anchored.csv", "events.csv", "days.csv"}

func TestWindowsAgreeWithTheOracle(t *testing.T) {
	zones := make(map[string]bool)
	for _, file := range oracleFiles {
		rows := oracle(t, file)
		for _, row := range rows {
			zones[row.period.Zone] = true
		}
		t.Run(strings.TrimSuffix(file, ".csv"), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(3, 4))
			var starts []int64
			for _, row := range rows {
				starts = row.starts(t, starts)
				// Hours and days are many and alike: of long runs of them a
				// sample, of all that differ from their neighbours every one.
				stride := max(1, len(starts)/800)
				for i := 0; i+1 < len(starts); i++ {
					start, end := starts[i], starts[i+1]
					regular := i > 0 && i+2 < len(starts) &&
						start-starts[i-1] == end-start && starts[i+2]-end == end-start
					if regular && stride > 1 && r.IntN(stride) > 0 {
						continue
					}
					want := quota.Window{Start: time.Unix(start, 0).UTC(), End: time.Unix(end, 0).UTC()}
					for _, t0 := range []time.Time{want.Start, want.Start.Add(time.Duration(r.Int64N(int64(want.End.Sub(want.Start))))), want.End.Add(-1)} {
						got, err := row.period.WindowAt(t0)
						if err != nil || got != want {
							t.Fatalf("%s: at %v\n got %v %v %v\nwant %v %v", row.where, t0.Format(time.RFC3339Nano), got.Start, got.End, err, want.Start, want.End)
						}
					}
				}
			}
		})
	}
	assert.GreaterOrEqual(t, len(zones), 300, "zones in the data")
}

// TestWindowsTile looks at random instants, in zones and periods of the data
// but far outside its years: windows meet, and start when the clock first shows
// what they start with.
func TestWindowsTile(t *testing.T) {
	t.Parallel()
	rows := append(oracle(t, "anchored.csv"), oracle(t, "natural.csv")...)
	for _, row := range oracle(t, "days.csv") {
		row.period.Unit = quota.Week
		rows = append(rows, row)
	}
	lo, hi := at("1970-01-02").Unix(), at("2060-01-01").Unix()
	r := rand.New(rand.NewPCG(5, 6))
	for _, row := range rows {
		for range 8 {
			t0 := time.Unix(lo+r.Int64N(hi-lo), r.Int64N(1e9))
			checkTiles(t, row.period, t0)
			checkStart(t, row.period, t0)
		}
	}
}

// TestWindowsTileOverNewYear walks through the turns of years, where Go's rules
// for the time after a zone's last listed change begin anew.
func TestWindowsTileOverNewYear(t *testing.T) {
	t.Parallel()
	for _, row := range oracle(t, "days.csv") {
		for _, year := range []int{2023, 2024, 2028, 2039, 2040, 2072, 2100} {
			for hours := -50; hours < 50; hours += 10 {
				t0 := time.Date(year+1, 1, 1, hours, 0, 0, 0, time.UTC)
				checkTiles(t, row.period, t0)
				if row.period.Unit == quota.Day {
					checkStart(t, row.period, t0)
				}
			}
		}
	}
}

// checkTiles fails unless the window of t0 holds it and meets its neighbours.
func checkTiles(t *testing.T, p quota.Period, t0 time.Time) {
	t.Helper()
	w, err := p.WindowAt(t0)
	if err != nil {
		t.Fatalf("%v at %v: %v", p, t0, err)
	}
	if !w.Contains(t0) || t0.Before(w.Start) || !t0.Before(w.End) {
		t.Fatalf("%v at %v: not in its window %v", p, t0, w)
	}
	for _, same := range []time.Time{w.Start, w.End.Add(-1)} {
		if same.Unix() < 0 || same.Year() >= 9900 { // where WindowAt ends
			continue
		}
		if v, err := p.WindowAt(same); err != nil || v != w {
			t.Fatalf("%v: the window of %v is %v, of %v in it %v, %v", p, t0, w, same, v, err)
		}
	}
	if next, err := p.WindowAt(w.End); err == nil && next.Start != w.End {
		t.Fatalf("%v: %v is followed by %v", p, w, next)
	}
	if before := w.Start.Add(-1); before.Unix() >= 0 {
		if prev, err := p.WindowAt(before); err != nil || prev.End != w.Start {
			t.Fatalf("%v: %v comes after %v, %v", p, w, prev, err)
		}
	}
}

// checkStart fails unless the local date and time at the start of the window of
// t0 is one that the period asks for, and the clock had not shown it before.
func checkStart(t *testing.T, p quota.Period, t0 time.Time) {
	t.Helper()
	if p.Unit == quota.Hour {
		return
	}
	loc, err := quota.LoadZone(p.Zone)
	if err != nil {
		t.Fatal(err)
	}
	w, err := p.WindowAt(t0)
	if err != nil {
		t.Fatal(err)
	}
	reading := func(t time.Time) time.Time { // of the local clock, as if it were UTC
		t = t.In(loc)
		return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
	}
	shown := reading(w.Start)
	wanted := time.Date(shown.Year(), shown.Month(), shown.Day(), 0, 0, 0, 0, time.UTC)
	if !p.Anchor.IsZero() {
		a := reading(p.Anchor)
		wanted = wanted.Add(a.Sub(a.Truncate(24 * time.Hour)))
		if wanted.After(shown) { // it starts the day after the wanted time was skipped
			wanted = wanted.AddDate(0, 0, -1)
		}
		// Clamped days: the anchor's, or the last of a shorter month.
		if last := wanted.AddDate(0, 1, -wanted.Day()).Day(); p.Unit >= quota.Month && shown.Equal(wanted) &&
			wanted.Day() != a.Day() && (wanted.Day() != last || wanted.Day() > a.Day()) {
			t.Fatalf("%v: starts on day %d of %v, the anchor's is %d", p, wanted.Day(), wanted, a.Day())
		}
	}
	// Just before, the clock had shown no such date and time, nor in the day before.
	if before := reading(w.Start.Add(-1)); !before.Before(wanted) {
		t.Fatalf("%v: starts at %v, when the clock shows %v, but just before it showed %v", p, w.Start, shown, before)
	}
	for back := time.Duration(0); back <= 24*time.Hour; back += 15 * time.Minute {
		if before := reading(w.Start.Add(-1 - back)); !before.Before(wanted) {
			t.Fatalf("%v: starts at %v, but %v before the clock showed %v", p, w.Start, back, before)
		}
	}
	if !shown.Equal(wanted) {
		// Only where the clock jumped over the wanted time.
		if jump := shown.Sub(reading(w.Start.Add(-1))); jump <= 1 {
			t.Fatalf("%v: starts at %v, when the clock shows %v, not %v, and nothing was skipped", p, w.Start, shown, wanted)
		}
	}
	if p.Anchor.IsZero() && shown.Equal(wanted) {
		_, month, day := wanted.Date()
		switch p.Unit {
		case quota.Week:
			first := p.WeekStart
			if first == "" {
				first = "monday"
			}
			assert.Equal(t, first, strings.ToLower(wanted.Weekday().String()), "%v", p)
		case quota.Month:
			assert.Equal(t, 1, day, "%v", p)
		case quota.Quarter:
			assert.Equal(t, 1, day, "%v", p)
			assert.Equal(t, 1, int(month)%3, "%v", p)
		case quota.Year:
			assert.Equal(t, 1, day, "%v", p)
			assert.Equal(t, time.January, month, "%v", p)
		}
	}
}

// TestWindowAtByHand has the cases that other services got wrong, worked out by
// hand from the zones' published rules.
func TestWindowAtByHand(t *testing.T) {
	for _, c := range []struct {
		name       string
		p          quota.Period
		at         string
		start, end string
	}{
		{"a month of UTC", quota.Period{Unit: quota.Month}, "2026-02-10T00:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"},
		{"the end belongs to the next", quota.Period{Unit: quota.Month}, "2026-03-01T00:00:00Z", "2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z"},
		{"the last nanosecond", quota.Period{Unit: quota.Month}, "2026-02-28T23:59:59.999999999Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"},
		{"a zone ahead", quota.Period{Unit: quota.Month, Zone: "Europe/Berlin"}, "2026-03-31T22:00:00Z", "2026-03-31T22:00:00Z", "2026-04-30T22:00:00Z"},
		{"summer time begins, 23 hours", quota.Period{Unit: quota.Day, Zone: "Europe/Berlin"}, "2024-03-31T12:00:00Z", "2024-03-30T23:00:00Z", "2024-03-31T22:00:00Z"},
		{"summer time ends, 25 hours", quota.Period{Unit: quota.Day, Zone: "Europe/Berlin"}, "2024-10-27T12:00:00Z", "2024-10-26T22:00:00Z", "2024-10-27T23:00:00Z"},
		{"midnight missing, 01:00", quota.Period{Unit: quota.Day, Zone: "America/Sao_Paulo"}, "2017-10-15T12:00:00Z", "2017-10-15T03:00:00Z", "2017-10-16T02:00:00Z"},
		{"the day before it", quota.Period{Unit: quota.Day, Zone: "America/Sao_Paulo"}, "2017-10-15T02:59:59Z", "2017-10-14T03:00:00Z", "2017-10-15T03:00:00Z"},
		{"two midnights, the first", quota.Period{Unit: quota.Day, Zone: "America/Havana"}, "2023-11-05T05:30:00Z", "2023-11-05T04:00:00Z", "2023-11-06T05:00:00Z"},
		{"set back at midnight to 23:00", quota.Period{Unit: quota.Day, Zone: "America/Asuncion"}, "2023-03-26T03:30:00Z", "2023-03-25T03:00:00Z", "2023-03-26T04:00:00Z"},
		{"22 hours", quota.Period{Unit: quota.Day, Zone: "Antarctica/Troll"}, "2019-03-31T12:00:00Z", "2019-03-31T00:00:00Z", "2019-03-31T22:00:00Z"},
		{"a date left out: before it", quota.Period{Unit: quota.Day, Zone: "Pacific/Apia"}, "2011-12-30T09:59:59Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"},
		{"a date left out: after it", quota.Period{Unit: quota.Day, Zone: "Pacific/Apia"}, "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"},
		{"the month of it", quota.Period{Unit: quota.Month, Zone: "Pacific/Apia"}, "2011-12-20T00:00:00Z", "2011-12-01T10:00:00Z", "2011-12-31T10:00:00Z"},
		{"weeks from Monday", quota.Period{Unit: quota.Week}, "2026-03-15T23:59:59Z", "2026-03-09T00:00:00Z", "2026-03-16T00:00:00Z"},
		{"weeks from Sunday", quota.Period{Unit: quota.Week, WeekStart: "sunday"}, "2026-03-15T00:00:00Z", "2026-03-15T00:00:00Z", "2026-03-22T00:00:00Z"},
		{"31st: February", quota.Period{Unit: quota.Month, Anchor: at("2026-01-31")}, "2026-02-28T00:00:00Z", "2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z"},
		{"31st: no drift in April", quota.Period{Unit: quota.Month, Anchor: at("2026-01-31")}, "2026-05-01T00:00:00Z", "2026-04-30T00:00:00Z", "2026-05-31T00:00:00Z"},
		{"31st: before the anchor", quota.Period{Unit: quota.Month, Anchor: at("2026-01-31")}, "2025-12-01T00:00:00Z", "2025-11-30T00:00:00Z", "2025-12-31T00:00:00Z"},
		{"every 3 months from the 31st", quota.Period{Unit: quota.Month, Every: 3, Anchor: at("2026-01-31")}, "2026-06-01T00:00:00Z", "2026-04-30T00:00:00Z", "2026-07-31T00:00:00Z"},
		{"leap day: common year", quota.Period{Unit: quota.Year, Anchor: at("2024-02-29")}, "2025-03-01T00:00:00Z", "2025-02-28T00:00:00Z", "2026-02-28T00:00:00Z"},
		{"leap day: leap year", quota.Period{Unit: quota.Year, Anchor: at("2024-02-29")}, "2028-02-28T00:00:00Z", "2027-02-28T00:00:00Z", "2028-02-29T00:00:00Z"},
		{"leap day: 2100 has none", quota.Period{Unit: quota.Year, Every: 4, Anchor: at("2024-02-29")}, "2100-03-01T00:00:00Z", "2100-02-28T00:00:00Z", "2104-02-29T00:00:00Z"},
		{"noon to noon", quota.Period{Unit: quota.Day, Zone: "America/New_York", Anchor: at("2024-01-01T17:00:00Z")}, "2024-03-10T15:59:59Z", "2024-03-09T17:00:00Z", "2024-03-10T16:00:00Z"},
		{"an hour of the clock", quota.Period{Unit: quota.Hour, Zone: "Asia/Kolkata"}, "2026-03-10T12:00:00Z", "2026-03-10T11:30:00Z", "2026-03-10T12:30:00Z"},
		{"Lord Howe: cut", quota.Period{Unit: quota.Hour, Zone: "Australia/Lord_Howe"}, "2024-10-05T15:30:00Z", "2024-10-05T15:30:00Z", "2024-10-05T16:00:00Z"},
		{"six hours, elapsed", quota.Period{Unit: quota.Hour, Every: 6, Zone: "Europe/Berlin", Anchor: at("2024-03-30T22:00:00Z")}, "2024-03-31T05:00:00Z", "2024-03-31T04:00:00Z", "2024-03-31T10:00:00Z"},
		{"31 December of a leap year", quota.Period{Unit: quota.Day, Zone: "Europe/Berlin"}, "2040-12-31T12:00:00Z", "2040-12-30T23:00:00Z", "2040-12-31T23:00:00Z"},
		{"a year that starts on one", quota.Period{Unit: quota.Year, Zone: "Asia/Tokyo"}, "2041-01-01T12:00:00Z", "2040-12-31T15:00:00Z", "2041-12-31T15:00:00Z"},
		{"first instant known", quota.Period{Unit: quota.Year}, "1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "1971-01-01T00:00:00Z"},
		{"last instant known", quota.Period{Unit: quota.Year, Every: 100, Anchor: at("1999-12-31")}, "9899-12-31T23:59:59.999999999Z", "9899-12-31T00:00:00Z", "9999-12-31T00:00:00Z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, err := c.p.WindowAt(at(c.at))
			require.NoError(t, err)
			assert.Equal(t, c.start, w.Start.Format(time.RFC3339Nano))
			assert.Equal(t, c.end, w.End.Format(time.RFC3339Nano))
			assert.Equal(t, time.UTC, w.Start.Location())
			assert.Equal(t, time.UTC, w.End.Location())
			assert.True(t, w.Resets())
		})
	}
}

func TestWindowOfNever(t *testing.T) {
	for _, t0 := range []time.Time{{}, at("2026-03-10"), time.Unix(1<<60, 0)} {
		w, err := quota.Period{}.WindowAt(t0)
		require.NoError(t, err)
		assert.Zero(t, w)
		assert.False(t, w.Resets())
		assert.True(t, w.Contains(t0))
	}
}

func TestWindowContains(t *testing.T) {
	w, err := quota.Period{Unit: quota.Day}.WindowAt(at("2026-03-10"))
	require.NoError(t, err)
	assert.True(t, w.Contains(w.Start))
	assert.False(t, w.Contains(w.Start.Add(-1)))
	assert.True(t, w.Contains(w.End.Add(-1)))
	assert.False(t, w.Contains(w.End))
}

func TestWindowAtRefusesFarInstants(t *testing.T) {
	for _, t0 := range []time.Time{
		{}, at("1969-12-31T23:59:59.999999999Z"), at("9900-01-01"), at("9999-12-31"), time.Unix(1<<40, 0), time.Unix(-1<<40, 0),
		time.Unix(1<<63-1, 0), time.Unix(-1<<63, 0), time.UnixMicro(1<<63 - 1), time.UnixMicro(-1 << 63),
	} {
		for u := quota.Hour; u <= quota.Year; u++ {
			w, err := quota.Period{Unit: u, Zone: "Asia/Tokyo", Anchor: at("2026-03-10")}.WindowAt(t0)
			assert.ErrorIs(t, err, quota.ErrInvalid, "%v %v", u, t0)
			assert.Zero(t, w)
		}
	}
}

func TestWindowAtDoesNotAllocate(t *testing.T) {
	p := quota.Period{Unit: quota.Month, Every: 3, Zone: "Europe/Berlin", Anchor: at("2026-01-31")}
	t0 := at("2026-03-29T00:30:00Z")
	assert.Zero(t, testing.AllocsPerRun(100, func() { _, _ = p.WindowAt(t0) }))
}

func FuzzWindowAt(f *testing.F) {
	zones := []string{"", "UTC", "Europe/Berlin", "America/Sao_Paulo", "America/Havana", "America/St_Johns", "Pacific/Apia", "Pacific/Kwajalein",
		"Australia/Lord_Howe", "Antarctica/Troll", "Africa/Monrovia", "Asia/Kathmandu", "Asia/Pyongyang", "Africa/Casablanca", "../UTC"}
	for i := range 14 {
		f.Add(uint8(i%7), int64(0), uint8(i), uint8(0), int64(0), int64(1325239200+i*86399), int64(i))
		f.Add(uint8(i%7), int64(i), uint8(i), uint8(0), int64(1330473600), int64(1710045000), int64(0))
	}
	f.Add(uint8(3), int64(1), uint8(2), uint8(7), int64(0), int64(1710045000), int64(0))
	f.Add(uint8(6), int64(100), uint8(1), uint8(0), int64(900), int64(250246627199), int64(999999999))
	// Searches that pass the last day of a leap year: golang/go#81583.
	f.Add(uint8(6), int64(47), uint8(5), uint8(0), int64(900), int64(250246627192), int64(999999999))
	f.Add(uint8(2), int64(1), uint8(2), uint8(0), int64(0), int64(2240654400), int64(0))
	f.Add(uint8(9), int64(-1), uint8(14), uint8(9), int64(-900), int64(-1)<<62, int64(-1))
	weekdays := []string{"", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "someday"}
	f.Fuzz(func(t *testing.T, unit uint8, every int64, zone, weekday uint8, anchor, sec, nsec int64) {
		p := quota.Period{Unit: quota.Unit(unit), Every: int(every), Zone: zones[int(zone)%len(zones)], WeekStart: weekdays[int(weekday)%len(weekdays)]}
		if anchor != 0 {
			p.Anchor = time.Unix(anchor, 0)
		}
		t0 := time.Unix(sec, nsec)
		w, err := p.WindowAt(t0)
		if err != nil {
			if !errors.Is(err, quota.ErrInvalid) || w != (quota.Window{}) {
				t.Fatalf("%v at %v: %v, %v", p, t0, w, err)
			}
			return
		}
		if p.Unit == quota.Never {
			return
		}
		checkTiles(t, p, t0)
		if w.Start.Year() < 1869 || w.End.Year() > 9999 || w.End.Sub(w.Start) > 36600*24*time.Hour {
			t.Fatalf("%v: %v is too far or too long", p, w)
		}
	})
}

func BenchmarkWindowAt(b *testing.B) {
	now := at("2026-03-10T12:34:56Z")
	for _, p := range []quota.Period{
		{Unit: quota.Hour, Zone: "Europe/Berlin"},
		{Unit: quota.Day, Zone: "Europe/Berlin"},
		{Unit: quota.Month, Zone: "UTC"},
		{Unit: quota.Month, Zone: "Europe/Berlin"},
		{Unit: quota.Month, Zone: "Africa/Casablanca"},
		{Unit: quota.Month, Every: 3, Zone: "America/New_York", Anchor: at("2025-01-31")},
	} {
		b.Run(p.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.WindowAt(now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func ExamplePeriod_WindowAt() {
	p := quota.Period{Unit: quota.Month, Zone: "Europe/Berlin", Anchor: time.Date(2026, 1, 30, 23, 0, 0, 0, time.UTC)}
	fmt.Println(p)
	w, err := p.WindowAt(time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC))
	if err != nil {
		fmt.Println(err)
		return
	}
	berlin, err := quota.LoadZone(p.Zone)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("from", w.Start.In(berlin).Format(time.DateTime))
	fmt.Println("to  ", w.End.In(berlin).Format(time.DateTime))
	// Output:
	// monthly from 2026-01-31, Europe/Berlin
	// from 2026-02-28 00:00:00
	// to   2026-03-31 00:00:00
}
