package leak_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/leak"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
	"github.com/keypurse/keypurse/store/memstore"
)

// signer is GitHub: it signs, and publishes its keys.
type signer struct {
	key   *ecdsa.PrivateKey
	asked atomic.Int32
	down  atomic.Bool
}

func newSigner(t *testing.T) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return &signer{key: key}
}

func (s *signer) document(t *testing.T) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&s.key.PublicKey)
	require.NoError(t, err)
	text, err := json.Marshal(map[string]any{"public_keys": []map[string]any{
		{"key_identifier": "old", "key": "nonsense", "is_current": false},
		{"key_identifier": "bcb5", "key": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), "is_current": true},
	}})
	require.NoError(t, err)
	return text
}

func (s *signer) source(t *testing.T) leak.KeySource {
	doc := s.document(t)
	return func(context.Context) (map[string]*ecdsa.PublicKey, error) {
		s.asked.Add(1)
		if s.down.Load() {
			return nil, errors.New("away")
		}
		return leak.ParseKeys(doc)
	}
}

func (s *signer) request(t *testing.T, body string) *http.Request {
	t.Helper()
	sum := sha256.Sum256([]byte(body))
	sig, err := ecdsa.SignASN1(rand.Reader, s.key, sum[:])
	require.NoError(t, err)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
	r.Header.Set("Github-Public-Key-Identifier", "bcb5")
	r.Header.Set("Github-Public-Key-Signature", base64.StdEncoding.EncodeToString(sig))
	return r
}

func do(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func github(t *testing.T, svc *saccount.Service, src leak.KeySource) http.Handler {
	t.Helper()
	h, err := leak.GitHub(svc, leak.Config{PublicKeys: src})
	require.NoError(t, err)
	return h
}

func living(t *testing.T, h *saccounttest.Harness, token string) bool {
	t.Helper()
	_, err := h.Service.Authenticate(t.Context(), token, netip.Addr{})
	if err != nil {
		require.ErrorIs(t, err, saccount.ErrUnauthenticated)
	}
	return err == nil
}

func TestGitHub(t *testing.T) {
	h := saccounttest.New(t)
	one, two := h.Token(saccounttest.Spec{}), h.Token(saccounttest.Spec{})
	gh := newSigner(t)
	handler := github(t, h.Service, gh.source(t))
	body := fmt.Sprintf(`[{"token":%q,"type":"acme_key","url":"https://github.com/octocat/x/blob/1/a.txt","source":"commit"},
		{"token":"sa_nothing","type":"acme_key","url":"","source":"npm","new_field":1},{"token":%q,"type":"acme_key"}]`, one, one)
	w := do(handler, gh.request(t, body))
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	assert.Equal(t, "application/json", w.Header().Get("Content-Type"))
	assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	hash := func(s string) string { x := sha256.Sum256([]byte(s)); return hex.EncodeToString(x[:]) }
	assert.JSONEq(t, fmt.Sprintf(`[{"token_hash":%q,"token_type":"acme_key","label":"true_positive"},
		{"token_hash":%q,"token_type":"acme_key","label":"false_positive"},
		{"token_hash":%q,"token_type":"acme_key","label":"true_positive"}]`, hash(one), hash("sa_nothing"), hash(one)), w.Body.String())
	assert.NotContains(t, w.Body.String(), one)
	assert.False(t, living(t, h, one))
	assert.True(t, living(t, h, two), "only what was reported")
	p, err := h.Service.Audit(t.Context(), saccounttest.Org, saccount.AuditFilter{Actor: saccount.ActorLeak})
	require.NoError(t, err)
	require.Len(t, p.Items, 1)
	assert.Equal(t, "reported as leaked by GitHub (commit), found at https://github.com/octocat/x/blob/1/a.txt", p.Items[0].Reason)
	assert.Equal(t, "192.0.2.1", p.Items[0].Addr)
	assert.Equal(t, int32(1), gh.asked.Load())
	assert.Equal(t, "[]\n", do(handler, gh.request(t, `[]`)).Body.String())
	assert.Equal(t, int32(1), gh.asked.Load(), "keys are remembered")
}

func TestGitHubIsBelievedOnlyWhenItSigned(t *testing.T) {
	h := saccounttest.New(t)
	token := h.Token(saccounttest.Spec{})
	gh, mallory := newSigner(t), newSigner(t)
	handler := github(t, h.Service, gh.source(t))
	body := fmt.Sprintf(`[{"token":%q}]`, token)
	for name, spoil := range map[string]func(r *http.Request) *http.Request{
		"no signature":          func(r *http.Request) *http.Request { r.Header.Del("Github-Public-Key-Signature"); return r },
		"no identifier":         func(r *http.Request) *http.Request { r.Header.Del("Github-Public-Key-Identifier"); return r },
		"two signatures":        func(r *http.Request) *http.Request { r.Header.Add("Github-Public-Key-Signature", "x"); return r },
		"an unknown identifier": func(r *http.Request) *http.Request { r.Header.Set("Github-Public-Key-Identifier", "nobody"); return r },
		"a key that is none":    func(r *http.Request) *http.Request { r.Header.Set("Github-Public-Key-Identifier", "old"); return r },
		"a signature that is no base64": func(r *http.Request) *http.Request {
			r.Header.Set("Github-Public-Key-Signature", "%%%")
			return r
		},
		"a signature of another": func(*http.Request) *http.Request { return mallory.request(t, body) },
		"a signature of another body": func(r *http.Request) *http.Request {
			r.Header.Set("Github-Public-Key-Signature", gh.request(t, "[]").Header.Get("Github-Public-Key-Signature"))
			return r
		},
		"a space more": func(r *http.Request) *http.Request {
			n := gh.request(t, body+" ")
			n.Header = r.Header
			return n
		},
	} {
		w := do(handler, spoil(gh.request(t, body)))
		assert.Equal(t, http.StatusForbidden, w.Code, name)
		assert.True(t, living(t, h, token), name)
	}
	w := do(handler, gh.request(t, `{"token":1}`))
	assert.Equal(t, http.StatusBadRequest, w.Code)
	many := "[" + strings.TrimSuffix(strings.Repeat(`{"token":"x"},`, 10_001), ",") + "]"
	assert.Equal(t, http.StatusRequestEntityTooLarge, do(handler, gh.request(t, many)).Code)
	assert.Equal(t, http.StatusRequestEntityTooLarge, do(handler, gh.request(t, strings.Repeat(" ", 8<<20+1))).Code)
	get := do(handler, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	assert.Equal(t, http.StatusMethodNotAllowed, get.Code)
	assert.Equal(t, "POST", get.Header().Get("Allow"))
}

// Keys are asked for again after an hour, once a minute for what is unknown,
// and the old ones are good for a day where nobody answers.
func TestGitHubKeysAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := saccounttest.New(t)
		gh, next := newSigner(t), newSigner(t)
		now := gh
		handler := github(t, h.Service, func(ctx context.Context) (map[string]*ecdsa.PublicKey, error) { return now.source(t)(ctx) })
		code := func(s *signer, id string) int {
			r := s.request(t, `[]`)
			r.Header.Set("Github-Public-Key-Identifier", id)
			return do(handler, r).Code
		}
		assert.Equal(t, http.StatusOK, code(gh, "bcb5"))
		for range 100 {
			assert.Equal(t, http.StatusForbidden, code(gh, "unknown"))
		}
		assert.Equal(t, int32(1), gh.asked.Load(), "who makes identifiers up does not make us ask GitHub")
		time.Sleep(time.Minute)
		assert.Equal(t, http.StatusForbidden, code(gh, "unknown"))
		assert.Equal(t, int32(2), gh.asked.Load())
		gh.down.Store(true)
		time.Sleep(2 * time.Hour)
		assert.Equal(t, http.StatusOK, code(gh, "bcb5"))
		assert.Equal(t, int32(3), gh.asked.Load())
		time.Sleep(24 * time.Hour)
		assert.Equal(t, http.StatusServiceUnavailable, code(gh, "bcb5"))
		now = next
		time.Sleep(time.Minute)
		assert.Equal(t, http.StatusForbidden, code(gh, "bcb5"), "a key that was withdrawn")
		assert.Equal(t, http.StatusOK, code(next, "bcb5"))
	})
}

func TestFetchKeys(t *testing.T) {
	gh := newSigner(t)
	status := http.StatusOK
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "Bearer read-only", r.Header.Get("Authorization"))
		w.WriteHeader(status)
		_, _ = w.Write(gh.document(t)) // the client sees whether it came
	}))
	defer srv.Close()
	keys, err := leak.FetchKeys(srv.Client(), srv.URL, "read-only")(t.Context())
	require.NoError(t, err)
	require.Len(t, keys, 1)
	assert.True(t, gh.key.PublicKey.Equal(keys["bcb5"]))
	status = http.StatusForbidden
	_, err = leak.FetchKeys(srv.Client(), srv.URL, "read-only")(t.Context())
	require.ErrorContains(t, err, "403")
	assert.NotContains(t, err.Error(), "read-only")
	for _, bad := range []string{"", "{}", `{"public_keys":[{"key_identifier":"a","key":"x"}]}`} {
		_, err := leak.ParseKeys([]byte(bad))
		require.Error(t, err)
	}
}

// slow is a store whose writes take long.
type slow struct {
	*memstore.Store
	by time.Duration
}

func (s *slow) Write(ctx context.Context, b saccount.Batch) error {
	time.Sleep(s.by) // in a bubble
	return s.Store.Write(ctx, b)
}

// Whoever hands in a token learns nothing: neither from the bytes nor from the time.
func TestPlainTellsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &slow{Store: memstore.New()}
		svc, err := saccount.New(st, saccount.Config{})
		require.NoError(t, err)
		defer func() { require.NoError(t, svc.Close()) }()
		_, err = svc.CreateOrg(t.Context(), "test", saccount.OrgSpec{ID: "acme"})
		require.NoError(t, err)
		a, err := svc.CreateAccount(t.Context(), "test", "acme", saccount.AccountSpec{Name: "Worker"})
		require.NoError(t, err)
		token, k, err := svc.CreateKey(t.Context(), "test", "acme", a.ID, saccount.KeySpec{Name: "Backend"})
		require.NoError(t, err)
		plain, err := leak.Plain(svc, leak.Config{PerSecond: 1000, Burst: 1000})
		require.NoError(t, err)
		st.by = 300 * time.Millisecond
		real := token.Reveal()
		type seen struct {
			code   int
			header string
			body   string
			after  time.Duration
		}
		var all []seen
		for _, body := range []string{real, real[:len(real)-1] + "x", "password", strings.Repeat("x", 1024), real} {
			begun := time.Now()
			w := do(plain, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body)))
			all = append(all, seen{w.Code, fmt.Sprint(w.Header()), w.Body.String(), time.Since(begun)})
		}
		for _, s := range all {
			assert.Equal(t, all[0], s)
		}
		assert.Equal(t, http.StatusAccepted, all[0].code)
		assert.Equal(t, leak.DefaultPace, all[0].after)
		k, err = svc.GetKey(t.Context(), "acme", k.ID)
		require.NoError(t, err)
		assert.Equal(t, saccount.StatusDisabled, k.Status)
	})
}

func TestPlainIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := saccounttest.New(t)
		plain, err := leak.Plain(h.Service, leak.Config{PerSecond: 0.1, Burst: 2})
		require.NoError(t, err)
		post := func(body string) *httptest.ResponseRecorder {
			return do(plain, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body)))
		}
		assert.Equal(t, http.StatusBadRequest, post(" \n").Code)
		assert.Equal(t, http.StatusRequestEntityTooLarge, post(strings.Repeat("x", 1025)).Code)
		assert.Equal(t, http.StatusMethodNotAllowed, do(plain, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)).Code)
		assert.Equal(t, http.StatusAccepted, post("x").Code)
		assert.Equal(t, http.StatusAccepted, post("x").Code)
		w := post("x")
		assert.Equal(t, http.StatusTooManyRequests, w.Code)
		assert.NotEmpty(t, w.Header().Get("Retry-After"))
		assert.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
		time.Sleep(10 * time.Second)
		token := h.Token(saccounttest.Spec{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // the caller has gone
		assert.Equal(t, http.StatusAccepted, do(plain, httptest.NewRequestWithContext(ctx, http.MethodPost, "/", strings.NewReader(token))).Code)
		assert.False(t, living(t, h, token), "what was handed in is worked on")
		require.NoError(t, h.Store.Close())
		time.Sleep(time.Minute)
		assert.Equal(t, http.StatusServiceUnavailable, post(token).Code)
	})
	for name, cfg := range map[string]leak.Config{
		"Pace": {Pace: -1}, "PerSecond": {PerSecond: -1}, "Burst": {Burst: -1}, "TrustedProxies": {TrustedProxies: []netip.Prefix{{}}},
	} {
		_, err := leak.Plain(saccounttest.New(t).Service, cfg)
		require.ErrorIs(t, err, saccount.ErrInvalid, name)
		require.ErrorContains(t, err, name)
	}
	_, err := leak.GitHub(nil, leak.Config{})
	require.ErrorIs(t, err, saccount.ErrInvalid)
}
