package quota

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"sync/atomic"
	"time"
)

// Unit is what a [Period] counts in. The zero value is Never.
type Unit uint8

// The units. Day and longer are calendar units: a day has 22 to 25 hours and a
// month 28 to 31 days. A Quarter is three months, a Year twelve.
const (
	Never Unit = iota
	Hour
	Day
	Week
	Month
	Quarter
	Year
)

var (
	unitNouns   = [...]string{"never", "hour", "day", "week", "month", "quarter", "year"}
	unitAdverbs = [...]string{"never", "hourly", "daily", "weekly", "monthly", "quarterly", "yearly"}
	// unitEvery is the greatest Every: 1000, and no window above a century.
	unitEvery = [...]int{0, 1000, 1000, 1000, 1000, 400, 100}
	weekdays  = [...]string{"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}
)

// ParseUnit reads a unit: "never", or "hour", "day", "week", "month",
// "quarter", "year", or the same as "hourly", "daily", "weekly", "monthly",
// "quarterly", "yearly". In lower case only. The error wraps [ErrInvalid].
func ParseUnit(s string) (Unit, error) {
	for u := range unitNouns {
		if s == unitNouns[u] || s == unitAdverbs[u] {
			return Unit(u), nil
		}
	}
	return Never, fmt.Errorf("quota: unknown unit of a period, want never, hourly, daily, weekly, monthly, quarterly or yearly: %w", ErrInvalid)
}

// String returns "never", "hour", "day", "week", "month", "quarter" or "year",
// and "Unit(9)" for what is no unit.
func (u Unit) String() string {
	if int(u) < len(unitNouns) {
		return unitNouns[u]
	}
	return "Unit(" + strconv.Itoa(int(u)) + ")"
}

// MarshalText returns what String returns, or an error that wraps [ErrInvalid]
// for what is no unit.
func (u Unit) MarshalText() ([]byte, error) {
	if int(u) >= len(unitNouns) {
		return nil, fmt.Errorf("quota: unit %d of a period does not exist: %w", u, ErrInvalid)
	}
	return []byte(unitNouns[u]), nil
}

// UnmarshalText reads what [ParseUnit] reads. On an error u is unchanged.
func (u *Unit) UnmarshalText(text []byte) error {
	v, err := ParseUnit(string(text))
	if err != nil {
		return err
	}
	*u = v
	return nil
}

// Period is the rule by which a limit resets: it cuts time into windows, see
// [Period.WindowAt]. The zero value never resets. A Period is a value: copy it,
// compare it with Equal.
type Period struct {
	// Unit is what Every counts. The zero value, Never, has one window that
	// neither starts nor ends, and then all other fields must be zero.
	Unit Unit
	// Every makes a window of so many units. 0 means 1. At most 1000, 400
	// quarters, 100 years. Above 1 an Anchor is required: without one
	// nothing says which months "every 5 months" begins in.
	Every int
	// Zone is the IANA name of the time zone whose calendar and clock are
	// meant. "" means that none was chosen yet (see WithZone); windows are
	// then those of UTC.
	Zone string
	// WeekStart is the day that weeks begin on, "monday" to "sunday"; ""
	// means "monday". Only with Week and no Anchor, whose weekday decides.
	WeekStart string
	// Anchor, where set, is an instant that windows begin at: its local date
	// and time of day in Zone, and from there every N units in both
	// directions. It lies on a quarter of an hour in UTC, from 1970 on. The
	// zero time means the natural calendar: the full hour, midnight,
	// WeekStart, the first of the month, of January, April, July and
	// October, of January.
	Anchor time.Time
}

// Validate tells whether p may be set on a limit at the instant now. Refused,
// with an error that wraps [ErrInvalid] and says what to do, are: what is no
// unit; Every out of bounds, or above 1 without an Anchor; a Zone that
// [LoadZone] refuses; a WeekStart that is no weekday or is given with another
// unit or an Anchor; an Anchor that is not on a quarter of an hour, before 1970
// or after now; and Never with anything else set.
func (p Period) Validate(now time.Time) error {
	if _, err := p.check(); err != nil {
		return err
	}
	if p.Anchor.After(now) {
		return fmt.Errorf("quota: period: the anchor %s lies in the future, want one at or before now (any earlier turn of the period gives the same windows): %w",
			p.Anchor.UTC().Format(time.RFC3339), ErrInvalid)
	}
	return nil
}

// check is all of Validate that does not depend on now; it returns the location
// of the zone.
func (p Period) check() (*time.Location, error) {
	if int(p.Unit) >= len(unitNouns) {
		return nil, fmt.Errorf("quota: period: unit %d does not exist: %w", p.Unit, ErrInvalid)
	}
	if p.Unit == Never {
		if p.Every != 0 || p.Zone != "" || p.WeekStart != "" || !p.Anchor.IsZero() {
			return nil, fmt.Errorf("quota: period: one that never resets has no every, zone, week start or anchor; leave them out or name a unit: %w", ErrInvalid)
		}
		return time.UTC, nil
	}
	if p.Every < 0 || p.Every > unitEvery[p.Unit] {
		return nil, fmt.Errorf("quota: period: every %d, want 1 to %d with unit %v: %w", p.Every, unitEvery[p.Unit], p.Unit, ErrInvalid)
	}
	if p.Every > 1 && p.Anchor.IsZero() {
		return nil, fmt.Errorf("quota: period: every %d %vs needs an anchor to count from: %w", p.Every, p.Unit, ErrInvalid)
	}
	if p.WeekStart != "" {
		if p.Unit != Week {
			return nil, fmt.Errorf("quota: period: a week start goes with unit week only, not with %v: %w", p.Unit, ErrInvalid)
		}
		if !p.Anchor.IsZero() {
			return nil, fmt.Errorf("quota: period: both a week start and an anchor; the anchor's weekday begins the week, leave the week start out: %w", ErrInvalid)
		}
		if p.weekday() < 0 {
			return nil, fmt.Errorf("quota: period: unknown week start, want monday to sunday: %w", ErrInvalid)
		}
	}
	if !p.Anchor.IsZero() {
		sec := p.Anchor.Unix()
		if sec < minInstant || sec >= maxInstant {
			return nil, fmt.Errorf("quota: period: the anchor lies outside the years 1970 to 9899: %w", ErrInvalid)
		}
		// Usage is counted by the quarter of an hour, and every window has
		// to be a sum of such buckets.
		if sec%900 != 0 || p.Anchor.Nanosecond() != 0 {
			return nil, fmt.Errorf("quota: period: the anchor %s is not on a quarter of an hour, such as 12:15:00: %w",
				p.Anchor.UTC().Format(time.RFC3339Nano), ErrInvalid)
		}
	}
	if p.Zone == "" {
		return time.UTC, nil
	}
	return LoadZone(p.Zone)
}

// WithZone returns p in the given zone where p resets and has chosen none, and
// else p as it is.
func (p Period) WithZone(zone string) Period {
	if p.Unit != Never && p.Zone == "" {
		p.Zone = zone
	}
	return p
}

// Equal tells whether p and q say the same: 0 is 1 as Every, "" is "monday" as
// WeekStart and "UTC" as Zone, and anchors are compared as instants. Equal
// periods have the same windows. Periods that say it differently are not equal
// even where their windows are the same (a quarter and three months).
func (p Period) Equal(q Period) bool {
	return p.Unit == q.Unit && p.every() == q.every() && p.zone() == q.zone() &&
		p.weekStart() == q.weekStart() && p.Anchor.Equal(q.Anchor)
}

func (p Period) every() int { return max(p.Every, 1) }

func (p Period) zone() string {
	if p.Zone == "" {
		return "UTC"
	}
	return p.Zone
}

func (p Period) weekStart() string {
	if p.WeekStart == "" {
		return weekdays[0]
	}
	return p.WeekStart
}

// weekday returns the days from Monday to WeekStart, or -1 if it is no weekday.
func (p Period) weekday() int {
	for i, day := range weekdays {
		if day == p.weekStart() {
			return i
		}
	}
	return -1
}

// String returns p in words: "never", "monthly, Europe/Berlin", "weekly from
// sunday, UTC", "every 3 months from 2026-01-31, Europe/Berlin", "daily from
// 2026-01-31 09:30". The anchor is shown in the period's zone. What is no valid
// zone is quoted, and the anchor then shown in UTC.
func (p Period) String() string {
	if p.Unit == Never || int(p.Unit) >= len(unitNouns) {
		return p.Unit.String()
	}
	b := []byte(unitAdverbs[p.Unit])
	if n := p.every(); n > 1 {
		b = append(b[:0], "every "...)
		b = strconv.AppendInt(b, int64(n), 10)
		b = append(b, ' ')
		b = append(b, unitNouns[p.Unit]...)
		b = append(b, 's')
	}
	loc := time.UTC
	zone := p.Zone
	if zone != "" {
		l, err := LoadZone(zone)
		if err == nil {
			loc = l
		} else {
			zone = strconv.Quote(zone[:min(len(zone), maxZoneName)])
		}
	}
	switch {
	case !p.Anchor.IsZero():
		at := p.Anchor.In(loc)
		layout := " from 2006-01-02 15:04"
		if h, m, s := at.Clock(); h == 0 && m == 0 && s == 0 {
			layout = " from 2006-01-02"
		}
		b = at.AppendFormat(b, layout)
	case p.Unit == Week && p.weekday() > 0:
		b = append(b, " from "...)
		b = append(b, p.WeekStart...)
	}
	if zone != "" {
		b = append(b, ", "...)
		b = append(b, zone...)
	}
	return string(b)
}

// maxPeriodJSON bounds what is read as a Period.
const maxPeriodJSON = 1024

// MarshalJSON returns p as an object whose zero fields are left out:
//
//	{"unit":"month","every":3,"zone":"Europe/Berlin","anchor":"2026-01-31T00:00:00Z"}
//	{"unit":"week","week_start":"sunday"}
//	{"unit":"never"}
//
// The anchor is in UTC, as RFC 3339 has it. The error wraps [ErrInvalid]: a
// unit that does not exist or an anchor beyond the years that RFC 3339 knows.
func (p Period) MarshalJSON() ([]byte, error) {
	data, err := json.Marshal(struct {
		Unit      Unit      `json:"unit"`
		Every     int       `json:"every,omitzero"`
		Zone      string    `json:"zone,omitzero"`
		WeekStart string    `json:"week_start,omitzero"`
		Anchor    time.Time `json:"anchor,omitzero"`
	}{p.Unit, p.Every, p.Zone, p.WeekStart, p.Anchor.UTC()})
	if err != nil {
		return nil, fmt.Errorf("quota: write period: %w: %w", err, ErrInvalid)
	}
	return data, nil
}

// UnmarshalJSON reads the object that MarshalJSON writes; the unit in every
// form of [ParseUnit], the anchor with any offset. It reads the form only, use
// Validate for the rest. To read a period other than it was meant would grant
// credits, so that unknown fields, fields given twice, null, a missing unit and
// more than 1024 bytes are refused, with an error that wraps [ErrInvalid]; p is
// then unchanged.
func (p *Period) UnmarshalJSON(data []byte) error {
	known := periods.Load()
	if known != nil {
		if q, ok := (*known)[string(data)]; ok {
			*p = q
			return nil
		}
	}
	q, err := parsePeriod(data)
	if err != nil {
		return fmt.Errorf("quota: read period: %w", err)
	}
	*p = q
	if known == nil || len(*known) < maxPeriodsKept {
		grown := map[string]Period{string(data): q}
		if known != nil {
			maps.Copy(grown, *known)
		}
		periods.CompareAndSwap(known, &grown) // where another came first, next time
	}
	return nil
}

// periods are texts that were read, with what they say: the records of a store
// have few different ones, and each reading of a record meets one. As with
// zones, nothing depends on whether a text is in it.
var periods atomic.Pointer[map[string]Period]

const maxPeriodsKept = 256

func parsePeriod(data []byte) (Period, error) {
	var p Period
	if len(data) > maxPeriodJSON {
		return p, fmt.Errorf("longer than %d bytes: %w", maxPeriodJSON, ErrInvalid)
	}
	if !json.Valid(data) {
		return p, fmt.Errorf("not JSON: %w", ErrInvalid)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return p, fmt.Errorf("want an object such as {\"unit\":\"month\"}: %w", ErrInvalid)
	}
	seen := make(map[string]bool, 5)
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return p, fmt.Errorf("%w: %w", err, ErrInvalid)
		}
		name, _ := token.(string)
		if seen[name] {
			return p, fmt.Errorf("%q is given twice: %w", name, ErrInvalid)
		}
		var field any
		switch name {
		case "unit":
			field = &p.Unit
		case "every":
			field = &p.Every
		case "zone":
			field = &p.Zone
		case "week_start":
			field = &p.WeekStart
		case "anchor":
			field = &p.Anchor
		default:
			return p, fmt.Errorf("unknown field, want unit, every, zone, week_start or anchor: %w", ErrInvalid)
		}
		seen[name] = true
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return p, fmt.Errorf("%q: %w: %w", name, err, ErrInvalid)
		}
		if string(value) == "null" {
			return p, fmt.Errorf("%q is null, leave it out: %w", name, ErrInvalid)
		}
		if err := json.Unmarshal(value, field); err != nil {
			return p, fmt.Errorf("%q: want %s: %w", name, fieldForm[name], ErrInvalid)
		}
	}
	if !seen["unit"] {
		return p, fmt.Errorf("no unit, want one such as \"month\" or \"never\": %w", ErrInvalid)
	}
	// No zone and no weekday is as long; and what was read can be written
	// within the bound, however it is escaped.
	if len(p.Zone) > maxZoneName || len(p.WeekStart) > maxZoneName {
		return p, fmt.Errorf("zone or week_start is longer than %d bytes: %w", maxZoneName, ErrInvalid)
	}
	p.Anchor = p.Anchor.UTC()
	return p, nil
}

// fieldForm is what a message says about a field that could not be read. The
// errors of encoding/json are not shown, they repeat the input.
var fieldForm = map[string]string{
	"unit":       "never, hour, day, week, month, quarter or year, or hourly, daily, ...",
	"every":      "a whole number",
	"zone":       "a string, the IANA name of a time zone",
	"week_start": "a string, monday to sunday",
	"anchor":     "an instant such as \"2026-01-31T00:00:00Z\" (RFC 3339)",
}
