package dashboard_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/dashboard"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
)

// kit is a dashboard on a Service in memory. Who asks stands in a header of
// the test's own, as a host's login would find it in a cookie.
type kit struct {
	*saccounttest.Harness
	t *testing.T
	h http.Handler
}

// who names a caller in the test's header: role, a space, and an
// organization, or * for the host's staff.
type who string

const (
	viewer  who = "view acme"
	manager who = "manage acme"
	admin   who = "admin acme"
	staff   who = "admin *"
)

func authorize(r *http.Request) (dashboard.Caller, error) {
	role, org, ok := strings.Cut(r.Header.Get("Test-Who"), " ")
	if !ok {
		return dashboard.Caller{}, saccount.ErrUnauthenticated
	}
	c := dashboard.Caller{Actor: "user:alice", Org: org}
	if org == "*" {
		c.Org, c.Host = "", true
	}
	return c, c.Role.UnmarshalText([]byte(role))
}

func newKit(t *testing.T, cfg ...dashboard.Config) *kit {
	t.Helper()
	c := dashboard.Config{}
	if len(cfg) > 0 {
		c = cfg[0]
	}
	return kitOf(t, saccounttest.New(t), c)
}

func kitOf(t *testing.T, h *saccounttest.Harness, c dashboard.Config) *kit {
	t.Helper()
	if c.Authorize == nil {
		c.Authorize = authorize
	}
	k := &kit{Harness: h, t: t}
	c.Now = k.Now
	var err error
	k.h, err = dashboard.New(k.Service, c)
	require.NoError(t, err)
	return k
}

// answer is what came back.
type answer struct {
	t *testing.T
	*httptest.ResponseRecorder
}

// do sends a request to the API. headers are pairs.
func (k *kit) do(by who, method, path, body string, headers ...string) answer {
	k.t.Helper()
	return k.raw(by, method, "/api/v1/"+path, body, headers...)
}

func (k *kit) raw(by who, method, target, body string, headers ...string) answer {
	k.t.Helper()
	r := httptest.NewRequestWithContext(k.t.Context(), method, target, strings.NewReader(body))
	if by != "" {
		r.Header.Set("Test-Who", string(by))
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
		if method == http.MethodPatch {
			r.Header.Set("Content-Type", "application/merge-patch+json")
		}
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	k.h.ServeHTTP(w, r)
	return answer{k.t, w}
}

// object is the answer's body.
func (a answer) object() map[string]any {
	a.t.Helper()
	var m map[string]any
	require.NoError(a.t, json.Unmarshal(a.Body.Bytes(), &m), a.Body.String())
	return m
}

// ok checks the status and gives the body.
func (a answer) ok(status int) map[string]any {
	a.t.Helper()
	require.Equal(a.t, status, a.Code, a.Body.String())
	if a.Body.Len() == 0 {
		return nil
	}
	return a.object()
}

// code is a problem's.
func (a answer) code() string {
	a.t.Helper()
	require.Equal(a.t, "application/problem+json", a.Header().Get("Content-Type"), a.Body.String())
	return a.object()["code"].(string)
}

// pointers are those of a problem's errors.
func (a answer) pointers() []string {
	a.t.Helper()
	var p struct {
		Errors []struct{ Pointer, Parameter, Header string }
	}
	require.NoError(a.t, json.Unmarshal(a.Body.Bytes(), &p))
	out := []string{}
	for _, e := range p.Errors {
		out = append(out, e.Pointer+e.Parameter+e.Header)
	}
	return out
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }
