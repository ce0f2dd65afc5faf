package saccount

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/keypurse/keypurse/apikey"
	"github.com/keypurse/keypurse/quota"
)

// AuthError says, to the log, why a credential was refused. It matches
// ErrUnauthenticated. What is told to the caller is never more than that.
type AuthError struct {
	Reason string // "malformed", "unknown", "wrong secret", "rotated", "disabled", "deleted", "expired"
	KeyID  string // where it is known; not secret
}

// Error names the reason and the key's id: it is for logs, not for callers.
func (e *AuthError) Error() string {
	if e.KeyID == "" {
		return fmt.Sprintf("%v: %s", ErrUnauthenticated, e.Reason)
	}
	return fmt.Sprintf("%v: %s: key %s", ErrUnauthenticated, e.Reason, e.KeyID)
}

// Is matches ErrUnauthenticated.
func (e *AuthError) Is(target error) bool { return target == ErrUnauthenticated }

// AddressError refuses a good key from an address that is not on its
// allowlist. It matches ErrForbidden.
type AddressError struct {
	KeyID string
	Addr  netip.Addr // not valid where it is not known
}

// Error names the key's id and the address.
func (e *AddressError) Error() string {
	return fmt.Sprintf("%v: key %s may not be used from %s", ErrForbidden, e.KeyID, e.Addr)
}

// Is matches ErrForbidden.
func (e *AddressError) Is(target error) bool { return target == ErrForbidden }

// ScopeError refuses a good key that lacks a scope. It matches ErrForbidden.
type ScopeError struct {
	KeyID   string
	Missing []string
}

// Error names the key's id and the scopes.
func (e *ScopeError) Error() string {
	return fmt.Sprintf("%v: key %s lacks the scope %q", ErrForbidden, e.KeyID, e.Missing)
}

// Is matches ErrForbidden.
func (e *ScopeError) Is(target error) bool { return target == ErrForbidden }

// RateError refuses a request above the rate limit. It matches ErrRateLimited.
type RateError struct {
	Subject    quota.Subject // whose rate limit: the key or the account
	RetryAfter time.Duration // when it is worth trying again
}

// Error names the subject.
func (e *RateError) Error() string {
	return fmt.Sprintf("%v: %s: try again in %v", ErrRateLimited, e.Subject, e.RetryAfter)
}

// Is matches ErrRateLimited.
func (e *RateError) Is(target error) bool { return target == ErrRateLimited }

var errMalformed = &AuthError{Reason: string(reasonMalformed)}

// Authenticate tells who calls, by the token that they present, from the
// address that they come from (the zero Addr where it is not known: a key with
// an allowlist is then refused). Nothing is charged. A key that is in memory
// costs no read of the store and no allocation.
//
// Errors: ErrUnauthenticated (an *AuthError) whatever is wrong with the token,
// ErrForbidden (an *AddressError), ErrRateLimited (a *RateError); anything else
// means that the store could not be asked: refuse the request, but not as if
// the token were wrong.
func (s *Service) Authenticate(ctx context.Context, token string, from netip.Addr) (Principal, error) {
	if s.cfg.Observer.Authenticated == nil {
		c, _, err := s.authenticate(ctx, token, func() netip.Addr { return from }, false)
		return Principal{c}, err
	}
	began := time.Now()
	c, _, err := s.authenticate(ctx, token, func() netip.Addr { return from }, false)
	s.authenticated(ctx, c, err, began)
	return Principal{c}, err
}

// AuthenticateAndCharge is Authenticate and, where that goes well, Charge, for
// a request whose cost is known: a little cheaper than the two in turn. from
// tells the address where that matters (the key has an allowlist, or its use is
// to be noted), at most once; nil: it is not known. The Principal is set whenever
// the token was good, also where err or the Decision speaks of the charge.
// Errors are those of both.
func (s *Service) AuthenticateAndCharge(ctx context.Context, token string, from func() netip.Addr, c Charge) (p Principal, d quota.Decision, err error) {
	if o := &s.cfg.Observer; o.Authenticated != nil || o.Spent != nil {
		return s.authenticateAndCharge(ctx, token, from, c)
	}
	var now time.Time
	if p.c, now, err = s.authenticate(ctx, token, from, true); err != nil {
		return p, d, err
	}
	if err = s.ledger.ChargeInto(ctx, p.c, quota.Charge{ID: c.ID, Amount: c.Amount, At: now}, &d); err != nil {
		err = s.mark(err)
	}
	return p, d, err
}

// authenticate calls from and keeps it not: a closure that is given costs nothing.
// warm says that a charge follows.
func (s *Service) authenticate(ctx context.Context, token string, from func() netip.Addr, warm bool) (*cred, time.Time, error) {
	var now time.Time
	id, ok := s.prefix.IDOf(token)
	if !ok {
		return nil, now, errMalformed
	}
	if s.closed.Load() {
		return nil, now, fmt.Errorf("saccount: authenticate: %w", ErrClosed)
	}
	key := keyID([]byte(id))
	slot, e := s.known(ctx, &key) // first: memory answers while the Fingerprint is made
	if e != nil && warm {
		e.warm()
	}
	print, _ := s.hasher.Fingerprint(token, s.prefix) // whether or not there is such a key: it takes time
	var c *cred
	var old bool
	var p apikey.Parsed
	if e != nil {
		if now = s.now(); slot.is(e, &print, now.Unix()) {
			return &e.own, now, nil
		}
		if e.fresh() {
			c = e.recognize(&print)
		} else {
			e = nil
		}
	}
	if c == nil {
		var err error
		if p, err = apikey.Parse(token, s.prefix); err != nil {
			return nil, now, errMalformed
		}
		if e == nil {
			if e, err = s.read(ctx, p.ID, false); err != nil {
				if errors.Is(err, ErrNotFound) {
					s.hasher.Dummy(p)
					return nil, now, &AuthError{Reason: string(reasonUnknown), KeyID: strings.Clone(p.ID)}
				}
				s.trouble(ctx, err)
				return nil, now, fmt.Errorf("saccount: authenticate: %w", err)
			}
		}
		if c, old = s.identify(e, p, &print); c == nil {
			return nil, now, &AuthError{Reason: string(reasonSecret), KeyID: e.id()}
		}
	}
	now = s.now()
	at := now.UnixMicro()
	if e.barred || at >= c.until {
		why := e.state(at)
		if why == "" {
			why = reasonRotated
		}
		if why == quota.ReasonDisabled || why == quota.ReasonExpired {
			s.refuse(ctx, e, why, now)
		}
		return nil, now, &AuthError{Reason: string(why), KeyID: e.id()}
	}
	noted := int64(e.noted.Load())
	note := now.Unix()-noted >= touchSeconds || noted > now.Unix()
	var addr netip.Addr
	if (note || e.guarded) && from != nil {
		addr = from()
	}
	if e.guarded && !allowed(e.about.allowFrom, addr) {
		s.refuse(ctx, e, quota.ReasonAddress, now)
		return nil, now, &AddressError{KeyID: e.id(), Addr: addr}
	}
	if e.paced {
		if err := s.allow(ctx, e, now); err != nil {
			return nil, now, err
		}
	}
	if note {
		s.used.note(e, now, addr)
	}
	if c == &e.own && !e.guarded && !e.paced {
		s.keys.learn(&key, e)
	}
	if old && c.proof.rehashed.CompareAndSwap(false, true) {
		s.rehash(ctx, e.org.id, KindKey, e.id(), c.proof.serial, s.hasher.Hash(p))
	}
	return c, now, nil
}

func allowed(list []netip.Prefix, from netip.Addr) bool {
	if !from.IsValid() {
		return false
	}
	from = from.Unmap().WithZone("")
	for _, p := range list {
		if p.Contains(from) {
			return true
		}
	}
	return false
}

// allow takes a request from the rate limits of the key and the account, from
// both or from neither.
func (s *Service) allow(ctx context.Context, e *entry, now time.Time) error {
	refused := func(sub quota.Subject, wait time.Duration) error {
		s.refuse(ctx, e, quota.ReasonRate, now)
		return &RateError{Subject: sub, RetryAfter: wait}
	}
	if e.about.rate != nil {
		wait, undo := take(e.about.rate, now)
		if wait > 0 {
			return refused(e.subject(), wait)
		}
		if a := e.account.rate; a != nil {
			if wait, _ := take(a, now); wait > 0 {
				undo()
				return refused(e.purses[1].Subject(), wait)
			}
		}
		return nil
	}
	if wait, _ := take(e.account.rate, now); wait > 0 {
		return refused(e.purses[1].Subject(), wait)
	}
	return nil
}

// refuse counts a request that was refused, on everyone that it belongs to.
func (s *Service) refuse(ctx context.Context, e *entry, why quota.Reason, now time.Time) {
	s.ledger.Refuse(ctx, e.chain(), why, now)
}

// RequireScopes refuses a Principal that lacks one of the scopes, with a
// *ScopeError, which matches ErrForbidden, and counts the refusal. Members
// have no scopes and are never refused: what they may do is the host's business.
func (s *Service) RequireScopes(ctx context.Context, p Principal, scopes ...string) error {
	if p.c == nil {
		return ErrUnauthenticated
	}
	e := p.c.now.Load()
	if e.kind != KindKey {
		return nil
	}
	var missing []string
	for _, x := range scopes {
		if _, ok := slices.BinarySearch(e.about.scopes, x); !ok {
			missing = append(missing, x)
		}
	}
	if missing == nil {
		return nil
	}
	s.refuse(ctx, e, quota.ReasonScope, s.now())
	return &ScopeError{KeyID: e.id(), Missing: missing}
}

// rehash moves a secret to the newest pepper. It is a courtesy: where another
// change comes first, the key moves when it is next read and used.
func (s *Service) rehash(ctx context.Context, org string, kind Kind, id string, serial int32, h apikey.Hash) {
	l, err := s.living(ctx, org, kind, id)
	if err != nil {
		return
	}
	n, err := readNode(l.Record)
	if err != nil {
		return
	}
	for i := range n.Secrets {
		if int32(n.Secrets[i].Serial) == serial {
			n.Secrets[i].Hash = h
		}
	}
	rec, err := n.record()
	if err != nil {
		return
	}
	if err := s.store.Write(ctx, Batch{Org: org, At: Micro(s.now()), Changes: []Change{{Record: rec, Quiet: true}}}); err != nil {
		s.log.WarnContext(ctx, "keypurse: a secret was not moved to the newest pepper", "key", id, "error", err)
	}
}
