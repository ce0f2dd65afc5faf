package middleware

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/keypurse/keypurse/internal/web"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// Bounds and defaults of a Config.
const (
	DefaultRealm   = "api"
	DefaultHoldTTL = time.Minute
	MinHoldTTL     = time.Second
	maxRealm       = 128
	maxScopes      = 64
	maxScope       = 64
	maxProxies     = 1024
)

// Config configures a middleware. Its zero value authenticates and charges
// nothing.
type Config struct {
	// Cost is what a request costs. The zero Cost: nothing is charged and no
	// request is counted.
	Cost Cost
	// Scopes are those that a key needs, all of them: up to 64.
	Scopes []string
	// HoldTTL is how long a reservation made for UpTo lives after the process
	// died; while the handler runs it is renewed. Zero is DefaultHoldTTL; the
	// least is MinHoldTTL, the most quota.MaxTTL.
	HoldTTL time.Duration

	// Realm is named in challenges (RFC 9110, 11.5): up to 128 printable
	// ASCII characters. Empty is DefaultRealm.
	Realm string
	// XAPIKey lets a key come in the X-API-Key header too.
	XAPIKey bool
	// TrustedProxies are the networks of the proxies whose X-Forwarded-For is
	// believed: see ClientAddr. None: it is never looked at.
	TrustedProxies []netip.Prefix
	// Throttle bounds failed attempts. Nil makes one of the default
	// configuration, for this middleware alone; to let several count
	// together, give all of them one.
	Throttle *Throttle

	// RateLimitHeaders adds RateLimit-Policy and RateLimit
	// (draft-ietf-httpapi-ratelimit-headers) to what a charged caller gets,
	// in whole credits.
	RateLimitHeaders bool
	// IdempotencyHeader names the request header, "Idempotency-Key" by its
	// draft (draft-ietf-httpapi-idempotency-key-header), whose value makes a
	// retry safe: what a caller sends again under the same value is not
	// charged again. It is read as a structured-field string or as it stands,
	// 1 to 128 printable ASCII characters. Empty: none is read. Of middlewares
	// around one another, let one alone read it.
	IdempotencyHeader string
	// Replays lets a request whose id was charged before through to the
	// handler, uncharged; the handler finds that out with Replayed and must
	// not do the work again, else one charge buys any number of requests.
	// Without it such a request is answered 409.
	Replays bool
	// FailOpen lets a caller that was authenticated through where the store
	// cannot be asked to charge it. What it costs is charged when the handler
	// returns, if that can be done by then. A caller that cannot be
	// authenticated is never let through, nor one whose records are corrupt.
	FailOpen bool

	// Skip lets a request through untouched where it returns true: preflight
	// requests (OPTIONS), for example. Nil: none.
	Skip func(*http.Request) bool
	// ErrorHandler answers a refused request in the host's own words. The
	// headers that belong to the answer whatever its words are set already
	// (WWW-Authenticate, Retry-After, Cache-Control); status and body are not
	// written. Nil is Problem.ServeHTTP.
	ErrorHandler func(http.ResponseWriter, *http.Request, *Problem)
	// Logger hears of requests that were let through or served and could not
	// be charged. Never of a key. Nil discards.
	Logger *slog.Logger
	// Now is the clock that Retry-After is reckoned by: the Service's own.
	// Nil is time.Now.
	Now func() time.Time
}

// New makes a middleware. It runs nothing until requests come. Errors wrap
// saccount.ErrInvalid and name the field of the Config.
func New(svc *saccount.Service, cfg Config) (func(http.Handler) http.Handler, error) {
	if svc == nil {
		return nil, invalid("no Service given")
	}
	if cfg.Cost.err != nil {
		return nil, invalid("Cost: %w", cfg.Cost.err)
	}
	if len(cfg.Scopes) > maxScopes {
		return nil, invalid("Scopes: %d, at most %d", len(cfg.Scopes), maxScopes)
	}
	for _, s := range cfg.Scopes {
		if !isScope(s) {
			return nil, invalid("Scopes: %.70q is no scope: use 1 to %d characters without spaces, quotes or backslashes", s, maxScope)
		}
	}
	cfg.Scopes = slices.Clone(cfg.Scopes)
	switch {
	case cfg.HoldTTL == 0:
		cfg.HoldTTL = DefaultHoldTTL
	case cfg.HoldTTL < MinHoldTTL || cfg.HoldTTL > quota.MaxTTL:
		return nil, invalid("HoldTTL %v: give %v to %v", cfg.HoldTTL, MinHoldTTL, quota.MaxTTL)
	}
	if cfg.Realm == "" {
		cfg.Realm = DefaultRealm
	}
	if !isRealm(cfg.Realm) {
		return nil, invalid("Realm %.140q: use up to %d printable ASCII characters", cfg.Realm, maxRealm)
	}
	if len(cfg.TrustedProxies) > maxProxies {
		return nil, invalid("TrustedProxies: %d, at most %d", len(cfg.TrustedProxies), maxProxies)
	}
	cfg.TrustedProxies = slices.Clone(cfg.TrustedProxies)
	for i, p := range cfg.TrustedProxies {
		q, ok := web.PlainPrefix(p)
		if !ok {
			return nil, invalid("TrustedProxies: %v is no network", p)
		}
		cfg.TrustedProxies[i] = q
	}
	if cfg.Throttle == nil {
		t, err := NewThrottle(ThrottleConfig{})
		if err != nil {
			return nil, err
		}
		cfg.Throttle = t
	}
	if h := cfg.IdempotencyHeader; h != "" {
		if !isToken(h) {
			return nil, invalid("IdempotencyHeader %.70q is no header's name", h)
		}
		cfg.IdempotencyHeader = http.CanonicalHeaderKey(h)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	g := &gate{svc: svc, cfg: cfg}
	return func(next http.Handler) http.Handler { return &handler{gate: g, next: next} }, nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("middleware: new: %w config: %w", saccount.ErrInvalid, fmt.Errorf(format, args...))
}

// isScope reports whether s is a scope-token of RFC 6749, 3.3.
func isScope(s string) bool {
	if s == "" || len(s) > maxScope {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c < 0x21 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

func isRealm(s string) bool {
	if len(s) > maxRealm {
		return false
	}
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// isToken reports whether s is a token of RFC 9110, 5.6.2.
func isToken(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0 {
			continue
		}
		return false
	}
	return true
}
