package saccount

import (
	"context"
	"errors"
	"fmt"
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
// one moment. Immutable but for the notes at its end.
type entry struct {
	service  *Service
	gen      *atomic.Uint64
	read     uint64 // the generation that it was read under
	settings int64
	node     *node
	org      *view
	account  *view // of a key
	rate     *rate.Limiter
	expires  int64 // microseconds; 0: never
	purses   []*quota.Purse
	creds    []cred // of a key, one a living secret; of a member, one

	noted    atomic.Int64 // when the use was last noted, seconds
	rehashed atomic.Bool
}

// cred is one way to be the entry's caller: what a Principal points to.
type cred struct {
	now    atomic.Pointer[entry] // the newest reading
	first  *entry
	serial int
	hash   apikey.Hash
	ends   int64 // of the secret, microseconds; 0: never
}

// fresh reports whether nothing was changed since the entry was read.
func (e *entry) fresh() bool { return e.gen.Load() == e.read }

func (e *entry) subject() quota.Subject { return e.purses[0].Subject() }

// state says why the caller may not be let in at instant at; empty where it may.
func (e *entry) state(at int64) quota.Reason {
	switch {
	case !e.node.Deleted.IsZero() || e.org.deleted || e.account != nil && e.account.deleted:
		return reasonDeleted
	case e.node.Disabled || e.org.disabled || e.account != nil && e.account.disabled:
		return quota.ReasonDisabled
	case e.expires != 0 && at >= e.expires:
		return quota.ReasonExpired
	}
	return ""
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
	old, ok := s.cache.get(id)
	if ok && !sure && old.fresh() {
		return old, nil
	}
	return s.load(ctx, s.cache, id, "", KindKey, id, old, sure)
}

func (s *Service) memberEntry(ctx context.Context, org, id string, sure bool) (*entry, error) {
	at := org + "\x00" + id
	old, ok := s.members.get(at)
	if ok && !sure && old.fresh() {
		return old, nil
	}
	return s.load(ctx, s.members, at, org, KindMember, id, old, sure)
}

func (s *Service) load(ctx context.Context, c *cache[*entry], at, org string, kind Kind, id string, old *entry, sure bool) (*entry, error) {
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
		if sure && old != nil && e.settings != old.settings {
			// Another process changed something: what this one read before is old.
			read = gen.Add(1)
		}
		e.gen, e.read = gen, read
		c.put(at, e)
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
	e := &entry{service: s, node: n, settings: l.Settings}
	if !n.Expires.IsZero() {
		e.expires = n.Expires.UnixMicro()
	}
	own, err := quota.NewPurse(n.subject(), n.Sequence, n.Limits, s.cfg.Thresholds)
	if err != nil {
		return nil, err
	}
	if e.org, err = s.view(l.Org); err != nil {
		return nil, err
	}
	e.purses = []*quota.Purse{own, e.org.purse}
	if n.Kind == KindKey {
		if e.account, err = s.view(l.Account); err != nil {
			return nil, err
		}
		e.purses = []*quota.Purse{own, e.account.purse, e.org.purse}
	}
	var was *rate.Limiter
	if old != nil {
		was = old.rate
		e.noted.Store(old.noted.Load())
	}
	if e.noted.Load() == 0 && !n.Use.At.IsZero() {
		e.noted.Store(n.Use.At.Unix())
	}
	e.rate = limiter(n.Rate, was)
	e.creds = make([]cred, max(1, len(n.Secrets)))
	for i := range e.creds {
		c := &e.creds[i]
		c.first = e
		c.now.Store(e)
		if i < len(n.Secrets) {
			x := &n.Secrets[i]
			c.serial, c.hash = x.Serial, x.Hash
			if !x.Ends.IsZero() {
				c.ends = x.Ends.UnixMicro()
			}
		}
	}
	// What is kept in memory for long is kept small.
	n.Limits, n.Secrets, n.Record.Labels, n.Description = nil, nil, nil, ""
	return e, nil
}

// view gives the shared view of an organization or account.
func (s *Service) view(r *Record) (*view, error) {
	at := r.Kind.String() + "\x00" + r.Org + "\x00" + r.ID
	old, ok := s.views.get(at)
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
		s.views.put(at, v)
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
	return quota.Chain{Org: e.node.Org, Settings: e.settings, Caller: e.subject(), Purses: e.purses}, nil
}

// reread reads the records again and checks that the caller may still spend:
// by the very secret that it came with.
func (c *cred) reread(ctx context.Context, e *entry, sure bool) (*entry, error) {
	s := e.service
	var next *entry
	var err error
	if e.node.Kind == KindMember {
		next, err = s.memberEntry(ctx, e.node.Org, e.node.ID, sure)
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
	for i := range e.creds {
		if c := &e.creds[i]; c.serial == serial {
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
