package middleware

import (
	"time"

	"github.com/keypurse/keypurse/internal/web"
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
		Requested: l.Requested, ResetsAt: l.ResetAt, HeldOnly: web.HeldOnly(l),
	}
}

// exceeded is the answer of the limit that keeps the caller out longest.
func exceeded(e *quota.ExceededError, now time.Time) *Problem {
	a := web.Refuse(e.Limits, now)
	p := &Problem{
		Type: web.TypeQuota, Title: titleQuota, Status: a.Status, Code: CodeLimitExceeded, Detail: a.Detail, RetryAfter: a.RetryAfter,
		Violated: make([]LimitState, 0, len(e.Limits)), Policies: make([]string, 0, len(e.Limits)),
	}
	for i := range e.Limits {
		s := limitState(&e.Limits[i])
		p.Violated, p.Policies = append(p.Violated, s), append(p.Policies, s.policy())
		if i == a.Limit {
			p.LimitState = &s
		}
	}
	return p
}
