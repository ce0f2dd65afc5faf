package saccount

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/keypurse/keypurse/quota"
)

// Principal is who is calling, after authentication: a key with its account
// and organization, or a member with its organization. It is small, copied
// freely and safe for concurrent use. The zero Principal is nobody.
type Principal struct{ c *cred }

// IsZero reports whether the Principal is nobody.
func (p Principal) IsZero() bool { return p.c == nil }

// entry is the newest reading of who p is; of nobody, an empty one.
func (p Principal) entry() *entry {
	if p.c == nil {
		return &entry{about: &about{}, org: &view{}, account: &view{}}
	}
	return p.c.now.Load()
}

// KeyID is the key's id, the handle to log; empty for a member.
func (p Principal) KeyID() string {
	if e := p.entry(); e.kind == KindKey {
		return e.id()
	}
	return ""
}

// KeyName is the key's name; empty for a member.
func (p Principal) KeyName() string {
	if e := p.entry(); e.kind == KindKey {
		return e.about.name
	}
	return ""
}

// Environment is the key's environment; empty for a member.
func (p Principal) Environment() string { return p.entry().about.environment }

// AccountID is the service account's id; empty for a member.
func (p Principal) AccountID() string {
	if e := p.entry(); e.kind == KindKey {
		return e.account.id
	}
	return ""
}

// MemberID is the member's id; empty for a key.
func (p Principal) MemberID() string {
	if e := p.entry(); e.kind == KindMember {
		return e.id()
	}
	return ""
}

// OrgID is the organization's id.
func (p Principal) OrgID() string { return p.entry().org.id }

// Subject is the key or the member as a subject of counters.
func (p Principal) Subject() quota.Subject {
	if p.c == nil {
		return ""
	}
	return p.c.now.Load().subject()
}

// Scopes are a copy of the key's scopes, sorted.
func (p Principal) Scopes() []string { return slices.Clone(p.entry().about.scopes) }

// HasScope reports whether the key has the scope.
func (p Principal) HasScope(scope string) bool {
	_, ok := slices.BinarySearch(p.entry().about.scopes, scope)
	return ok
}

// String names the Principal for logs: nothing in it is secret.
func (p Principal) String() string { return string(p.Subject()) }

// Member gives the Principal of a member, whom the host has let in by its own
// login. Errors: ErrNotFound where there is no such member, an *AuthError,
// which matches ErrUnauthenticated, where it or the organization is disabled,
// and the store's.
func (s *Service) Member(ctx context.Context, org, id string) (Principal, error) {
	if org == "" || id == "" {
		return Principal{}, fmt.Errorf("saccount: member %q: %w", id, ErrNotFound)
	}
	e, err := s.member(ctx, org, id, false)
	if err != nil {
		return Principal{}, fmt.Errorf("saccount: member: %w", err)
	}
	now := s.now()
	switch why := e.state(now.UnixMicro()); why {
	case "":
		return Principal{&e.own}, nil
	case reasonDeleted:
		return Principal{}, fmt.Errorf("saccount: member %q: %w", id, ErrNotFound)
	default:
		s.refuse(ctx, e, why, now)
		return Principal{}, &AuthError{Reason: string(why), KeyID: id}
	}
}

// Charge asks for credits of a Principal: see quota.Charge.
type Charge struct {
	Amount quota.Credits // not negative; zero counts a request
	ID     string        // makes a retry safe; empty: none
}

// Charge spends credits of the caller: of every limit of key, account and
// organization (or member and organization), or of none. A refusal is a
// Decision that is not Allowed and names every limit that stood in the way.
// Errors: ErrUnauthenticated where the key was disabled, deleted, rotated away
// or expired since, and those of quota.Ledger.Charge.
func (s *Service) Charge(ctx context.Context, p Principal, c Charge) (d quota.Decision, err error) {
	now, err := s.spends(p)
	if err != nil {
		return d, err
	}
	began := s.begins()
	if err = s.ledger.ChargeInto(ctx, p.c, quota.Charge{ID: c.ID, Amount: c.Amount, At: now}, &d); err != nil {
		err = s.mark(err)
	}
	s.spent(ctx, quota.VerbCharge, p.OrgID(), c.Amount, &d, err, began)
	return d, err
}

func (s *Service) spends(p Principal) (now time.Time, err error) {
	if p.c == nil {
		return now, fmt.Errorf("saccount: charge: %w: the Principal is nobody", ErrUnauthenticated)
	}
	now = s.now()
	return now, p.c.ended(now)
}

// mark is alike, and logs what an operator must hear of.
func (s *Service) mark(err error) error {
	if err == nil {
		return nil
	}
	s.trouble(context.Background(), err)
	return alike(err)
}

// alike makes the sentinels of package quota match this package's.
func alike(err error) error {
	switch {
	case errors.Is(err, quota.ErrInvalid) && !errors.Is(err, ErrInvalid):
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	case errors.Is(err, quota.ErrClosed) && !errors.Is(err, ErrClosed):
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return err
}

// Reserve asks for credits of a Principal to be held: see quota.Reserve.
type Reserve struct {
	Amount quota.Credits // the most that the work may cost
	TTL    time.Duration // above 0, at most quota.MaxTTL
	ID     string        // makes a retry safe; empty makes one
}

// Reservation is credits on hold for work under way. Commit or Release settles
// it, once; where neither comes, the hold ends with its time to live and
// nothing is charged. Safe for concurrent use.
type Reservation struct {
	service *Service
	org     string
	caller  quota.Subject
	id      string
	amount  quota.Credits
}

// ID is the id that it can be settled by in another process, with
// Service.Commit and Service.Release.
func (r *Reservation) ID() string { return r.id }

// Amount is what was reserved.
func (r *Reservation) Amount() quota.Credits { return r.amount }

// Reserve holds credits of the caller, on every limit or on none. Where the
// Decision is not Allowed, the Reservation is nil. Errors are those of Charge.
func (s *Service) Reserve(ctx context.Context, p Principal, r Reserve) (*Reservation, quota.Decision, error) {
	now, err := s.spends(p)
	if err != nil {
		return nil, quota.Decision{}, err
	}
	began := s.begins()
	d, err := s.ledger.Reserve(ctx, p.c, quota.Reserve{ID: r.ID, Amount: r.Amount, TTL: r.TTL, At: now})
	s.spent(ctx, quota.VerbReserve, p.OrgID(), r.Amount, &d, err, began)
	if err != nil || !d.Allowed {
		return nil, d, s.mark(err)
	}
	return &Reservation{service: s, org: p.OrgID(), caller: p.Subject(), id: d.ID, amount: r.Amount}, d, nil
}

// Commit spends actual credits and frees the rest. What is above the
// reservation is used where there is room, else recorded as overage. The same
// Commit again gives the first result. Errors: quota.ErrExpired where the time
// to live was over (nothing is charged), quota.ErrConflict where it was
// settled otherwise, and those of Charge.
func (r *Reservation) Commit(ctx context.Context, actual quota.Credits) (quota.Decision, error) {
	return r.service.Commit(ctx, r.org, Commit{Of: r.id, Caller: r.caller, Amount: actual})
}

// Release frees the reservation: nothing is charged. Errors as with Commit.
func (r *Reservation) Release(ctx context.Context) (quota.Decision, error) {
	return r.service.Release(ctx, r.org, r.id)
}

// Renew lets the reservation live for ttl from now, if that is later than it
// would. Errors as with Commit.
func (r *Reservation) Renew(ctx context.Context, ttl time.Duration) error {
	_, err := r.service.Renew(ctx, r.org, Renew{Of: r.id, Caller: r.caller, TTL: ttl})
	return err
}

// Commit settles a reservation by its id.
type Commit struct {
	Of     string
	Caller quota.Subject // who made it; empty: whoever
	Amount quota.Credits
	Strict bool // see quota.Commit
}

// Commit is Reservation.Commit by id, for another process or another time.
func (s *Service) Commit(ctx context.Context, org string, c Commit) (quota.Decision, error) {
	began := s.begins()
	d, err := s.ledger.Commit(ctx, org, quota.Commit{Of: c.Of, Caller: c.Caller, Amount: c.Amount, Strict: c.Strict, At: s.now()})
	s.spent(ctx, quota.VerbCommit, org, c.Amount, &d, err, began)
	return d, s.mark(err)
}

// Release is Reservation.Release by id.
func (s *Service) Release(ctx context.Context, org, id string) (quota.Decision, error) {
	began := s.begins()
	d, err := s.ledger.Release(ctx, org, quota.Release{Of: id, At: s.now()})
	s.spent(ctx, quota.VerbRelease, org, 0, &d, err, began)
	return d, s.mark(err)
}

// Renew keeps a reservation by its id for longer.
type Renew struct {
	Of     string
	Caller quota.Subject // who made it; empty: whoever
	TTL    time.Duration // from now; above 0, at most quota.MaxTTL
}

// Renew is Reservation.Renew by id, for another process or another time.
func (s *Service) Renew(ctx context.Context, org string, r Renew) (quota.Decision, error) {
	began := s.begins()
	d, err := s.ledger.Renew(ctx, org, quota.Renew{Of: r.Of, Caller: r.Caller, TTL: r.TTL, At: s.now()})
	s.spent(ctx, quota.VerbRenew, org, 0, &d, err, began)
	return d, s.mark(err)
}

// Refund takes credits of a charge back: see quota.Refund.
type Refund struct {
	Of     string        // the id of the charge or reservation
	Amount quota.Credits // all refunds of a charge together never exceed it
	ID     string        // of the refund, so that a retry takes nothing twice
}

// Refund gives credits of a charge with an id, or of a commit, back to the
// windows that they were taken from. Errors: quota.ErrUnknownID,
// quota.ErrExcess, quota.ErrConflict, and those of Charge.
func (s *Service) Refund(ctx context.Context, org string, r Refund) (quota.Decision, error) {
	began := s.begins()
	d, err := s.ledger.Refund(ctx, org, quota.Refund{ID: r.ID, Of: r.Of, Amount: r.Amount, At: s.now()})
	s.spent(ctx, quota.VerbRefund, org, r.Amount, &d, err, began)
	return d, s.mark(err)
}

type contextKey struct{}

// carrier is context.WithValue in half the room: every request has one.
type carrier struct {
	context.Context
	c *cred
}

// Value gives the Principal under its key and the parent's values under others.
func (c *carrier) Value(key any) any {
	if _, ok := key.(contextKey); ok {
		return Principal{c.c}
	}
	return c.Context.Value(key)
}

// String names the context as those of package context do.
func (c *carrier) String() string {
	return fmt.Sprintf("%v.WithPrincipal(%s)", c.Context, Principal{c.c})
}

// NewContext is a context that carries the Principal to handlers.
func NewContext(ctx context.Context, p Principal) context.Context {
	return &carrier{ctx, p.c}
}

// FromContext is the Principal that NewContext put there; ok is false where
// there is none.
func FromContext(ctx context.Context) (p Principal, ok bool) {
	p, ok = ctx.Value(contextKey{}).(Principal)
	return p, ok && p.c != nil
}
