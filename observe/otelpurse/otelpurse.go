// Package otelpurse makes OpenTelemetry metrics and spans of what a
// saccount.Service does. It needs the API alone: the SDK is the host's.
//
//	o, err := otelpurse.New(otelpurse.Config{})
//	svc, err := saccount.New(store, saccount.Config{Observer: o.Observer()})
//
// README.md, beside this file's folder, lists the metrics. No attribute of a
// metric names a key, an account or a member; the organization is one where the
// host asks for it. Spans are made where the request's context has a span that is
// being recorded, and carry the organization; they begin when the work did,
// though they are made when it has ended, so that all of them are children of
// the request's.
package otelpurse

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// Scope is the name of the meter and the tracer.
const Scope = "github.com/keypurse/keypurse/observe/otelpurse"

// Config configures an Instruments. Its zero value is good.
type Config struct {
	// Meters makes the metrics. Nil is otel.GetMeterProvider().
	Meters metric.MeterProvider
	// Tracers makes the spans. Nil is otel.GetTracerProvider().
	Tracers trace.TracerProvider
	// Org gives the value of the attribute keypurse.org of metrics for an
	// organization's id: the id itself, a plan, a region; "" leaves it out.
	// Nil: metrics do not have it. How many values there are is bounded by the
	// SDK's cardinality limit.
	Org func(id string) string
	// Outbox tells how many alerts wait to be sent, whenever metrics are
	// collected. Nil: there is no such metric.
	Outbox func(context.Context) (int64, error)
}

// Instruments are the metrics and the tracer of a Service. Safe for concurrent
// use; several Services may share them.
type Instruments struct {
	cfg    Config
	tracer trace.Tracer

	authentications metric.Int64Counter
	authentication  metric.Float64Histogram
	lookups         metric.Int64Counter
	operations      metric.Int64Counter
	operation       metric.Float64Histogram
	credits         metric.Float64Counter
	overrun         metric.Float64Counter
	refusals        metric.Int64Counter
	store           metric.Float64Histogram
	batch           metric.Int64Histogram
}

// New makes the instruments. Errors are the MeterProvider's.
func New(cfg Config) (*Instruments, error) {
	if cfg.Meters == nil {
		cfg.Meters = otel.GetMeterProvider()
	}
	if cfg.Tracers == nil {
		cfg.Tracers = otel.GetTracerProvider()
	}
	i := &Instruments{cfg: cfg, tracer: cfg.Tracers.Tracer(Scope)}
	m := cfg.Meters.Meter(Scope)
	var errs []error
	counter := func(into *metric.Int64Counter, name, unit, about string) {
		c, err := m.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(about))
		*into, errs = c, append(errs, err)
	}
	amount := func(into *metric.Float64Counter, name, about string) {
		c, err := m.Float64Counter(name, metric.WithUnit("{credit}"), metric.WithDescription(about))
		*into, errs = c, append(errs, err)
	}
	seconds := func(into *metric.Float64Histogram, name, about string) {
		h, err := m.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(about), metric.WithExplicitBucketBoundaries(
			50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1, 2.5, 5, 10))
		*into, errs = h, append(errs, err)
	}
	counter(&i.authentications, "keypurse.authentications", "{authentication}", "Authentications by how they ended.")
	seconds(&i.authentication, "keypurse.authentication.duration", "How long authentications took.")
	counter(&i.lookups, "keypurse.lookups", "{lookup}", "Searches for a key or member in memory; of a miss the store was asked.")
	counter(&i.operations, "keypurse.operations", "{operation}", "Charges, reservations and what settles them, by how they ended.")
	seconds(&i.operation, "keypurse.operation.duration", "How long charges, reservations and what settles them took.")
	amount(&i.credits, "keypurse.credits", "Credits of operations that were applied.")
	amount(&i.overrun, "keypurse.overrun.credits", "Credits that commits were above their reservations.")
	counter(&i.refusals, "keypurse.refusals", "{refusal}", "Refusals by the kind of subject whose limit stood in the way; one refusal may have several.")
	seconds(&i.store, "keypurse.store.duration", "How long calls of the store took.")
	h, err := m.Int64Histogram("keypurse.store.batch.operations", metric.WithUnit("{operation}"), metric.WithDescription("Operations in a batch that the store applied."),
		metric.WithExplicitBucketBoundaries(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096))
	i.batch, errs = h, append(errs, err)
	if cfg.Outbox != nil {
		_, err := m.Int64ObservableGauge("keypurse.outbox.alerts", metric.WithUnit("{alert}"), metric.WithDescription("Alerts that wait to be sent."),
			metric.WithInt64Callback(func(ctx context.Context, o metric.Int64Observer) error {
				n, err := cfg.Outbox(ctx)
				if err == nil {
					o.Observe(n)
				}
				return err
			}))
		errs = append(errs, err)
	}
	for _, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("otelpurse: make an instrument: %w", err)
		}
	}
	return i, nil
}

// Observer is what saccount.Config.Observer takes.
func (i *Instruments) Observer() saccount.Observer {
	return saccount.Observer{Authenticated: i.authenticated, Looked: i.looked, Spent: i.spent, Stored: i.stored}
}

// with are the attributes of a metric, the organization among them where asked for.
func (i *Instruments) with(org string, kv ...attribute.KeyValue) metric.MeasurementOption {
	if i.cfg.Org != nil && org != "" {
		if name := i.cfg.Org(org); name != "" {
			kv = append(kv, attribute.String("keypurse.org", name))
		}
	}
	return metric.WithAttributeSet(attribute.NewSet(kv...))
}

// span makes a span of what has just ended.
func (i *Instruments) span(ctx context.Context, name string, kind trace.SpanKind, took time.Duration, failed string, kv ...attribute.KeyValue) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return
	}
	end := time.Now()
	_, s := i.tracer.Start(ctx, name, trace.WithSpanKind(kind), trace.WithTimestamp(end.Add(-took)), trace.WithAttributes(kv...))
	if failed != "" {
		s.SetStatus(codes.Error, failed)
	}
	s.End(trace.WithTimestamp(end))
}

func (i *Instruments) authenticated(ctx context.Context, e saccount.Authenticated) {
	outcome := attribute.String("keypurse.outcome", string(e.Outcome))
	i.authentications.Add(ctx, 1, i.with(e.Org, outcome))
	i.authentication.Record(ctx, e.Took.Seconds())
	failed := ""
	if e.Outcome == saccount.OutcomeError {
		failed = "the store could not be asked"
	}
	i.span(ctx, "keypurse.authenticate", trace.SpanKindInternal, e.Took, failed, outcome, attribute.String("keypurse.org", e.Org))
}

func (i *Instruments) looked(ctx context.Context, e saccount.Looked) {
	i.lookups.Add(ctx, 1, i.with("", attribute.String("keypurse.kind", e.Kind.String()), attribute.Bool("keypurse.hit", e.Hit)))
}

func (i *Instruments) spent(ctx context.Context, e saccount.Spent) {
	verb := attribute.String("keypurse.verb", e.Verb.String())
	outcome := attribute.String("keypurse.outcome", e.Outcome())
	i.operations.Add(ctx, 1, i.with(e.Org, verb, outcome))
	i.operation.Record(ctx, e.Took.Seconds(), i.with("", verb))
	if e.Allowed && !e.Replayed {
		i.credits.Add(ctx, float64(e.Amount)/float64(quota.Credit), i.with(e.Org, verb))
		i.overrun.Add(ctx, float64(e.Overrun)/float64(quota.Credit), i.with(e.Org))
	}
	for _, level := range e.Refused {
		i.refusals.Add(ctx, 1, i.with(e.Org, attribute.String("keypurse.level", level)))
	}
	i.span(ctx, "keypurse."+e.Verb.String(), trace.SpanKindInternal, e.Took, text(e.Err), verb, outcome,
		attribute.String("keypurse.org", e.Org), attribute.StringSlice("keypurse.refused_by", e.Refused))
}

func (i *Instruments) stored(ctx context.Context, e saccount.Stored) {
	kv := []attribute.KeyValue{attribute.String("keypurse.call", e.Call)}
	if e.Err != nil {
		kv = append(kv, attribute.String("error.type", "_OTHER"))
	}
	i.store.Record(ctx, e.Took.Seconds(), i.with("", kv...))
	if e.Ops > 0 {
		i.batch.Record(ctx, int64(e.Ops))
	}
	i.span(ctx, "keypurse.store."+e.Call, trace.SpanKindClient, e.Took, text(e.Err), kv...)
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
