package bench

import (
	"context"
	"net/http"
	"time"

	"github.com/go-chi/httprate"
	"github.com/sethvargo/go-limiter/httplimit"
	"github.com/sethvargo/go-limiter/memorystore"
	"github.com/throttled/throttled/v2"
	"github.com/ulule/limiter/v3"
	"github.com/ulule/limiter/v3/drivers/middleware/stdlib"
	ulule "github.com/ulule/limiter/v3/drivers/store/memory"
)

// middlewares are the peers' net/http middlewares. They count one level, by
// the Authorization header as it stands, and check no key.
var middlewares = []struct {
	who  string
	wrap wrapped
}{
	{whoBare, around(func(next http.Handler) (http.Handler, func() error, error) { return next, nil, nil })},
	{whoGoLimiter, around(func(next http.Handler) (http.Handler, func() error, error) {
		s, err := memorystore.New(&memorystore.Config{Tokens: plenty, Interval: time.Hour})
		if err != nil {
			return nil, nil, err
		}
		m, err := httplimit.NewMiddleware(s, byAuthorization)
		if err != nil {
			return nil, nil, err
		}
		return m.Handle(next), func() error { return s.Close(context.Background()) }, nil
	})},
	{whoUlule, around(func(next http.Handler) (http.Handler, func() error, error) {
		l := limiter.New(ulule.NewStore(), limiter.Rate{Period: time.Hour, Limit: plenty})
		key := func(r *http.Request) string { return r.Header.Get("Authorization") }
		return stdlib.NewMiddleware(l, stdlib.WithKeyGetter(key)).Handler(next), nil, nil
	})},
	{whoThrottled, around(func(next http.Handler) (http.Handler, func() error, error) {
		g, err := gcra()
		if err != nil {
			return nil, nil, err
		}
		l := throttled.HTTPRateLimiterCtx{RateLimiter: g, VaryBy: &throttled.VaryBy{Headers: []string{"Authorization"}}}
		return l.RateLimit(next), nil, nil
	})},
	{whoHTTPRate, around(func(next http.Handler) (http.Handler, func() error, error) {
		return httprate.LimitBy(plentyInt, time.Hour, byAuthorization)(next), nil, nil
	})},
}

func byAuthorization(r *http.Request) (string, error) { return r.Header.Get("Authorization"), nil }
