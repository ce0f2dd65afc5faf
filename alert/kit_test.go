package alert_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/memstore"
)

var ctx = context.Background()

var start = time.Date(2026, time.March, 10, 12, 0, 0, 0, time.UTC)

// clock is a clock that a test sets.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// box is a sink that keeps what it is sent, and fails as it is told.
type box struct {
	mu   sync.Mutex
	got  []alert.Alert
	fail func(a alert.Alert, tries int) error
	n    map[string]int
}

func (b *box) Send(_ context.Context, a alert.Alert) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n == nil {
		b.n = map[string]int{}
	}
	b.n[a.ID]++
	if b.fail != nil {
		if err := b.fail(a, b.n[a.ID]); err != nil {
			return err
		}
	}
	b.got = append(b.got, a)
	return nil
}

func (b *box) ids() (ids []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.got {
		ids = append(ids, b.got[i].ID)
	}
	return ids
}

// post puts n alerts about keys of an organization into the outbox.
func post(t *testing.T, st *memstore.Store, org string, n int, at time.Time) {
	t.Helper()
	b := saccount.Batch{Org: org, At: at}
	for i := range n {
		p, err := alert.New(alert.KindKeyAddress, quota.NewSubject("key", fmt.Sprint("k", i)), "", at, at, map[string]string{alert.FigureAddress: "192.0.2.1"})
		require.NoError(t, err)
		b.Alerts = append(b.Alerts, p)
	}
	require.NoError(t, st.Write(ctx, b))
}

func deliverer(t *testing.T, cfg alert.Config) *alert.Deliverer {
	t.Helper()
	d, err := alert.NewDeliverer(cfg)
	require.NoError(t, err)
	return d
}

func list(t *testing.T, st alert.Store, q alert.Query) []alert.Delivery {
	t.Helper()
	q.N = alert.MaxPage
	ds, err := st.Deliveries(ctx, q)
	require.NoError(t, err)
	return ds
}

func secret(t *testing.T, version byte) alert.Secret {
	t.Helper()
	s, err := alert.NewSecret(append([]byte("0123456789abcdef0123456789abcde"), version))
	require.NoError(t, err)
	return s
}

// receiver is a TLS listener on this machine, and webhooks that may go there.
func receiver(t *testing.T, h http.Handler) (*httptest.Server, *alert.Webhooks) {
	t.Helper()
	srv := httptest.NewTLSServer(h)
	t.Cleanup(srv.Close)
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	return srv, alert.NewWebhooks(alert.WebhookConfig{
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Ports: []uint16{}, TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	})
}

// sinkTo is a webhook to a receiver, by a clock.
func sinkTo(t *testing.T, srv *httptest.Server, now func() time.Time) alert.Sink {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	hooks := alert.NewWebhooks(alert.WebhookConfig{
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Ports: []uint16{}, TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, Now: now,
	})
	sink, err := hooks.Sink(srv.URL+"/in", secret(t, 1))
	require.NoError(t, err)
	return sink
}

func itoa(n int) string { return fmt.Sprint(n) }
