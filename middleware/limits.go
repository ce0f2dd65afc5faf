package middleware

import (
	"errors"
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

func limitState(l *quota.LimitStatus) LimitState {
	return LimitState{
		Level: l.Subject.Kind(), Subject: l.Subject, Limit: l.Limit,
		Max: l.Max, Used: l.Used, Held: l.Held, Overage: l.Overage, Remaining: l.Remaining,
		Requested: l.Requested, ResetsAt: l.ResetAt, HeldOnly: web.HeldOnly(l),
	}
}

// explained is the answer to an error that keeps a caller out, with the limits
// where it was limits.
func explained(a *web.Answer, err error) *Problem {
	p := &Problem{
		Type: a.Type, Title: a.Title, Status: a.Status, Code: a.Code, Detail: a.Detail, Policies: a.Policies,
		Scope: a.Scope, RetryAfter: a.RetryAfter, Challenge: a.Challenge,
	}
	var over *quota.ExceededError
	if !errors.As(err, &over) {
		return p
	}
	p.Violated = make([]LimitState, 0, len(over.Limits))
	for i := range over.Limits {
		s := limitState(&over.Limits[i])
		if p.Violated = append(p.Violated, s); i == a.Limit {
			p.LimitState = &s
		}
	}
	return p
}
