package middleware

import (
	"fmt"
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keypurse/keypurse/apikey"
	"github.com/keypurse/keypurse/saccount"
)

// Defaults of a ThrottleConfig.
const (
	DefaultFailures  = 30
	DefaultWindow    = time.Minute
	DefaultAddresses = 1 << 14
	maxAddresses     = 1 << 22
	maxFailures      = 1 << 20
	maxWindow        = 24 * time.Hour
)

// ThrottleConfig configures a Throttle. Its zero value is good.
type ThrottleConfig struct {
	// Failures is how many failed attempts an address has at once; they come
	// back one by one over Window. Zero is DefaultFailures, negative: no bound.
	Failures int
	// Window is the time in which all Failures come back. Zero is
	// DefaultWindow; at most a day.
	Window time.Duration
	// Addresses bounds the addresses in memory, of about 100 bytes each. Where
	// more fail at once, those nearest to being free are forgotten first. Zero
	// is DefaultAddresses.
	Addresses int
}

// Throttle bounds the failed attempts of each client address (an IPv6 /64
// counts as one). A request without a key is no attempt. An address that is
// out of failures is answered 429 without a look at the store, whatever key it
// shows, but for keys that were good not long ago: what one client does wrong
// behind a shared address does not lock its neighbours out, and keys from
// other addresses are never touched. It counts in this process alone, in
// bounded memory. Safe for concurrent use.
type Throttle struct {
	off    bool
	step   int64 // nanoseconds until one failure comes back
	window int64
	most   int // addresses a shard
	seed   maphash.Seed
	size   atomic.Int64
	shards [16]throttleShard
	// good are hashes of tokens that authenticated, each at the place that
	// its own bits name: a later one takes the place of an earlier. A hash
	// that is found lets a token through to be authenticated, nothing more.
	good [1 << 14]atomic.Uint64
}

type throttleShard struct {
	mu sync.Mutex
	// free is when each address has all its failures back (the theoretical
	// arrival time of the generic cell rate algorithm, ITU-T I.371), in
	// nanoseconds of Unix time.
	free map[netip.Addr]int64
}

// NewThrottle makes a Throttle, to be shared by several middlewares. Errors
// wrap saccount.ErrInvalid.
func NewThrottle(cfg ThrottleConfig) (*Throttle, error) {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("middleware: new throttle: %w config: %s", saccount.ErrInvalid, fmt.Sprintf(format, args...))
	}
	if cfg.Failures == 0 {
		cfg.Failures = DefaultFailures
	}
	if cfg.Window == 0 {
		cfg.Window = DefaultWindow
	}
	if cfg.Addresses == 0 {
		cfg.Addresses = DefaultAddresses
	}
	switch {
	case cfg.Failures > maxFailures:
		return nil, bad("Failures %d: at most %d", cfg.Failures, maxFailures)
	case cfg.Window < time.Second || cfg.Window > maxWindow:
		return nil, bad("Window %v: give 1s to %v", cfg.Window, maxWindow)
	case cfg.Addresses < 1 || cfg.Addresses > maxAddresses:
		return nil, bad("Addresses %d: give 1 to %d", cfg.Addresses, maxAddresses)
	}
	t := &Throttle{off: cfg.Failures < 0, seed: maphash.MakeSeed()}
	if t.off {
		return t, nil
	}
	t.step, t.window = int64(cfg.Window)/int64(cfg.Failures), int64(cfg.Window)
	t.most = max(1, cfg.Addresses/len(t.shards))
	for i := range t.shards {
		t.shards[i].free = map[netip.Addr]int64{}
	}
	return t, nil
}

// idle reports whether no address has a failure, so that nobody needs to ask.
func (t *Throttle) idle() bool { return t.size.Load() == 0 }

// Wait is how long an address has to wait before its token is looked at; 0:
// not at all. An address that is not valid never waits.
func (t *Throttle) Wait(from netip.Addr, token string, now time.Time) time.Duration {
	if t.off || t.idle() || !from.IsValid() {
		return 0
	}
	from = network(from)
	s := t.shard(from)
	s.mu.Lock()
	free, ok := s.free[from]
	if ok && free <= now.UnixNano() {
		delete(s.free, from)
		t.size.Add(-1)
		ok = false
	}
	s.mu.Unlock()
	if !ok {
		return 0
	}
	// The clock may have been set back: nobody waits longer than Window for it.
	wait := min(free-now.UnixNano(), t.window) + t.step - t.window
	if wait <= 0 || t.knows(token) {
		return 0
	}
	return time.Duration(wait)
}

// Failed counts a failed attempt.
func (t *Throttle) Failed(from netip.Addr, token string, now time.Time) {
	if t.off {
		return
	}
	h := t.hash(token)
	t.good[h%uint64(len(t.good))].CompareAndSwap(h, 0) // good no more
	if !from.IsValid() {
		return
	}
	from = network(from)
	at := now.UnixNano()
	s := t.shard(from)
	s.mu.Lock()
	defer s.mu.Unlock()
	free, ok := s.free[from]
	if !ok {
		if len(s.free) >= t.most {
			t.evict(s)
		}
		t.size.Add(1)
	}
	free = min(max(free, at), at+t.window)
	s.free[from] = min(free+t.step, at+t.window)
}

// Passed remembers a token that was good.
func (t *Throttle) Passed(token string) {
	if t.off {
		return
	}
	h := t.hash(token)
	if g := &t.good[h%uint64(len(t.good))]; g.Load() != h {
		g.Store(h)
	}
}

func (t *Throttle) knows(token string) bool {
	h := t.hash(token)
	return t.good[h%uint64(len(t.good))].Load() == h
}

// hash is never zero, which stands for an empty place. The end of a token is
// enough: ten characters of secret in it are as hard to guess as 59 bits.
func (t *Throttle) hash(token string) uint64 {
	const end = 16
	if len(token) > apikey.MaxTokenLen {
		token = "" // no token is so long: it is known to nobody
	}
	if len(token) > end {
		token = token[len(token)-end:]
	}
	return max(1, maphash.String(t.seed, token))
}

func (t *Throttle) shard(a netip.Addr) *throttleShard {
	return &t.shards[maphash.Comparable(t.seed, a)%uint64(len(t.shards))]
}

// evict makes room: of a few addresses, met at random as maps are, the one
// that is nearest to being free goes.
func (t *Throttle) evict(s *throttleShard) {
	const sample = 8
	var victim netip.Addr
	var least int64
	n := 0
	for a, free := range s.free {
		if n == 0 || free < least {
			victim, least = a, free
		}
		if n++; n == sample {
			break
		}
	}
	delete(s.free, victim)
	t.size.Add(-1)
}

// network is what counts as one address.
func network(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is4() {
		return a
	}
	return netip.PrefixFrom(a, 64).Masked().Addr()
}
