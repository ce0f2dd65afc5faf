package saccount

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/keypurse/keypurse/apikey"
	"github.com/keypurse/keypurse/quota"
)

// Bounds and defaults of a Config.
const (
	DefaultPrefix    = "sa"
	DefaultCacheSize = 1 << 17
	maxCacheSize     = 1 << 24
	maxPrefixes      = 8
)

// Config configures a Service. Its zero value works; a service that goes into
// production chooses a Prefix and gives Peppers.
type Config struct {
	// Prefix begins every token: "acme", or "acme_live". Changing it makes
	// every token given out unknown, so choose once. Empty is DefaultPrefix.
	Prefix string
	// ManagementPrefix begins the tokens of management keys. Empty makes it of
	// Prefix: "acmemgmt" of "acme", "acmemgmt_live" of "acme_live"; where that is
	// longer than a prefix may be, there are no management keys.
	ManagementPrefix string
	// Peppers key the hashes of the secrets, so that a copy of the store is of
	// no use to try secrets against. Keep them apart from the store. The last
	// one hashes new secrets; those before it are still accepted, and a key
	// moves to the last when it is next used. None: plain SHA-256.
	Peppers []apikey.Pepper
	// Secrets are the host's, from which keys are derived: those that seal the
	// audit log (see Service.Verify). The last one is used for what is new;
	// those before it still verify what was made with them, so keep them for as
	// long as that is kept. Keep them apart from the store. None: the audit log
	// is chained by plain SHA-256, which anybody can compute.
	Secrets []Secret
	// Thresholds are those of limits that name none. Nil is
	// quota.DefaultThresholds; empty and not nil is none.
	Thresholds []quota.Threshold
	// Keep is how long operations' ids are remembered. Zero is
	// quota.DefaultKeep, the least is quota.MinKeep.
	Keep time.Duration
	// Leases lets charges without an ID be spent in memory, from blocks of
	// credits that are taken for callers that charge often: see
	// quota.LedgerConfig.Leases for what that changes. A key that is disabled,
	// deleted or rotated, or a limit that is lowered, by another process reaches
	// a block when this Service hears of it (BlindAfter), at the latest after
	// quota.LeaseBound. Off by default.
	Leases bool
	// MaxKeyLife is the greatest lifetime of a key. Zero: no bound. A key
	// without an expiry gets this one.
	MaxKeyLife time.Duration
	// CacheSize bounds the verified keys kept in memory. Zero is
	// DefaultCacheSize; negative is none: each authentication reads the store,
	// and what memory holds of accounts and organizations serves only as the
	// decoded form of the revision that was just read.
	// On a store that several processes share, what another process does to a
	// key reaches those kept here within BlindAfter; with none kept, at once.
	CacheSize int
	// Alerts is who hears of what, while Watch runs.
	Alerts Alerts
	// Observer is told of authentications, charges and calls of the store, for
	// metrics and traces. Its zero value is told of nothing and costs nothing.
	Observer Observer
	// Logger hears of what an operator must know: at Error that the store
	// cannot be asked or what it holds is damaged, at Warn that callers are
	// turned away, that this process cannot hear of others' changes, or that
	// something was not written behind a call that went well, at Info that one
	// of these is over. Nothing is logged for each request, and what goes on
	// comes every TroubleEvery. Nil discards.
	Logger *slog.Logger
	// Now is the clock. Nil is the store's, where it has one that all its
	// processes share, else time.Now.
	Now func() time.Time
	// Rand makes ids and secrets. Nil is crypto/rand; anything else is for tests.
	Rand io.Reader
}

// Service is the one thing that an embedder holds: organizations, members,
// service accounts and keys, who is calling, and what it costs them. Safe for
// concurrent use. It runs no goroutine of its own but for a timer while
// something waits to be written; alerts are sent while the host runs Watch.
type Service struct {
	store        Store
	cfg          Config
	prefix       apikey.Prefix
	managePrefix apikey.Prefix
	hasher       *apikey.Hasher
	pepper       []string // ids of peppers, by their number in a cred
	secret       secrets
	ledger       *quota.Ledger
	log          *slog.Logger
	now          func() time.Time
	random       io.Reader

	keys    *keyTable
	members *cache[place, *entry]
	views   *cache[place, *view]
	rates   *cache[place, *rate.Limiter] // of keys
	sets    *cache[string, *quota.LimitSet]
	gens    generations
	watch   *watch // nil where no other process writes to the store
	used    *uses
	alerts  *alerts
	base    time.Time // that troubles count from
	noise   [troubles]gate
	closed  atomic.Bool
	closing sync.Once
}

// New makes a Service on a store, which stays the caller's to close, after the
// Service. Errors wrap ErrInvalid and name the field of the Config.
func New(store Store, cfg Config) (*Service, error) {
	if store == nil {
		return nil, fmt.Errorf("saccount: new: %w store: none given", ErrInvalid)
	}
	if cfg.Prefix == "" {
		cfg.Prefix = DefaultPrefix
	}
	prefix, err := apikey.ParsePrefix(cfg.Prefix)
	if err != nil {
		return nil, fmt.Errorf("saccount: new: Prefix: %w: %w", ErrInvalid, err)
	}
	managePrefix, err := managementPrefix(cfg)
	if err != nil {
		return nil, fmt.Errorf("saccount: new: ManagementPrefix: %w: %w", ErrInvalid, err)
	}
	hasher, err := apikey.NewHasher(cfg.Peppers...)
	if err != nil {
		return nil, fmt.Errorf("saccount: new: Peppers: %w: %w", ErrInvalid, err)
	}
	secret, err := newSecrets(cfg.Secrets)
	if err != nil {
		return nil, fmt.Errorf("saccount: new: Secrets: %w", err)
	}
	if cfg.Thresholds == nil {
		cfg.Thresholds = quota.DefaultThresholds()
	}
	probe := quota.Limit{Name: quota.DefaultLimitName, Thresholds: cfg.Thresholds}
	if err := probe.Validate(time.Time{}); err != nil {
		return nil, fmt.Errorf("saccount: new: Thresholds: %w: %w", ErrInvalid, err)
	}
	if cfg.MaxKeyLife < 0 {
		return nil, fmt.Errorf("saccount: new: %w MaxKeyLife %v: give 0 for no bound, or more", ErrInvalid, cfg.MaxKeyLife)
	}
	switch {
	case cfg.CacheSize == 0:
		cfg.CacheSize = DefaultCacheSize
	case cfg.CacheSize > maxCacheSize:
		return nil, fmt.Errorf("saccount: new: %w CacheSize %d: at most %d", ErrInvalid, cfg.CacheSize, maxCacheSize)
	}
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	below := store
	store = observe(store, cfg.Observer.Stored)
	ledger, err := quota.NewLedger(store, quota.LedgerConfig{Keep: cfg.Keep, Leases: cfg.Leases, Lost: func(n int64, err error) {
		log.Warn("keypurse: refused requests were not counted", "requests", n, "error", err)
	}})
	if err != nil {
		return nil, fmt.Errorf("saccount: new: %w: %w", ErrInvalid, err)
	}
	ids := []string{""} // of hashes without a pepper
	for i := range cfg.Peppers {
		ids = append(ids, cfg.Peppers[i].ID)
	}
	ids = append(ids, noPepper)
	cfg.Peppers, cfg.Secrets = nil, nil // the hasher and secret have them, and nothing prints those
	above := cfg.CacheSize              // accounts and organizations
	if above < 0 {
		above = DefaultCacheSize
	}
	s := &Service{
		pepper: ids, secret: secret,
		store: store, cfg: cfg, prefix: prefix, managePrefix: managePrefix, hasher: hasher, ledger: ledger,
		log: log, base: time.Now(), now: cfg.Now, random: cfg.Rand,
		keys: newKeyTable(cfg.CacheSize), members: newCache[place, *entry](cfg.CacheSize), views: newCache[place, *view](above),
		rates: newCache[place, *rate.Limiter](above),
		sets:  newCache[string, *quota.LimitSet](min(above, 1<<12)),
	}
	if c, ok := below.(Clock); ok && s.now == nil {
		s.now = c.Now
	}
	if s.now == nil {
		s.now = new(clock).now
	}
	if cfg.CacheSize > 0 {
		s.watch = newWatch(below, &s.gens, s.log)
	}
	if s.random == nil {
		s.random = rand.Reader
	}
	s.used = newUses(s)
	if s.alerts, err = newAlerts(s); err != nil {
		return nil, fmt.Errorf("saccount: new: Alerts: %w", s.mark(err))
	}
	return s, nil
}

// managementPrefix is that of the Config, or one made of its Prefix; zero where
// that is too long.
func managementPrefix(cfg Config) (apikey.Prefix, error) {
	s := cfg.ManagementPrefix
	if s == "" {
		brand, env, has := strings.Cut(cfg.Prefix, "_")
		if s = brand + "mgmt"; has {
			s += "_" + env
		}
		if len(s) > apikey.MaxPrefixLen {
			return apikey.Prefix{}, nil
		}
	}
	if s == cfg.Prefix {
		return apikey.Prefix{}, errors.New("it is the Prefix: the two must be told apart")
	}
	return apikey.ParsePrefix(s)
}

// Close ends Watch, writes what waits in memory (when keys were last used,
// counts of refused requests), settles blocks and gives them back, and waits for
// alerts and charges on their way. Calls after it fail with ErrClosed. It does
// not close the store. Idempotent.
func (s *Service) Close() error {
	var err error
	s.closing.Do(func() {
		s.closed.Store(true)
		s.alerts.close()
		s.watch.close()
		err = s.used.close()
		if e := s.ledger.Close(); err == nil {
			err = e
		}
	})
	return err
}

// Flush writes what waits in memory at once, as happens by itself within a
// second: when keys were last used, counts of refused requests, and what was
// spent from blocks.
func (s *Service) Flush(ctx context.Context) error {
	if err := s.used.flush(ctx); err != nil {
		return err
	}
	return s.ledger.Flush(ctx)
}

// Prefix is the prefix of the tokens.
func (s *Service) Prefix() apikey.Prefix { return s.prefix }

// begin is the first line of every management call.
func (s *Service) begin(verb string) error {
	if s.closed.Load() {
		return fmt.Errorf("saccount: %s: %w", verb, ErrClosed)
	}
	return nil
}

// newID makes an id of 16 base62 characters that sorts by the time it was made
// at, so that lists come in order of creation and stores append: 8 characters
// of milliseconds, 8 of chance.
func (s *Service) newID(now time.Time) (string, error) {
	random, err := apikey.NewID(s.random)
	if err != nil {
		return "", fmt.Errorf("saccount: make an id: %w", err)
	}
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	b := []byte(random)
	ms := uint64(max(0, now.UnixMilli()))
	for i := 7; i >= 0; i-- {
		b[i] = digits[ms%62]
		ms /= 62
	}
	return string(b), nil
}
