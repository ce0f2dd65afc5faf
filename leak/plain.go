package leak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/time/rate"

	"github.com/keypurse/keypurse/internal/web"
	"github.com/keypurse/keypurse/saccount"
)

// Bounds and defaults of a Config.
const (
	DefaultPace      = 500 * time.Millisecond
	MaxPace          = 10 * time.Second
	DefaultPerSecond = 5.0
	DefaultBurst     = 20
	maxPlain         = 1 << 10 // bytes of a body with one token
	workTime         = 30 * time.Second
)

// Config configures a handler. Its zero value works.
type Config struct {
	// TrustedProxies are the networks whose X-Forwarded-For tells the caller's
	// address, which goes into the audit log. None: the connection's address.
	TrustedProxies []netip.Prefix
	// Logger hears of reports of real tokens and of what fails. Nil discards.
	Logger *slog.Logger

	// Pace is, of Plain, what the time of an answer is a multiple of: longer
	// than any report takes, as a rule. Zero is DefaultPace, at most MaxPace.
	Pace time.Duration
	// PerSecond and Burst bound, of Plain, the reports of all callers together
	// in this process, by a token bucket. Zero values are DefaultPerSecond and
	// DefaultBurst.
	PerSecond float64
	Burst     int

	// PublicKeys gives, of GitHub, the keys that sign, by their identifiers.
	// They are remembered for an hour. Nil is FetchKeys(nil, "", ""). See
	// FetchKeys for a rate limit that a token of GitHub's lifts.
	PublicKeys KeySource
}

// service is what a handler needs of a saccount.Service.
type handler struct {
	svc *saccount.Service
	cfg Config
	log *slog.Logger
}

func newHandler(svc *saccount.Service, cfg Config) (*handler, error) {
	if svc == nil {
		return nil, fmt.Errorf("leak: %w service: none given", saccount.ErrInvalid)
	}
	for i, p := range cfg.TrustedProxies {
		q, ok := web.PlainPrefix(p)
		if !ok {
			return nil, fmt.Errorf("leak: %w TrustedProxies: %q is no network", saccount.ErrInvalid, p)
		}
		if i == 0 {
			cfg.TrustedProxies = append([]netip.Prefix(nil), cfg.TrustedProxies...)
		}
		cfg.TrustedProxies[i] = q
	}
	h := &handler{svc: svc, cfg: cfg, log: cfg.Logger}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	return h, nil
}

// report hands a token in, and says in the log what came of it.
func (h *handler) report(ctx context.Context, l saccount.Leak) (saccount.Leaked, error) {
	got, err := h.svc.ReportLeak(ctx, l)
	switch {
	case err != nil:
		h.log.ErrorContext(ctx, "keypurse: a token that was reported as leaked could not be looked at", "source", l.Source, "error", err)
	case got.Real:
		h.log.WarnContext(ctx, "keypurse: a token was reported as leaked", "source", l.Source, "org", got.Org, "subject", got.Subject, "disabled", got.Disabled)
	}
	return got, err
}

// work is a context for a report that the caller cannot take back.
func (h *handler) work(r *http.Request) (context.Context, context.CancelFunc) {
	ctx := context.WithoutCancel(r.Context())
	if _, ok := saccount.OriginOf(ctx); !ok {
		ctx = saccount.WithOrigin(ctx, saccount.Origin{Addr: web.ClientAddr(r, h.cfg.TrustedProxies)})
	}
	return context.WithTimeout(ctx, workTime)
}

func answer(w http.ResponseWriter, r *http.Request, status int, title string) {
	w.Header().Set("Cache-Control", "no-store")
	web.Write(w, r, status, web.ProblemType, fmt.Appendf(nil, `{"type":"about:blank","title":%q,"status":%d}`+"\n", title, status))
}

// body reads a bounded body. ok is false where it was answered already.
func body(w http.ResponseWriter, r *http.Request, most int64) (b []byte, ok bool) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		answer(w, r, http.StatusMethodNotAllowed, "hand a token in by POST")
		return nil, false
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		answer(w, r, http.StatusRequestEntityTooLarge, "the body is too large")
	case err != nil:
		answer(w, r, http.StatusBadRequest, "the body could not be read")
	}
	return b, err == nil
}

// Plain is the handler to which anybody hands in a token: a POST with the token
// alone in the body, up to 1,024 bytes. The answer is 202, whatever the token
// is, and comes after Config.Pace, or a multiple of it where the store is slow.
// 400 where the body is empty, 405, 413, 429 with Retry-After where there are
// too many reports, 503 where the store cannot be asked. What was read is
// worked on also where the caller has gone. Errors wrap saccount.ErrInvalid and
// name the field.
func Plain(svc *saccount.Service, cfg Config) (http.Handler, error) {
	if cfg.Pace == 0 {
		cfg.Pace = DefaultPace
	}
	if cfg.Pace < 0 || cfg.Pace > MaxPace {
		return nil, fmt.Errorf("leak: %w Pace %v: give more than 0, at most %v", saccount.ErrInvalid, cfg.Pace, MaxPace)
	}
	if cfg.PerSecond == 0 {
		cfg.PerSecond = DefaultPerSecond
	}
	if cfg.Burst == 0 {
		cfg.Burst = DefaultBurst
	}
	if !(cfg.PerSecond > 0 && cfg.PerSecond <= 1e6) || cfg.Burst < 1 || cfg.Burst > 1e6 {
		return nil, fmt.Errorf("leak: %w PerSecond %v and Burst %d: give 1 to 1000000, or 0 for the defaults", saccount.ErrInvalid, cfg.PerSecond, cfg.Burst)
	}
	h, err := newHandler(svc, cfg)
	if err != nil {
		return nil, err
	}
	return &plain{h, rate.NewLimiter(rate.Limit(cfg.PerSecond), cfg.Burst)}, nil
}

type plain struct {
	*handler
	limit *rate.Limiter
}

func (p *plain) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, ok := body(w, r, maxPlain)
	if !ok {
		return
	}
	begun := time.Now()
	token := string(bytes.TrimSpace(b))
	if token == "" {
		answer(w, r, http.StatusBadRequest, "the body is empty: send the token")
		return
	}
	if slot := p.limit.ReserveN(begun, 1); slot.DelayFrom(begun) > 0 {
		w.Header().Set("Retry-After", web.RetryAfter(slot.DelayFrom(begun)))
		slot.CancelAt(begun)
		answer(w, r, http.StatusTooManyRequests, "too many reports")
		return
	}
	ctx, cancel := p.work(r)
	defer cancel()
	_, err := p.report(ctx, saccount.Leak{Token: token, Source: "a report by HTTP"})
	// Whether there was something to write must not show in the time.
	web.Pace(r.Context(), begun, p.cfg.Pace)
	if err != nil {
		answer(w, r, http.StatusServiceUnavailable, "try again later")
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	web.Write(w, r, http.StatusAccepted, "text/plain; charset=utf-8", []byte("Thank you. If this is a token of ours, it is disabled.\n"))
}
