package quota

import (
	"fmt"
	"math"
	"time"
)

// WindowAt knows the instants from 1970 up to, not including, 9900. A window is
// never longer than a century, so that all its bounds are times that RFC 3339
// can write.
const (
	minInstant = 0               // 1970-01-01T00:00:00Z
	maxInstant = 250246627200    // 9900-01-01T00:00:00Z, checked by a test
	dayLength  = 24 * 60 * 60    // of a calendar without a zone
	hourLength = 60 * 60         // elapsed
	maxOffset  = 26 * hourLength // no zone was ever further from UTC than 16 hours
)

// Window is one turn of a period: the instants from Start up to, not including,
// End. Both are in UTC. The zero value is the window of a period that never
// resets: it has neither start nor end.
type Window struct {
	Start, End time.Time
}

// Contains tells whether t lies in w: at or after Start and before End. The
// zero Window contains every instant.
func (w Window) Contains(t time.Time) bool {
	return !w.Resets() || (!t.Before(w.Start) && t.Before(w.End))
}

// Resets tells whether w ends: it is false for the zero Window only.
func (w Window) Resets() bool { return w != Window{} }

// WindowAt returns the window of p that t lies in, and the zero Window for a
// period that never resets. The windows of a period tile time, with no gap and
// no overlap. It is a pure function of p, t and the time zone database, may be
// called concurrently, and usually takes less than a microsecond.
//
// A calendar window starts at the first instant at which the local clock shows
// its date and time of day or a later one. Where the clock skips midnight, the
// day starts with the first time that exists (01:00, say); where it shows
// midnight twice, with the first; where a date was left out, there is no window
// for it and its neighbours meet. What the clock repeats after it was set back
// belongs to the window that had begun before.
//
// With an anchor, the n-th window starts n times Every units from the anchor's
// local date and time of day, before it as well as after it, and a day that a
// month does not have becomes the month's last. It is counted from the anchor
// and not from the window before: 31 January, 28 February, 31 March.
//
// An hourly window is an hour of the local clock, so that it starts on the half
// hour of UTC in a zone half an hour off. Clocks set forward or back by whole
// hours leave it alone; at other changes (Lord Howe Island's half hour) one
// window ends and the next starts. With an anchor, hours are elapsed time from
// the anchor on and the zone does not matter.
//
// The error wraps [ErrInvalid]: p is not valid (see Validate, except that an
// anchor may lie after t), or t is before 1970 or after 9899.
func (p Period) WindowAt(t time.Time) (Window, error) {
	loc, err := p.check()
	if err != nil {
		return Window{}, err
	}
	if p.Unit == Never {
		return Window{}, nil
	}
	sec := t.Unix()
	if sec < minInstant || sec >= maxInstant {
		return Window{}, fmt.Errorf("quota: window: the instant lies outside the years 1970 to 9899: %w", ErrInvalid)
	}
	var start, end int64
	switch {
	case p.Unit != Hour:
		c := clock{loc}
		wall, here := c.furthest(sec)
		from, to := p.turn(c, wall)
		start, end = c.first(from, here), c.first(to, here)
	case p.Anchor.IsZero():
		start, end = clock{loc}.hour(sec)
	default:
		length := int64(p.every()) * hourLength
		anchor := p.Anchor.Unix()
		start = anchor + floorDiv(sec-anchor, length)*length
		end = start + length
	}
	return Window{time.Unix(start, 0).UTC(), time.Unix(end, 0).UTC()}, nil
}

// Local readings below are "wall" seconds: the date and time that the local
// clock shows, taken as if it were UTC. Wall seconds are a plain calendar; all
// that is irregular about zones is in clock.

// turn returns the readings between which p puts the reading wall: from is the
// greatest at or before wall that a window starts at, to is the next.
func (p Period) turn(c clock, wall int64) (from, to int64) {
	n := int64(p.every())
	var base int64 // 1970-01-01 00:00, the start of a day, month, quarter, year
	switch {
	case !p.Anchor.IsZero():
		base = p.Anchor.Unix()
		base += c.stretchAt(base).offset
	case p.Unit == Week:
		base = int64(4+p.weekday()) * dayLength // 1970-01-05 was a Monday
	}
	switch p.Unit {
	case Day:
		return turnOfDays(base, n, wall)
	case Week:
		return turnOfDays(base, 7*n, wall)
	case Quarter:
		return turnOfMonths(base, 3*n, wall)
	case Year:
		return turnOfMonths(base, 12*n, wall)
	default:
		return turnOfMonths(base, n, wall)
	}
}

func turnOfDays(base, days, wall int64) (from, to int64) {
	length := days * dayLength
	from = base + floorDiv(wall-base, length)*length
	return from, from + length
}

func turnOfMonths(base, months, wall int64) (from, to int64) {
	year, month, day := time.Unix(base, 0).UTC().Date()
	first := int64(year)*12 + int64(month) - 1
	timeOfDay := base - floorDiv(base, dayLength)*dayLength
	// at is the reading so many months from base, on the last of the month
	// where the month has no such day.
	at := func(offset int64) int64 {
		y := int(floorDiv(first+offset, 12))
		m := time.Month(first + offset - int64(y)*12 + 1)
		last := time.Date(y, m+1, 0, 0, 0, 0, 0, time.UTC).Day()
		return time.Date(y, m, min(day, last), 0, 0, 0, 0, time.UTC).Unix() + timeOfDay
	}
	year, month, _ = time.Unix(wall, 0).UTC().Date()
	offset := floorDiv(int64(year)*12+int64(month)-1-first, months) * months
	from = at(offset)
	if from > wall { // later in the month of wall
		return at(offset - months), from
	}
	return from, at(offset + months)
}

// floorDiv is a/b rounded down, for b above 0.
func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// clock is the local clock of a zone.
type clock struct{ loc *time.Location }

// stretch is a time, in Unix seconds from start up to and not including end,
// through which a zone keeps one offset from UTC. It need not be the whole of
// that time.
type stretch struct{ start, end, offset int64 }

// stretchAt returns the stretch that starts at sec. What comes before is never
// asked for: the start that ZoneBounds returns can lie before the zone's last
// listed change, in time that had another offset.
func (c clock) stretchAt(sec int64) stretch {
	t := time.Unix(sec, 0).In(c.loc)
	_, offset := t.Zone()
	s := stretch{sec, math.MaxInt64, int64(offset)}
	if _, end := t.ZoneBounds(); !end.IsZero() {
		s.end = end.Unix()
	}
	if s.end <= sec {
		// On the last day of leap years ZoneBounds returns an end that has
		// passed (golang/go#81583). No clock is changed on that day.
		s.end = (floorDiv(sec, dayLength) + 1) * dayLength
	}
	return s
}

// furthest returns the latest reading that the clock has shown up to and with
// the instant sec: the present one, but for the hours after the clock was set
// back. It also returns the stretch that sec lies in.
func (c clock) furthest(sec int64) (wall int64, here stretch) {
	// What was shown before cannot be ahead of what is shown now.
	here = c.stretchAt(sec - 2*maxOffset)
	wall = math.MinInt64
	for here.end <= sec {
		wall = max(wall, here.end-1+here.offset)
		here = c.stretchAt(here.end)
	}
	return max(wall, sec+here.offset), here
}

// first returns the first instant at which the clock shows wall or a later
// reading. The stretch near saves a look into the zone where it is the right
// one.
func (c clock) first(wall int64, near stretch) int64 {
	// No clock can show wall earlier than this.
	earliest := wall - maxOffset
	s := near
	if earliest < s.start || earliest >= s.end {
		s = c.stretchAt(earliest)
	}
	for {
		at := max(s.start, wall-s.offset)
		if at < s.end {
			return at
		}
		s = c.stretchAt(s.end)
	}
}

// hour returns the hour of the clock that the instant sec lies in, cut where
// the clock was set forward or back by anything but whole hours.
func (c clock) hour(sec int64) (start, end int64) {
	cut := int64(math.MinInt64)
	s := c.stretchAt(sec - hourLength)
	for s.end <= sec {
		after := c.stretchAt(s.end)
		if (after.offset-s.offset)%hourLength != 0 {
			cut = s.end
		}
		s = after
	}
	start = floorDiv(sec+s.offset, hourLength)*hourLength - s.offset
	end = start + hourLength
	for s.end < end {
		after := c.stretchAt(s.end)
		if (after.offset-s.offset)%hourLength != 0 {
			end = s.end
			break
		}
		s = after
	}
	return max(start, cut), end
}
