package middleware_test

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/middleware"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount/saccounttest"
)

// TestExactlyAsManyAsPaidFor: whatever the number of clients, a limit admits
// what it admits, and what it refuses leaves nothing behind.
func TestExactlyAsManyAsPaidFor(t *testing.T) {
	for _, c := range []struct {
		name           string
		max, cost      quota.Credits
		workers, calls int
		upTo           bool
	}{
		{"one of many", 1, 1, 100, 300, false},
		{"fifty of many", 500 * credit, 10 * credit, 50, 400, false},
		{"a rest stays", 505 * credit, 10 * credit, 20, 100, false},
		{"reserved", 500 * credit, 10 * credit, 20, 400, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := saccounttest.New(t)
			token := h.Token(saccounttest.Spec{Limits: limit("", c.max, quota.Day)})
			cfg := middleware.Config{Cost: middleware.Fixed(c.cost)}
			if c.upTo {
				cfg = upTo(c.cost)
			}
			var served atomic.Int64
			s := listen(t, wrap(t, h, cfg, func(http.ResponseWriter, *http.Request) { served.Add(1) }))
			s.Client().Transport.(*http.Transport).MaxIdleConnsPerHost = c.workers
			var passed, refused, calls atomic.Int64
			var wg sync.WaitGroup
			for range c.workers {
				wg.Go(func() {
					for calls.Add(1) <= int64(c.calls) {
						switch status := get(t, s, token).status; status {
						case 200:
							passed.Add(1)
						case 429:
							refused.Add(1)
						default:
							t.Errorf("answered %d", status)
						}
					}
				})
			}
			wg.Wait()
			want := int64(c.max / c.cost)
			assert.Equal(t, want, passed.Load())
			assert.Equal(t, want, served.Load())
			assert.Equal(t, int64(c.calls)-want, refused.Load())
			requireSpent(t, h, token, quota.Credits(want)*c.cost)
			require.NoError(t, h.Service.Flush(t.Context()))
		})
	}
}
