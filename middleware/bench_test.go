package middleware_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/middleware"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount/saccounttest"
)

// mute is a response writer that keeps nothing, so that what is measured is
// the middleware.
type mute struct{ h http.Header }

func (m mute) Header() http.Header         { return m.h }
func (m mute) Write(b []byte) (int, error) { return len(b), nil }
func (m mute) WriteHeader(int)             {}

var ok = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })

func benchHandler(tb testing.TB, cfg middleware.Config) (http.Handler, *http.Request) {
	h := saccounttest.New(tb)
	mw, err := middleware.New(h.Service, cfg)
	require.NoError(tb, err)
	r, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, "/x", http.NoBody)
	require.NoError(tb, err)
	r.RemoteAddr = "192.0.2.7:1234"
	r.Header.Set("Authorization", "Bearer "+h.Token(saccounttest.Spec{Monthly: quota.MaxCredits}))
	return mw(ok), r
}

func BenchmarkMiddleware(b *testing.B) {
	up := middleware.UpTo(func(*http.Request) (quota.Credits, error) { return 10, nil })
	for _, c := range []struct {
		name string
		cfg  middleware.Config
	}{
		{"authenticate", middleware.Config{}},
		{"fixed", middleware.Config{Cost: middleware.Fixed(1)}},
		{"fixed+headers", middleware.Config{Cost: middleware.Fixed(1), RateLimitHeaders: true}},
		{"up to", middleware.Config{Cost: up}},
	} {
		b.Run(c.name, func(b *testing.B) {
			h, r := benchHandler(b, c.cfg)
			w := mute{http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(w, r)
			}
		})
	}
}

// TestAllocations: a charged request costs no more than what net/http takes to
// carry a context.
func TestAllocations(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  middleware.Config
		most float64
	}{
		{"authenticate", middleware.Config{}, 3},
		{"authenticate and charge", middleware.Config{Cost: middleware.Fixed(1)}, 3},
	} {
		h, r := benchHandler(t, c.cfg)
		w := mute{http.Header{}}
		h.ServeHTTP(w, r) // the key is read from the store once
		if n := testing.AllocsPerRun(200, func() { h.ServeHTTP(w, r) }); n > c.most {
			t.Errorf("%s: %v allocations a request, want at most %v", c.name, n, c.most)
		}
	}
}
