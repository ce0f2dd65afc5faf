package middleware_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/keypurse/keypurse/middleware"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
)

func TestRateLimitHeaders(t *testing.T) {
	h := saccounttest.New(t)
	yes := true
	spec := saccounttest.Spec{
		Limits: saccount.Limits{
			"day":   saccount.NewLimit(3*credit+credit/2, quota.Period{Unit: quota.Day}),
			"total": saccount.NewLimit(quota.MaxCredits, quota.Period{}),
			"soft":  {Max: new(quota.Credits), Soft: &yes},
		},
		Key: saccount.KeySpec{Scopes: []string{"a"}, Limits: limit("", 10*credit, quota.Hour)},
	}
	token := h.Token(spec)
	h.Advance(20*time.Minute + time.Millisecond)
	for name, cfg := range map[string]middleware.Config{
		"fixed":     {Cost: middleware.Fixed(credit), RateLimitHeaders: true},
		"with more": {Cost: middleware.Fixed(credit), RateLimitHeaders: true, Scopes: []string{"a"}},
		"up to":     {Cost: upTo(credit).Cost, RateLimitHeaders: true},
	} {
		s := listen(t, wrap(t, h, cfg, func(w http.ResponseWriter, r *http.Request) {
			assert.NotEmpty(t, w.Header().Get("RateLimit"), "%s: set before the handler", name)
		}))
		get(t, s, token)
	}
	s := listen(t, wrap(t, h, middleware.Config{Cost: middleware.Fixed(0), RateLimitHeaders: true}, okay))
	got := get(t, s, token)
	assert.Equal(t, 200, got.status)
	assert.Equal(t, []string{`"key:credits";q=10;w=3600;keypurse-unit="credits", "account:day";q=3;w=86400;keypurse-unit="credits", "account:total";q=9223372036854;keypurse-unit="credits"`}, got.header["Ratelimit-Policy"])
	assert.Equal(t, []string{`"key:credits";r=7;t=2400, "account:day";r=0;t=42000, "account:total";r=9223372036851`}, got.header["Ratelimit"])

	s = listen(t, wrap(t, h, middleware.Config{Cost: middleware.Fixed(credit), RateLimitHeaders: true}, okay))
	got = get(t, s, token)
	assert.Equal(t, 429, got.status)
	assert.NotEmpty(t, got.header.Get("RateLimit"))
	assert.Equal(t, []string{"account:day"}, got.problem(t).Policies, "named as in the header")

	// Whoever is not known, or may not, learns nothing of the traffic of others.
	s = listen(t, wrap(t, h, middleware.Config{Cost: middleware.Fixed(1), RateLimitHeaders: true, Scopes: []string{"b"}}, okay))
	for _, got := range []answer{get(t, s, token), get(t, s, "x"), do(t, s, http.MethodGet)} {
		assert.Contains(t, []int{401, 403}, got.status)
		assert.Empty(t, got.header.Get("RateLimit"))
		assert.Empty(t, got.header.Get("RateLimit-Policy"))
	}
	// Off unless asked for.
	s = listen(t, wrap(t, h, middleware.Config{Cost: middleware.Fixed(0)}, okay))
	assert.Empty(t, get(t, s, token).header.Get("RateLimit"))
	// No limits, no header.
	s = listen(t, wrap(t, h, middleware.Config{Cost: middleware.Fixed(0), RateLimitHeaders: true}, okay))
	assert.NotContains(t, get(t, s, h.Token(saccounttest.Spec{})).header, "Ratelimit")
}
