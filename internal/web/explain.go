package web

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// Codes of what keeps a caller out.
const (
	CodeInvalidToken  = "invalid_token"
	CodeAddressDenied = "address_denied"
	CodeForbidden     = "forbidden"
	CodeScope         = "insufficient_scope"
	CodeLimitExceeded = "limit_exceeded"
	CodeRateLimited   = "rate_limited"
)

// TitleQuota is the title of a refusal by a limit.
const TitleQuota = "Quota exceeded"

// Answer is what HTTP says of a caller that is kept out.
type Answer struct {
	Type, Title, Code, Detail string
	Status                    int
	Challenge                 string        // the error code of RFC 6750, 3.1
	Scope                     string        // the scopes needed
	RetryAfter                time.Duration // 0: waiting does not help
	Policies                  []string      // the limits that stood in the way, as RateLimit headers name them
	Limit                     int           // of a *quota.ExceededError's Limits, the one that answers; else -1
}

// Explain is the answer to an error that keeps a caller out: their key, their
// address, their scopes, their rate or their limits. Nil for every other.
func Explain(err error, now time.Time) *Answer {
	var (
		over  *quota.ExceededError
		scope *saccount.ScopeError
		rate  *saccount.RateError
		addr  *saccount.AddressError
	)
	a := &Answer{Type: TypeBlank, Limit: -1}
	switch {
	case err == nil:
		return nil
	case errors.As(err, &over):
		r := Refuse(over.Limits, now)
		a.Type, a.Title, a.Code = TypeQuota, TitleQuota, CodeLimitExceeded
		a.Status, a.RetryAfter, a.Detail, a.Limit = r.Status, r.RetryAfter, r.Detail, r.Limit
		for i := range over.Limits {
			a.Policies = append(a.Policies, over.Limits[i].Subject.Kind()+":"+over.Limits[i].Limit)
		}
	case errors.Is(err, saccount.ErrUnauthenticated):
		a.Status, a.Code, a.Challenge, a.Detail = 401, CodeInvalidToken, CodeInvalidToken, "The key is not valid."
	case errors.As(err, &addr):
		a.Status, a.Code, a.Detail = 403, CodeAddressDenied, "The key may not be used from this address."
	case errors.As(err, &scope):
		a.Status, a.Code, a.Challenge, a.Scope = 403, CodeScope, CodeScope, strings.Join(scope.Missing, " ")
		a.Detail = "The key lacks a scope that this needs."
	case errors.Is(err, saccount.ErrForbidden):
		a.Status, a.Code, a.Detail = 403, CodeForbidden, "The key may not do this."
	case errors.As(err, &rate):
		a.Type, a.Title, a.Status, a.Code = TypeQuota, "Rate limit exceeded", 429, CodeRateLimited
		a.RetryAfter, a.Policies = max(rate.RetryAfter, time.Second), []string{rate.Subject.Kind() + ":rate"}
		a.Detail = "The rate limit of the " + rate.Subject.Kind() + " is reached."
	case errors.Is(err, saccount.ErrRateLimited):
		a.Type, a.Title, a.Status, a.Code, a.RetryAfter = TypeQuota, "Rate limit exceeded", 429, CodeRateLimited, time.Second
	default:
		return nil
	}
	if a.Title == "" {
		a.Title = http.StatusText(a.Status)
	}
	return a
}
