package browsertest

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/dashboard"
	"github.com/keypurse/keypurse/middleware"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/boltstore"
)

// host is a service on a bbolt file that people sign in to, with the dashboard
// below a path of its own and something to spend credits on.
type host struct {
	svc  *saccount.Service
	base string // http://127.0.0.1:port
	past atomic.Pointer[time.Time]
}

// mount is where the host has the dashboard.
const mount = "/console/keys/"

// people are who can sign in, by the name in their session.
var people = map[string]dashboard.Caller{
	"alice": {Actor: "user:alice", Org: "acme", Role: saccount.RoleManage},
	"ada":   {Actor: "user:ada", Org: "acme", Role: saccount.RoleAdmin},
	"vera":  {Actor: "user:vera", Org: "acme", Role: saccount.RoleView},
	"bob":   {Actor: "user:bob", Org: "globex", Role: saccount.RoleAdmin},
	"sam":   {Actor: "staff:sam", Host: true, Role: saccount.RoleAdmin},
}

func newHost(t *testing.T) *host {
	t.Helper()
	launch(t) // skipped before anything is made
	st, err := boltstore.Open(filepath.Join(t.TempDir(), "purse.db"), boltstore.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	h := &host{}
	h.svc, err = saccount.New(st, saccount.Config{
		Prefix: "acme_live", Now: h.now, Secrets: []saccount.Secret{{ID: "1", Key: bytes.Repeat([]byte("k"), saccount.MinSecretLen)}},
		Alerts: saccount.Alerts{Webhooks: alert.WebhookConfig{AllowHTTP: true, Ports: []uint16{}, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.svc.Close()) })
	for id, name := range map[string]string{"acme": "Acme", "globex": "Globex"} {
		_, err := h.svc.CreateOrg(t.Context(), "setup", saccount.OrgSpec{
			ID: id, Name: name, Zone: "Europe/Berlin", Limits: saccount.Limits{"": saccount.NewLimit(10_000*quota.Credit, quota.Period{Unit: quota.Month})},
		})
		require.NoError(t, err)
	}
	console, err := dashboard.New(h.svc, dashboard.Config{Now: h.now, Authorize: func(r *http.Request) (dashboard.Caller, error) {
		c, err := r.Cookie("session")
		if err != nil {
			return dashboard.Caller{}, saccount.ErrUnauthenticated
		}
		return people[c.Value], nil
	}})
	require.NoError(t, err)
	guard, err := middleware.New(h.svc, middleware.Config{Cost: middleware.Fixed(quota.Credit)})
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle(mount, console)
	mux.Handle("POST /v1/work", guard(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "done") })))
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "session", Value: r.FormValue("as"), Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
		http.Redirect(w, r, mount, http.StatusSeeOther)
	})
	mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	h.base = srv.URL
	return h
}

// now is the clock, which a test may set to an instant that has passed.
func (h *host) now() time.Time {
	if t := h.past.Load(); t != nil {
		return *t
	}
	return time.Now()
}

// at is the address of a page: below the mount path, unless it is whole.
func (h *host) at(where string) string {
	if strings.Contains(where, "://") {
		return where
	}
	return h.base + mount + where
}

// work spends a credit with a token, over HTTP, and gives the status.
func (h *host) work(t *testing.T, token string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.base+"/v1/work", nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	return res.StatusCode
}

// history makes an account with keys and a month of use, and gives the account.
func (h *host) history(t *testing.T, org string, spec saccount.AccountSpec, keys ...saccount.KeySpec) saccount.Account {
	t.Helper()
	ctx, now := t.Context(), time.Now()
	defer h.past.Store(nil)
	set := func(at time.Time) { h.past.Store(&at) }
	set(now.AddDate(0, 0, -30))
	a, err := h.svc.CreateAccount(ctx, "user:ada", org, spec)
	require.NoError(t, err)
	var tokens []string
	for _, k := range keys {
		token, _, err := h.svc.CreateKey(ctx, "user:ada", org, a.ID, k)
		require.NoError(t, err)
		tokens = append(tokens, token.Reveal())
	}
	for day := range 30 {
		set(now.AddDate(0, 0, day-29).Add(-time.Minute))
		for i, token := range tokens {
			p, err := h.svc.Authenticate(ctx, token, addr)
			require.NoError(t, err)
			_, err = h.svc.Charge(ctx, p, saccount.Charge{Amount: quota.Credits(1+(day*7+i*5)%11) * quota.Credit})
			require.NoError(t, err)
		}
	}
	return a
}

// alerted makes a recipient of the organization's alerts that fails to take any,
// and returns once they were sent to it.
func (h *host) alerted(t *testing.T, org string) {
	t.Helper()
	came := make(chan string, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		select {
		case came <- r.Header.Get("webhook-id"):
		default:
		}
	}))
	t.Cleanup(srv.Close)
	r, err := h.svc.AddRecipient(t.Context(), "user:ada", org, saccount.RecipientSpec{Name: "On call", URL: srv.URL + "/in"})
	require.NoError(t, err)
	require.NoError(t, h.svc.TestAlert(t.Context(), "user:ada", org, r.ID))
	ctx, stop := context.WithCancel(t.Context())
	watched := make(chan error, 1)
	go func() { watched <- h.svc.Watch(ctx) }()
	t.Cleanup(func() { stop(); require.NoError(t, <-watched) })
	for seen := map[string]bool{}; len(seen) < 2; { // the first one's answer is written by the time of the second
		select {
		case id := <-came:
			seen[id] = true
		case <-time.After(deadline):
			require.Fail(t, "no alert was sent")
		}
	}
}

// escaped is a name as it stands in a path.
func escaped(parts ...string) string {
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return strings.Join(parts, "/")
}
