package saccount_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
)

// post office: a webhook receiver and a mail server.
type office struct {
	mu      sync.Mutex // held while something comes; several may
	letters []alert.Email
	hooks   []*http.Request
	bodies  [][]byte
	status  int
	mail    error
}

func (o *office) config(t *testing.T) saccount.Config {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		o.mu.Lock()
		defer o.mu.Unlock()
		o.hooks, o.bodies = append(o.hooks, r), append(o.bodies, b)
		w.WriteHeader(o.status)
	}))
	t.Cleanup(srv.Close)
	o.status = http.StatusOK
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	t.Setenv("OFFICE", srv.URL)
	return saccount.Config{
		Secrets: []saccount.Secret{{ID: "one", Key: key32('k')}},
		Alerts: saccount.Alerts{
			Email: func(_ context.Context, m alert.Email) error {
				o.mu.Lock()
				defer o.mu.Unlock()
				o.letters = append(o.letters, m)
				return o.mail
			},
			Webhooks: alert.WebhookConfig{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Ports: []uint16{}, TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}},
		},
	}
}

func (o *office) url(t *testing.T) string {
	t.Helper()
	return os.Getenv("OFFICE") + "/in/T0KEN"
}

// An organization's recipients get its alerts as their filters say, under
// secrets that can be changed while both sign, and nobody else's.
func TestRecipients(t *testing.T) {
	var o office
	h := saccounttest.New(t, o.config(t))
	svc, ctx := h.Service, t.Context()
	hook, err := svc.AddRecipient(ctx, "user:ann", "acme", saccount.RecipientSpec{Name: " Ops ", URL: o.url(t)})
	require.NoError(t, err)
	assert.Equal(t, "Ops", hook.Name)
	_, err = svc.AddRecipient(ctx, "user:ann", "acme", saccount.RecipientSpec{Email: "ops@example.com", Filter: alert.Filter{Kinds: []alert.Kind{alert.KindOverage}}})
	require.NoError(t, err)
	_, err = svc.CreateOrg(ctx, "user:bob", saccount.OrgSpec{ID: "other"})
	require.NoError(t, err)
	_, err = svc.AddRecipient(ctx, "user:bob", "other", saccount.RecipientSpec{Email: "bob@example.com"})
	require.NoError(t, err)

	token := h.Token(saccounttest.Spec{Monthly: 100 * quota.Credit})
	charge(t, svc, token, 60*quota.Credit)
	require.NoError(t, svc.DeliverAlerts(ctx))
	require.Len(t, o.hooks, 1)
	assert.Empty(t, o.letters, "filtered, or another organization's")
	verify := func(i int, secret alert.Secret) error {
		wh, err := webhooks.NewWebhook(secret.Reveal())
		require.NoError(t, err)
		return wh.VerifyIgnoringTimestamp(o.bodies[i], o.hooks[i].Header) // the test's clock is not theirs
	}
	old, err := svc.WebhookSecrets(ctx, "acme", hook.ID)
	require.NoError(t, err)
	require.Len(t, old, 1)
	assert.NoError(t, verify(0, old[0]))
	var m alert.Message
	require.NoError(t, json.Unmarshal(o.bodies[0], &m))
	assert.Contains(t, m.Data.Text, "has spent 60 credits, 50% or more")

	// Two secrets while rotating, one after.
	require.NoError(t, svc.RotateWebhookSecret(ctx, "user:ann", "acme", hook.ID, time.Hour))
	both, err := svc.WebhookSecrets(ctx, "acme", hook.ID)
	require.NoError(t, err)
	require.Len(t, both, 2)
	require.NoError(t, svc.TestAlert(ctx, "user:ann", "acme", hook.ID))
	require.NoError(t, svc.DeliverAlerts(ctx))
	require.Len(t, o.hooks, 2)
	assert.NoError(t, verify(1, old[0]))
	assert.NoError(t, verify(1, both[0]))
	h.Advance(time.Hour)
	require.NoError(t, svc.TestAlert(ctx, "user:ann", "acme", ""))
	require.NoError(t, svc.DeliverAlerts(ctx))
	require.Len(t, o.hooks, 3)
	require.Len(t, o.letters, 1, "a test for all passes every filter")
	assert.Equal(t, []string{"ops@example.com"}, o.letters[0].To)
	assert.Error(t, verify(2, old[0]))
	assert.NoError(t, verify(2, both[0]))
	assert.NotContains(t, string(o.bodies[2]), "recipient:")

	// What is gone is disabled, with an entry in the audit log; the others hear.
	o.status = http.StatusGone
	none := alert.Filter{}
	rs, err := svc.Recipients(ctx, "acme")
	require.NoError(t, err)
	_, err = svc.UpdateRecipient(ctx, "user:ann", "acme", rs[1].ID, saccount.RecipientUpdate{Filter: &none})
	require.NoError(t, err)
	charge(t, svc, token, 25*quota.Credit)
	require.NoError(t, svc.DeliverAlerts(ctx))
	rs, err = svc.Recipients(ctx, "acme")
	require.NoError(t, err)
	assert.True(t, rs[0].Disabled)
	assert.Contains(t, rs[0].Reason, "410")
	require.Len(t, o.letters, 3)
	assert.Contains(t, o.letters[2].Text, "was disabled: the webhook answered 410 Gone")
	dead, err := svc.AlertDeliveries(ctx, alert.Query{Org: "acme", State: alert.Dead, N: 10})
	require.NoError(t, err)
	require.Len(t, dead, 1)
	charge(t, svc, token, 15*quota.Credit)
	require.NoError(t, svc.DeliverAlerts(ctx))
	assert.Len(t, o.hooks, 4, "it gets nothing while it is disabled")
	o.status = http.StatusOK
	enabled := false
	_, err = svc.UpdateRecipient(ctx, "user:ann", "acme", hook.ID, saccount.RecipientUpdate{Disabled: &enabled})
	require.NoError(t, err)
	n, err := svc.ReplayAlerts(ctx, alert.Query{Org: "acme"})
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	require.NoError(t, svc.DeliverAlerts(ctx))
	assert.Len(t, o.hooks, 5)
	assert.Equal(t, o.hooks[3].Header.Get("webhook-id"), o.hooks[4].Header.Get("webhook-id"))

	// Every change has its entry, which shows no path of the webhook.
	es := collect(t, svc.AuditEntries(ctx, "acme", saccount.AuditFilter{}))
	actions := map[string]saccount.Actor{}
	for _, e := range es {
		actions[e.Action] = e.Actor
		assert.NotContains(t, string(e.Before)+string(e.After), "T0KEN")
	}
	assert.Equal(t, saccount.Actor("system:alerts"), actions["disable_recipient"])
	for _, want := range []string{"add_recipient", "update_recipient", "rotate_webhook_secret", "test_alert"} {
		assert.Equal(t, saccount.Actor("user:ann"), actions[want], want)
	}
	org, err := svc.GetOrg(ctx, "acme")
	require.NoError(t, err)
	assert.NotContains(t, org.Recipients[0].URL, "T0KEN")
	require.NoError(t, svc.RemoveRecipient(ctx, "user:ann", "acme", hook.ID))
	assert.ErrorIs(t, svc.RemoveRecipient(ctx, "user:ann", "acme", hook.ID), saccount.ErrNotFound)
	_, err = svc.WebhookSecrets(ctx, "acme", hook.ID)
	assert.ErrorIs(t, err, saccount.ErrNotFound)
}

func TestRecipientsAreChecked(t *testing.T) {
	var o office
	h := saccounttest.New(t, o.config(t))
	for _, bad := range []saccount.RecipientSpec{
		{}, {URL: o.url(t), Email: "a@example.com"}, {URL: "http://example.com"}, {URL: "https://10.0.0.1/"}, {URL: "https://user:pw@example.com"},
		{Email: "nobody"}, {Email: "A <a@example.com>"}, {Email: "a@example.com\r\nBcc: b@example.com"}, {Email: strings.Repeat("a", 250) + "@example.com"},
		{Email: "a@example.com", Filter: alert.Filter{Kinds: []alert.Kind{"x"}}}, {Email: "a@example.com", Name: strings.Repeat("x", 101)},
	} {
		_, err := h.Service.AddRecipient(t.Context(), "user:ann", "acme", bad)
		assert.ErrorIs(t, err, saccount.ErrInvalid, "%+v", bad)
	}
	for range saccount.MaxRecipients {
		_, err := h.Service.AddRecipient(t.Context(), "user:ann", "acme", saccount.RecipientSpec{Email: "a@example.com"})
		require.NoError(t, err)
	}
	_, err := h.Service.AddRecipient(t.Context(), "user:ann", "acme", saccount.RecipientSpec{Email: "a@example.com"})
	assert.ErrorIs(t, err, saccount.ErrInvalid)
	bare := saccounttest.New(t)
	for _, spec := range []saccount.RecipientSpec{{Email: "a@example.com"}, {URL: "https://example.com"}} {
		_, err := bare.Service.AddRecipient(t.Context(), "user:ann", "acme", spec)
		assert.ErrorIs(t, err, saccount.ErrInvalid)
		assert.Contains(t, err.Error(), "Config.")
	}
	_, err = h.Service.AddRecipient(t.Context(), "user:ann", "nobody", saccount.RecipientSpec{Email: "a@example.com"})
	assert.ErrorIs(t, err, saccount.ErrNotFound)
	assert.ErrorIs(t, h.Service.TestAlert(t.Context(), "user:ann", "acme", "rcp_x"), saccount.ErrNotFound)
	assert.ErrorIs(t, h.Service.RotateWebhookSecret(t.Context(), "user:ann", "acme", "rcp_x", -1), saccount.ErrInvalid)
}

// Watch ends with its context and with the Service, and a mail server that is
// away holds up nobody.
func TestWatchEnds(t *testing.T) {
	o := office{mail: errors.New("the mail server is away")}
	cfg := o.config(t)
	asked := make(chan string, 1000)
	cfg.Observer.Stored = func(_ context.Context, e saccount.Stored) {
		select {
		case asked <- e.Call:
		default: // more than anybody reads
		}
	}
	h := saccounttest.New(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	go func() { ended <- h.Service.Watch(ctx) }()
	cancel()
	require.NoError(t, <-ended)
	for len(asked) > 0 {
		<-asked
	}
	go func() { ended <- h.Service.Watch(t.Context()) }()
	<-asked // it has begun
	require.NoError(t, h.Service.Close())
	require.NoError(t, <-ended)
	assert.ErrorIs(t, h.Service.Watch(t.Context()), saccount.ErrClosed)
	assert.ErrorIs(t, h.Service.DeliverAlerts(t.Context()), saccount.ErrClosed)
	assert.ErrorIs(t, h.Service.SweepAlerts(t.Context()), saccount.ErrClosed)
}

// charge spends of a token, which must be let.
func charge(t *testing.T, svc *saccount.Service, token string, amount quota.Credits) {
	t.Helper()
	p, err := svc.Authenticate(t.Context(), token, netip.Addr{})
	require.NoError(t, err)
	d, err := svc.Charge(t.Context(), p, saccount.Charge{Amount: amount})
	require.NoError(t, err)
	require.True(t, d.Allowed)
}
