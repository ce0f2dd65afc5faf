package middleware

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/keypurse/keypurse/quota"
)

// LimitState is a limit that stood in the way, as problem details say it:
// credits are decimal strings.
type LimitState struct {
	Level     string        `json:"level"` // "key", "account", "member" or "org"
	Subject   quota.Subject `json:"subject"`
	Limit     string        `json:"limit"`
	Max       quota.Credits `json:"max"`
	Used      quota.Credits `json:"used"`
	Held      quota.Credits `json:"held"`
	Overage   quota.Credits `json:"overage"`
	Remaining quota.Credits `json:"remaining"`
	Requested quota.Credits `json:"requested"`
	ResetsAt  time.Time     `json:"resets_at,omitzero"` // absent: never
	// HeldOnly: nothing but credits on hold for requests under way stands in
	// the way, and they may be free again soon.
	HeldOnly bool `json:"held_only,omitempty"`
}

// policy names a limit in RateLimit headers and in violated-policies.
func (s *LimitState) policy() string { return s.Level + ":" + s.Limit }

func limitState(l *quota.LimitStatus) LimitState {
	return LimitState{
		Level: l.Subject.Kind(), Subject: l.Subject, Limit: l.Limit,
		Max: l.Max, Used: l.Used, Held: l.Held, Overage: l.Overage, Remaining: l.Remaining,
		Requested: l.Requested, ResetsAt: l.ResetAt,
		// Used, Overage and Held together fit into int64: no difference wraps.
		HeldOnly: l.Held > 0 && l.Requested <= l.Max-l.Used-l.Overage,
	}
}

const (
	// forever is longer than every wait. The longest window is a century.
	forever    = 201 * 365 * 24 * time.Hour
	longestOne = 200 * 365 * 24 * time.Hour
	heldWait   = time.Second
	mostJitter = 30 * time.Second
)

// wait is how long the limit keeps its caller out.
func (s *LimitState) wait(now time.Time) time.Duration {
	switch {
	case s.Requested > s.Max:
		return forever
	case s.HeldOnly:
		return heldWait
	case s.ResetsAt.IsZero():
		return forever
	}
	return min(max(s.ResetsAt.Sub(now), time.Second), longestOne)
}

// exceeded is the answer of the limit that keeps the caller out longest.
func exceeded(e *quota.ExceededError, now time.Time) *Problem {
	p := &Problem{
		Type: typeQuota, Title: titleQuota, Status: 402, Code: CodeLimitExceeded,
		Violated: make([]LimitState, 0, len(e.Limits)), Policies: make([]string, 0, len(e.Limits)),
	}
	longest := time.Duration(-1)
	for i := range e.Limits {
		s := limitState(&e.Limits[i])
		p.Violated, p.Policies = append(p.Violated, s), append(p.Policies, s.policy())
		if w := s.wait(now); w > longest {
			longest, p.LimitState = w, &s
		}
	}
	s := p.LimitState
	if s == nil {
		p.Detail = "The request was not admitted."
		return p
	}
	level := s.Level
	if level == quota.KindOrg {
		level = "organization"
	}
	where := fmt.Sprintf("The limit %q of the %s has %s of %s credits left", s.Limit, level, s.Remaining, s.Max)
	switch {
	case s.Requested > s.Max:
		p.Detail = fmt.Sprintf("The request costs %s credits, more than the whole limit %q of the %s, which is %s.", s.Requested, s.Limit, level, s.Max)
	case longest == forever:
		p.Detail = fmt.Sprintf("%s, the request costs %s, and the limit does not reset.", where, s.Requested)
	case s.HeldOnly:
		p.Status, p.RetryAfter = 429, longest
		p.Detail = fmt.Sprintf("%s, the request costs %s, and %s are on hold for requests under way: try again when those are done.", where, s.Requested, s.Held)
	default:
		p.Status, p.RetryAfter = 429, longest+jitter(longest)
		p.Detail = fmt.Sprintf("%s, the request costs %s, and the limit resets at %s.", where, s.Requested, s.ResetsAt.Format(time.RFC3339))
	}
	return p
}

// jitter spreads those who wait for one reset over the time after it: up to a
// tenth of the wait, at most half a minute, and always later, never earlier.
func jitter(wait time.Duration) time.Duration {
	return rand.N(min(wait/10, mostJitter) + 1)
}
