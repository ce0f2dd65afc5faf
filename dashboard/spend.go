package dashboard

import (
	"errors"
	"net/netip"
	"time"

	"github.com/keypurse/keypurse/internal/web"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// For services that are not written in Go: what a Go service asks the Service
// itself. A refusal is an answer here, with what that service may tell its
// own client.

// payer says who is to be charged: whoever presents a token, or a member whom
// the host's own login let in.
type payer struct {
	Token   string      `json:"token,omitempty" doc:"what the client presented, whole"`
	Member  *memberName `json:"member,omitempty" doc:"instead of a token"`
	Address netip.Addr  `json:"address,omitzero" doc:"where the client comes from; a key with an allowlist needs it"`
	Scopes  []string    `json:"scopes,omitempty" doc:"those that the key must have, all of them"`
}

type memberName struct {
	Org string `json:"org"`
	ID  string `json:"id"`
}

// payerView is who was charged, or would be.
type payerView struct {
	Subject     quota.Subject `json:"subject" doc:"key:... or member:..."`
	Org         string        `json:"org"`
	Account     string        `json:"account,omitempty"`
	Key         string        `json:"key,omitempty"`
	Member      string        `json:"member,omitempty"`
	Name        string        `json:"name,omitempty" doc:"the key's"`
	Environment string        `json:"environment,omitempty"`
	Scopes      []string      `json:"scopes,omitempty"`
}

// clientProblem is what the service that asked may answer its own client.
type clientProblem struct {
	Type       string `json:"type"`
	Title      string `json:"title"`
	Status     int    `json:"status"`
	Code       string `json:"code"`
	Detail     string `json:"detail"`
	Scope      string `json:"scope,omitempty"`
	RetryAfter int64  `json:"retry_after,omitempty" doc:"seconds, for the Retry-After header"`
}

type verification struct {
	payer
	Limits bool `json:"limits,omitempty" doc:"tell the state of every limit of the chain too"`
}

type verified struct {
	Valid   bool           `json:"valid"`
	Caller  *payerView     `json:"caller,omitempty"`
	Limits  []limitStatus  `json:"limits,omitempty"`
	Reason  string         `json:"reason,omitempty" doc:"why not: for the log, never for the client"`
	Problem *clientProblem `json:"problem,omitempty" doc:"what to answer the client"`
}

type charge struct {
	payer
	Amount quota.Credits `json:"amount" doc:"not negative; 0 counts a request"`
	ID     string        `json:"id,omitempty" doc:"makes a retry safe and the charge refundable; the organization's, for all verbs; may be sent as Idempotency-Key instead"`
}

type reservation struct {
	charge
	TTL float64 `json:"ttl_seconds" doc:"how long the hold lives, up to 31 days" schema:"minimum=0"`
}

type decision struct {
	Allowed   bool           `json:"allowed"`
	Replayed  bool           `json:"replayed,omitempty" doc:"it applied before; this is the first result again"`
	ID        string         `json:"id,omitempty" doc:"of the operation or the reservation"`
	Requested quota.Credits  `json:"requested"`
	Overrun   *quota.Credits `json:"overrun,omitempty" doc:"how much a commit was above its reservation"`
	Caller    *payerView     `json:"caller,omitempty"`
	Limits    []limitStatus  `json:"limits" doc:"of the whole chain, the caller's own first"`
	Reason    string         `json:"reason,omitempty" doc:"why the caller was refused: for the log, never for the client"`
	Problem   *clientProblem `json:"problem,omitempty" doc:"where it is not allowed: what to answer the client"`
}

func viewPayer(p saccount.Principal) *payerView {
	return &payerView{
		Subject: p.Subject(), Org: p.OrgID(), Account: p.AccountID(), Key: p.KeyID(), Member: p.MemberID(), Name: p.KeyName(),
		Environment: p.Environment(), Scopes: p.Scopes(),
	}
}

// caller finds who is to be charged. refused says why nobody is; err is what
// kept it from being found out.
func (c *call) payer(in *payer) (p saccount.Principal, refused, err error) {
	switch {
	case (in.Token == "") == (in.Member == nil):
		return p, nil, badFields(fieldError{Pointer: "#/token", Detail: "give a token or a member"})
	case in.Member != nil && !c.caller.Host && in.Member.Org != c.caller.Org:
		err = saccount.ErrNotFound
	case in.Member != nil:
		p, err = c.svc.Member(c.ctx, in.Member.Org, in.Member.ID)
	default:
		if p, err = c.svc.Authenticate(c.ctx, in.Token, in.Address); err == nil && !c.caller.Host && p.OrgID() != c.caller.Org {
			return saccount.Principal{}, &saccount.AuthError{Reason: "unknown"}, nil
		}
	}
	if in.Member != nil && errors.Is(err, saccount.ErrNotFound) {
		return p, nil, &problem{Status: 404, Code: codeNotFound, Detail: "There is no such member.", Errors: []fieldError{{Pointer: "#/member", Detail: "there is no such member"}}}
	}
	if err == nil && len(in.Scopes) > 0 {
		err = c.svc.RequireScopes(c.ctx, p, in.Scopes...)
	}
	if web.Explain(err, c.cfg.Now()) != nil {
		return saccount.Principal{}, err, nil
	}
	return p, nil, err
}

// reasonOf is why somebody was refused, for the log.
func reasonOf(err error) string {
	var auth *saccount.AuthError
	switch {
	case errors.As(err, &auth):
		return auth.Reason
	case errors.As(err, new(*saccount.AddressError)):
		return string(quota.ReasonAddress)
	case errors.As(err, new(*saccount.ScopeError)):
		return string(quota.ReasonScope)
	case errors.As(err, new(*saccount.RateError)):
		return string(quota.ReasonRate)
	}
	return string(quota.ReasonLimit)
}

func (c *call) forClient(err error) *clientProblem {
	a := web.Explain(err, c.cfg.Now())
	p := &clientProblem{Type: a.Type, Title: a.Title, Status: a.Status, Code: a.Code, Detail: a.Detail, Scope: a.Scope}
	if a.RetryAfter > 0 {
		p.RetryAfter = int64((a.RetryAfter-1)/time.Second) + 1
	}
	return p
}

func verify(c *call, in *verification) (*reply, error) {
	p, refused, err := c.payer(&in.payer)
	if err != nil {
		return nil, err
	}
	if refused != nil {
		return &reply{body: verified{Reason: reasonOf(refused), Problem: c.forClient(refused)}}, nil
	}
	out := verified{Valid: true, Caller: viewPayer(p)}
	if in.Limits {
		st, err := c.svc.Status(c.ctx, p)
		if err != nil {
			return nil, err
		}
		out.Limits = statusesOf(st)
	}
	return &reply{body: out}, nil
}

// operation takes an operation's id from the body or from Idempotency-Key.
func (c *call) operation(id string) (string, error) {
	key, err := c.idempotencyKey()
	switch {
	case err != nil:
		return "", err
	case key == "" || id == "":
		return id + key, nil
	case key != id:
		return "", badHeader(idempotencyHeader, "the body has another id; give one of them")
	}
	return id, nil
}

func chargeCredits(c *call, in *charge) (*reply, error) {
	return c.spend(in, func(p saccount.Principal, id string) (quota.Decision, error) {
		return c.svc.Charge(c.ctx, p, saccount.Charge{Amount: in.Amount, ID: id})
	})
}

func reserveCredits(c *call, in *reservation) (*reply, error) {
	ttl, err := ttlOf(in.TTL)
	if err != nil {
		return nil, err
	}
	return c.spend(&in.charge, func(p saccount.Principal, id string) (quota.Decision, error) {
		_, d, err := c.svc.Reserve(c.ctx, p, saccount.Reserve{Amount: in.Amount, TTL: ttl, ID: id})
		return d, err
	})
}

// spend finds whoever is named, and asks for credits of theirs.
func (c *call) spend(in *charge, do func(p saccount.Principal, id string) (quota.Decision, error)) (*reply, error) {
	id, err := c.operation(in.ID)
	if err != nil {
		return nil, err
	}
	p, refused, err := c.payer(&in.payer)
	if err != nil || refused != nil {
		return c.decided(nil, quota.Decision{Requested: in.Amount}, refused, err)
	}
	d, err := do(p, id)
	return c.decided(viewPayer(p), d, nil, err)
}

func ttlOf(seconds float64) (time.Duration, error) {
	if !(seconds > 0 && seconds <= quota.MaxTTL.Seconds()) {
		return 0, badFields(fieldError{Pointer: "#/ttl_seconds", Detail: "give more than 0 seconds, at most 31 days"})
	}
	return max(time.Duration(seconds*float64(time.Second)), time.Microsecond), nil
}

// decided answers with a Decision. A caller that may not spend any more is
// refused like one that never could.
func (c *call) decided(who *payerView, d quota.Decision, refused, err error) (*reply, error) {
	if refused == nil && web.Explain(err, c.cfg.Now()) != nil {
		who, refused, err = nil, err, nil
	}
	if err != nil {
		return nil, err
	}
	out := decision{
		Allowed: d.Allowed, Replayed: d.Replayed, ID: d.ID, Requested: d.Requested, Caller: who, Limits: statusesOf(d.Limits()),
	}
	if d.Overrun > 0 {
		out.Overrun = &d.Overrun
	}
	if refused == nil && !d.Allowed {
		refused = d.Err()
	}
	if refused != nil {
		out.Reason, out.Problem = reasonOf(refused), c.forClient(refused)
	}
	return &reply{body: out}, nil
}

// settlement names a reservation.
type settlement struct {
	Of string `json:"of" doc:"the reservation's id" schema:"minLength=1"`
}

type commit struct {
	settlement
	Amount quota.Credits `json:"amount" doc:"what it did cost; above the reservation it is used where there is room, else recorded as overage"`
	Strict bool          `json:"strict,omitempty" doc:"refuse, with 409, what is above the reservation and finds no room"`
}

type renewal struct {
	settlement
	TTL float64 `json:"ttl_seconds" doc:"from now; never earlier than it would end" schema:"minimum=0"`
}

type refund struct {
	Of     string        `json:"of" doc:"the id of the charge, or of the committed reservation" schema:"minLength=1"`
	Amount quota.Credits `json:"amount" doc:"all refunds of a charge together never exceed it"`
	ID     string        `json:"id,omitempty" doc:"of the refund, so that a retry takes nothing twice; may be sent as Idempotency-Key instead"`
}

// settled answers what became of a reservation or charge that is named.
func (c *call) settled(d quota.Decision, err error) (*reply, error) {
	return c.decided(nil, d, nil, err)
}

func commitCredits(c *call, in *commit) (*reply, error) {
	return c.settled(c.svc.Commit(c.ctx, c.org(), saccount.Commit{Of: in.Of, Amount: in.Amount, Strict: in.Strict}))
}

func releaseCredits(c *call, in *settlement) (*reply, error) {
	return c.settled(c.svc.Release(c.ctx, c.org(), in.Of))
}

func renewCredits(c *call, in *renewal) (*reply, error) {
	ttl, err := ttlOf(in.TTL)
	if err != nil {
		return nil, err
	}
	return c.settled(c.svc.Renew(c.ctx, c.org(), saccount.Renew{Of: in.Of, TTL: ttl}))
}

func refundCredits(c *call, in *refund) (*reply, error) {
	id, err := c.operation(in.ID)
	if err != nil {
		return nil, err
	}
	return c.settled(c.svc.Refund(c.ctx, c.org(), saccount.Refund{Of: in.Of, Amount: in.Amount, ID: id}))
}
