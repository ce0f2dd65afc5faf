package dashboard

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/keypurse/keypurse/internal/web"
	"github.com/keypurse/keypurse/saccount"
)

// Bounds of a Config.
const (
	maxProxies = 1024
	maxOrigins = 64
)

// Caller is who asks, as the host's own login knows them.
type Caller struct {
	// Actor goes into the audit log with every change.
	Actor saccount.Actor
	// Org is the id of the organization that the caller acts for. Empty only
	// with Host.
	Org string
	// Host lets the caller act for every organization: the host's own staff,
	// or its programs. Org must then be empty.
	Host bool
	// Role is what the caller may do. The zero Role is refused.
	Role saccount.Role
}

// Config configures a handler. Authorize is required, the rest has defaults.
type Config struct {
	// Authorize answers who asks. It is called once for each request that does
	// not come with a management key, by any number of goroutines, and must
	// leave the body unread. An error refuses the request: one that wraps
	// saccount.ErrUnauthenticated with 401, any other with 403. The error is
	// logged and never shown. A Caller without an Actor or a Role, or with
	// neither an Org nor Host, is refused too, and so is one with both.
	Authorize func(r *http.Request) (Caller, error)
	// ReadOnly refuses everything but reading, whoever asks: every method but
	// GET and HEAD.
	ReadOnly bool
	// TrustedProxies are the networks of the proxies whose X-Forwarded-For is
	// believed, as in middleware.Config. None: it is never looked at.
	TrustedProxies []netip.Prefix
	// TrustedOrigins are those from which changes are let through besides the
	// handler's own, "https://console.example.com": see
	// http.CrossOriginProtection. None is the rule.
	TrustedOrigins []string
	// Logger hears of what was refused and what failed. Nil discards.
	Logger *slog.Logger
	// Now is the clock of answers that tell how long to wait. Nil is time.Now.
	Now func() time.Time
}

// New makes the handler of a Service. It runs nothing and needs no closing.
// Errors wrap saccount.ErrInvalid and name the field of the Config.
func New(svc *saccount.Service, cfg Config) (http.Handler, error) {
	if svc == nil {
		return nil, invalid("no Service given")
	}
	if cfg.Authorize == nil {
		return nil, invalid("Authorize: it is required: say who asks, for which organization and with which role")
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
	if len(cfg.TrustedOrigins) > maxOrigins {
		return nil, invalid("TrustedOrigins: %d, at most %d", len(cfg.TrustedOrigins), maxOrigins)
	}
	h := &handler{svc: svc, cross: http.NewCrossOriginProtection()}
	for _, o := range cfg.TrustedOrigins {
		if err := h.cross.AddTrustedOrigin(o); err != nil {
			return nil, invalid("TrustedOrigins: %w", err)
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	h.cfg = cfg
	h.routes, h.pages = apiRoutes(), pageRoutes()
	h.document = sync.OnceValue(func() json.RawMessage { return document(h.routes) })
	var err error
	if h.assets, err = newAssets(); err == nil {
		h.templates, err = newTemplates(h.assets)
	}
	if err != nil {
		return nil, fmt.Errorf("dashboard: new: %w", err)
	}
	return h, nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("dashboard: new: %w config: %w", saccount.ErrInvalid, fmt.Errorf(format, args...))
}
