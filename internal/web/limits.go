package web

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/keypurse/keypurse/quota"
)

// Refusal is what HTTP says of a request that limits refused.
type Refusal struct {
	// Limit is the index of the limit that answers: the one that keeps the
	// caller out longest. -1 where there is none.
	Limit      int
	Status     int           // 429 where waiting helps, else 402
	RetryAfter time.Duration // 0 where waiting does not help
	Detail     string
}

const (
	// forever is longer than every wait. The longest window is a century.
	forever    = 201 * 365 * 24 * time.Hour
	longestOne = 200 * 365 * 24 * time.Hour
	heldWait   = time.Second
	mostJitter = 30 * time.Second
)

// HeldOnly reports whether nothing but credits on hold for requests under way
// stands in the way, which may be free again soon.
func HeldOnly(l *quota.LimitStatus) bool {
	// Used, Overage and Held together fit into int64: no difference wraps.
	return l.Held > 0 && l.Requested <= l.Max-l.Used-l.Overage
}

// wait is how long the limit keeps its caller out.
func wait(l *quota.LimitStatus, now time.Time) time.Duration {
	switch {
	case l.Requested > l.Max:
		return forever
	case HeldOnly(l):
		return heldWait
	case l.ResetAt.IsZero():
		return forever
	}
	return min(max(l.ResetAt.Sub(now), time.Second), longestOne)
}

// Refuse says how a request is answered that these limits refused.
func Refuse(limits []quota.LimitStatus, now time.Time) Refusal {
	a := Refusal{Limit: -1, Status: http.StatusPaymentRequired}
	longest := time.Duration(-1)
	for i := range limits {
		if w := wait(&limits[i], now); w > longest {
			longest, a.Limit = w, i
		}
	}
	if a.Limit < 0 {
		a.Detail = "The request was not admitted."
		return a
	}
	l := &limits[a.Limit]
	level := l.Subject.Kind()
	if level == quota.KindOrg {
		level = "organization"
	}
	where := fmt.Sprintf("The limit %q of the %s has %s of %s credits left", l.Limit, level, l.Remaining, l.Max)
	switch {
	case l.Requested > l.Max:
		a.Detail = fmt.Sprintf("The request costs %s credits, more than the whole limit %q of the %s, which is %s.", l.Requested, l.Limit, level, l.Max)
	case longest == forever:
		a.Detail = fmt.Sprintf("%s, the request costs %s, and the limit does not reset.", where, l.Requested)
	case HeldOnly(l):
		a.Status, a.RetryAfter = http.StatusTooManyRequests, longest
		a.Detail = fmt.Sprintf("%s, the request costs %s, and %s are on hold for requests under way: try again when those are done.", where, l.Requested, l.Held)
	default:
		a.Status, a.RetryAfter = http.StatusTooManyRequests, longest+jitter(longest)
		a.Detail = fmt.Sprintf("%s, the request costs %s, and the limit resets at %s.", where, l.Requested, l.ResetAt.Format(time.RFC3339))
	}
	return a
}

// jitter spreads those who wait for one reset over the time after it: up to a
// tenth of the wait, at most half a minute, and always later, never earlier.
func jitter(wait time.Duration) time.Duration {
	return rand.N(min(wait/10, mostJitter) + 1)
}
