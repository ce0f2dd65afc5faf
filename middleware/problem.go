package middleware

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/keypurse/keypurse/internal/web"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// Codes of problems: what a program tells them apart by. They never change.
const (
	CodeNoCredentials   = "no_credentials"
	CodeInvalidToken    = web.CodeInvalidToken
	CodeInvalidRequest  = "invalid_request"
	CodeAddressDenied   = web.CodeAddressDenied
	CodeForbidden       = web.CodeForbidden
	CodeScope           = web.CodeScope
	CodeLimitExceeded   = web.CodeLimitExceeded
	CodeRateLimited     = web.CodeRateLimited
	CodeTooManyFailures = "too_many_failures"
	CodeIDConflict      = "id_conflict"
	CodeIDInUse         = "id_in_use"
	CodeAlreadyCharged  = "already_charged"
	CodeUnavailable     = "unavailable"
	CodeInternal        = "internal"
)

// Conditions of requests that come before the Service is asked, or in place of
// the handler. NewProblem and Status know them.
var (
	// ErrNoCredentials: the request presents no key.
	ErrNoCredentials = errors.New("no credentials")
	// ErrCredentials: the request presents more than one key.
	ErrCredentials = errors.New("repeated or contradicting credentials")
	// ErrThrottled: too many failed attempts came from the client's address.
	ErrThrottled = errors.New("too many failed attempts")
	// ErrReplayed: a request with the same id was charged before, or is still
	// being served.
	ErrReplayed = errors.New("the id was used before")
)

// Problem is why a request is refused, as the client is told (RFC 9457). It is
// an error: a cost's function may return one. Whatever is empty has a default.
type Problem struct {
	Type   string `json:"type"`   // "about:blank" where empty
	Title  string `json:"title"`  // the status' text where empty
	Status int    `json:"status"` // 500 where it is no error's status
	// Code is one of the Code constants, or one of the host's.
	Code   string `json:"code,omitempty"`
	Detail string `json:"detail,omitempty"`
	// Policies names the Violated limits, "account:credits", as the RateLimit
	// headers do.
	Policies []string `json:"violated-policies,omitempty"`
	// LimitState is the limit that answers: of the Violated the one that
	// keeps the caller out longest. Nil where no limit stood in the way.
	*LimitState
	// Violated are all the limits that stood in the way.
	Violated []LimitState `json:"violated,omitempty"`

	// Scope lists the scopes needed, with spaces between them. It is part of
	// the challenge too.
	Scope string `json:"scope,omitempty"`

	// RetryAfter goes into the Retry-After header, in seconds and rounded up.
	// Zero: waiting does not help, or nothing is known of it.
	RetryAfter time.Duration `json:"-"`
	// Challenge is the error code of RFC 6750, 3.1, in WWW-Authenticate; a
	// 401 is challenged without one too.
	Challenge string `json:"-"`
	Realm     string `json:"-"` // of the challenge; DefaultRealm where empty
	// Err is the cause, for logs. It is never sent.
	Err error `json:"-"`
}

// Error names the status and the cause. It is for logs.
func (p *Problem) Error() string {
	s := "middleware: " + strconv.Itoa(p.status()) + " " + p.Code
	if p.Err != nil {
		return s + ": " + p.Err.Error()
	}
	return s + ": " + p.Detail
}

// Unwrap is the cause.
func (p *Problem) Unwrap() error { return p.Err }

func (p *Problem) status() int {
	if p.Status < 400 || p.Status > 599 {
		return http.StatusInternalServerError
	}
	return p.Status
}

// Body is the problem as JSON, application/problem+json.
func (p *Problem) Body() []byte {
	q := *p
	q.Status = p.status()
	if q.Type == "" {
		q.Type = web.TypeBlank
	}
	if q.Title == "" {
		q.Title = http.StatusText(q.Status)
	}
	b, err := json.Marshal(q)
	if err != nil { // a time outside the years that JSON can write
		b = []byte(`{"type":"about:blank","status":` + strconv.Itoa(q.Status) + `}`)
	}
	return append(b, '\n')
}

// SetHeader sets the headers that belong to the answer whatever its words are:
// WWW-Authenticate, Retry-After and Cache-Control.
func (p *Problem) SetHeader(h http.Header) {
	h["Cache-Control"] = []string{"no-store"}
	if p.status() == http.StatusUnauthorized || p.Challenge != "" {
		h["Www-Authenticate"] = []string{web.Challenge(cmp.Or(p.Realm, DefaultRealm), p.Challenge, p.Detail, p.Scope)}
	}
	if p.RetryAfter > 0 {
		h["Retry-After"] = []string{web.RetryAfter(p.RetryAfter)}
	}
}

// ServeHTTP writes the problem: headers, status and, unless the request is a
// HEAD, the body.
func (p *Problem) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.SetHeader(w.Header())
	web.Write(w, r, p.status(), web.ProblemType, p.Body())
}

// WriteProblem answers a request with what NewProblem makes of err.
func WriteProblem(w http.ResponseWriter, r *http.Request, err error) {
	NewProblem(err, time.Now()).ServeHTTP(w, r)
}

// Status is the status of the answer to err: NewProblem's.
func Status(err error) int { return NewProblem(err, time.Time{}).Status }

// NewProblem is the answer to an error of the Service, of Decision.Err or of
// this package, at instant now. What it does not know is taken for a store
// that cannot be asked: 503. It never returns nil, and never the *Problem that
// it finds in err but a copy.
func NewProblem(err error, now time.Time) *Problem {
	p := classify(err, now)
	p.Status = p.status()
	if p.Err == nil {
		p.Err = err
	}
	return p
}

func classify(err error, now time.Time) *Problem {
	var own *Problem
	if errors.As(err, &own) {
		p := *own
		return &p
	}
	if a := web.Explain(err, now); a != nil {
		return explained(a, err)
	}
	switch {
	case errors.Is(err, ErrNoCredentials):
		return &Problem{
			Status: 401, Code: CodeNoCredentials,
			Detail: "Send an API key in the Authorization header: Bearer, a space, and the key.",
		}
	case errors.Is(err, ErrCredentials):
		return &Problem{
			Status: 400, Code: CodeInvalidRequest, Challenge: "invalid_request",
			Detail: "The request carries more than one key; send one, once.",
		}
	case errors.Is(err, ErrThrottled):
		return &Problem{
			Type: web.TypeAbnormal, Title: "Too many failed attempts", Status: 429, Code: CodeTooManyFailures, RetryAfter: time.Second,
			Detail: "Too many requests with keys that are not valid came from this address.",
		}
	case errors.Is(err, quota.ErrConflict):
		return &Problem{
			Status: 422, Code: CodeIDConflict,
			Detail: "The idempotency key was used before for something else; send a new one.",
		}
	case errors.Is(err, ErrReplayed):
		return &Problem{
			Status: 409, Code: CodeAlreadyCharged,
			Detail: "A request with this idempotency key was charged before; send a new one for new work.",
		}
	case errors.Is(err, quota.ErrOverflow):
		return &Problem{
			Type: web.TypeQuota, Title: web.TitleQuota, Status: 402, Code: CodeLimitExceeded,
			Detail: "The request costs more than can be counted.",
		}
	case errors.Is(err, saccount.ErrInvalid), errors.Is(err, quota.ErrInvalid):
		return &Problem{Status: 500, Code: CodeInternal, Detail: "The request could not be charged."}
	}
	return &Problem{
		Type: web.TypeReduced, Title: "Temporarily unavailable", Status: 503, Code: CodeUnavailable, RetryAfter: time.Second,
		Detail: "The key or its credits cannot be looked up at the moment; nothing is wrong with the request.",
	}
}
