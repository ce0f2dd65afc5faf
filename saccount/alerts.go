package saccount

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
)

// Alerts configures who hears of what. Its zero value sends nothing: alerts
// gather in the store's outbox until Sweep, or Watch, drops them.
type Alerts struct {
	// Sinks are the host's own: they get the alerts of every organization that
	// pass their filters. Names must not begin with "recipient:".
	Sinks []alert.Route
	// Email sends the letters to organizations' mail addresses. Nil: they can
	// have none.
	Email alert.EmailFunc
	// Webhooks says where organizations' webhooks may go. They are signed with
	// what is derived from Config.Secrets; without one there are none. Its Now is
	// not used.
	Webhooks alert.WebhookConfig
	// Rules are what is looked for besides thresholds, and how often.
	Rules Rules
	// Schedule, Timeout, Poll, Parallel and MaxAge are those of alert.Config;
	// zero values are its defaults.
	Schedule []time.Duration
	Timeout  time.Duration
	Poll     time.Duration
	Parallel int
	MaxAge   time.Duration
}

// episodeKept is how long it is remembered that an episode was alerted.
const episodeKept = 400 * 24 * time.Hour

// alerts is what watches.
type alerts struct {
	service   *Service
	deliverer *alert.Deliverer
	hooks     *alert.Webhooks
	rules     Rules
	addresses addresses
	ctx       context.Context // over when the Service closes
	stop      context.CancelFunc
	mu        sync.Mutex
	running   sync.WaitGroup
}

func newAlerts(s *Service) (*alerts, error) {
	a := &alerts{service: s}
	cfg := &s.cfg.Alerts
	for i := range cfg.Sinks {
		if strings.HasPrefix(cfg.Sinks[i].Name, recipientSink) {
			return nil, invalidf("Sinks: the name %q is one of organizations' recipients; give another", cfg.Sinks[i].Name)
		}
	}
	hooks := cfg.Webhooks
	hooks.Now = s.now
	a.hooks = alert.NewWebhooks(hooks)
	var err error
	if a.rules, err = cfg.Rules.check(); err != nil {
		return nil, err
	}
	a.addresses.seen, a.addresses.muted = map[[2]string]bool{}, map[string]time.Time{}
	a.deliverer, err = alert.NewDeliverer(alert.Config{
		Store: s.store, Sinks: cfg.Sinks, Schedule: cfg.Schedule, Timeout: cfg.Timeout, Poll: cfg.Poll, Parallel: cfg.Parallel, MaxAge: cfg.MaxAge,
		Recipients: a.routes, Gone: a.gone, Name: a.name, Now: s.now, Logger: s.log,
	})
	if err != nil {
		return nil, err
	}
	a.ctx, a.stop = context.WithCancel(context.Background())
	return a, nil
}

// name is what a subject's record is called; empty where it cannot be told.
func (a *alerts) name(ctx context.Context, org string, subject quota.Subject) string {
	for k := KindOrg; k <= KindKey; k++ {
		if k.String() == subject.Kind() {
			if l, err := a.service.lookup(ctx, org, k, subject.ID()); err == nil {
				return l.Record.Name
			}
		}
	}
	return ""
}

// begin notes that something runs that Close waits for.
func (a *alerts) begin() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ctx.Err() != nil {
		return false
	}
	a.running.Add(1)
	return true
}

func (a *alerts) close() {
	a.mu.Lock()
	a.stop()
	a.mu.Unlock()
	a.running.Wait()
}

// Watch is the periodic part: it brings alerts to their sinks, and whenever Rules.Every
// is over one process of many looks for what the Rules alert of, does what key
// policies say, and drops what is over, as Sweep does without windows. It goes
// on until the context is over or the Service is closed, and returns when what
// is on its way has ended. Run it in a goroutine of its own, in as many processes
// as there are: they share the work. No charge waits for it. How long usage and
// windows are kept is the host's to say (Retain, Sweep), and so is the audit log
// (CutAudit). What fails is logged and tried again. Its error is
// nil, or ErrClosed where the Service was closed before.
func (s *Service) Watch(ctx context.Context) error {
	if !s.alerts.begin() {
		return fmt.Errorf("saccount: watch: %w", ErrClosed)
	}
	defer s.alerts.running.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.alerts.ctx, cancel)()
	var sweeping sync.WaitGroup
	defer sweeping.Wait()
	sweeping.Go(func() { s.alerts.sweeps(ctx) })
	return s.alerts.deliverer.Run(ctx)
}

// DeliverAlerts sends what is due now, once, and returns when all of it was
// tried: for tests, and for hosts that are called by a timer of their own
// instead of running Watch. Errors: ErrClosed, and the store's.
func (s *Service) DeliverAlerts(ctx context.Context) error {
	if !s.alerts.begin() {
		return fmt.Errorf("saccount: deliver alerts: %w", ErrClosed)
	}
	defer s.alerts.running.Done()
	if err := s.alerts.deliverer.Deliver(ctx); err != nil {
		return fmt.Errorf("saccount: deliver alerts: %w", err)
	}
	return nil
}
