package middleware_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/middleware"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
)

const idem = "Idempotency-Key"

// byHeader costs what the request's Cost header says.
func byHeader(r *http.Request) (quota.Credits, error) {
	return quota.ParseCredits(r.Header.Get("Cost"))
}

func TestIdempotency(t *testing.T) {
	h := saccounttest.New(t)
	token, other := h.Token(monthly(20*credit)), h.Token(monthly(20*credit))
	var served atomic.Int64
	cfg := middleware.Config{Cost: middleware.Computed(byHeader), IdempotencyHeader: "idempotency-key"}
	s := listen(t, wrap(t, h, cfg, func(http.ResponseWriter, *http.Request) { served.Add(1) }))
	try := func(token, id, cost string, status int, code string) {
		t.Helper()
		got := get(t, s, token, idem, id, "Cost", cost)
		require.Equal(t, status, got.status, "%s: %s", id, got.body)
		if code != "" {
			require.Equal(t, code, got.problem(t).Code)
		}
	}
	try(token, `"one"`, "2", 200, "")
	try(token, `"one"`, "2", 409, "already_charged")
	try(token, "one", "2", 409, "already_charged") // the same id, bare
	try(token, "one", "3", 422, "id_conflict")
	try(other, "one", "3", 200, "") // another caller's ids are its own
	try(token, `"a \"b\" \\c"`, "1", 200, "")
	try(token, `a "b" \c`, "1", 409, "already_charged")
	try(token, strings.Repeat("x", 128), "1", 200, "")
	try(token, `"`+strings.Repeat(`\"`, 128)+`"`, "1", 200, "")
	for name, id := range map[string]string{
		"empty": "", "empty string": `""`, "too long": strings.Repeat("x", 129), "far too long": strings.Repeat("x", 1<<19), "open": `"one`, "a lone quote": `"`,
		"a quote within": `"o"ne"`, "a bad escape": `"o\ne"`, "a backslash at the end": `"one\"`, "not ASCII": "ön", "a tab": "o\tne", "escapes too long": `"` + strings.Repeat(`\"`, 129) + `"`,
	} {
		got := get(t, s, token, idem, id, "Cost", "1")
		assert.Equal(t, 400, got.status, name)
		assert.Equal(t, "invalid_request", got.problem(t).Code, name)
	}
	assert.Equal(t, 400, get(t, s, token, idem, "a", idem, "a", "Cost", "1").status)
	assert.Equal(t, 200, get(t, s, token, "Cost", "1").status, "none is none")
	assert.Equal(t, 200, get(t, s, token, "Cost", "1").status)
	requireSpent(t, h, token, 7*credit)
	requireSpent(t, h, other, 3*credit)
	assert.EqualValues(t, 7, served.Load(), "nothing is served twice for one charge")

	// A refusal is not remembered.
	try(token, "big", "14", 429, "limit_exceeded")
	try(token, "big", "13", 200, "")
}

// TestReplays: where the host wants it, the handler sees the retry and is told.
func TestReplays(t *testing.T) {
	for _, kind := range []string{"computed", "up to"} {
		h := saccounttest.New(t)
		token := h.Token(monthly(20 * credit))
		cfg := middleware.Config{Cost: middleware.Computed(byHeader), IdempotencyHeader: idem, Replays: true}
		if kind == "up to" {
			cfg.Cost = middleware.UpTo(byHeader)
		}
		s := listen(t, wrap(t, h, cfg, func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprint(w, middleware.Replayed(r.Context()))
			if kind == "up to" {
				err := middleware.SetCost(r.Context(), credit)
				assert.Equal(t, middleware.Replayed(r.Context()), err != nil, "a replay has nothing on hold")
			}
		}))
		for i, want := range []string{"false", "true", "true"} {
			got := get(t, s, token, idem, "one", "Cost", "1")
			require.Equal(t, 200, got.status)
			assert.Equal(t, want, got.body, "%s %d", kind, i)
		}
		requireSpent(t, h, token, credit)
	}
}

// TestIdempotentReservation: a retry meets the request that is still running,
// the one that is done, and the one that was cut off.
func TestIdempotentReservation(t *testing.T) {
	h := saccounttest.New(t)
	token := h.Token(monthly(20 * credit))
	cfg := upTo(10 * credit)
	cfg.IdempotencyHeader = idem
	var s *httptest.Server
	s = listen(t, wrap(t, h, cfg, func(_ http.ResponseWriter, r *http.Request) {
		got := get(t, s, token, idem, "one")
		assert.Equal(t, 409, got.status)
		assert.Equal(t, "id_in_use", got.problem(t).Code)
		assert.Equal(t, "1", got.header.Get("Retry-After"))
		assert.NoError(t, middleware.SetCost(r.Context(), 3*credit))
	}))
	require.Equal(t, 200, get(t, s, token, idem, "one").status)
	got := get(t, s, token, idem, "one")
	assert.Equal(t, 409, got.status)
	assert.Equal(t, "already_charged", got.problem(t).Code)
	requireSpent(t, h, token, 3*credit)

	// Cut off: its process died, and its hold with it.
	p, err := h.Service.Authenticate(t.Context(), token, connAddr)
	require.NoError(t, err)
	_, d, err := h.Service.Reserve(t.Context(), p, saccount.Reserve{Amount: 10 * credit, TTL: middleware.DefaultHoldTTL, ID: "key:" + p.KeyID() + ":two"})
	require.NoError(t, err)
	require.True(t, d.Allowed)
	h.Advance(middleware.DefaultHoldTTL)
	got = get(t, s, token, idem, "two")
	assert.Equal(t, 409, got.status)
	assert.Equal(t, "id_in_use", got.problem(t).Code)
	assert.Empty(t, got.header.Get("Retry-After"), "waiting does not help")

	// Released before it began.
	r, d, err := h.Service.Reserve(t.Context(), p, saccount.Reserve{Amount: 10 * credit, TTL: middleware.DefaultHoldTTL, ID: "key:" + p.KeyID() + ":three"})
	require.NoError(t, err)
	require.True(t, d.Allowed)
	_, err = r.Release(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "id_in_use", get(t, s, token, idem, "three").problem(t).Code)
	requireSpent(t, h, token, 3*credit)
}

// TestMembersIDsAreTheirOwn: no name that the host gives a member lets it
// reach another's ids.
func TestMembersIDsAreTheirOwn(t *testing.T) {
	h := saccounttest.New(t)
	mw := wrap(t, h, middleware.Config{Cost: middleware.Fixed(credit), IdempotencyHeader: idem}, okay)
	for _, c := range [][2]string{{"a", "b:c"}, {"a:b", "c"}, {"key", "x"}, {strings.Repeat("é", 64), strings.Repeat("x", 128)}} {
		_, err := h.Service.CreateMember(t.Context(), saccounttest.Actor, saccounttest.Org, saccount.MemberSpec{ID: c[0]})
		require.NoError(t, err)
		m, err := h.Service.Member(t.Context(), saccounttest.Org, c[0])
		require.NoError(t, err)
		r := httptest.NewRequestWithContext(saccount.NewContext(t.Context(), m), http.MethodGet, "/", nil)
		r.Header.Set(idem, c[1])
		w := httptest.NewRecorder()
		mw.ServeHTTP(w, r)
		assert.Equal(t, 200, w.Code, "%q: %s", c, w.Body)
		w = httptest.NewRecorder()
		mw.ServeHTTP(w, r)
		assert.Equal(t, 409, w.Code, "%q", c)
	}
}

// FuzzIdempotencyKey: whatever stands in the header is one id or none, and its
// two forms are the same id.
func FuzzIdempotencyKey(f *testing.F) {
	for _, s := range []string{"", "one", `"one"`, `"o\"n\\e"`, `"`, `""`, `"one\"`, `o"ne`, "ö", "\x00", strings.Repeat("x", 129)} {
		f.Add(s)
	}
	h := saccounttest.New(f)
	mw := wrap(f, h, middleware.Config{Cost: middleware.Fixed(1), IdempotencyHeader: idem}, okay)
	token := h.Token(saccounttest.Spec{})
	send := func(id string) int {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header[idem] = []string{id}
		w := httptest.NewRecorder()
		mw.ServeHTTP(w, r)
		return w.Code
	}
	f.Fuzz(func(t *testing.T, id string) {
		switch status := send(id); {
		case status == 400:
			if send(id) != 400 {
				t.Fatalf("%q: refused, and then not", id)
			}
		case status != 200 && status != 409:
			t.Fatalf("%q: answered %d", id, status)
		case send(id) != 409:
			t.Fatalf("%q: charged twice", id)
		case id[0] != '"':
			quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(id) + `"`
			if status := send(quoted); status != 409 {
				t.Fatalf("%q and %s are one id: answered %d", id, quoted, status)
			}
		}
	})
}
