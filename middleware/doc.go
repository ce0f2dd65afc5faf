// Package middleware puts keys and credits before an http.Handler:
//
//	gate, err := middleware.New(svc, middleware.Config{Cost: middleware.Fixed(quota.Credit / 100)})
//	mux.Handle("GET /v1/things", gate(things))
//
// A request that comes through carries its caller (saccount.FromContext) and
// has been charged. Every other one is answered with problem details
// (RFC 9457):
//
//	no credentials                             401, a challenge without error=
//	malformed, unknown, wrong, disabled,
//	deleted, expired, account disabled         401 invalid_token, always the same bytes
//	repeated or contradicting credentials      400 invalid_request
//	address not on the key's allowlist         403 address_denied
//	scope missing                              403 insufficient_scope
//	a limit that resets is spent               429 limit_exceeded, Retry-After
//	only credits on hold stand in the way      429 limit_exceeded, Retry-After: 1
//	rate limit                                 429 rate_limited, Retry-After
//	too many failed attempts of one address    429 too_many_failures, Retry-After
//	the limit never resets, or the cost is
//	above the limit itself                     402 limit_exceeded, no Retry-After
//	the id was used for something else         422 id_conflict
//	the id's request is still running, or done 409 id_in_use, already_charged
//	the store cannot be asked                  503 unavailable, Retry-After
//
// # Costs
//
// A cost is Fixed, Computed from the request, or not known before the work is
// done: then UpTo reserves the most that it may be, the handler tells what it
// was (SetCost, AddCost) and that is committed when it returns; or it commits
// itself, before it answers, with Settle. A cost that stays unknown is the
// amount that was reserved. A handler that panics, a client that hangs up and
// a timeout settle just so, exactly once.
//
// # Putting it together
//
// Where a caller is in the context already, because a middleware of this
// package or the host's own login of a Member put it there, it is not
// authenticated again. So one can authenticate around a whole mux and charge
// each route by itself:
//
//	auth, err := middleware.New(svc, middleware.Config{})
//	search, err := middleware.New(svc, middleware.Config{Cost: middleware.Fixed(quota.Credit)})
//	mux.Handle("GET /v1/search", search(h))
//	http.ListenAndServe(addr, auth(mux))
//
// The response writer is handed on as it came, so http.Flusher, http.Hijacker
// and http.ResponseController work as they do without. Frameworks with
// answers or contexts of their own find what they need in NewProblem, Status,
// WriteProblem, Bearer and ClientAddr.
//
// # Limits
//
// The throttle of failed attempts counts in this process alone. Client
// addresses are those of the connection unless Config.TrustedProxies says
// otherwise: behind a load balancer, set it.
package middleware
