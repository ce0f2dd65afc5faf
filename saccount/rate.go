package saccount

import (
	"time"

	"golang.org/x/time/rate"
)

// take takes one request at instant now, or says how long to wait for it and
// takes nothing. undo gives the request back.
func take(l *rate.Limiter, now time.Time) (wait time.Duration, undo func()) {
	r := l.ReserveN(now, 1)
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return wait, func() {}
	}
	return 0, func() { r.CancelAt(now) }
}
