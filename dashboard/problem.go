package dashboard

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/keypurse/keypurse/internal/web"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// Codes of problems: what a program tells them apart by. They never change.
const (
	codeUnauthenticated = "unauthenticated"
	codeInvalidToken    = "invalid_token"
	codeServiceAccount  = "service_account"
	codeCrossOrigin     = "cross_origin"
	codeForbidden       = "forbidden"
	codeReadOnly        = "read_only"
	codeNotFound        = "not_found"
	codeMethod          = "method_not_allowed"
	codeInvalid         = "invalid"
	codeInvalidRequest  = "invalid_request"
	codeMediaType       = "unsupported_media_type"
	codeTooLarge        = "too_large"
	codeExists          = "exists"
	codeConflict        = "conflict"
	codeStale           = "stale"
	codeNoMatch         = "if_match_required"
	codeIDConflict      = "id_conflict"
	codeUnknownID       = "unknown_id"
	codeExpired         = "expired"
	codeExcess          = "excess"
	codeUnknownOutcome  = "unknown_outcome"
	codeCorrupt         = "corrupt"
	codeInternal        = "internal"
	codeUnavailable     = "unavailable"
)

// problem is why a request is refused (RFC 9457). It is an error.
type problem struct {
	Type   string       `json:"type"`
	Title  string       `json:"title"`
	Status int          `json:"status"`
	Code   string       `json:"code" doc:"what a program tells problems apart by"`
	Detail string       `json:"detail,omitempty"`
	Errors []fieldError `json:"errors,omitempty" doc:"what is wrong with each field or parameter"`

	RetryAfter time.Duration `json:"-"`
	Err        error         `json:"-"` // the cause, for logs
	allow      string
}

// fieldError is what is wrong with one field of the body, or one parameter.
type fieldError struct {
	Pointer   string `json:"pointer,omitempty" doc:"JSON pointer to the field, as a URI fragment (RFC 6901, 6)"`
	Parameter string `json:"parameter,omitempty" doc:"name of the query parameter"`
	Header    string `json:"header,omitempty" doc:"name of the header"`
	Detail    string `json:"detail"`
}

// Error names the status and the cause, for logs.
func (p *problem) Error() string {
	if p.Err != nil {
		return fmt.Sprintf("dashboard: %d %s: %v", p.Status, p.Code, p.Err)
	}
	return fmt.Sprintf("dashboard: %d %s: %s", p.Status, p.Code, p.Detail)
}

// Unwrap is the cause.
func (p *problem) Unwrap() error { return p.Err }

func (p *problem) body() []byte {
	q := *p
	if q.Type == "" {
		q.Type = web.TypeBlank
	}
	if q.Title == "" {
		q.Title = http.StatusText(q.Status)
	}
	b, err := json.Marshal(&q)
	if err != nil {
		panic(err) // strings and numbers
	}
	return append(b, '\n')
}

func notFound(what string) *problem {
	return &problem{Status: 404, Code: codeNotFound, Detail: "There is no such " + what + "."}
}

func badRequest(format string, args ...any) *problem {
	return &problem{Status: 400, Code: codeInvalidRequest, Detail: fmt.Sprintf(format, args...)}
}

func badParam(name, detail string) *problem {
	return &problem{Status: 400, Code: codeInvalidRequest, Detail: "A query parameter is wrong.", Errors: []fieldError{{Parameter: name, Detail: detail}}}
}

func badHeader(name, detail string) *problem {
	return &problem{Status: 400, Code: codeInvalidRequest, Detail: "A header is wrong.", Errors: []fieldError{{Header: name, Detail: detail}}}
}

// badFields refuses a body that is JSON and not what is wanted.
func badFields(errs ...fieldError) *problem {
	return &problem{Status: 422, Code: codeInvalid, Detail: "Some of what was sent cannot be accepted; nothing was changed.", Errors: errs}
}

// problem is the answer to an error of the Service or of this package. What it
// does not know is taken for a store that cannot be asked.
func (c *call) problem(err error) *problem {
	var own *problem
	if errors.As(err, &own) {
		return own
	}
	p := &problem{Err: err}
	set := func(status int, code, detail string) *problem {
		p.Status, p.Code, p.Detail = status, code, detail
		return p
	}
	switch {
	case errors.Is(err, quota.ErrConflict):
		return set(422, codeIDConflict, "The id was used before for something else in this organization; send a new one for new work.")
	case errors.Is(err, quota.ErrUnknownID):
		return set(404, codeUnknownID, "No reservation or charge with this id is remembered in this organization.")
	case errors.Is(err, quota.ErrExpired):
		return set(409, codeExpired, "The reservation's time was over before it was settled: nothing was charged, its credits are free again. Charge instead.")
	case errors.Is(err, quota.ErrExcess):
		return set(409, codeExcess, "The amount is more than what it settles has left; nothing was changed.")
	case errors.Is(err, quota.ErrUnknownOutcome):
		p.RetryAfter = time.Second
		return set(503, codeUnknownOutcome, "The store failed while the request was on its way; it may have been applied. Send it again with the same id or Idempotency-Key.")
	case errors.Is(err, quota.ErrCorrupt):
		return set(500, codeCorrupt, "A stored record is damaged; it must be restored from a backup.")
	case errors.Is(err, saccount.ErrNotFound):
		return set(404, codeNotFound, "There is no such thing here.")
	case errors.Is(err, saccount.ErrExists):
		return set(409, codeExists, "The id was used before (ids are never used again), or a living sibling has the name.")
	case errors.Is(err, saccount.ErrConflict):
		return set(409, codeConflict, "It was changed meanwhile; read it again.")
	case errors.Is(err, saccount.ErrInvalid), errors.Is(err, quota.ErrInvalid), errors.Is(err, quota.ErrOverflow):
		set(422, codeInvalid, "Some of what was sent cannot be accepted; nothing was changed.")
		e := fieldError{Pointer: "#", Detail: plainText(err)}
		if f := (*saccount.FieldError)(nil); errors.As(err, &f) {
			e.Pointer = fragment(f.Field)
		}
		p.Errors = []fieldError{e}
		return p
	}
	p.RetryAfter = time.Second
	return set(503, codeUnavailable, "The store cannot be asked at the moment; nothing is wrong with the request.")
}
