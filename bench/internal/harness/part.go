package harness

import (
	"context"
	"time"
)

// Part is what one of several processes measured in a round, in a form that can
// be sent.
type Part struct {
	Calls   int
	Took    time.Duration
	Classes map[int]uint32 // how many calls took how long, by class
}

// MeasurePart lets a process's callers call op until d is over. next has each
// caller's next call and goes on.
func MeasurePart(ctx context.Context, op Op, next []int, d time.Duration) (Part, error) {
	sum, took := callAll(ctx, op, next, 1, d)
	p := Part{Calls: sum.calls, Took: took, Classes: map[int]uint32{}}
	for c, n := range sum.hist.n {
		if n > 0 {
			p.Classes[c] = n
		}
	}
	return p, sum.err
}

// RoundOf puts the parts of a round together: rates add up, and quantiles are of
// all calls.
func RoundOf(parts []Part) (r Round) {
	var h hist
	for _, p := range parts {
		r.Rate += float64(p.Calls) / p.Took.Seconds()
		for c, n := range p.Classes {
			if c >= 0 && c < len(h.n) {
				h.n[c] += n
			}
		}
	}
	r.P50, r.P99 = float64(h.quantile(.50)), float64(h.quantile(.99))
	return r
}
