package dashboard_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/dashboard"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
)

// A service account's token opens nothing, wherever it stands and whatever
// Authorize says.
func TestServiceAccountsNeverGetIn(t *testing.T) {
	asked := 0
	k := newKit(t, dashboard.Config{Authorize: func(*http.Request) (dashboard.Caller, error) {
		asked++
		return dashboard.Caller{Actor: "user:anyone", Host: true, Role: saccount.RoleAdmin}, nil
	}})
	token, key := k.Issue(saccounttest.Spec{})
	real := token.Reveal()
	basic := func(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(s)) }
	wrongSum := real[:len(real)-6] + "000000"
	n := 0
	for _, token := range []string{real, wrongSum} {
		for _, h := range [][2]string{
			{"Authorization", "Bearer " + token}, {"Authorization", "bearer  " + token}, {"Authorization", token}, {"Authorization", basic("x:" + token)},
			{"Authorization", basic(token + ":")}, {"Authorization", "Digest a, " + token}, {"X-API-Key", token}, {"X-Other", token}, {"Cookie", "session=" + token},
			{"Proxy-Authorization", "Bearer " + token},
		} {
			for _, path := range []string{"/api/v1/orgs", "/api/v1/whoami", "/", "/accounts", "/api/v1/nothing"} {
				a := k.raw("", "GET", path, "", h[0], h[1])
				require.Equal(t, 403, a.Code, "%s: %s of %s", h[0], h[1][:min(len(h[1]), 12)], path)
				if strings.HasPrefix(path, "/api/") {
					require.Equal(t, "service_account", a.code())
				} else {
					require.Contains(t, a.Body.String(), "opens nothing here", path)
				}
				n++
			}
		}
		for _, q := range []string{"?key=" + token, "?" + url.Values{"key": {token}}.Encode(), "?key=%73%61" + token[2:]} {
			require.Equal(t, 403, k.raw("", "GET", "/api/v1/orgs"+q, "").Code, q)
			n++
		}
	}
	// A key that the host's own middleware let in.
	p, err := k.Service.Authenticate(t.Context(), real, netip.Addr{})
	require.NoError(t, err)
	r := httptest.NewRequestWithContext(saccount.NewContext(t.Context(), p), "GET", "/api/v1/orgs", nil)
	w := httptest.NewRecorder()
	k.h.ServeHTTP(w, r)
	assert.Equal(t, 403, w.Code)
	assert.Zero(t, asked, "Authorize was not even asked")
	// Its masked form is no secret, and a member is none of it.
	k.raw("", "GET", "/api/v1/orgs", "", "X-Other", key.Masked).ok(200)
	m, err := k.Service.CreateMember(t.Context(), "user:alice", saccounttest.Org, saccount.MemberSpec{ID: "ann"})
	require.NoError(t, err)
	p, err = k.Service.Member(t.Context(), saccounttest.Org, m.ID)
	require.NoError(t, err)
	w = httptest.NewRecorder()
	k.h.ServeHTTP(w, httptest.NewRequestWithContext(saccount.NewContext(t.Context(), p), "GET", "/api/v1/orgs", nil))
	assert.Equal(t, 200, w.Code)
	t.Logf("%d requests with tokens were refused", n)
}

// What another site may make a browser do.
func TestOtherSites(t *testing.T) {
	n, ops := 0, newWorld(t).operations()
	for _, row := range []struct {
		headers []string
		ok      bool
	}{
		{nil, true}, // no browser
		{[]string{"Sec-Fetch-Site", "same-origin"}, true},
		{[]string{"Sec-Fetch-Site", "none"}, true},
		{[]string{"Sec-Fetch-Site", "cross-site"}, false},
		{[]string{"Sec-Fetch-Site", "same-site"}, false},
		{[]string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, false},
		{[]string{"Origin", "https://evil.example"}, false},
		{[]string{"Origin", "null"}, false},
		{[]string{"Origin", "http://example.com"}, true},
		{[]string{"Origin", "https://example.com"}, true}, // behind a proxy that ends TLS
		{[]string{"Origin", "https://console.example.com", "Sec-Fetch-Site", "same-site"}, true},
	} {
		cfg := dashboard.Config{TrustedOrigins: []string{"https://console.example.com"}}
		w := newWorldWith(t, cfg)
		for _, op := range ops {
			a := w.send(staff, op, w.Acme, row.headers...)
			n++
			switch {
			case op.Method == "GET":
				require.Less(t, a.Code, 400, "%s with %v: %s", op.ID, row.headers, a.Body)
			case !row.ok:
				require.Equal(t, 403, a.Code, "%s with %v", op.ID, row.headers)
				require.Equal(t, "cross_origin", a.code())
			default:
				require.Less(t, a.Code, 300, "%s with %v: %s", op.ID, row.headers, a.Body)
			}
			if row.ok && op.Method != "GET" {
				w = newWorldWith(t, cfg)
			}
		}
	}
	// What a form can send is no JSON.
	k := newKit(t)
	for _, media := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "application/jsonx"} {
		a := k.do(manager, "POST", "orgs/acme/accounts", `{"name":"Form"}`, "Content-Type", media)
		assert.Equal(t, 415, a.Code, media)
	}
	t.Logf("%d requests", n)
}

// Every answer, of whatever kind, has the headers that keep it from being
// framed, sniffed and kept.
func TestHeaders(t *testing.T) {
	w := newWorld(t)
	answers := map[string]answer{
		"unknown path": w.raw(staff, "GET", "/api/v1/", ""), "page": w.raw(staff, "GET", "/orgs/acme", ""), "page that is not there": w.raw(staff, "GET", "/nothing", ""), "no caller": w.do("", "GET", "orgs", ""), "method": w.do(staff, "PUT", "orgs", ""),
		"bad body": w.do(staff, "POST", "orgs", "{"), "service account": w.do(staff, "GET", "orgs", "", "X-API-Key", w.Acme.Token),
	}
	for _, op := range w.operations() {
		answers[op.ID] = w.send(staff, op, w.Acme)
	}
	for name, a := range answers {
		for h, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
			"X-Content-Type-Options":  "nosniff", "Referrer-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin", "X-Frame-Options": "DENY", "Cache-Control": "no-store",
		} {
			assert.Equal(t, want, a.Header().Get(h), "%s: %s", name, h)
		}
		assert.Empty(t, a.Header()["Set-Cookie"], name)
		if a.Code != 204 {
			media := []string{"application/json", "application/problem+json"}
			if strings.HasPrefix(name, "page") {
				media = []string{"text/html; charset=utf-8"}
			}
			if strings.HasPrefix(name, "export") {
				media = []string{"application/jsonl; charset=utf-8"}
			}
			assert.Contains(t, media, a.Header().Get("Content-Type"), name)
		}
	}
	a := answers["method"]
	assert.Equal(t, 405, a.Code)
	assert.Equal(t, "GET, HEAD, POST", a.Header().Get("Allow"))
}

// Every GET, by who may do everything, leaves the store as it was.
func TestReadingChangesNothing(t *testing.T) {
	w := newWorld(t)
	state := func() string {
		var b strings.Builder
		require.NoError(t, w.Service.Flush(t.Context()))
		for _, org := range []string{"acme", "globex", saccount.HostPartition} {
			head, err := w.Service.AuditHead(t.Context(), org)
			require.NoError(t, err)
			fmt.Fprintln(&b, org, head)
		}
		for _, kind := range []saccount.Kind{saccount.KindAccount, saccount.KindKey, saccount.KindMember, saccount.KindManagementKey, saccount.KindRequest} {
			rs, _, err := w.Store.List(context.Background(), saccount.ListQuery{Kind: kind, Org: "acme", Limit: 1000, Now: w.Now()})
			require.NoError(t, err)
			for _, r := range rs {
				fmt.Fprintln(&b, r.ID, r.Revision, r.Use.At)
			}
		}
		st, err := w.Service.StatusOf(t.Context(), "acme", saccount.KindOrg, "acme")
		require.NoError(t, err)
		fmt.Fprintln(&b, st)
		return b.String()
	}
	before, n := state(), 0
	for _, op := range w.operations() {
		if op.Method != "GET" {
			continue
		}
		for _, method := range []string{"GET", "HEAD"} {
			path, _ := w.Request(op, w.Acme)
			a := w.do(staff, method, path, "")
			require.Equal(t, 200, a.Code, op.ID)
			if method == "HEAD" {
				assert.Zero(t, a.Body.Len())
				assert.NotEmpty(t, a.Header().Get("Content-Length"))
			}
			n++
		}
	}
	assert.Equal(t, before, state())
	t.Logf("%d reads", n)
}

func TestReadOnly(t *testing.T) {
	w := newWorldWith(t, dashboard.Config{ReadOnly: true})
	for _, op := range w.operations() {
		a := w.send(staff, op, w.Acme)
		if op.Method == "GET" {
			assert.Equal(t, 200, a.Code, op.ID)
		} else {
			assert.Equal(t, 403, a.Code, op.ID)
			assert.Equal(t, "read_only", a.code(), op.ID)
		}
	}
}

// Under any path, stripped or not, and behind a proxy that ends TLS.
func TestMounting(t *testing.T) {
	k := newKit(t)
	for pattern, h := range map[string]http.Handler{
		"/":                  k.h,
		"/console/":          k.h,
		"/api/":              k.h,
		"/api/v1/":           k.h,
		"/t/{tenant}/keys/":  k.h,
		"example.com/a/b/c/": k.h,
		"/orgs/":             http.StripPrefix("/orgs", k.h),
		"/api/ ":             http.StripPrefix("/api", k.h),
		"/accounts/":         k.h,
		"/api/b/":            http.StripPrefix("/api/b", k.h),
		"/stripped/":         http.StripPrefix("/stripped", k.h),
		"/api/v1/stripped/":  http.StripPrefix("/api/v1/stripped", k.h),
		"/api/v1/api/":       http.StripPrefix("/api/v1/api", k.h),
		"/logged/in/":        http.StripPrefix("/logged", http.StripPrefix("/in", k.h)),
	} {
		pattern = strings.TrimSpace(pattern) // one path may be stripped, or not
		mux := http.NewServeMux()
		mux.Handle(pattern, h)
		prefix := strings.Replace(strings.TrimPrefix(pattern, "example.com"), "{tenant}", "some%2Fone", 1)
		send := func(method, path, body string) *httptest.ResponseRecorder {
			r := httptest.NewRequest(method, "http://example.com"+path, strings.NewReader(body))
			r.Header.Set("Test-Who", string(manager))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Origin", "https://example.com")
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, r)
			return w
		}
		w := send("POST", prefix+"api/v1/orgs/acme/accounts", fmt.Sprintf(`{"name":"At %s %p"}`, pattern, h))
		require.Equal(t, 201, w.Code, "%s: %s", pattern, w.Body)
		// The Location leads to what was made, wherever it is mounted.
		base, err := url.Parse("http://example.com" + prefix + "api/v1/orgs/acme/accounts")
		require.NoError(t, err)
		to, err := base.Parse(w.Header().Get("Location"))
		require.NoError(t, err)
		assert.Equal(t, 200, send("GET", to.EscapedPath(), "").Code, "%s: %s", pattern, to)
		assert.Equal(t, 404, send("GET", prefix+"api/v1/orgs/acme/nothing", "").Code, pattern)
		// The mount path leads to the organization's first page, wherever it is.
		home := send("GET", prefix, "")
		require.Equal(t, 303, home.Code, pattern)
		root, err := url.Parse("http://example.com" + prefix)
		require.NoError(t, err)
		if to, err = root.Parse(home.Header().Get("Location")); assert.NoError(t, err) {
			assert.Equal(t, 200, send("GET", to.EscapedPath(), "").Code, "%s: %s", pattern, to)
		}
		assert.Equal(t, 200, send("GET", prefix+"orgs/acme/accounts", "").Code, pattern)
		assert.Equal(t, 404, send("GET", prefix+"orgs/acme/nothing", "").Code, pattern)
	}
}

func TestNewRefuses(t *testing.T) {
	h := saccounttest.New(t)
	for want, cfg := range map[string]dashboard.Config{
		"Authorize":      {},
		"TrustedProxies": {Authorize: authorize, TrustedProxies: []netip.Prefix{{}}},
		"TrustedOrigins": {Authorize: authorize, TrustedOrigins: []string{"console.example.com"}},
	} {
		_, err := dashboard.New(h.Service, cfg)
		require.ErrorIs(t, err, saccount.ErrInvalid)
		assert.ErrorContains(t, err, want)
	}
	_, err := dashboard.New(nil, dashboard.Config{Authorize: authorize})
	require.ErrorIs(t, err, saccount.ErrInvalid)
}

// A Caller that says too little, or too much, is nobody.
func TestCallersThatAreRefused(t *testing.T) {
	for name, c := range map[string]dashboard.Caller{
		"nothing":        {},
		"no actor":       {Org: "acme", Role: saccount.RoleView},
		"no role":        {Actor: "a", Org: "acme"},
		"no such role":   {Actor: "a", Org: "acme", Role: 9},
		"no org":         {Actor: "a", Role: saccount.RoleAdmin},
		"org and host":   {Actor: "a", Org: "acme", Host: true, Role: saccount.RoleAdmin},
		"host partition": {Actor: "a", Org: saccount.HostPartition, Role: saccount.RoleAdmin},
	} {
		k := newKit(t, dashboard.Config{Authorize: func(*http.Request) (dashboard.Caller, error) { return c, nil }})
		for _, path := range []string{"whoami", "orgs", "orgs/acme", "orgs/%20host/management-keys"} {
			assert.Equal(t, 403, k.do("", "GET", path, "").Code, name)
		}
	}
	k := newKit(t)
	assert.Equal(t, 404, k.do(staff, "GET", "orgs/%20host/management-keys", "").Code)
	assert.Equal(t, 404, k.do(staff, "GET", "orgs/%20host/audit", "").Code)
}
