package quota_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
)

// at reads an instant, "2026-01-31" or "2026-01-31T10:00:00+02:00".
func at(s string) time.Time {
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t
		}
	}
	panic("not an instant: " + s)
}

func TestParseUnit(t *testing.T) {
	for in, want := range map[string]quota.Unit{
		"never": quota.Never, "hour": quota.Hour, "hourly": quota.Hour, "day": quota.Day, "daily": quota.Day,
		"week": quota.Week, "weekly": quota.Week, "month": quota.Month, "monthly": quota.Month,
		"quarter": quota.Quarter, "quarterly": quota.Quarter, "year": quota.Year, "yearly": quota.Year,
	} {
		got, err := quota.ParseUnit(in)
		require.NoError(t, err, in)
		assert.Equal(t, want, got, in)
		text, err := got.MarshalText()
		require.NoError(t, err)
		again, err := quota.ParseUnit(string(text))
		require.NoError(t, err)
		assert.Equal(t, want, again)
	}
	for _, in := range []string{"", " ", "Month", "months", "fortnight", "minutely", "annually", "1", "month ", "Unit(9)"} {
		u := quota.Day
		err := u.UnmarshalText([]byte(in))
		assert.ErrorIs(t, err, quota.ErrInvalid, in)
		assert.Equal(t, quota.Day, u, in)
	}
	assert.Equal(t, "Unit(9)", quota.Unit(9).String())
	_, err := quota.Unit(9).MarshalText()
	assert.ErrorIs(t, err, quota.ErrInvalid)
}

func TestPeriodValidate(t *testing.T) {
	now := at("2026-03-10T12:00:00Z")
	for _, p := range []quota.Period{
		{},
		{Unit: quota.Hour},
		{Unit: quota.Day, Every: 1, Zone: "Asia/Kolkata"},
		{Unit: quota.Week, WeekStart: "sunday", Zone: "America/Argentina/ComodRivadavia"},
		{Unit: quota.Month, Zone: "UTC"},
		{Unit: quota.Quarter, Zone: "Etc/GMT+5"},
		{Unit: quota.Year, Zone: "EST5EDT"},
		{Unit: quota.Month, Every: 3, Anchor: at("2026-01-31")},
		{Unit: quota.Hour, Every: 1000, Anchor: now},
		{Unit: quota.Day, Anchor: at("1970-01-01")},
		{Unit: quota.Year, Every: 100, Anchor: at("2026-03-10T08:45:00+05:45")},
		{Unit: quota.Week, Every: 2, Anchor: at("2026-03-04")},
	} {
		assert.NoError(t, p.Validate(now), "%v", p)
		_, err := p.WindowAt(now)
		assert.NoError(t, err, "%v", p)
	}

	month := func(zone string) quota.Period { return quota.Period{Unit: quota.Month, Zone: zone} }
	for _, c := range []struct {
		p    quota.Period
		says string
	}{
		{quota.Period{Unit: 7}, "unit 7"},
		{quota.Period{Unit: 255, Zone: "UTC"}, "unit 255"},
		{quota.Period{Every: 1}, "never resets"},
		{quota.Period{Zone: "UTC"}, "never resets"},
		{quota.Period{WeekStart: "monday"}, "never resets"},
		{quota.Period{Anchor: at("2026-01-01")}, "never resets"},
		{quota.Period{Unit: quota.Day, Every: -1}, "1 to 1000"},
		{quota.Period{Unit: quota.Day, Every: 1001, Anchor: at("2026-01-01")}, "1 to 1000"},
		{quota.Period{Unit: quota.Quarter, Every: 401, Anchor: at("2026-01-01")}, "1 to 400"},
		{quota.Period{Unit: quota.Year, Every: 101, Anchor: at("2026-01-01")}, "1 to 100"},
		{quota.Period{Unit: quota.Hour, Every: math.MaxInt, Anchor: at("2026-01-01")}, "1 to 1000"},
		{quota.Period{Unit: quota.Month, Every: 3}, "needs an anchor"},
		{quota.Period{Unit: quota.Day, WeekStart: "monday"}, "unit week only"},
		{quota.Period{Unit: quota.Week, WeekStart: "Monday"}, "week start"},
		{quota.Period{Unit: quota.Week, WeekStart: "mon"}, "week start"},
		{quota.Period{Unit: quota.Week, WeekStart: "sunday", Anchor: at("2026-03-04")}, "the anchor's weekday"},
		{quota.Period{Unit: quota.Day, Anchor: at("2026-03-10T12:15:00Z")}, "future"},
		{quota.Period{Unit: quota.Day, Anchor: at("2026-03-10T11:10:00Z")}, "quarter of an hour"},
		{quota.Period{Unit: quota.Day, Anchor: at("2026-03-10T11:15:01Z")}, "quarter of an hour"},
		{quota.Period{Unit: quota.Day, Anchor: at("2026-03-10T11:15:00.000000001Z")}, "quarter of an hour"},
		{quota.Period{Unit: quota.Day, Anchor: at("1969-12-31T23:45:00Z")}, "1970"},
		{quota.Period{Unit: quota.Day, Anchor: at("9900-01-01")}, "9899"},
		{month("Local"), "IANA"},
		{month("local"), "IANA"},
		{month("LOCAL"), "IANA"},
		{month(" "), "IANA"},
		{month("."), "IANA"},
		{month(".."), "IANA"},
		{month("../UTC"), "IANA"},
		{month("Europe/../UTC"), "IANA"},
		{month("Europe/./Berlin"), "IANA"},
		{month("./Europe/Berlin"), "IANA"},
		{month("Europe//Berlin"), "IANA"},
		{month("/usr/share/zoneinfo/UTC"), "IANA"},
		{month("/UTC"), "IANA"},
		{month("UTC/"), "IANA"},
		{month(`\UTC`), "IANA"},
		{month(`Europe\Berlin`), "IANA"},
		{month("C:/UTC"), "IANA"},
		{month("posix/UTC"), "IANA"},
		{month("Posix/UTC"), "IANA"},
		{month("right/UTC"), "IANA"},
		{month("Right/UTC"), "IANA"},
		{month("posixrules"), "IANA"},
		{month("localtime"), "IANA"},
		{month("Localtime"), "IANA"},
		{month("tzdata.zi"), "IANA"},
		{month("zone.tab"), "IANA"},
		{month("Factory"), "IANA"},
		{month("UTC\x00"), "IANA"},
		{month("UTC\n"), "IANA"},
		{month("Europe/Berlín"), "IANA"},
		{month("europe/berlin"), "IANA"},
		{month("+02:00"), "IANA"},
		{month("UTC" + strings.Repeat("0", 62)), "IANA"},
		{month(strings.Repeat("A/", 1<<20)), "IANA"},
		{month("Europe/Atlantis"), "Europe/Atlantis"},
		{month("Europe"), "Europe"},
		{month("UTC0"), "UTC0"},
		{month("Mars/Phobos"), "Mars/Phobos"},
	} {
		err := c.p.Validate(now)
		require.Error(t, err, "%.200v", c.p)
		assert.ErrorIs(t, err, quota.ErrInvalid, "%.200v", c.p)
		assert.ErrorContains(t, err, c.says, "%.200v", c.p)
		assert.Less(t, len(err.Error()), 300)
		w, err := c.p.WindowAt(now)
		if c.says == "future" {
			assert.NoError(t, err, "windows exist before their anchor")
			continue
		}
		assert.ErrorIs(t, err, quota.ErrInvalid, "%.200v", c.p)
		assert.Zero(t, w)
		assert.Less(t, len(c.p.String()), 400)
	}
}

func TestLoadZone(t *testing.T) {
	loc, err := quota.LoadZone("Europe/Berlin")
	require.NoError(t, err)
	assert.Equal(t, "Europe/Berlin", loc.String())
	again, err := quota.LoadZone("Europe/Berlin")
	require.NoError(t, err)
	assert.Same(t, loc, again)
	_, err = quota.LoadZone("")
	assert.ErrorIs(t, err, quota.ErrInvalid, "no zone is the caller's to decide")
}

func TestLoadZoneConcurrently(t *testing.T) {
	names := []string{"Asia/Tokyo", "Asia/Seoul", "Asia/Manila", "Asia/Jakarta", "Asia/Taipei", "Asia/Macau", "Asia/Dili", "Asia/Oral"}
	var wg sync.WaitGroup
	for i := range 4 * len(names) {
		wg.Go(func() {
			name := names[i%len(names)]
			for range 3 {
				loc, err := quota.LoadZone(name)
				if assert.NoError(t, err) {
					assert.Equal(t, name, loc.String())
				}
			}
		})
	}
	wg.Wait()
}

func TestPeriodEqual(t *testing.T) {
	anchor := at("2026-01-31T10:00:00Z")
	berlin := time.FixedZone("", 3600)
	for _, c := range []struct {
		p, q quota.Period
		want bool
	}{
		{quota.Period{}, quota.Period{}, true},
		{quota.Period{Unit: quota.Day}, quota.Period{Unit: quota.Day, Every: 1}, true},
		{quota.Period{Unit: quota.Day}, quota.Period{Unit: quota.Day, Zone: "UTC"}, true},
		{quota.Period{Unit: quota.Week}, quota.Period{Unit: quota.Week, WeekStart: "monday"}, true},
		{quota.Period{Unit: quota.Month, Anchor: anchor}, quota.Period{Unit: quota.Month, Anchor: anchor.In(berlin)}, true},
		{quota.Period{}, quota.Period{Unit: quota.Day}, false},
		{quota.Period{Unit: quota.Week}, quota.Period{Unit: quota.Week, WeekStart: "sunday"}, false},
		{quota.Period{Unit: quota.Day}, quota.Period{Unit: quota.Day, Zone: "Europe/Berlin"}, false},
		{quota.Period{Unit: quota.Month, Anchor: anchor}, quota.Period{Unit: quota.Month}, false},
		{quota.Period{Unit: quota.Month, Anchor: anchor}, quota.Period{Unit: quota.Month, Anchor: anchor.Add(time.Hour)}, false},
		{quota.Period{Unit: quota.Day, Every: 2, Anchor: anchor}, quota.Period{Unit: quota.Day, Anchor: anchor}, false},
	} {
		assert.Equal(t, c.want, c.p.Equal(c.q), "%v and %v", c.p, c.q)
		assert.Equal(t, c.want, c.q.Equal(c.p), "%v and %v", c.q, c.p)
	}
}

func TestPeriodString(t *testing.T) {
	for _, c := range []struct {
		p    quota.Period
		want string
	}{
		{quota.Period{}, "never"},
		{quota.Period{Unit: quota.Month, Zone: "Europe/Berlin"}, "monthly, Europe/Berlin"},
		{quota.Period{Unit: quota.Hour}, "hourly"},
		{quota.Period{Unit: quota.Week, Zone: "UTC"}, "weekly, UTC"},
		{quota.Period{Unit: quota.Week, WeekStart: "monday", Zone: "UTC"}, "weekly, UTC"},
		{quota.Period{Unit: quota.Week, WeekStart: "sunday", Zone: "UTC"}, "weekly from sunday, UTC"},
		{quota.Period{Unit: quota.Month, Every: 3, Zone: "Europe/Berlin", Anchor: at("2026-01-30T23:00:00Z")},
			"every 3 months from 2026-01-31, Europe/Berlin"},
		{quota.Period{Unit: quota.Day, Zone: "Asia/Kolkata", Anchor: at("2026-01-31T04:00:00Z")},
			"daily from 2026-01-31 09:30, Asia/Kolkata"},
		{quota.Period{Unit: quota.Day, Anchor: at("2026-01-31T04:00:00+02:00")}, "daily from 2026-01-31 02:00"},
		{quota.Period{Unit: quota.Day, Zone: "../\x1b[31m"}, `daily, "../\x1b[31m"`},
		{quota.Period{Unit: 9, Zone: "UTC"}, "Unit(9)"},
	} {
		assert.Equal(t, c.want, c.p.String())
	}
}

func TestPeriodWithZone(t *testing.T) {
	day := quota.Period{Unit: quota.Day}
	assert.Equal(t, quota.Period{Unit: quota.Day, Zone: "Asia/Tokyo"}, day.WithZone("Asia/Tokyo"))
	assert.Equal(t, "UTC", day.WithZone("UTC").WithZone("Asia/Tokyo").Zone, "chosen is chosen")
	assert.Zero(t, quota.Period{}.WithZone("Asia/Tokyo"), "what never resets needs no zone")
}

func TestPeriodJSON(t *testing.T) {
	for _, c := range []struct {
		p    quota.Period
		want string
	}{
		{quota.Period{}, `{"unit":"never"}`},
		{quota.Period{Unit: quota.Month, Every: 3, Zone: "Europe/Berlin", Anchor: at("2026-01-31").UTC()},
			`{"unit":"month","every":3,"zone":"Europe/Berlin","anchor":"2026-01-31T00:00:00Z"}`},
		{quota.Period{Unit: quota.Week, WeekStart: "sunday"}, `{"unit":"week","week_start":"sunday"}`},
	} {
		data, err := json.Marshal(c.p)
		require.NoError(t, err)
		assert.Equal(t, c.want, string(data))
		var back quota.Period
		require.NoError(t, json.Unmarshal(data, &back))
		assert.Equal(t, c.p, back)
	}

	var p quota.Period
	require.NoError(t, json.Unmarshal([]byte(` { "anchor" : "2026-01-31T02:00:00+02:00" , "unit" : "monthly" } `), &p))
	assert.Equal(t, quota.Period{Unit: quota.Month, Anchor: at("2026-01-31").UTC()}, p)

	for _, in := range []string{
		`null`, `{}`, `[]`, `"monthly"`, `1`, `{"unit":null}`, `{"unit":""}`, `{"unit":"Month"}`, `{"unit":4}`, `{"unit":"fortnight"}`,
		`{"zone":"UTC"}`, `{"unit":"day","Zone":"UTC"}`, `{"unit":"day","timezone":"UTC"}`, `{"unit":"day","unit":"month"}`,
		`{"unit":"day","every":1.5}`, `{"unit":"day","every":"1"}`, `{"unit":"day","every":1e0}`, `{"unit":"day","every":99999999999999999999}`,
		`{"unit":"day","every":null}`, `{"unit":"day","zone":1}`, `{"unit":"day","zone":["UTC"]}`, `{"unit":"week","week_start":0}`,
		`{"unit":"day","anchor":""}`, `{"unit":"day","anchor":"2026-01-31"}`, `{"unit":"day","anchor":1}`,
		`{"unit":"day","anchor":"2026-02-30T00:00:00Z"}`, `{"unit":"day","zone":"` + strings.Repeat("x", 1024) + `"}`,
		`{"unit":"day","zone":"` + strings.Repeat("x", 65) + `"}`, `{"unit":"week","week_start":"` + strings.Repeat("x", 65) + `"}`,
	} {
		q := quota.Period{Unit: quota.Year, Zone: "UTC"}
		err := json.Unmarshal([]byte(in), &q)
		assert.ErrorIs(t, err, quota.ErrInvalid, in)
		assert.Equal(t, quota.Period{Unit: quota.Year, Zone: "UTC"}, q, "%s changed the period", in)
	}
	for _, in := range []string{``, `{`, `{"unit"`, `{"unit":"day"`, `{"unit":"day",}`, `{"unit":"day"}{}`, `{"unit":"day"} x`} {
		var q quota.Period // called directly, with what is not JSON
		assert.ErrorIs(t, q.UnmarshalJSON([]byte(in)), quota.ErrInvalid, in)
	}
	for _, p := range []quota.Period{{Unit: 9}, {Unit: quota.Day, Anchor: time.Unix(1<<40, 0)}} {
		_, err := json.Marshal(p)
		assert.ErrorIs(t, err, quota.ErrInvalid)
	}
}

func FuzzParsePeriod(f *testing.F) {
	for _, s := range []string{
		`{"unit":"never"}`, `{"unit":"month","every":3,"zone":"Europe/Berlin","anchor":"2026-01-31T00:00:00Z"}`,
		`{"unit":"week","week_start":"sunday"}`, `{"unit":"day","unit":"day"}`, `null`, `{"unit":"day"}{}`, `{"unit":"hourly","every":0}`,
		`{"unit":"year","anchor":"9999-12-31T23:45:00-23:00"}`, `{"unit":"year","anchor":"0000-01-01T00:00:00+23:00"}`,
		"{\"unit\":\"day\",\"zone\":\"<\xff\xfe&\u2028" + strings.Repeat("\xff", 400) + "\"}", `{"unit":"day","zone":"../../etc/passwd"}`, `{"unit":"day","zone":"\u0000"}`, `{"unit":"day","zone":"Asia/Tokyo","every":-9223372036854775808}`,
	} {
		f.Add([]byte(s))
	}
	now := at("2026-03-10T12:00:00Z")
	f.Fuzz(func(t *testing.T, data []byte) {
		var p quota.Period
		if err := p.UnmarshalJSON(data); err != nil {
			if !errors.Is(err, quota.ErrInvalid) {
				t.Fatalf("wraps no sentinel: %v", err)
			}
			return
		}
		if len(p.String()) > 512 {
			t.Fatalf("%d characters", len(p.String()))
		}
		valid := p.Validate(now)
		if valid != nil && !errors.Is(valid, quota.ErrInvalid) {
			t.Fatalf("wraps no sentinel: %v", valid)
		}
		w, err := p.WindowAt(now)
		if valid == nil && (err != nil || !w.Contains(now)) {
			t.Fatalf("%v is valid, but its window is %v, %v", p, w, err)
		}
		out, err := json.Marshal(p)
		if err != nil {
			if valid == nil {
				t.Fatalf("%v is valid, but: %v", p, err)
			}
			return
		}
		var q quota.Period
		if err := json.Unmarshal(out, &q); err != nil || !p.Equal(q) || p != q {
			t.Fatalf("%s read back as %v, %v", out, q, err)
		}
	})
}

func ExamplePeriod_Validate() {
	p := quota.Period{Unit: quota.Month, Every: 5, Zone: "Europe/Berlin"}
	fmt.Println(p.Validate(time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)))
	// Output: quota: period: every 5 months needs an anchor to count from: invalid
}
