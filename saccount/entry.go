package saccount

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/keypurse/keypurse/apikey"
	"github.com/keypurse/keypurse/quota"
)

// view is an organization or account as charges need it: shared by everything
// below it, kept by its revision.
type view struct {
	revision int64
	disabled bool
	deleted  bool
	purse    *quota.Purse
	rate     *rate.Limiter // nil: none
}

// entry is a key or a member with all that a request of it needs, as read at
// one moment. Immutable but for the notes in it. What every request looks at
// stands together at its beginning.
type entry struct {
	gen     *atomic.Uint64
	read    uint64 // the generation that it was read under
	expires int64  // microseconds; 0: never
	barred  quota.Reason
	own     cred         // a member's, or that of a key's newest secret
	noted   atomic.Int64 // when the use was last noted, seconds
	rate    *rate.Limiter
	above   *rate.Limiter // the account's
	guarded bool          // it has an allowlist
	older   []cred        // of the secret before it, during an overlap
	chain   quota.Chain
	purses  [3]*quota.Purse

	service  *Service
	node     *node
	rehashed atomic.Bool
}

// cred is one way to be the entry's caller: what a Principal points to.
type cred struct {
	now    atomic.Pointer[entry] // the newest reading
	hash   apikey.Hash
	ends   int64 // of the secret, microseconds; 0: never
	serial int
}

// fresh reports whether nothing was changed since the entry was read.
func (e *entry) fresh() bool { return e.gen.Load() == e.read }

func (e *entry) subject() quota.Subject { return e.chain.Caller }

// state says why the caller may not be let in at instant at; empty where it may.
func (e *entry) state(at int64) quota.Reason {
	if e.barred == "" && e.expires != 0 && at >= e.expires {
		return quota.ReasonExpired
	}
	return e.barred
}

// Reasons that are told to the log and not counted.
const (
	reasonDeleted   quota.Reason = "deleted"
	reasonMalformed quota.Reason = "malformed"
	reasonUnknown   quota.Reason = "unknown"
	reasonSecret    quota.Reason = "wrong secret"
	reasonRotated   quota.Reason = "rotated"
)

// key gives the entry of a key id, from memory where it still counts. sure asks
// the store whatever memory says.
func (s *Service) key(ctx context.Context, id string, sure bool) (*entry, error) {
	at := keyID([]byte(id))
	old, ok := s.keys.get(at.hash(), at)
	if ok && !sure && old.fresh() {
		return old, nil
	}
	e, err := s.load(ctx, "", KindKey, strings.Clone(id), old, sure)
	if err == nil {
		s.keys.put(at.hash(), at, e)
	}
	return e, err
}

func (s *Service) member(ctx context.Context, org, id string, sure bool) (*entry, error) {
	at := place{KindMember, org, id}
	hash := at.hash(s.members.seed)
	old, ok := s.members.get(hash, at)
	if ok && !sure && old.fresh() {
		return old, nil
	}
	e, err := s.load(ctx, org, KindMember, id, old, sure)
	if err == nil {
		s.members.put(hash, at, e)
	}
	return e, err
}

func (s *Service) load(ctx context.Context, org string, kind Kind, id string, old *entry, sure bool) (*entry, error) {
	if s.closed.Load() {
		return nil, ErrClosed
	}
	if old != nil {
		org = old.node.Org
	}
	for {
		// What is read counts under the generation from before the reading. Of
		// a key that is not known yet the store has to say whose it is: then no
		// generation at all may have moved meanwhile.
		all := s.gens.all.Load()
		var read uint64
		if org != "" {
			read = s.gens.of(org).Load()
		}
		l, err := s.store.Lookup(ctx, org, kind, id)
		if err != nil {
			return nil, err
		}
		gen := s.gens.of(l.Record.Org)
		if org == "" {
			org, read = l.Record.Org, gen.Load()
			if s.gens.all.Load() != all {
				continue
			}
		}
		e, err := s.newEntry(&l, old)
		if err != nil {
			return nil, err
		}
		if sure && old != nil && e.chain.Settings != old.chain.Settings {
			// Another process changed something: what this one read before is old.
			read = gen.Add(1)
		}
		e.gen, e.read = gen, read
		return e, nil
	}
}

func (s *Service) newEntry(l *Lineage, old *entry) (*entry, error) {
	n, err := readNode(l.Record)
	if err != nil {
		return nil, err
	}
	if l.Org == nil || n.Kind == KindKey && l.Account == nil {
		return nil, fmt.Errorf("%s %q: what is above it is missing: %w", n.Kind, n.ID, quota.ErrCorrupt)
	}
	own, err := quota.NewPurse(n.subject(), n.Sequence, n.Limits, s.cfg.Thresholds)
	if err != nil {
		return nil, err
	}
	org, err := s.view(l.Org)
	if err != nil {
		return nil, err
	}
	e := &entry{service: s, node: n, guarded: len(n.AllowFrom) > 0}
	deleted, disabled := org.deleted || !n.Deleted.IsZero(), org.disabled || n.Disabled
	purses := append(e.purses[:0], own)
	var was *rate.Limiter
	if old != nil {
		was = old.rate
		e.noted.Store(old.noted.Load())
	}
	if n.Kind == KindKey {
		account, err := s.view(l.Account)
		if err != nil {
			return nil, err
		}
		deleted, disabled = deleted || account.deleted, disabled || account.disabled
		purses = append(purses, account.purse)
		e.rate, e.above = limiter(n.Rate, was), account.rate
	}
	purses = append(purses, org.purse)
	e.chain = quota.Chain{Org: n.Org, Settings: l.Settings, Caller: own.Subject(), Purses: purses}
	switch {
	case deleted:
		e.barred = reasonDeleted
	case disabled:
		e.barred = quota.ReasonDisabled
	}
	if !n.Expires.IsZero() {
		e.expires = n.Expires.UnixMicro()
	}
	if e.noted.Load() == 0 && !n.Use.At.IsZero() {
		e.noted.Store(n.Use.At.Unix())
	}
	e.own.now.Store(e)
	if last := len(n.Secrets) - 1; last >= 0 {
		e.own.set(s, &n.Secrets[last])
		e.older = make([]cred, last)
		for i := range e.older {
			e.older[i].now.Store(e)
			e.older[i].set(s, &n.Secrets[i])
		}
	}
	// What is kept in memory for long is kept small.
	n.Limits, n.Secrets, n.Record.Labels, n.Description = nil, nil, nil, ""
	return e, nil
}

func (c *cred) set(s *Service, x *secret) {
	c.serial, c.hash = x.Serial, x.Hash
	if !x.Ends.IsZero() {
		c.ends = x.Ends.UnixMicro()
	}
	for _, id := range s.pepper { // one string for all keys
		if id == c.hash.Pepper {
			c.hash.Pepper = id
		}
	}
}

// view gives the shared view of an organization or account.
func (s *Service) view(r *Record) (*view, error) {
	at := place{r.Kind, r.Org, r.ID}
	hash := at.hash(s.views.seed)
	old, ok := s.views.get(hash, at)
	if ok && old.revision == r.Revision {
		return old, nil
	}
	n, err := readNode(*r)
	if err != nil {
		return nil, err
	}
	v := &view{revision: r.Revision, disabled: r.Disabled, deleted: !r.Deleted.IsZero()}
	if v.purse, err = quota.NewPurse(n.subject(), n.Sequence, n.Limits, s.cfg.Thresholds); err != nil {
		return nil, err
	}
	var was *rate.Limiter
	if ok {
		was = old.rate
	}
	v.rate = limiter(n.Rate, was)
	if !ok || old.revision < r.Revision { // a late reading does not replace a newer one
		s.views.put(hash, at, v)
	}
	return v, nil
}

// limiter makes a rate limiter, or goes on with the one that was there.
func limiter(r *RateLimit, was *rate.Limiter) *rate.Limiter {
	if r == nil {
		return nil
	}
	if was != nil && was.Limit() == rate.Limit(r.PerSecond) && was.Burst() == r.Burst {
		return was
	}
	return rate.NewLimiter(rate.Limit(r.PerSecond), r.Burst)
}

// Chain implements quota.Source: whom a charge of the Principal goes to.
func (c *cred) Chain(ctx context.Context, fresh bool) (quota.Chain, error) {
	e := c.now.Load()
	if fresh || !e.fresh() {
		next, err := c.reread(ctx, e, fresh)
		if err != nil {
			return quota.Chain{}, err
		}
		e = next
	}
	return e.chain, nil
}

// reread reads the records again and checks that the caller may still spend:
// by the very secret that it came with.
func (c *cred) reread(ctx context.Context, e *entry, sure bool) (*entry, error) {
	s := e.service
	var next *entry
	var err error
	if e.node.Kind == KindMember {
		next, err = s.member(ctx, e.node.Org, e.node.ID, sure)
	} else {
		next, err = s.key(ctx, e.node.ID, sure)
	}
	if errors.Is(err, ErrNotFound) {
		return nil, &AuthError{Reason: string(reasonDeleted), KeyID: e.node.ID}
	}
	if err != nil {
		return nil, fmt.Errorf("saccount: read %s: %w", e.subject(), err)
	}
	at := s.now().UnixMicro()
	why := next.state(at)
	if why == "" && e.node.Kind == KindKey && !next.living(c.serial, at) {
		why = reasonRotated
	}
	if why != "" {
		return nil, &AuthError{Reason: string(why), KeyID: e.node.ID}
	}
	c.now.Store(next)
	return next, nil
}

// living reports whether the secret with this serial lives at instant at.
func (e *entry) living(serial int, at int64) bool {
	if e.own.serial == serial {
		return e.own.ends == 0 || at < e.own.ends
	}
	for i := range e.older {
		if c := &e.older[i]; c.serial == serial {
			return c.ends == 0 || at < c.ends
		}
	}
	return false
}

// ended is when the entry's caller can no longer be let in: the check of every
// charge, for a Principal that is kept for long.
func (c *cred) ended(now time.Time) error {
	e := c.now.Load()
	at := now.UnixMicro()
	if e.expires != 0 && at >= e.expires {
		return &AuthError{Reason: string(quota.ReasonExpired), KeyID: e.node.ID}
	}
	if c.ends != 0 && at >= c.ends && !e.living(c.serial, at) {
		return &AuthError{Reason: string(reasonRotated), KeyID: e.node.ID}
	}
	return nil
}
