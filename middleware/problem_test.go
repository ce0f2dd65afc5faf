package middleware_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/middleware"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

var update = flag.Bool("update", false, "write the golden files of this package anew")

// golden compares with testdata/name.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, string(want), got, "testdata/%s; -update writes it anew", name)
}

var noon = time.Date(2030, time.January, 15, 12, 0, 0, 0, time.UTC)

func state1(subject quota.Subject, name string, max, used, held, asked quota.Credits, resets time.Duration) quota.LimitStatus {
	s := quota.LimitStatus{
		Subject: subject, Limit: name, Max: max, Used: used, Held: held, Requested: asked,
		Remaining: clamp(max - used - held), Refused: true,
	}
	if resets != 0 {
		s.ResetAt = noon.Add(resets)
	}
	return s
}

func clamp(c quota.Credits) quota.Credits {
	if c < 0 {
		return 0
	}
	return c
}

func over(limits ...quota.LimitStatus) error {
	return fmt.Errorf("charge: %w", &quota.ExceededError{Requested: limits[0].Requested, Limits: limits})
}

// TestProblems: the whole answer to everything, as a client reads it.
func TestProblems(t *testing.T) {
	const day, month = 12 * time.Hour, 17 * 24 * time.Hour
	key, account, org := quota.Subject("key:K1"), quota.Subject("account:A1"), quota.Subject("org:acme")
	for _, c := range []struct {
		name string
		err  error
	}{
		{"no_credentials", middleware.ErrNoCredentials},
		{"repeated_credentials", middleware.ErrCredentials},
		{"invalid_token", &saccount.AuthError{Reason: "expired", KeyID: "K1"}},
		{"address", &saccount.AddressError{KeyID: "K1", Addr: netip.MustParseAddr("192.0.2.1")}},
		{"scope", &saccount.ScopeError{KeyID: "K1", Missing: []string{"words:read", "words:write"}}},
		{"forbidden", saccount.ErrForbidden},
		{"rate", &saccount.RateError{Subject: account, RetryAfter: 2500 * time.Millisecond}},
		{"rate_unknown", saccount.ErrRateLimited},
		{"throttled", middleware.ErrThrottled},
		{"resets", over(state1(account, "credits", 500*credit, 499*credit+credit/2, 0, credit, month))},
		{"resets_now", over(state1(account, "credits", 500*credit, 500*credit, 0, credit, -time.Minute))},
		{"never_resets", over(state1(account, "credits", 500*credit, 499*credit+credit/2, 0, credit, 0))},
		{"above_max", over(state1(key, "day", 2*credit, 0, 0, 3*credit, day))},
		{"held", over(state1(org, "credits", 500*credit, 300*credit, 199*credit+credit/2, credit, month))},
		{"held_never_resets", over(state1(org, "credits", 500*credit, 300*credit, 200*credit, credit, 0))},
		{"longest_resets", over(
			state1(key, "day", 10*credit, 10*credit, 0, credit, day),
			state1(account, "credits", 500*credit, 500*credit, 0, credit, month),
			state1(org, "credits", 900*credit, 300*credit, 600*credit, credit, month),
		)},
		{"longest_never", over(
			state1(key, "day", 10*credit, 10*credit, 0, credit, day),
			state1(org, "credits", 900*credit, 900*credit, 0, credit, 0),
		)},
		{"id_conflict", fmt.Errorf("charge: %w", quota.ErrConflict)},
		{"already_charged", middleware.ErrReplayed},
		{"overflow", fmt.Errorf("charge: %w: %w", quota.ErrOverflow, quota.ErrInvalid)},
		{"host_mistake", fmt.Errorf("charge: %w", quota.ErrInvalid)},
		{"unknown_outcome", fmt.Errorf("charge: %w: disk on fire", quota.ErrUnknownOutcome)},
		{"busy", quota.ErrBusy},
		{"closed", saccount.ErrClosed},
		{"corrupt", quota.ErrCorrupt},
		{"hung_up", context.Canceled},
		{"anything", errors.New("dial tcp: secret.internal: connection refused")},
		{"own", &middleware.Problem{Status: 413, Type: "https://example.com/too-long", Title: "Too long", Code: "too_long", Detail: "At most 100 kB."}},
		{"own_empty", &middleware.Problem{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := middleware.NewProblem(c.err, noon)
			require.ErrorIs(t, p, c.err)
			assert.Equal(t, p.Status, middleware.Status(c.err))
			w := httptest.NewRecorder()
			p.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
			out := fmt.Sprintf("%d\n", w.Code)
			for _, k := range []string{"Cache-Control", "Content-Type", "Www-Authenticate"} {
				if v := w.Header().Get(k); v != "" {
					out += k + ": " + v + "\n"
				}
			}
			// Retry-After has a part of chance: see TestRetryAfter.
			golden(t, "problem_"+c.name+".txt", out+"\n"+w.Body.String())
			assert.NotContains(t, w.Body.String(), "secret.internal")
			assert.Equal(t, strconv.Itoa(w.Body.Len()), w.Header().Get("Content-Length"))
		})
	}
}

// TestRetryAfter: never early, never much too late, absent where waiting does
// not help, and not the same for all who wait for one reset.
func TestRetryAfter(t *testing.T) {
	a := quota.Subject("account:A1")
	for _, c := range []struct {
		name        string
		err         error
		least, most int64 // seconds; 0, 0: none
	}{
		{"a minute and a bit", over(state1(a, "x", 5, 5, 0, 1, time.Minute+time.Nanosecond)), 61, 67},
		{"a day", over(state1(a, "x", 5, 5, 0, 1, 24*time.Hour)), 86400, 86431},
		{"a century", over(state1(a, "x", 5, 5, 0, 1, 100*365*24*time.Hour)), 3153600000, 3153600031},
		{"at once", over(state1(a, "x", 5, 5, 0, 1, time.Millisecond)), 1, 2},
		{"longer than time can tell", over(state1(a, "x", 5, 5, 0, 1, 1<<62), quota.LimitStatus{Subject: a, Limit: "y", Max: 5, Used: 5, Requested: 1, ResetAt: time.Date(9899, 1, 1, 0, 0, 0, 0, time.UTC)}), 6307200000, 6307200031},
		{"past", over(state1(a, "x", 5, 5, 0, 1, -time.Hour)), 1, 2},
		{"held", over(state1(a, "x", 5, 0, 5, 1, time.Hour)), 1, 1},
		{"held and spent", over(state1(a, "x", 5, 3, 2, 3, time.Hour)), 3600, 3631},
		{"held by one, spent by another", over(state1(a, "x", 5, 0, 5, 1, time.Hour), state1(a, "y", 5, 5, 0, 1, time.Minute)), 60, 67},
		{"never", over(state1(a, "x", 5, 5, 0, 1, 0)), 0, 0},
		{"too much", over(state1(a, "x", 5, 0, 0, 6, time.Hour)), 0, 0},
		{"too much for one", over(state1(a, "x", 5, 5, 0, 6, time.Hour), state1(a, "y", 9, 9, 0, 6, time.Minute)), 0, 0},
		{"rate", &saccount.RateError{Subject: a, RetryAfter: time.Second + time.Nanosecond}, 2, 2},
		{"rate, soon", &saccount.RateError{Subject: a, RetryAfter: time.Nanosecond}, 1, 1},
		{"store", quota.ErrUnknownOutcome, 1, 1},
		{"invalid token", saccount.ErrUnauthenticated, 0, 0},
	} {
		seen := map[int64]bool{}
		for range 200 {
			w := httptest.NewRecorder()
			middleware.NewProblem(c.err, noon).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
			v := w.Header().Get("Retry-After")
			if c.most == 0 {
				require.Empty(t, v, c.name)
				continue
			}
			n, err := strconv.ParseInt(v, 10, 64)
			require.NoError(t, err, c.name)
			require.GreaterOrEqual(t, n, c.least, c.name)
			require.LessOrEqual(t, n, c.most, c.name)
			seen[n] = true
		}
		assert.True(t, c.most-c.least < 20 || len(seen) > 5, "%s: %d different ones in 200", c.name, len(seen))
	}
}

// TestProblemIsCopied: what a host returns again and again stays its own.
func TestProblemIsCopied(t *testing.T) {
	own := &middleware.Problem{Status: 400, Detail: "no"}
	p := middleware.NewProblem(own, noon)
	p.Realm, p.Detail = "x", "y"
	assert.Equal(t, &middleware.Problem{Status: 400, Detail: "no"}, own)
	assert.Contains(t, own.Error(), "400")
	assert.Equal(t, 500, middleware.Status(&middleware.Problem{Status: 200}), "a refusal is never a success")
}
