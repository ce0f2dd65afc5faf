package saccount

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/usage"
)

// Observer is told what a Service does, for metrics and traces: see
// observe/prom and observe/otel for two that are ready. It is a struct of
// functions, as net/http/httptrace.ClientTrace is: a field that is nil is not
// called and costs nothing, and events that come with a later version are nil
// fields of the hosts that do not know them.
//
// The functions are called within the request, after what they tell of is done,
// from many goroutines at once: they must be quick, and must not call the
// Service. Events hold no secret and no more than an organization's id of whose
// request it was; more is with the Principal.
type Observer struct {
	// Authenticated tells of every call of Authenticate and
	// AuthenticateAndCharge.
	Authenticated func(context.Context, Authenticated)
	// Looked tells of every search for a key or member in memory.
	Looked func(context.Context, Looked)
	// Spent tells of every charge, reservation, commit, release, renewal and
	// refund that the Ledger was asked for.
	Spent func(context.Context, Spent)
	// Stored tells of every call of the store.
	Stored func(context.Context, Stored)
}

// Authenticated tells how an authentication ended.
type Authenticated struct {
	Outcome Outcome
	Org     string // where the key was good; else empty
	Took    time.Duration
}

// Outcome is how an authentication ended. There are as many as stand here, and
// a later version may have more.
type Outcome string

// The outcomes.
const (
	OutcomeOK          Outcome = "ok"
	OutcomeMalformed   Outcome = "malformed"
	OutcomeUnknown     Outcome = "unknown"
	OutcomeWrongSecret Outcome = "wrong_secret"
	OutcomeRotated     Outcome = "rotated" // an old secret whose overlap has ended
	OutcomeDisabled    Outcome = "disabled"
	OutcomeDeleted     Outcome = "deleted"
	OutcomeExpired     Outcome = "expired"
	OutcomeAddress     Outcome = "address" // not on the key's allowlist
	OutcomeRate        Outcome = "rate"
	OutcomeError       Outcome = "error" // nobody knows: the store could not be asked
)

var outcomes = map[quota.Reason]Outcome{
	reasonMalformed: OutcomeMalformed, reasonUnknown: OutcomeUnknown, reasonSecret: OutcomeWrongSecret, reasonRotated: OutcomeRotated,
	reasonDeleted: OutcomeDeleted, quota.ReasonDisabled: OutcomeDisabled, quota.ReasonExpired: OutcomeExpired,
}

func outcome(err error) Outcome {
	if err == nil {
		return OutcomeOK
	}
	var auth *AuthError
	switch {
	case errors.As(err, &auth):
		if o, ok := outcomes[quota.Reason(auth.Reason)]; ok {
			return o
		}
	case errors.Is(err, ErrForbidden):
		return OutcomeAddress
	case errors.Is(err, ErrRateLimited):
		return OutcomeRate
	}
	return OutcomeError
}

// Looked tells of a search for a key or member in memory.
type Looked struct {
	Kind Kind
	Hit  bool // it was there and current; else the store was asked
}

// Spent tells of an operation on credits.
type Spent struct {
	Verb quota.Verb
	Org  string
	// Amount is what was asked for.
	Amount quota.Credits
	// Allowed: it was applied, or, Replayed, had been before under its id.
	Allowed  bool
	Replayed bool
	// Refused are the kinds of subject whose limits stood in the way, each
	// once: "key", "account", "member", "org".
	Refused []string
	Overrun quota.Credits // of a commit: how much it was above its reservation
	Err     error         // neither applied nor refused; nil otherwise
	Took    time.Duration
}

// Outcome is "allowed", "replayed", "refused" or "error".
func (e *Spent) Outcome() string {
	switch {
	case e.Err != nil:
		return "error"
	case e.Replayed:
		return "replayed"
	case e.Allowed:
		return "allowed"
	}
	return "refused"
}

// Stored tells of a call of the store.
type Stored struct {
	// Call is "apply", "peek", "usage", "fold", "write", "lookup", "lookups",
	// "count", "list", "touch", "audit" or "purge"; of alerts "outbox", "dispatched", "dispatch",
	// "due", "claim", "settle", "deliveries", "alerts" or "turn".
	Call string
	Ops  int // of an apply: how many callers' operations were in the batch
	// Took is how long it lasted; of "usage" the reader's own time is part of it.
	Took time.Duration
	Err  error
}

// authenticated tells of an authentication that began then.
func (s *Service) authenticated(ctx context.Context, c *cred, err error, began time.Time) {
	e := Authenticated{Outcome: outcome(err), Took: time.Since(began)}
	if c != nil {
		e.Org = c.now.Load().org.id
	}
	s.cfg.Observer.Authenticated(ctx, e)
}

// authenticateAndCharge is AuthenticateAndCharge where somebody wants to know.
func (s *Service) authenticateAndCharge(ctx context.Context, token string, from func() netip.Addr, c Charge) (p Principal, d quota.Decision, err error) {
	var now time.Time
	began := time.Now()
	p.c, now, err = s.authenticate(ctx, token, from, true)
	if s.cfg.Observer.Authenticated != nil {
		s.authenticated(ctx, p.c, err, began)
	}
	if err != nil {
		return p, d, err
	}
	began = time.Now()
	err = s.mark(s.ledger.ChargeInto(ctx, p.c, quota.Charge{ID: c.ID, Amount: c.Amount, At: now}, &d))
	s.spent(ctx, quota.VerbCharge, p.OrgID(), c.Amount, &d, err, began)
	return p, d, err
}

// begins is the time where operations are told of, else none: for spent.
func (s *Service) begins() (began time.Time) {
	if s.cfg.Observer.Spent != nil {
		began = time.Now()
	}
	return began
}

// spent tells of an operation. Nothing of d is kept.
func (s *Service) spent(ctx context.Context, verb quota.Verb, org string, amount quota.Credits, d *quota.Decision, err error, began time.Time) {
	if s.cfg.Observer.Spent == nil {
		return
	}
	e := Spent{Verb: verb, Org: org, Amount: amount, Allowed: d.Allowed, Replayed: d.Replayed, Overrun: d.Overrun, Err: err, Took: time.Since(began)}
	for _, l := range d.RefusedBy() {
		if kind := l.Subject.Kind(); !slices.Contains(e.Refused, kind) {
			e.Refused = append(e.Refused, kind)
		}
	}
	s.cfg.Observer.Spent(ctx, e)
}

// observed is a Store whose calls are told of. What else a Store may be, a
// Service asks of the one below.
type observed struct {
	Store
	tell func(context.Context, Stored)
}

// observedDirect is observed, of a store that waits for nothing.
type observedDirect struct{ observed }

// Desk is none: what is decided at one passes Apply over, and is not told.
func (observedDirect) Desk(quota.Store, string) *quota.Desk { return nil }

// observe is the store to call: the store itself where nobody wants to know.
func observe(store Store, tell func(context.Context, Stored)) Store {
	if tell == nil {
		return store
	}
	o := observed{store, tell}
	if _, ok := store.(quota.Direct); ok {
		return observedDirect{o}
	}
	return o
}

func (o observed) done(ctx context.Context, call string, ops int, began time.Time, err error) {
	o.tell(ctx, Stored{Call: call, Ops: ops, Took: time.Since(began), Err: err})
}

func (o observed) Apply(ctx context.Context, ops []*quota.Op) error {
	began, n := time.Now(), len(ops)
	err := o.Store.Apply(ctx, ops)
	o.done(ctx, "apply", n, began, err)
	return err
}

func (o observed) Peek(ctx context.Context, org string, levels []*quota.Level, at int64) ([]quota.Figure, error) {
	began := time.Now()
	f, err := o.Store.Peek(ctx, org, levels, at)
	o.done(ctx, "peek", 0, began, err)
	return f, err
}

func (o observed) Outbox(ctx context.Context, after int64, n int) ([]quota.Alert, error) {
	began := time.Now()
	a, err := o.Store.Outbox(ctx, after, n)
	o.done(ctx, "outbox", 0, began, err)
	return a, err
}

func (o observed) Usage(ctx context.Context, r usage.Range, fn func(usage.Row) error) error {
	began := time.Now()
	err := o.Store.Usage(ctx, r, fn)
	o.done(ctx, "usage", 0, began, err)
	return err
}

func (o observed) Fold(ctx context.Context, org string, days []int64, most int) (int, error) {
	began := time.Now()
	n, err := o.Store.Fold(ctx, org, days, most)
	o.done(ctx, "fold", 0, began, err)
	return n, err
}

func (o observed) Write(ctx context.Context, b Batch) error {
	began := time.Now()
	err := o.Store.Write(ctx, b)
	o.done(ctx, "write", 0, began, err)
	return err
}

func (o observed) Lookup(ctx context.Context, org string, kind Kind, id string) (Lineage, error) {
	began := time.Now()
	l, err := o.Store.Lookup(ctx, org, kind, id)
	o.done(ctx, "lookup", 0, began, err)
	return l, err
}

func (o observed) Lookups(ctx context.Context, org string, kind Kind, ids []string) ([]Lineage, error) {
	began := time.Now()
	ls, err := o.Store.Lookups(ctx, org, kind, ids)
	o.done(ctx, "lookups", 0, began, err)
	return ls, err
}

func (o observed) CountKeys(ctx context.Context, org string, accounts []string, most int) ([]KeyCount, error) {
	began := time.Now()
	ks, err := o.Store.CountKeys(ctx, org, accounts, most)
	o.done(ctx, "count", 0, began, err)
	return ks, err
}

func (o observed) List(ctx context.Context, q ListQuery) ([]Record, bool, error) {
	began := time.Now()
	page, more, err := o.Store.List(ctx, q)
	o.done(ctx, "list", 0, began, err)
	return page, more, err
}

func (o observed) Touch(ctx context.Context, touches []Touch) error {
	began := time.Now()
	err := o.Store.Touch(ctx, touches)
	o.done(ctx, "touch", 0, began, err)
	return err
}

func (o observed) Audit(ctx context.Context, org string, after int64, n int) ([]Entry, error) {
	began := time.Now()
	e, err := o.Store.Audit(ctx, org, after, n)
	o.done(ctx, "audit", 0, began, err)
	return e, err
}

func (o observed) Purge(ctx context.Context, p Purge) (int, error) {
	began := time.Now()
	n, err := o.Store.Purge(ctx, p)
	o.done(ctx, "purge", 0, began, err)
	return n, err
}

// Of alerts.

func (o observed) Dispatched(ctx context.Context) (int64, error) {
	began := time.Now()
	seq, err := o.Store.Dispatched(ctx)
	o.done(ctx, "dispatched", 0, began, err)
	return seq, err
}

func (o observed) Dispatch(ctx context.Context, from, to int64, ds []alert.Delivery) error {
	began := time.Now()
	err := o.Store.Dispatch(ctx, from, to, ds)
	o.done(ctx, "dispatch", 0, began, err)
	return err
}

func (o observed) DueSinks(ctx context.Context, now int64, after string, n int) ([]string, error) {
	began := time.Now()
	sinks, err := o.Store.DueSinks(ctx, now, after, n)
	o.done(ctx, "due", 0, began, err)
	return sinks, err
}

func (o observed) ClaimDeliveries(ctx context.Context, sink string, now, until int64, n int) ([]alert.Delivery, error) {
	began := time.Now()
	ds, err := o.Store.ClaimDeliveries(ctx, sink, now, until, n)
	o.done(ctx, "claim", 0, began, err)
	return ds, err
}

func (o observed) SettleDeliveries(ctx context.Context, ds []alert.Delivery) (int, error) {
	began := time.Now()
	n, err := o.Store.SettleDeliveries(ctx, ds)
	o.done(ctx, "settle", 0, began, err)
	return n, err
}

func (o observed) Deliveries(ctx context.Context, q alert.Query) ([]alert.Delivery, error) {
	began := time.Now()
	ds, err := o.Store.Deliveries(ctx, q)
	o.done(ctx, "deliveries", 0, began, err)
	return ds, err
}

func (o observed) Alerts(ctx context.Context, q alert.Recent) ([]quota.Alert, error) {
	began := time.Now()
	as, err := o.Store.Alerts(ctx, q)
	o.done(ctx, "alerts", 0, began, err)
	return as, err
}

func (o observed) Turn(ctx context.Context, name string, now, until int64) (bool, error) {
	began := time.Now()
	ok, err := o.Store.Turn(ctx, name, now, until)
	o.done(ctx, "turn", 0, began, err)
	return ok, err
}
