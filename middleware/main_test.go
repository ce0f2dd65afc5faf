package middleware_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/keypurse/keypurse/middleware"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wrap puts a middleware that goes by the harness' clock around a handler.
func wrap(t testing.TB, h *saccounttest.Harness, cfg middleware.Config, next http.HandlerFunc) http.Handler {
	t.Helper()
	if cfg.Now == nil {
		cfg.Now = h.Now
	}
	mw, err := middleware.New(h.Service, cfg)
	require.NoError(t, err)
	return mw(next)
}

// listen serves a handler on a real loopback listener until the test ends.
func listen(t testing.TB, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// answer is a response that was read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) problem(t testing.TB) (p struct {
	Type, Title, Detail, Code string
	Status                    int
	Level, Limit              string
	Subject                   quota.Subject
	Max, Used, Held           quota.Credits
	Remaining, Requested      quota.Credits
	ResetsAt                  time.Time `json:"resets_at"`
	HeldOnly                  bool      `json:"held_only"`
	Policies                  []string  `json:"violated-policies"`
	Violated                  []middleware.LimitState
}) {
	t.Helper()
	require.Equal(t, "application/problem+json", a.header.Get("Content-Type"), "body: %s", a.body)
	require.NoError(t, json.Unmarshal([]byte(a.body), &p))
	require.Equal(t, a.status, p.Status)
	return p
}

// do sends a request with the given header lines ("Name", "value", ...).
func do(t testing.TB, s *httptest.Server, method string, header ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+"/x", http.NoBody)
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	res, err := s.Client().Do(r)
	require.NoError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return answer{res.StatusCode, res.Header, string(b)}
}

func get(t testing.TB, s *httptest.Server, token string, header ...string) answer {
	t.Helper()
	return do(t, s, http.MethodGet, append([]string{"Authorization", "Bearer " + token}, header...)...)
}

func okay(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }

// spent is used, held and overage of the only limit of a token's account.
func spent(t testing.TB, h *saccounttest.Harness, token string) (used, held, overage quota.Credits) {
	t.Helper()
	p, err := h.Service.Authenticate(t.Context(), token, netip.Addr{})
	require.NoError(t, err)
	all, err := h.Service.Status(t.Context(), p)
	require.NoError(t, err)
	require.Len(t, all, 1)
	return all[0].Used, all[0].Held, all[0].Overage
}

// requireSpent says what a token's account used, and that nothing is held.
func requireSpent(t testing.TB, h *saccounttest.Harness, token string, want quota.Credits) {
	t.Helper()
	used, held, overage := spent(t, h, token)
	require.Equal(t, want, used, "used")
	require.Zero(t, held, "held")
	require.Zero(t, overage, "overage")
}

func monthly(c quota.Credits) saccounttest.Spec { return saccounttest.Spec{Monthly: c} }

func limit(name string, max quota.Credits, unit quota.Unit) saccount.Limits {
	return saccount.Limits{name: saccount.NewLimit(max, quota.Period{Unit: unit})}
}

var connAddr = netip.MustParseAddr("192.0.2.1")
