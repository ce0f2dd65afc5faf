// Package prompurse makes Prometheus metrics of what a saccount.Service does.
//
//	m, err := prompurse.New(prompurse.Config{})
//	registry.MustRegister(m)
//	svc, err := saccount.New(store, saccount.Config{Observer: m.Observer()})
//
// README.md, beside this file's folder, lists the metrics. No label names a key,
// an account or a member: whoever has a million keys has no more series than
// whoever has ten. The organization is a label where the host asks for it, and
// then of a bounded number of them.
package prompurse

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// Bounds and defaults of a Config.
const (
	DefaultNamespace = "keypurse"
	DefaultMaxOrgs   = 1000
	// Other is the organization of whatever is beyond Config.MaxOrgs.
	Other = "other"
)

// Config configures a Metrics. Its zero value is good.
type Config struct {
	// Namespace begins every name. Empty is DefaultNamespace.
	Namespace string
	// Org gives the value of the label "org" for an organization's id: the id
	// itself, a plan, a region; "" leaves it empty. Nil: there is no such
	// label. It is called with every event and must be quick.
	Org func(id string) string
	// MaxOrgs bounds the values of "org": those that come later are Other.
	// Zero is DefaultMaxOrgs.
	MaxOrgs int
	// Outbox tells how many alerts wait to be sent, whenever metrics are
	// gathered. Nil: there is no such metric. An error leaves it out of that
	// gathering.
	Outbox func(context.Context) (int64, error)
	// Buckets are those of the histograms of durations, in seconds. Nil: from
	// 50 microseconds to 10 seconds.
	Buckets []float64
}

// Metrics is a prometheus.Collector. Safe for concurrent use; several Services
// may share one.
type Metrics struct {
	cfg    Config
	all    []prometheus.Collector
	outbox *prometheus.Desc

	mu   sync.RWMutex
	orgs map[string]bool

	authentications *prometheus.CounterVec
	authentication  prometheus.Histogram
	lookups         *prometheus.CounterVec
	operations      *prometheus.CounterVec
	operation       *prometheus.HistogramVec
	credits         *prometheus.CounterVec
	overrun         prometheus.Counter
	refusals        *prometheus.CounterVec
	store           *prometheus.HistogramVec
	batch           prometheus.Histogram
}

// New makes a Metrics, to be registered by the caller. An error says which field
// of the Config is wrong.
func New(cfg Config) (*Metrics, error) {
	if cfg.Namespace == "" {
		cfg.Namespace = DefaultNamespace
	}
	if !model.LegacyValidation.IsValidMetricName(cfg.Namespace) {
		return nil, fmt.Errorf("prompurse: Namespace %.40q: use a letter, then letters, digits and _", cfg.Namespace)
	}
	if cfg.MaxOrgs == 0 {
		cfg.MaxOrgs = DefaultMaxOrgs
	}
	if cfg.MaxOrgs < 0 {
		return nil, fmt.Errorf("prompurse: MaxOrgs %d: give 0 for %d, or more", cfg.MaxOrgs, DefaultMaxOrgs)
	}
	if cfg.Buckets == nil {
		cfg.Buckets = []float64{50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1, 2.5, 5, 10}
	}
	for i := 1; i < len(cfg.Buckets); i++ {
		if cfg.Buckets[i-1] >= cfg.Buckets[i] {
			return nil, fmt.Errorf("prompurse: Buckets: bucket %d is not above the one before it", i+1)
		}
	}
	m := &Metrics{cfg: cfg, orgs: map[string]bool{}}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: cfg.Namespace, Name: name, Help: help}, labels)
		m.all = append(m.all, c)
		return c
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: cfg.Namespace, Name: name, Help: help, Buckets: buckets}, labels)
		m.all = append(m.all, h)
		return h
	}
	org := func(labels ...string) []string {
		if cfg.Org != nil {
			labels = append(labels, "org")
		}
		return labels
	}
	m.authentications = counter("authentications_total", "Authentications by how they ended.", org("outcome")...)
	m.authentication = histogram("authentication_duration_seconds", "How long authentications took.", cfg.Buckets).WithLabelValues().(prometheus.Histogram)
	m.lookups = counter("lookups_total", "Searches for a key or member in memory; of a miss the store was asked.", "kind", "result")
	m.operations = counter("operations_total", "Charges, reservations and what settles them, by how they ended.", org("verb", "outcome")...)
	m.operation = histogram("operation_duration_seconds", "How long charges, reservations and what settles them took.", cfg.Buckets, "verb")
	m.credits = counter("credits_total", "Credits of operations that were applied.", org("verb")...)
	m.overrun = counter("overrun_credits_total", "Credits that commits were above their reservations.").WithLabelValues()
	m.refusals = counter("refusals_total", "Refusals by the kind of subject whose limit stood in the way; one refusal may have several.", org("level")...)
	m.store = histogram("store_duration_seconds", "How long calls of the store took.", cfg.Buckets, "call", "result")
	m.batch = histogram("store_batch_operations", "Operations in a batch that the store applied.", prometheus.ExponentialBuckets(1, 2, 13)).WithLabelValues().(prometheus.Histogram)
	if cfg.Outbox != nil {
		m.outbox = prometheus.NewDesc(prometheus.BuildFQName(cfg.Namespace, "", "outbox_alerts"), "Alerts that wait to be sent.", nil, nil)
	}
	return m, nil
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all {
		c.Describe(ch)
	}
	if m.outbox != nil {
		ch <- m.outbox
	}
}

// outboxTimeout bounds how long gathering waits for Config.Outbox.
const outboxTimeout = 5 * time.Second

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.all {
		c.Collect(ch)
	}
	if m.outbox == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), outboxTimeout)
	defer cancel()
	if n, err := m.cfg.Outbox(ctx); err == nil {
		ch <- prometheus.MustNewConstMetric(m.outbox, prometheus.GaugeValue, float64(n))
	}
}

// Observer is what saccount.Config.Observer takes.
func (m *Metrics) Observer() saccount.Observer {
	return saccount.Observer{Authenticated: m.authenticated, Looked: m.looked, Spent: m.spent, Stored: m.stored}
}

// labels adds the organization where it is a label.
func (m *Metrics) labels(org string, values ...string) []string {
	if m.cfg.Org == nil {
		return values
	}
	name := ""
	if org != "" {
		name = m.bounded(m.cfg.Org(org))
	}
	return append(values, name)
}

func (m *Metrics) bounded(name string) string {
	m.mu.RLock()
	known, full := m.orgs[name], len(m.orgs) >= m.cfg.MaxOrgs
	m.mu.RUnlock()
	if known || name == "" {
		return name
	}
	if full {
		return Other
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.orgs[name] {
		if len(m.orgs) >= m.cfg.MaxOrgs {
			return Other
		}
		m.orgs[name] = true
	}
	return name
}

func (m *Metrics) authenticated(_ context.Context, e saccount.Authenticated) {
	m.authentications.WithLabelValues(m.labels(e.Org, string(e.Outcome))...).Inc()
	m.authentication.Observe(e.Took.Seconds())
}

func (m *Metrics) looked(_ context.Context, e saccount.Looked) {
	result := "miss"
	if e.Hit {
		result = "hit"
	}
	m.lookups.WithLabelValues(e.Kind.String(), result).Inc()
}

func (m *Metrics) spent(_ context.Context, e saccount.Spent) {
	verb := e.Verb.String()
	m.operations.WithLabelValues(m.labels(e.Org, verb, e.Outcome())...).Inc()
	m.operation.WithLabelValues(verb).Observe(e.Took.Seconds())
	if e.Allowed && !e.Replayed {
		m.credits.WithLabelValues(m.labels(e.Org, verb)...).Add(float64(e.Amount) / float64(quota.Credit))
		m.overrun.Add(float64(e.Overrun) / float64(quota.Credit))
	}
	for _, level := range e.Refused {
		m.refusals.WithLabelValues(m.labels(e.Org, level)...).Inc()
	}
}

func (m *Metrics) stored(_ context.Context, e saccount.Stored) {
	result := "ok"
	if e.Err != nil {
		result = "error"
	}
	m.store.WithLabelValues(e.Call, result).Observe(e.Took.Seconds())
	if e.Ops > 0 {
		m.batch.Observe(float64(e.Ops))
	}
}
