package harness

import (
	"math/bits"
	"time"
)

// steps is the number of classes between two powers of two: a quantile read
// from the histogram is at most 1/steps below the true one.
const steps = 32

// hist counts durations in classes whose width grows with the duration, so
// that one fixed array holds nanoseconds as well as hours.
type hist struct{ n [60 * steps]uint32 }

func class(d time.Duration) int {
	if d < steps {
		return int(max(d, 0))
	}
	e := bits.Len64(uint64(d)) - 6 // 2^5 = steps: d>>e lies in [steps, 2*steps)
	return e*steps + int(uint64(d)>>e)
}

// lowest is the smallest duration of class c.
func lowest(c int) time.Duration {
	if c < 2*steps {
		return time.Duration(c)
	}
	e := c/steps - 1
	return time.Duration(steps+c%steps) << e
}

func (h *hist) add(d time.Duration) { h.n[class(d)]++ }

// merge adds o's counts to h.
func (h *hist) merge(o *hist) {
	for c, n := range o.n {
		h.n[c] += n
	}
}

// quantile is the duration that a share q of all counted ones does not exceed,
// 0 when nothing was counted.
func (h *hist) quantile(q float64) time.Duration {
	var total uint64
	for _, n := range h.n {
		total += uint64(n)
	}
	want, seen := uint64(q*float64(total)), uint64(0)
	for c, n := range h.n {
		seen += uint64(n)
		if n > 0 && seen > want {
			return lowest(c)
		}
	}
	return 0
}
