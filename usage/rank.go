package usage

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/keypurse/keypurse/quota"
)

// MaxTop bounds the subjects that a Ranking keeps.
const MaxTop = 1000

// Comparison is a period and the one before it, which ends where it begins.
type Comparison struct {
	Before time.Time `json:"before"` // the start of the period before
	From   time.Time `json:"from"`
	To     time.Time `json:"to"`
}

// Compare finds the period before [from, to) on the calendar of a zone ("" is
// UTC): of whole months, as many months before; else of whole days, as many
// days before, whatever their hours; else as long a time before. So March is
// compared with February, a week with the week before it, and the first twelve
// days of a month with the twelve days before them. Nothing lies before 1970.
// Errors wrap quota.ErrInvalid.
func Compare(from, to time.Time, zone string) (Comparison, error) {
	lo, hi, err := checkRange(from, to)
	if err != nil {
		return Comparison{}, fmt.Errorf("usage: compare: %w", err)
	}
	for _, step := range []Step{Month, Day} {
		cal, err := newCalendar(step, zone, "")
		if err != nil {
			return Comparison{}, fmt.Errorf("usage: compare: %w", err)
		}
		before, ok, err := cal.asMany(lo, hi)
		if err != nil {
			return Comparison{}, fmt.Errorf("usage: compare: %w", err)
		}
		if ok {
			return Comparison{Before: cal.local(before), From: cal.local(lo), To: cal.local(hi)}, nil
		}
	}
	cal, _ := newCalendar(QuarterHour, zone, "") // checked above
	return Comparison{Before: cal.local(max(0, 2*lo-hi)), From: cal.local(lo), To: cal.local(hi)}, nil
}

// asMany goes as many steps before lo as there are in [lo, hi); ok is false
// where that is no whole number of them.
func (c *calendar) asMany(lo, hi int64) (before int64, ok bool, err error) {
	n := 0
	for at := lo; at < hi; n++ {
		start, end, err := c.window(at)
		if err != nil || start != at || end > hi || n == MaxPoints {
			return 0, false, err
		}
		at = end
	}
	for before = lo; n > 0 && before > 0; n-- {
		if before, _, err = c.window(before - 1); err != nil {
			return 0, false, err
		}
	}
	return max(0, before), true, nil
}

// Ranked is a subject with what it spent and asked for in a period and in the
// one before it.
type Ranked struct {
	Subject quota.Subject `json:"subject"`
	Counts
	Before Counts `json:"before"`
}

// Ranking finds the subjects that spent most, among any number of them, and
// keeps no more than it was asked for. More credits come first, then more
// requests, then more refused ones, then the lesser id. Not safe for concurrent
// use.
type Ranking struct {
	period   Range
	most     int
	top      rankHeap
	subjects int
}

// NewRanking makes a Ranking of 1 to MaxTop subjects over a period. Errors wrap
// quota.ErrInvalid.
func NewRanking(most int, c Comparison) (*Ranking, error) {
	if most < 1 || most > MaxTop {
		return nil, fmt.Errorf("usage: ranking of %d subjects, want 1 to %d: %w", most, MaxTop, quota.ErrInvalid)
	}
	from, to, err := checkRange(c.From, c.To)
	if err != nil {
		return nil, fmt.Errorf("usage: ranking: %w", err)
	}
	r := &Ranking{most: most, period: Range{From: from, To: to, Edges: []int64{from, to}}}
	if c.Before.Before(c.From) && !c.Before.IsZero() {
		before, _, err := checkRange(c.Before, c.From)
		if err != nil {
			return nil, fmt.Errorf("usage: ranking: %w", err)
		}
		r.period.From, r.period.Edges = before, []int64{before, from, to}
	}
	return r, nil
}

// Read adds every subject of a kind, such as quota.KindKey, or those named (at
// most MaxSubjects a call; kind is then ""), with one call of the store. No
// subject may be read twice. Errors are those of Read; after one the Ranking is
// of no more use.
func (r *Ranking) Read(ctx context.Context, store Store, org, kind string, subjects ...quota.Subject) error {
	if _, err := checkAsked(org, kind, subjects); err != nil {
		return fmt.Errorf("usage: ranking: %w", err)
	}
	ask := r.period
	ask.Org, ask.Kind, ask.Subjects, ask.Edges = org, kind, slices.Clone(subjects), slices.Clone(ask.Edges)
	from := r.period.Edges[len(r.period.Edges)-2]
	var one Ranked
	room := MaxRefusals
	err := store.Usage(ctx, ask, func(row Row) error {
		if row.Start < ask.From || row.Start >= ask.To {
			return errOutside
		}
		if row.Subject != one.Subject {
			r.add(one)
			one, room = Ranked{Subject: row.Subject}, MaxRefusals
		}
		if row.Start < from {
			return one.Before.add(&row, &room)
		}
		return one.Counts.add(&row, &room)
	})
	if err != nil {
		return fmt.Errorf("usage: ranking: %w", err)
	}
	r.add(one)
	return nil
}

func (r *Ranking) add(one Ranked) {
	if one.Credits == 0 && one.Requests == 0 && one.Refused == 0 {
		return // nothing in the period
	}
	r.subjects++
	if len(r.top) < r.most {
		heap.Push(&r.top, one)
	} else if byRank(&one, &r.top[0]) < 0 {
		r.top[0] = one
		heap.Fix(&r.top, 0)
	}
}

// Subjects is how many of those read spent or asked for anything in the period.
func (r *Ranking) Subjects() int { return r.subjects }

// Top are those that spent most in the period, the first first.
func (r *Ranking) Top() []Ranked {
	out := slices.Clone([]Ranked(r.top))
	slices.SortFunc(out, func(a, b Ranked) int { return byRank(&a, &b) })
	return out
}

// byRank is negative where a stands before b.
func byRank(a, b *Ranked) int {
	return cmp.Or(cmp.Compare(b.Credits, a.Credits), cmp.Compare(b.Requests, a.Requests), cmp.Compare(b.Refused, a.Refused), cmp.Compare(a.Subject, b.Subject))
}

// rankHeap has the last of a ranking at its top.
type rankHeap []Ranked

func (h rankHeap) Len() int           { return len(h) }
func (h rankHeap) Less(i, j int) bool { return byRank(&h[i], &h[j]) > 0 }
func (h rankHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *rankHeap) Push(x any)        { *h = append(*h, x.(Ranked)) }
func (h *rankHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
