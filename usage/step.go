package usage

import (
	"fmt"
	"strconv"
	"time"

	"github.com/keypurse/keypurse/quota"
)

// Step is the width of a point. The zero Step is none and is refused.
type Step uint8

// The steps. All but QuarterHour are windows of the calendar of a zone, as
// quota.Period defines them: a day has 22 to 25 hours and begins at the first
// instant of its local date, an hour is one of the local clock.
const (
	QuarterHour Step = 1 + iota // the buckets as they are, on the quarters of UTC
	Hour
	Day
	Week
	Month
)

var stepNames = [...]string{"", "quarter_hour", "hour", "day", "week", "month"}

// ParseStep reads "quarter_hour", "hour", "day", "week" or "month". The error
// wraps quota.ErrInvalid.
func ParseStep(s string) (Step, error) {
	for i, name := range stepNames {
		if i > 0 && s == name {
			return Step(i), nil
		}
	}
	return 0, fmt.Errorf("usage: unknown step, want quarter_hour, hour, day, week or month: %w", quota.ErrInvalid)
}

// String is the step as ParseStep reads it, and "Step(9)" for what is none.
func (s Step) String() string {
	if s.ok() {
		return stepNames[s]
	}
	return "Step(" + strconv.Itoa(int(s)) + ")"
}

// MarshalText is what String returns, or an error that wraps quota.ErrInvalid
// for what is no step.
func (s Step) MarshalText() ([]byte, error) {
	if !s.ok() {
		return nil, fmt.Errorf("usage: step %d does not exist: %w", s, quota.ErrInvalid)
	}
	return []byte(stepNames[s]), nil
}

// UnmarshalText reads what ParseStep reads. On an error s is unchanged.
func (s *Step) UnmarshalText(text []byte) error {
	v, err := ParseStep(string(text))
	if err != nil {
		return err
	}
	*s = v
	return nil
}

func (s Step) ok() bool { return s >= QuarterHour && s <= Month }

// calendar finds the points that instants lie in.
type calendar struct {
	step   Step
	period quota.Period // of the step; unused for QuarterHour
	loc    *time.Location
}

// newCalendar checks step, zone ("" is UTC) and week start ("" is Monday).
func newCalendar(step Step, zone, weekStart string) (calendar, error) {
	if !step.ok() {
		return calendar{}, fmt.Errorf("no step, want one of QuarterHour, Hour, Day, Week and Month: %w", quota.ErrInvalid)
	}
	if weekStart != "" && step != Week {
		return calendar{}, fmt.Errorf("a week start goes with step week only, not with %v: leave it out: %w", step, quota.ErrInvalid)
	}
	c := calendar{step: step, loc: time.UTC}
	if zone != "" {
		loc, err := quota.LoadZone(zone)
		if err != nil {
			return calendar{}, err
		}
		c.loc = loc
	}
	unit := [...]quota.Unit{Hour: quota.Hour, Day: quota.Day, Week: quota.Week, Month: quota.Month}[step]
	c.period = quota.Period{Unit: unit, Zone: zone, WeekStart: weekStart}
	return c, nil
}

// window is the point that instant at lies in; all in microseconds.
func (c *calendar) window(at int64) (start, end int64, err error) {
	if c.step == QuarterHour {
		start = quota.BucketStart(at)
		return start, start + bucketMicros, nil
	}
	return windowAt(c.period, at)
}

func windowAt(p quota.Period, at int64) (start, end int64, err error) {
	w, err := p.WindowAt(time.UnixMicro(at))
	return quota.Micros(w.Start), quota.Micros(w.End), err
}

// local is an instant on the calendar's clock. RFC 3339 cannot write an offset
// with seconds, as Monrovia had until 1972: there it is UTC, so that no time
// that is written down is another instant.
func (c *calendar) local(at int64) time.Time {
	t := time.UnixMicro(at).In(c.loc)
	if _, offset := t.Zone(); offset%60 != 0 {
		return t.UTC()
	}
	return t
}
