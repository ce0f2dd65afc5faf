package otelpurse_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/keypurse/keypurse/observe/otelpurse"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
)

// busy does a bit of everything, within ctx.
func busy(t *testing.T, ctx context.Context, o *otelpurse.Instruments) {
	t.Helper()
	h := saccounttest.New(t, saccount.Config{Observer: o.Observer()})
	token := h.Token(saccounttest.Spec{Monthly: 10 * quota.Credit})
	svc := h.Service
	for range 3 {
		_, _, err := svc.AuthenticateAndCharge(ctx, token, nil, saccount.Charge{Amount: 2500000})
		require.NoError(t, err)
	}
	p, err := svc.Authenticate(ctx, token, netip.Addr{})
	require.NoError(t, err)
	_, err = svc.Charge(ctx, p, saccount.Charge{Amount: 5 * quota.Credit}) // refused
	require.NoError(t, err)
	_, err = svc.Refund(ctx, "acme", saccount.Refund{Of: "nothing", Amount: 1})
	require.ErrorIs(t, err, quota.ErrUnknownID)
	_, _ = svc.Authenticate(ctx, "sa_nonsense", netip.Addr{})
}

// collect gives what a reader of the SDK would export: "name{attributes}" and
// its value, or its count.
func collect(t *testing.T, r metric.Reader) (values map[string]float64, units map[string]string) {
	t.Helper()
	var rm metricdata.ResourceMetrics
	require.NoError(t, r.Collect(context.Background(), &rm))
	values, units = map[string]float64{}, map[string]string{}
	for _, s := range rm.ScopeMetrics {
		assert.Equal(t, otelpurse.Scope, s.Scope.Name)
		for _, m := range s.Metrics {
			units[m.Name] = m.Unit
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range d.DataPoints {
					values[m.Name+p.Attributes.Encoded(encoder{})] = float64(p.Value)
				}
			case metricdata.Sum[float64]:
				for _, p := range d.DataPoints {
					values[m.Name+p.Attributes.Encoded(encoder{})] = p.Value
				}
			case metricdata.Gauge[int64]:
				for _, p := range d.DataPoints {
					values[m.Name+p.Attributes.Encoded(encoder{})] = float64(p.Value)
				}
			case metricdata.Histogram[float64]:
				for _, p := range d.DataPoints {
					values[m.Name+p.Attributes.Encoded(encoder{})] = float64(p.Count)
				}
			case metricdata.Histogram[int64]:
				for _, p := range d.DataPoints {
					values[m.Name+p.Attributes.Encoded(encoder{})] = float64(p.Count)
				}
			default:
				t.Errorf("%s is a %T", m.Name, d)
			}
		}
	}
	return values, units
}

func TestMetrics(t *testing.T) {
	reader := metric.NewManualReader()
	o, err := otelpurse.New(otelpurse.Config{
		Meters: metric.NewMeterProvider(metric.WithReader(reader)),
		Outbox: func(context.Context) (int64, error) { return 7, nil },
	})
	require.NoError(t, err)
	busy(t, t.Context(), o)
	values, units := collect(t, reader)
	for name, want := range map[string]float64{
		"keypurse.authentications{keypurse.outcome=ok}":                      4,
		"keypurse.authentications{keypurse.outcome=malformed}":               1,
		"keypurse.authentication.duration{}":                                 5,
		"keypurse.lookups{keypurse.hit=true,keypurse.kind=key}":              3,
		"keypurse.lookups{keypurse.hit=false,keypurse.kind=key}":             1,
		"keypurse.operations{keypurse.outcome=allowed,keypurse.verb=charge}": 3,
		"keypurse.operations{keypurse.outcome=refused,keypurse.verb=charge}": 1,
		"keypurse.operations{keypurse.outcome=error,keypurse.verb=refund}":   1,
		"keypurse.operation.duration{keypurse.verb=charge}":                  4,
		"keypurse.credits{keypurse.verb=charge}":                             7.5,
		"keypurse.overrun.credits{}":                                         0,
		"keypurse.refusals{keypurse.level=account}":                          1,
		"keypurse.store.batch.operations{}":                                  5,
		"keypurse.outbox.alerts{}":                                           7,
	} {
		got, ok := values[name]
		assert.True(t, ok, "%s is missing", name)
		assert.Equal(t, want, got, name)
	}
	assert.NotZero(t, values["keypurse.store.duration{keypurse.call=lookup}"])
	assert.Equal(t, map[string]string{
		"keypurse.authentications": "{authentication}", "keypurse.authentication.duration": "s", "keypurse.lookups": "{lookup}",
		"keypurse.operations": "{operation}", "keypurse.operation.duration": "s", "keypurse.credits": "{credit}", "keypurse.overrun.credits": "{credit}",
		"keypurse.refusals": "{refusal}", "keypurse.store.duration": "s", "keypurse.store.batch.operations": "{operation}", "keypurse.outbox.alerts": "{alert}",
	}, units)
}

func TestTheOrganizationIsAnAttributeWhereAskedFor(t *testing.T) {
	reader := metric.NewManualReader()
	o, err := otelpurse.New(otelpurse.Config{
		Meters: metric.NewMeterProvider(metric.WithReader(reader)),
		Org:    func(id string) string { return "plan of " + id },
	})
	require.NoError(t, err)
	busy(t, t.Context(), o)
	values, _ := collect(t, reader)
	assert.Equal(t, 7.5, values["keypurse.credits{keypurse.org=plan of acme,keypurse.verb=charge}"])
	assert.Equal(t, 1.0, values["keypurse.authentications{keypurse.outcome=malformed}"])
}

func TestSpansAreChildrenOfTheRequests(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	provider := trace.NewTracerProvider(trace.WithSyncer(spans))
	o, err := otelpurse.New(otelpurse.Config{Meters: metric.NewMeterProvider(), Tracers: provider})
	require.NoError(t, err)
	busy(t, t.Context(), o)
	assert.Empty(t, spans.GetSpans(), "nobody traces a request that nobody traces")

	ctx, request := provider.Tracer("test").Start(t.Context(), "GET /words")
	busy(t, ctx, o)
	request.End()
	seen := map[string]int{}
	for _, s := range spans.GetSpans() {
		seen[s.Name]++
		if s.Name == "GET /words" {
			continue
		}
		assert.Equal(t, request.SpanContext().SpanID(), s.Parent.SpanID(), s.Name)
		assert.False(t, s.EndTime.Before(s.StartTime), s.Name)
		if s.Name == "keypurse.refund" {
			assert.Equal(t, codes.Error, s.Status.Code)
		} else {
			assert.Equal(t, codes.Unset, s.Status.Code, "%s: a refusal is an answer", s.Name)
		}
		for _, a := range s.Attributes {
			assert.NotContains(t, a.Value.String(), "key:", "no key is named")
		}
	}
	assert.Equal(t, 5, seen["keypurse.authenticate"])
	assert.Equal(t, 4, seen["keypurse.charge"])
	assert.Equal(t, 1, seen["keypurse.refund"])
	assert.Equal(t, 1, seen["keypurse.store.lookup"])
}

func Example() {
	reader := metric.NewManualReader() // a host has an exporter
	o, err := otelpurse.New(otelpurse.Config{Meters: metric.NewMeterProvider(metric.WithReader(reader))})
	if err != nil {
		fmt.Println(err)
		return
	}
	cfg := saccount.Config{Observer: o.Observer()} // for saccount.New
	cfg.Observer.Authenticated(context.Background(), saccount.Authenticated{Outcome: saccount.OutcomeOK, Took: time.Millisecond})

	var rm metricdata.ResourceMetrics
	err = reader.Collect(context.Background(), &rm)
	for _, m := range rm.ScopeMetrics[0].Metrics {
		fmt.Println(m.Name, m.Unit, err)
	}
	// Output:
	// keypurse.authentications {authentication} <nil>
	// keypurse.authentication.duration s <nil>
}
