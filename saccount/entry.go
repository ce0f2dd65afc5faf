package saccount

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"net/netip"
	"slices"
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
	id       string
	revision int64
	rate     *rate.Limiter // nil: none
	purse    quota.Purse   // at 32, so that what it remembers begins a line
	disabled bool
	deleted  bool
	own      bool // it has thresholds of its own
	// thresholds are those of limits on it and below it that name none.
	thresholds []quota.Threshold
	_          [32]byte // views begin lines too
}

// entry is a key or a member with all that a request of it needs, as read at
// one moment. Immutable but for the notes in it. There are as many as keys are
// known, and each is met by chance: it is four lines of memory, the first for
// Authenticate where the key's slot does not say it all, the others for Charge.
// What only some requests ask belongs in about. TestLayout keeps it so.
type entry struct {
	own     cred // a member's, or that of a key's newest secret
	gen     *atomic.Uint64
	read    uint64        // the generation that it was read under
	noted   atomic.Uint32 // when the use was last noted, seconds
	kind    Kind
	barred  bool // for the reason in about
	guarded bool // it has an allowlist
	paced   bool // it or its account has a rate limit

	expires  int64 // microseconds; 0: never
	settings int64
	org      *view
	account  *view // of a key
	about    *about
	service  *Service
	_        [3]int64 // what a Purse remembers begins a line
	purses   [3]*quota.Purse
	purse    quota.Purse // its own: the first of purses
}

// about is what only some requests ask.
type about struct {
	name        string
	environment string
	scopes      []string
	allowFrom   []netip.Prefix
	barred      quota.Reason
	older       []cred // of the secret before the newest, during an overlap
	rate        *rate.Limiter
}

// id is the key's or member's id.
func (e *entry) id() string { return e.subject().ID() }

func (e *entry) subject() quota.Subject { return e.purse.Subject() }

func (e *entry) chain() quota.Chain {
	c := quota.Chain{Org: e.org.id, Settings: e.settings, Caller: e.subject(), Purses: e.purses[:]}
	if e.account == nil {
		c.Purses = e.purses[:2]
	}
	return c
}

// cred is one way to be the entry's caller: what a Principal points to.
type cred struct {
	seen  [2]atomic.Uint64      // the Fingerprint of the secret that was verified; zero before
	now   atomic.Pointer[entry] // the newest reading
	until int64                 // when it ends, or the key does, as the entry knew it: microseconds, forever where neither does
	proof *proof                // nil where there is no secret
}

const forever = math.MaxInt64

// proof is a secret by its hash.
type proof struct {
	sum      [32]byte
	ends     int64 // microseconds; 0: never
	serial   int32
	pepper   uint8 // which of the Service's
	rehashed atomic.Bool
}

func (c *cred) serial() int32 {
	if c.proof == nil {
		return 0
	}
	return c.proof.serial
}

// living reports whether the secret, if there is one, lives at instant at.
func (c *cred) living(at int64) bool { return c.proof == nil || c.proof.ends == 0 || at < c.proof.ends }

// noPepper is the id of a pepper that nobody can have.
const noPepper = "?"

// stored is the secret's hash.
func (s *Service) stored(c *cred) apikey.Hash {
	if c.proof == nil {
		return apikey.Hash{Pepper: noPepper}
	}
	return apikey.Hash{Pepper: s.pepper[c.proof.pepper], Sum: c.proof.sum}
}

// recognize finds what a token with this Fingerprint was verified as before; nil
// where it was not.
func (e *entry) recognize(print *apikey.Fingerprint) *cred {
	if e.own.is(print) {
		return &e.own
	}
	for i := range e.about.older {
		if c := &e.about.older[i]; c.is(print) {
			return c
		}
	}
	return nil
}

func (c *cred) is(print *apikey.Fingerprint) bool {
	return c.seen[0].Load() == print[0] && c.seen[1].Load() == print[1] && print[0] != 0
}

// identify finds whose secret p is, and remembers its Fingerprint; nil where it is
// nobody's. old says that its hash is not under the newest pepper.
func (s *Service) identify(e *entry, p apikey.Parsed, print *apikey.Fingerprint) (c *cred, old bool) {
	c = &e.own
	ok, old := s.hasher.Verify(p, s.stored(c))
	for i := 0; i < len(e.about.older) && !ok; i++ {
		c = &e.about.older[i]
		ok, old = s.hasher.Verify(p, s.stored(c))
	}
	if !ok {
		return nil, false
	}
	// One token verifies: whoever else writes here writes the same.
	c.seen[0].Store(print[0])
	c.seen[1].Store(print[1])
	return c, old
}

// fresh reports whether nothing was changed since the entry was read.
func (e *entry) fresh() bool { return e.gen.Load() == e.read }

// plain is between which seconds the own secret is good with nothing else to ask and
// nothing to note: the first above, and below the one that is too late. 0: never.
func (e *entry) plain() uint64 {
	noted := int64(e.noted.Load())
	if e.barred || e.guarded || e.paced || noted == 0 {
		return 0
	}
	until := min(noted+touchSeconds, e.own.until/1e6, math.MaxUint32)
	return uint64(noted)<<32 | uint64(max(until, 0))
}

// state says why the caller may not be let in at instant at; empty where it may.
func (e *entry) state(at int64) quota.Reason {
	switch {
	case e.barred:
		return e.about.barred
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
	if !sure {
		at := keyID([]byte(id))
		if _, e := s.known(ctx, &at); e != nil && e.fresh() {
			return e, nil
		}
	}
	return s.read(ctx, id, sure)
}

// known gives the entry of a key id from memory and where it is, nil where there is
// none that still counts, by what the slot says: keySlot.is and entry.fresh tell
// whether it was this entry's.
func (s *Service) known(ctx context.Context, id *keyID) (*keySlot, *entry) {
	slot, e := s.keys.get(id)
	if e == nil || !slot.fresh() || !s.watch.sees() {
		return nil, nil
	}
	if tell := s.cfg.Observer.Looked; tell != nil {
		tell(ctx, Looked{KindKey, true})
	}
	return slot, e
}

// read gives the entry of a key id from the store.
func (s *Service) read(ctx context.Context, id string, sure bool) (*entry, error) {
	at := keyID([]byte(id))
	if tell := s.cfg.Observer.Looked; tell != nil {
		tell(ctx, Looked{KindKey, false})
	}
	s.watch.begin()
	_, old := s.keys.get(&at)
	e, err := s.load(ctx, "", KindKey, strings.Clone(id), old, sure)
	if err == nil {
		s.keys.put(&at, e)
	}
	return e, err
}

// warm brings what a charge will need into the processor's cache while the
// caller is still looked at.
func (e *entry) warm() {
	for _, purse := range e.purses {
		if purse != nil {
			purse.Warm()
		}
	}
}

func (s *Service) member(ctx context.Context, org, id string, sure bool) (*entry, error) {
	at := place{KindMember, org, id}
	hash := at.hash(s.members.seed)
	old, ok := s.members.get(hash, at)
	if ok && !sure && old.fresh() && s.watch.sees() {
		if tell := s.cfg.Observer.Looked; tell != nil {
			tell(ctx, Looked{KindMember, true})
		}
		return old, nil
	}
	if tell := s.cfg.Observer.Looked; tell != nil {
		tell(ctx, Looked{KindMember, false})
	}
	s.watch.begin()
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
		org = old.org.id
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
		return e, nil
	}
}

func (s *Service) newEntry(l *Lineage, old *entry) (*entry, error) {
	r := &l.Record
	n, err := readSpender(r)
	if err != nil {
		return nil, err
	}
	if l.Org == nil || r.Kind == KindKey && l.Account == nil {
		return nil, fmt.Errorf("%s %q: what is above it is missing: %w", r.Kind, r.ID, quota.ErrCorrupt)
	}
	e := &entry{service: s, kind: r.Kind, settings: l.Settings, guarded: len(n.AllowFrom) > 0}
	e.about = &about{name: r.Name, environment: n.Environment, scopes: n.Scopes, allowFrom: n.AllowFrom}
	if e.org, err = s.view(l.Org, s.cfg.Thresholds); err != nil {
		return nil, err
	}
	thresholds := e.org.thresholds
	e.purses[0], e.purses[1] = &e.purse, &e.org.purse
	deleted, disabled := e.org.deleted || !r.Deleted.IsZero(), e.org.disabled || r.Disabled
	if old != nil {
		e.noted.Store(old.noted.Load())
	}
	if r.Kind == KindKey {
		if e.account, err = s.view(l.Account, thresholds); err != nil {
			return nil, err
		}
		thresholds = e.account.thresholds
		e.purses[1], e.purses[2] = &e.account.purse, &e.org.purse
		deleted, disabled = deleted || e.account.deleted, disabled || e.account.disabled
		e.about.rate = s.keyRate(r, n.Rate)
		e.paced = e.about.rate != nil || e.account.rate != nil
	}
	if n.Thresholds != nil {
		thresholds = n.Thresholds
	}
	set, err := s.limitSet(n.Limits, thresholds)
	if err != nil {
		return nil, err
	}
	if err := e.purse.Fill(r.subject(), n.Sequence, set); err != nil {
		return nil, err
	}
	switch {
	case deleted:
		e.barred, e.about.barred = true, reasonDeleted
	case disabled:
		e.barred, e.about.barred = true, quota.ReasonDisabled
	}
	if !r.Expires.IsZero() {
		e.expires = r.Expires.UnixMicro()
	}
	if e.noted.Load() == 0 && !r.Use.At.IsZero() {
		e.noted.Store(uint32(r.Use.At.Unix()))
	}
	until := int64(forever)
	if e.expires != 0 {
		until = e.expires
	}
	e.own.until = until
	e.own.now.Store(e)
	if last := len(n.Secrets) - 1; last >= 0 {
		e.own.set(s, &n.Secrets[last])
		if last > 0 {
			e.about.older = make([]cred, last)
		}
		for i := range e.about.older {
			e.about.older[i].until = until
			e.about.older[i].now.Store(e)
			e.about.older[i].set(s, &n.Secrets[i])
		}
	}
	return e, nil
}

// limitSet gives the one LimitSet of these limits, as they are stored, and of the
// thresholds of those that name none: the keys of a plan share it.
func (s *Service) limitSet(stored json.RawMessage, thresholds []quota.Threshold) (*quota.LimitSet, error) {
	b := slices.Clip(stored) // what is appended is not written behind it
	for _, t := range thresholds {
		b = binary.AppendVarint(b, int64(t))
	}
	key := string(b)
	hash := maphash.String(s.sets.seed, key)
	if set, ok := s.sets.get(hash, key); ok {
		return set, nil
	}
	var limits []quota.Limit
	if len(stored) > 0 {
		if err := json.Unmarshal(stored, &limits); err != nil {
			return nil, fmt.Errorf("saccount: limits: %w: %w", quota.ErrCorrupt, err)
		}
	}
	set, err := quota.NewLimitSet(limits, thresholds)
	if err == nil {
		s.sets.put(hash, key, set)
	}
	return set, err
}

func (c *cred) set(s *Service, x *secret) {
	p := &proof{sum: x.Hash.Sum, serial: int32(x.Serial)}
	if !x.Ends.IsZero() {
		p.ends = x.Ends.UnixMicro()
		c.until = min(c.until, p.ends)
	}
	i := slices.Index(s.pepper, x.Hash.Pepper)
	if i < 0 {
		i = len(s.pepper) - 1
	}
	p.pepper = uint8(i) // at most apikey.MaxPeppers and two
	c.proof = p
}

// view gives the shared view of an organization or account, which inherits
// thresholds.
func (s *Service) view(r *Record, thresholds []quota.Threshold) (*view, error) {
	at := place{r.Kind, r.Org, r.ID}
	hash := at.hash(s.views.seed)
	old, ok := s.views.get(hash, at)
	if ok && old.revision == r.Revision && (old.own || slices.Equal(old.thresholds, thresholds)) {
		return old, nil
	}
	n, err := readSpender(r)
	if err != nil {
		return nil, err
	}
	v := &view{id: r.ID, revision: r.Revision, disabled: r.Disabled, deleted: !r.Deleted.IsZero(), thresholds: thresholds}
	if n.Thresholds != nil {
		v.own, v.thresholds = true, n.Thresholds
	}
	set, err := s.limitSet(n.Limits, v.thresholds)
	if err != nil {
		return nil, err
	}
	if err := v.purse.Fill(r.subject(), n.Sequence, set); err != nil {
		return nil, err
	}
	var was *rate.Limiter
	if ok {
		was = old.rate
	}
	v.rate = limiter(n.Rate, was)
	if !ok || old.revision <= r.Revision { // a late reading does not replace a newer one
		s.views.put(hash, at, v)
	}
	return v, nil
}

// keyRate is the rate limiter of a key, which outlives what is kept of the key
// itself: it would begin anew with each reading of the store.
func (s *Service) keyRate(r *Record, pace *RateLimit) *rate.Limiter {
	if pace == nil {
		return nil
	}
	at := place{KindKey, r.Org, r.ID}
	hash := at.hash(s.rates.seed)
	was, _ := s.rates.get(hash, at)
	l := limiter(pace, was)
	if l != was {
		s.rates.put(hash, at, l)
	}
	return l
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
	return e.chain(), nil
}

// reread reads the records again and checks that the caller may still spend:
// by the very secret that it came with.
func (c *cred) reread(ctx context.Context, e *entry, sure bool) (*entry, error) {
	s := e.service
	var next *entry
	var err error
	if e.kind == KindMember {
		next, err = s.member(ctx, e.org.id, e.id(), sure)
	} else {
		next, err = s.key(ctx, e.id(), sure)
	}
	if errors.Is(err, ErrNotFound) {
		return nil, &AuthError{Reason: string(reasonDeleted), KeyID: e.id()}
	}
	if err != nil {
		return nil, fmt.Errorf("saccount: read %s: %w", e.subject(), err)
	}
	at := s.now().UnixMicro()
	why := next.state(at)
	if why == "" && e.kind == KindKey && !next.living(c.serial(), at) {
		why = reasonRotated
	}
	if why != "" {
		return nil, &AuthError{Reason: string(why), KeyID: e.id()}
	}
	c.now.Store(next)
	return next, nil
}

// living reports whether the secret with this serial lives at instant at.
func (e *entry) living(serial int32, at int64) bool {
	if e.own.serial() == serial {
		return e.own.living(at)
	}
	for i := range e.about.older {
		if c := &e.about.older[i]; c.serial() == serial {
			return c.living(at)
		}
	}
	return false
}

// ended is when the entry's caller can no longer be let in: the check of every
// charge, for a Principal that is kept for long. What was changed since the
// entry was read is for the charge itself, which then reads it again.
func (c *cred) ended(now time.Time) error {
	e := c.now.Load()
	if !e.fresh() {
		return nil
	}
	at := now.UnixMicro()
	if c == &e.own && at < c.until {
		return nil
	}
	if e.expires != 0 && at >= e.expires {
		return &AuthError{Reason: string(quota.ReasonExpired), KeyID: e.id()}
	}
	if !e.living(c.serial(), at) { // the newest reading knows its end, not what c was made from
		return &AuthError{Reason: string(reasonRotated), KeyID: e.id()}
	}
	return nil
}
