package middleware

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/keypurse/keypurse/internal/web"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// gate is what all handlers of one middleware share. Immutable.
type gate struct {
	svc *saccount.Service
	cfg Config
}

// handler is one wrapped handler. The way of a request: who is calling, may
// they, what does it cost, charge or reserve, serve, settle.
type handler struct {
	gate *gate
	next http.Handler
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g := h.gate
	if g.cfg.Skip != nil && g.cfg.Skip(r) {
		h.next.ServeHTTP(w, r)
		return
	}
	ctx := r.Context()
	p, known := saccount.FromContext(ctx)
	if !known {
		token, err := g.present(r)
		if err != nil {
			g.refuse(w, r, err)
			return
		}
		if g.cfg.Cost.kind == costFixed && len(g.cfg.Scopes) == 0 && g.cfg.IdempotencyHeader == "" {
			h.serveFixed(w, r, token)
			return
		}
		p, err = g.svc.Authenticate(ctx, token, g.addr(r))
		if err != nil {
			g.failed(err, token, r)
			g.refuse(w, r, err)
			return
		}
		g.cfg.Throttle.Passed(token)
		ctx = saccount.NewContext(ctx, p)
		r = r.WithContext(ctx)
	}
	if len(g.cfg.Scopes) > 0 {
		if err := g.svc.RequireScopes(ctx, p, g.cfg.Scopes...); err != nil {
			g.refuseScope(w, r, err)
			return
		}
	}
	if g.cfg.Cost.kind == costNone {
		h.next.ServeHTTP(w, r)
		return
	}
	h.charge(w, r, p)
}

// present finds the token of a request. The error is ErrNoCredentials,
// ErrCredentials, or that of a throttled address.
func (g *gate) present(r *http.Request) (token string, err error) {
	token, n := web.Credentials(r.Header, g.cfg.XAPIKey)
	switch n {
	case web.PresentedNone:
		return "", ErrNoCredentials
	case web.PresentedMany:
		return "", ErrCredentials
	}
	if t := g.cfg.Throttle; !t.idle() {
		if wait := t.Wait(g.addr(r), token, g.cfg.Now()); wait > 0 {
			return "", throttled(wait)
		}
	}
	return token, nil
}

func (g *gate) addr(r *http.Request) netip.Addr { return ClientAddr(r, g.cfg.TrustedProxies) }

func throttled(wait time.Duration) error {
	p := classify(ErrThrottled, time.Time{})
	p.RetryAfter, p.Err = wait, ErrThrottled
	return p
}

// failed counts a failed attempt, if that is what err says.
func (g *gate) failed(err error, token string, r *http.Request) {
	if errors.Is(err, saccount.ErrUnauthenticated) {
		g.cfg.Throttle.Failed(g.addr(r), token, g.cfg.Now())
	}
}

// serveFixed is the short way: one call of the Service does it all.
func (h *handler) serveFixed(w http.ResponseWriter, r *http.Request, token string) {
	g := h.gate
	ctx := r.Context()
	from := func() netip.Addr { return g.addr(r) }
	p, d, err := g.svc.AuthenticateAndCharge(ctx, token, from, saccount.Charge{Amount: g.cfg.Cost.fixed})
	if err != nil && p.IsZero() {
		g.failed(err, token, r)
		g.refuse(w, r, err)
		return
	}
	g.cfg.Throttle.Passed(token)
	r = r.WithContext(saccount.NewContext(ctx, p))
	if err != nil || !d.Allowed {
		h.unpaid(w, r, p, saccount.Charge{Amount: g.cfg.Cost.fixed}, d, err)
		return
	}
	if g.cfg.RateLimitHeaders {
		setRateLimit(w.Header(), d.Limits(), g.cfg.Now())
	}
	h.next.ServeHTTP(w, r)
}

// charge asks for the credits of a request whose caller is known, and serves it.
func (h *handler) charge(w http.ResponseWriter, r *http.Request, p saccount.Principal) {
	g := h.gate
	amount := g.cfg.Cost.fixed
	if of := g.cfg.Cost.of; of != nil {
		var err error
		if amount, err = of(r); err != nil {
			g.refuse(w, r, costError(err))
			return
		}
	}
	var id string
	if g.cfg.IdempotencyHeader != "" {
		var bad *Problem
		if id, bad = g.idempotencyID(r.Header, p); bad != nil {
			g.refuse(w, r, bad)
			return
		}
	}
	if g.cfg.Cost.kind == costUpTo {
		h.reserve(w, r, p, amount, id)
		return
	}
	c := saccount.Charge{Amount: amount, ID: id}
	d, err := g.svc.Charge(r.Context(), p, c)
	if err != nil || !d.Allowed {
		h.unpaid(w, r, p, c, d, err)
		return
	}
	h.serve(w, r, d)
}

// serve serves a request that was admitted, or was before under the same id.
func (h *handler) serve(w http.ResponseWriter, r *http.Request, d quota.Decision) {
	g := h.gate
	if d.Replayed {
		if !g.cfg.Replays {
			g.refuse(w, r, ErrReplayed)
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), replayedKey{}, true))
	}
	if g.cfg.RateLimitHeaders {
		setRateLimit(w.Header(), d.Limits(), g.cfg.Now())
	}
	h.next.ServeHTTP(w, r)
}

// unpaid answers a request that was not charged; where the host wants it so,
// and the store is to blame, it serves it and charges it afterwards.
func (h *handler) unpaid(w http.ResponseWriter, r *http.Request, p saccount.Principal, c saccount.Charge, d quota.Decision, err error) {
	g := h.gate
	if err == nil {
		g.refuseLimit(w, r, d)
		return
	}
	if !g.open(r, err) {
		g.refuse(w, r, err)
		return
	}
	g.cfg.Logger.WarnContext(r.Context(), "keypurse: a request is let through uncharged: the store cannot be asked", "caller", p.String(), "credits", c.Amount.String(), "error", err)
	if c.ID == "" && errors.Is(err, quota.ErrUnknownOutcome) {
		h.next.ServeHTTP(w, r) // it may have been charged: never twice
		return
	}
	defer g.chargeLate(context.WithoutCancel(r.Context()), p, c)
	h.next.ServeHTTP(w, r)
}

// open reports whether a request whose charge failed with err is let through.
func (g *gate) open(r *http.Request, err error) bool {
	if !g.cfg.FailOpen || r.Context().Err() != nil {
		return false
	}
	for _, never := range []error{
		saccount.ErrUnauthenticated, saccount.ErrForbidden, saccount.ErrInvalid, quota.ErrInvalid, quota.ErrConflict,
		quota.ErrOverflow, quota.ErrCorrupt, saccount.ErrClosed, quota.ErrClosed, context.Canceled,
	} {
		if errors.Is(err, never) {
			return false
		}
	}
	return true
}

// chargeLate charges what was served already, and says so where that fails.
func (g *gate) chargeLate(ctx context.Context, p saccount.Principal, c saccount.Charge) {
	if _, err := g.settleCharge(ctx, p, c, openTime); err != nil {
		g.unsettled(ctx, p, c.Amount, c.ID, err)
	}
}

func (g *gate) unsettled(ctx context.Context, p saccount.Principal, amount quota.Credits, id string, err error) {
	g.cfg.Logger.ErrorContext(ctx, "keypurse: a request was served and could not be charged", "caller", p.String(), "credits", amount.String(), "id", id, "error", err)
}

// costError is the answer to an error of the host's function.
func costError(err error) error {
	var p *Problem
	if errors.As(err, &p) {
		return err
	}
	return &Problem{Status: 500, Code: CodeInternal, Detail: "What the request costs could not be found out.", Err: err}
}

func (g *gate) refuseLimit(w http.ResponseWriter, r *http.Request, d quota.Decision) {
	if g.cfg.RateLimitHeaders {
		setRateLimit(w.Header(), d.Limits(), g.cfg.Now())
	}
	g.refuse(w, r, d.Err())
}

func (g *gate) refuseScope(w http.ResponseWriter, r *http.Request, err error) {
	p := NewProblem(err, time.Time{})
	if p.Code == CodeScope {
		p.Scope = strings.Join(g.cfg.Scopes, " ") // what the resource needs (RFC 6750, 3), not only what is missing
	}
	g.refuse(w, r, p)
}

// refuse is the one place where a request is answered.
func (g *gate) refuse(w http.ResponseWriter, r *http.Request, err error) {
	p := NewProblem(err, g.cfg.Now())
	p.Realm = g.cfg.Realm
	if g.cfg.ErrorHandler == nil {
		p.ServeHTTP(w, r)
		return
	}
	p.SetHeader(w.Header())
	g.cfg.ErrorHandler(w, r, p)
}
