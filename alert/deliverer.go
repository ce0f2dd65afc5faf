package alert

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/keypurse/keypurse/quota"
)

// Defaults and bounds of a Config.
const (
	DefaultPoll     = time.Second
	DefaultTimeout  = 20 * time.Second
	DefaultParallel = 64
	DefaultMaxAge   = 7 * 24 * time.Hour

	maxParallel = 1 << 12
	maxSinks    = 64
	perClaim    = 16 // deliveries of one sink that are claimed at once
	perSink     = 4  // of them sent at the same time
	perDispatch = 200
	grace       = 2 * time.Second // for a sink to end after its context did
)

// DefaultSchedule is when a failed delivery is tried again, after each try: ten
// tries over three days (the schedule that Standard Webhooks names).
func DefaultSchedule() []time.Duration {
	const h = time.Hour
	return []time.Duration{5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * h, 5 * h, 10 * h, 14 * h, 20 * h, 24 * h}
}

// Config configures a Deliverer. Store is needed, the rest has defaults.
type Config struct {
	Store Store
	// Sinks get the alerts of every organization, as their filters say. At most
	// 64, with different names.
	Sinks []Route
	// Recipients are the sinks that an organization has of its own, also asked
	// for when something is sent to one of them. Names must differ from those of
	// Sinks and of other organizations' recipients. An error is one of the
	// store's: the alerts wait. Nil: none.
	Recipients func(ctx context.Context, org string) ([]Route, error)
	// Gone is called where a sink said that it is there no more. Nil: nobody is
	// told but the log.
	Gone func(ctx context.Context, org, sink string, why error)
	// Name is what a subject is called; empty where it is not known. Nil: no
	// names.
	Name func(ctx context.Context, org string, subject quota.Subject) string
	// Schedule is how long after each failed try the next one comes, on
	// average: each time is spread over as much again. After the last the alert
	// is a dead letter. Nil is DefaultSchedule; empty and not nil: one try.
	Schedule []time.Duration
	// Timeout bounds one try. Zero is DefaultTimeout; 10 ms to 5 minutes.
	Timeout time.Duration
	// Poll is how often the outbox is looked at. Zero is DefaultPoll; 1 ms to an
	// hour.
	Poll time.Duration
	// Parallel bounds how many sinks are sent to at the same time; those that
	// failed last take at most half. Zero is DefaultParallel.
	Parallel int
	// MaxAge is how old an alert may be to be sent at all when it is first
	// looked at, so that a host that begins to watch after months is not flooded.
	// What is older is dispatched to nobody, and logged. Zero is DefaultMaxAge.
	MaxAge time.Duration
	// Now is the clock. Nil is time.Now.
	Now func() time.Time
	// Logger hears of what fails. Nil discards.
	Logger *slog.Logger
}

func (c Config) check() (Config, error) {
	if c.Poll == 0 {
		c.Poll = DefaultPoll
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Parallel == 0 {
		c.Parallel = DefaultParallel
	}
	if c.MaxAge == 0 {
		c.MaxAge = DefaultMaxAge
	}
	if c.Schedule == nil {
		c.Schedule = DefaultSchedule()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	bad := func(format string, args ...any) (Config, error) {
		return c, fmt.Errorf("%w "+format, append([]any{quota.ErrInvalid}, args...)...)
	}
	switch {
	case c.Store == nil:
		return bad("Store: none given")
	case len(c.Sinks) > maxSinks:
		return bad("Sinks: %d, at most %d", len(c.Sinks), maxSinks)
	case c.Poll < time.Millisecond || c.Poll > time.Hour:
		return bad("Poll %v: give 1ms to 1h", c.Poll)
	case c.Timeout < 10*time.Millisecond || c.Timeout > 5*time.Minute:
		return bad("Timeout %v: give 10ms to 5m", c.Timeout)
	case c.Parallel < 2 || c.Parallel > maxParallel:
		return bad("Parallel %d: give 2 to %d", c.Parallel, maxParallel)
	case c.MaxAge < time.Minute:
		return bad("MaxAge %v: give a minute or more", c.MaxAge)
	case len(c.Schedule) > 100:
		return bad("Schedule: %d tries, at most 100", len(c.Schedule))
	}
	for _, d := range c.Schedule {
		if d <= 0 || d > 30*24*time.Hour {
			return bad("Schedule: %v between two tries; give more than 0, up to 30 days", d)
		}
	}
	names := map[string]bool{}
	for i := range c.Sinks {
		r := &c.Sinks[i]
		if r.Name == "" || len(r.Name) > MaxSinkName || r.Sink == nil || names[r.Name] {
			return bad("Sinks: %q; each needs a Sink and a name of its own, of 1 to %d bytes", r.Name, MaxSinkName)
		}
		if err := r.Filter.Validate(); err != nil {
			return c, fmt.Errorf("the filter in Sinks of %q: %w", r.Name, err)
		}
		names[r.Name] = true
	}
	return c, nil
}

// Deliverer brings alerts from the outbox to sinks, each at least once. Several
// processes may run one on the same store: what one has claimed the others
// leave alone until its time is over. Safe for concurrent use. It does nothing
// until Run or Deliver is called.
type Deliverer struct {
	cfg Config

	mu     sync.Mutex
	busy   map[string]bool // sinks that are being sent to
	failed map[string]bool // sinks whose last try failed
	slow   int             // busy sinks that had failed before
	work   sync.WaitGroup
}

// NewDeliverer checks the Config. Errors wrap quota.ErrInvalid and name the
// field.
func NewDeliverer(cfg Config) (*Deliverer, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, fmt.Errorf("alert: new deliverer: %w", err)
	}
	return &Deliverer{cfg: cfg, busy: map[string]bool{}, failed: map[string]bool{}}, nil
}

// Run delivers until the context is over, and returns when what is on its way
// has ended: after Timeout and a little. What fails in the store is logged and
// tried again. Its error is nil.
func (d *Deliverer) Run(ctx context.Context) error {
	tick := time.NewTicker(d.cfg.Poll)
	defer tick.Stop()
	defer d.work.Wait()
	for {
		if _, err := d.round(ctx); err != nil && ctx.Err() == nil {
			d.cfg.Logger.Warn("keypurse: alerts wait: the store failed", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Deliver sends what is due now, once, and returns when all of it was tried: for
// tests, and for hosts that are called by a timer of their own. Errors are the
// store's.
func (d *Deliverer) Deliver(ctx context.Context) error {
	for {
		started, err := d.round(ctx)
		d.work.Wait()
		if err != nil || started == 0 {
			return err
		}
	}
}

func (d *Deliverer) now() int64 { return d.cfg.Now().UnixMicro() }

// round dispatches what is new and starts to send what is due, to so many sinks.
func (d *Deliverer) round(ctx context.Context) (started int, err error) {
	for {
		more, err := d.dispatch(ctx)
		if err != nil {
			return 0, err
		}
		if !more {
			break
		}
	}
	for after := ""; ; {
		sinks, err := d.cfg.Store.DueSinks(ctx, d.now(), after, MaxPage)
		if err != nil {
			return started, err
		}
		for _, s := range sinks {
			if d.start(ctx, s) {
				started++
			}
			after = s
		}
		if len(sinks) < MaxPage {
			return started, nil
		}
	}
}

// start sends what is due of a sink, where there is room for it.
func (d *Deliverer) start(ctx context.Context, sink string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	slow := d.failed[sink]
	if d.busy[sink] || len(d.busy) >= d.cfg.Parallel || slow && d.slow >= d.cfg.Parallel/2 {
		return false
	}
	d.busy[sink] = true
	if slow {
		d.slow++
	}
	d.work.Go(func() {
		failed, hung := d.serve(ctx, sink)
		free := func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			delete(d.busy, sink)
			if slow {
				d.slow--
			}
			delete(d.failed, sink)
			if failed {
				d.failed[sink] = true
			}
		}
		if hung == nil {
			free()
			return
		}
		// It does not end though its time is over: nothing more is given to it
		// until it does, and nobody waits for it.
		go func() { hung.Wait(); free() }()
	})
	return true
}

// backoff is when to try again after so many tries; false: no more.
func (d *Deliverer) backoff(tries int64, after time.Duration) (time.Duration, bool) {
	if tries > int64(len(d.cfg.Schedule)) {
		return 0, false
	}
	wait := d.cfg.Schedule[max(tries, 1)-1]
	wait = wait/2 + rand.N(wait)
	return max(wait, min(after, MaxRetryAfter)), true
}
