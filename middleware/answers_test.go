package middleware_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/apikey"
	"github.com/keypurse/keypurse/middleware"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
)

// TestInvalidTokenIsOneAnswer: whatever is wrong with a key, a client reads
// the same bytes.
func TestInvalidTokenIsOneAnswer(t *testing.T) {
	h := saccounttest.New(t)
	quiet, err := middleware.NewThrottle(middleware.ThrottleConfig{Failures: -1})
	require.NoError(t, err)
	ctx, svc := t.Context(), h.Service

	good, key := h.Issue(monthly(quota.Credit))
	other, _ := h.Issue(saccounttest.Spec{})
	// A token that parses, with the id of one key and the secret of another.
	a, b := good.Reveal(), other.Reveal()
	idEnd := len(svc.Prefix().String()) + 1 + apikey.IDLen
	mixed := resum(t, svc.Prefix(), a[:idEnd]+b[idEnd:])

	disabled, dk := h.Issue(saccounttest.Spec{})
	require.NoError(t, svc.DisableKey(ctx, saccounttest.Actor, saccounttest.Org, dk.ID))
	deleted, xk := h.Issue(saccounttest.Spec{})
	require.NoError(t, svc.DeleteKey(ctx, saccounttest.Actor, saccounttest.Org, xk.ID))
	expired, _ := h.Issue(saccounttest.Spec{Key: saccount.KeySpec{Expires: h.Now().Add(time.Hour)}})
	off, ok := h.Issue(saccounttest.Spec{})
	require.NoError(t, svc.DisableAccount(ctx, saccounttest.Actor, saccounttest.Org, ok.Account))
	gone, gk := h.Issue(saccounttest.Spec{})
	require.NoError(t, svc.DeleteAccount(ctx, saccounttest.Actor, saccounttest.Org, gk.Account))
	rotated, rk := h.Issue(saccounttest.Spec{})
	_, _, err = svc.RotateKey(ctx, saccounttest.Actor, saccounttest.Org, rk.ID, 0)
	require.NoError(t, err)
	stranger := saccounttest.New(t)
	h.Advance(2 * time.Hour)

	for name, cfg := range map[string]middleware.Config{
		"fixed":        {Cost: middleware.Fixed(1), Throttle: quiet, Realm: "words"},
		"authenticate": {Throttle: quiet, Realm: "words"},
	} {
		s := listen(t, wrap(t, h, cfg, okay))
		require.Equal(t, 200, get(t, s, good.Reveal()).status)
		var first string
		for cause, token := range map[string]string{
			"malformed":        "no-key-at-all",
			"empty":            "",
			"bad checksum":     a[:len(a)-1] + "!",
			"case changed":     strings.ToUpper(a),
			"one more":         a + "0",
			"one less":         a[:len(a)-1],
			"unknown":          stranger.Token(saccounttest.Spec{}),
			"wrong secret":     mixed,
			"disabled":         disabled.Reveal(),
			"deleted":          deleted.Reveal(),
			"expired":          expired.Reveal(),
			"account disabled": off.Reveal(),
			"account deleted":  gone.Reveal(),
			"rotated":          rotated.Reveal(),
		} {
			got := get(t, s, token)
			got.header.Del("Date")
			all := fmt.Sprint(got.status, got.header, got.body)
			if first == "" {
				first = all
				assert.Equal(t, 401, got.status)
				assert.Equal(t, "invalid_token", got.problem(t).Code)
				assert.Equal(t, `Bearer realm="words", error="invalid_token", error_description="The key is not valid."`, got.header.Get("WWW-Authenticate"))
			}
			assert.Equal(t, first, all, "%s: %s", name, cause)
		}
	}
	_ = key
}

// resum gives a token's body the checksum that makes it well-formed.
func resum(t testing.TB, p apikey.Prefix, token string) string {
	t.Helper()
	token = token[:len(token)-apikey.ChecksumLen] + checksum(token[:len(token)-apikey.ChecksumLen])
	_, err := apikey.Parse(token, p)
	require.NoError(t, err)
	return token
}

func TestAnswers(t *testing.T) {
	h := saccounttest.New(t)
	plain := h.Token(monthly(500 * quota.Credit))
	here := h.Token(saccounttest.Spec{Key: saccount.KeySpec{AllowFrom: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}})
	scoped := h.Token(saccounttest.Spec{Key: saccount.KeySpec{Scopes: []string{"words:read"}}})
	paced := h.Token(saccounttest.Spec{Key: saccount.KeySpec{Rate: &saccount.RateLimit{PerSecond: 0.25, Burst: 1}}})
	day := h.Token(saccounttest.Spec{Limits: limit("day", 2*quota.Credit, quota.Day)})
	never := h.Token(saccounttest.Spec{Limits: limit("", 2*quota.Credit, quota.Never)})
	small := h.Token(saccounttest.Spec{Limits: limit("", quota.Credit/2, quota.Day)})
	nothing := h.Token(saccounttest.Spec{Limits: limit("", 0, quota.Day)})
	one := middleware.Config{Cost: middleware.Fixed(quota.Credit)}

	for _, c := range []struct {
		name   string
		cfg    middleware.Config
		token  string
		before int // requests that pass
		status int
		code   string
		header map[string]string
	}{
		{name: "no credentials", cfg: one, status: 401, code: "no_credentials", header: map[string]string{"WWW-Authenticate": `Bearer realm="api"`}},
		{name: "address", cfg: one, token: here, status: 403, code: "address_denied", header: map[string]string{"WWW-Authenticate": ""}},
		{
			name: "scope", cfg: middleware.Config{Scopes: []string{"words:read", "words:write"}}, token: scoped, status: 403, code: "insufficient_scope",
			header: map[string]string{"WWW-Authenticate": `Bearer realm="api", error="insufficient_scope", error_description="The key lacks a scope that this needs.", scope="words:read words:write"`},
		},
		{name: "rate limit", cfg: one, token: paced, before: 1, status: 429, code: "rate_limited", header: map[string]string{"Retry-After": "4", "WWW-Authenticate": ""}},
		{name: "limit that resets", cfg: one, token: day, before: 2, status: 429, code: "limit_exceeded", header: map[string]string{"WWW-Authenticate": "", "Cache-Control": "no-store"}},
		{name: "limit that never resets", cfg: one, token: never, before: 2, status: 402, code: "limit_exceeded", header: map[string]string{"Retry-After": ""}},
		{name: "cost above Max", cfg: one, token: small, status: 402, code: "limit_exceeded", header: map[string]string{"Retry-After": ""}},
		{name: "nothing may be spent", cfg: one, token: nothing, status: 402, code: "limit_exceeded", header: map[string]string{"Retry-After": ""}},
		{name: "cost is negative", cfg: cost(-1, nil), token: plain, status: 500, code: "internal"},
		{name: "cost is an error", cfg: cost(0, errors.New("kaputt")), token: plain, status: 500, code: "internal"},
		{
			name: "cost is a problem", cfg: cost(0, fmt.Errorf("no: %w", &middleware.Problem{Status: 413, Detail: "At most 100 kB."})),
			token: plain, status: 413, code: "",
		},
		{name: "cost is absurd", cfg: cost(quota.MaxCredits, nil), token: day, status: 402, code: "limit_exceeded"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := listen(t, wrap(t, h, c.cfg, okay))
			var header []string
			if c.token != "" {
				header = []string{"Authorization", "Bearer " + c.token}
			}
			for range c.before {
				require.Equal(t, 200, do(t, s, http.MethodGet, header...).status)
			}
			got := do(t, s, http.MethodGet, header...)
			p := got.problem(t)
			assert.Equal(t, c.status, got.status)
			assert.Equal(t, c.code, p.Code)
			assert.NotEmpty(t, p.Type)
			assert.NotEmpty(t, p.Title)
			for k, v := range c.header {
				assert.Equal(t, v, got.header.Get(k), k)
			}
			assert.NotContains(t, got.body, "kaputt", "an error of the host's is for its log")

			head := do(t, s, http.MethodHead, header...)
			assert.Equal(t, c.status, head.status)
			assert.Empty(t, head.body)
			assert.Equal(t, got.header.Get("Content-Length"), head.header.Get("Content-Length"))
		})
	}
	requireSpent(t, h, plain, 0)
}

func cost(c quota.Credits, err error) middleware.Config {
	return middleware.Config{Cost: middleware.Computed(func(*http.Request) (quota.Credits, error) { return c, err })}
}

// TestHeadHasNoBody: a server drops the body of an answer to HEAD by itself;
// a recorder shows that none is written.
func TestHeadHasNoBody(t *testing.T) {
	w := httptest.NewRecorder()
	middleware.WriteProblem(w, httptest.NewRequest(http.MethodHead, "/", nil), middleware.ErrNoCredentials)
	assert.Equal(t, 401, w.Code)
	assert.Zero(t, w.Body.Len())
	assert.NotEmpty(t, w.Header().Get("Content-Length"))
}

func TestErrorHandlerAnswersInItsOwnWords(t *testing.T) {
	h := saccounttest.New(t)
	s := listen(t, wrap(t, h, middleware.Config{
		Realm: `a "b" \c`,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, p *middleware.Problem) {
			assert.ErrorIs(t, p, saccount.ErrUnauthenticated)
			http.Error(w, "go away: "+p.Code, p.Status)
		},
	}, okay))
	got := get(t, s, "nonsense")
	assert.Equal(t, 401, got.status)
	assert.Equal(t, "go away: invalid_token\n", got.body)
	assert.Equal(t, `Bearer realm="a \"b\" \\c", error="invalid_token", error_description="The key is not valid."`, got.header.Get("WWW-Authenticate"))
}

// TestCallerInTheContext: handlers find the caller, and a caller that is there
// already, such as a member, is charged without a key.
func TestCallerInTheContext(t *testing.T) {
	h := saccounttest.New(t)
	ctx := t.Context()
	_, err := h.Service.CreateMember(ctx, saccounttest.Actor, saccounttest.Org, saccount.MemberSpec{ID: "alice", Limits: limit("", 2*quota.Credit, quota.Month)})
	require.NoError(t, err)
	token, key := h.Issue(monthly(10 * quota.Credit))
	who := func(w http.ResponseWriter, r *http.Request) {
		p, _ := saccount.FromContext(r.Context())
		_, _ = fmt.Fprint(w, p)
	}
	inner := wrap(t, h, middleware.Config{Cost: middleware.Fixed(quota.Credit), Scopes: nil}, who)

	keys := listen(t, wrap(t, h, middleware.Config{}, inner.ServeHTTP))
	assert.Equal(t, "key:"+key.ID, get(t, keys, token.Reveal()).body)
	requireSpent(t, h, token.Reveal(), quota.Credit)

	people := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m, err := h.Service.Member(r.Context(), saccounttest.Org, "alice")
		assert.NoError(t, err)
		inner.ServeHTTP(w, r.WithContext(saccount.NewContext(r.Context(), m)))
	}))
	for range 2 {
		assert.Equal(t, "member:alice", do(t, people, http.MethodGet).body)
	}
	assert.Equal(t, "member", do(t, people, http.MethodGet).problem(t).Level)
}

func TestSkipIsExplicit(t *testing.T) {
	h := saccounttest.New(t)
	cfg := middleware.Config{Cost: middleware.Fixed(1)}
	s := listen(t, wrap(t, h, cfg, okay))
	got := do(t, s, http.MethodOptions)
	assert.Equal(t, 401, got.status)
	for k := range got.header {
		assert.NotContains(t, k, "Access-Control", "CORS is the host's business")
	}
	cfg.Skip = func(r *http.Request) bool { return r.Method == http.MethodOptions }
	s = listen(t, wrap(t, h, cfg, okay))
	assert.Equal(t, 200, do(t, s, http.MethodOptions).status)
	assert.Equal(t, 401, do(t, s, http.MethodGet).status)
}
