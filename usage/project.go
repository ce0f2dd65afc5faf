package usage

import (
	"context"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/keypurse/keypurse/quota"
)

// Spans of a Pace, and the history that a projection needs.
const (
	PaceDay    = 24 * time.Hour
	PaceWeek   = 7 * 24 * time.Hour
	MinHistory = 6 * time.Hour
)

// farthest bounds what is projected: what runs out later does not run out.
const farthest = 100 * 365 * 24 * time.Hour

// Span is what was spent over some time. The zero Span is none.
type Span struct {
	Credits quota.Credits // not negative
	Over    time.Duration
}

// Pace is how fast a subject spent lately: what a projection goes by.
type Pace struct {
	Now  time.Time // the instant that both spans end at
	Day  Span      // of the last 24 hours, and the quarter of an hour that they begin in
	Week Span      // of the last 7 days, likewise
}

// Paces reads the paces of subjects (1 to MaxSubjects, each named once) at an
// instant, in their order, with one call of the store. Errors are those of
// Totals.
func Paces(ctx context.Context, store Store, org string, subjects []quota.Subject, now time.Time) ([]Pace, error) {
	index, err := checkSubjects(org, subjects)
	if err != nil {
		return nil, fmt.Errorf("usage: paces: %w", err)
	}
	if now.Before(minTime.Add(PaceWeek)) || !now.Before(maxTime) {
		return nil, fmt.Errorf("usage: paces: the instant lies outside the years 1970 to 9899: %w", quota.ErrInvalid)
	}
	here := quota.BucketStart(quota.Micros(now))
	week, day := here-PaceWeek.Microseconds(), here-PaceDay.Microseconds()
	out := make([]Pace, len(subjects))
	for i := range out {
		out[i].Now = now
		out[i].Day.Over, out[i].Week.Over = now.Sub(time.UnixMicro(day)), now.Sub(time.UnixMicro(week))
	}
	r := Range{Org: org, Subjects: slices.Clone(subjects), From: week, To: here + bucketMicros, Edges: []int64{week, day, here + bucketMicros}}
	err = store.Usage(ctx, r, func(row Row) error {
		i, ok := index[row.Subject]
		switch {
		case !ok:
			return errForeign
		case row.Start < r.From || row.Start >= r.To:
			return errOutside
		}
		p := &out[i]
		if p.Week.Credits, err = p.Week.Credits.Add(row.Credits); err != nil || row.Start < day {
			return err
		}
		p.Day.Credits, err = p.Day.Credits.Add(row.Credits)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("usage: paces: %w", err)
	}
	return out, nil
}

// Since is the pace of a subject that is there since an instant: what it spent
// was spent since then, and not over spans in which it was not there yet.
func (p Pace) Since(made time.Time) Pace {
	age := max(0, p.Now.Sub(made))
	p.Day.Over, p.Week.Over = min(p.Day.Over, age), min(p.Week.Over, age)
	return p
}

// Projection is where a limit goes at the pace of late. It is an estimate: it
// knows no plans, and of nights and weekends what the last week shows.
type Projection struct {
	// Known is false, and all else zero, where there is less than MinHistory
	// to go by.
	Known bool `json:"known"`
	// RunsOut is when nothing is left of the window's Max; zero where that is
	// not before the window ends (or, where it never ends, within 100 years).
	// Spent already: the Pace's own instant.
	RunsOut time.Time `json:"runs_out,omitzero"`
	// ByDay and ByWeek are RunsOut by the last 24 hours alone and by the last
	// 7 days alone. Where only one of them is set, a single busy or quiet day
	// makes the difference: an alert is worth sending where both are.
	ByDay  time.Time `json:"by_day,omitzero"`
	ByWeek time.Time `json:"by_week,omitzero"`
	// AtEnd is what will have been used when the window ends, as if nothing
	// refused it; zero where the window never ends.
	AtEnd quota.Credits `json:"at_end"`
}

// Project says where a limit goes. The rule: the next 24 hours cost what the
// last 24 hours did, and the time after that goes at the average of the last 7
// days. So a change of yesterday counts at once, and what lies further ahead
// rests on a whole week with its nights and its weekend. A subject that is
// younger than that goes by the time that it is there: see Pace.Since. Credits
// on hold count as spent for RunsOut, and not for AtEnd, which the pace brings
// them to. Amounts that would leave int64 stay at its end.
//
// A pace that is negative, spends more in the day than in the week, or in no
// time, and one whose instant is not in the limit's window, are errors that
// wrap quota.ErrInvalid.
func Project(l quota.LimitStatus, p Pace) (Projection, error) {
	if err := p.check(); err != nil {
		return Projection{}, fmt.Errorf("usage: project: %w", err)
	}
	if !l.ResetAt.IsZero() && (p.Now.Before(l.Start) || !p.Now.Before(l.ResetAt)) {
		return Projection{}, fmt.Errorf("usage: project: the pace was read at %s, outside the limit's window: %w", p.Now.UTC().Format(time.RFC3339), quota.ErrInvalid)
	}
	if p.Week.Over < MinHistory {
		return Projection{}, nil
	}
	if p.Day.Over == 0 && p.Day.Credits > 0 {
		return Projection{}, fmt.Errorf("usage: project: %s credits of a day without length: %w", p.Day.Credits, quota.ErrInvalid)
	}
	left := max(0, l.Remaining)
	out := Projection{Known: true}
	tell := func(after time.Duration, ok bool) time.Time {
		at := p.Now.Add(after)
		if !ok || !l.ResetAt.IsZero() && !at.Before(l.ResetAt) {
			return time.Time{}
		}
		return at.UTC()
	}
	out.ByDay = tell(p.Day.until(left))
	out.ByWeek = tell(p.Week.until(left))
	if first := p.Day.in(PaceDay); left <= first {
		out.RunsOut = tell(p.Day.until(left))
	} else {
		after, ok := p.Week.until(left - first)
		out.RunsOut = tell(PaceDay+after, ok)
	}
	if !l.ResetAt.IsZero() {
		togo := l.ResetAt.Sub(p.Now)
		out.AtEnd = satAdd(satAdd(l.Used, l.Overage), p.Day.in(min(togo, PaceDay)))
		out.AtEnd = satAdd(out.AtEnd, p.Week.in(max(0, togo-PaceDay)))
	}
	return out, nil
}

func (p *Pace) check() error {
	switch {
	case p.Day.Credits < 0 || p.Day.Credits > p.Week.Credits:
		return fmt.Errorf("a pace of %s credits in a day and %s in the week of it: %w", p.Day.Credits, p.Week.Credits, quota.ErrInvalid)
	case p.Day.Over < 0 || p.Day.Over > p.Week.Over:
		return fmt.Errorf("a day of %v in a week of %v: %w", p.Day.Over, p.Week.Over, quota.ErrInvalid)
	}
	return nil
}

// in is what is spent in d at this pace, rounded down.
func (s Span) in(d time.Duration) quota.Credits {
	if s.Over == 0 {
		return 0
	}
	n, _ := mulDiv(uint64(s.Credits), uint64(d), uint64(s.Over))
	return quota.Credits(min(n, math.MaxInt64))
}

// until is when so much is spent at this pace, rounded up to a microsecond.
// Over is never 0 where something was spent.
func (s Span) until(left quota.Credits) (time.Duration, bool) {
	if left == 0 {
		return 0, true
	}
	if s.Credits == 0 {
		return 0, false
	}
	n, rest := mulDiv(uint64(left), uint64(s.Over), uint64(s.Credits))
	if n >= uint64(farthest) {
		return 0, false
	}
	d := time.Duration(n)
	if whole := d.Truncate(time.Microsecond); whole < d || rest {
		d = whole + time.Microsecond
	}
	return d, true
}

// mulDiv is a*b/c, rounded down and at most the greatest uint64, and whether
// something was left over.
func mulDiv(a, b, c uint64) (n uint64, rest bool) {
	hi, lo := bits.Mul64(a, b)
	if hi >= c {
		return math.MaxUint64, false
	}
	n, r := bits.Div64(hi, lo, c)
	return n, r != 0
}

func satAdd(a, b quota.Credits) quota.Credits {
	if sum, err := a.Add(b); err == nil {
		return sum
	}
	return math.MaxInt64
}
