package middleware_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/middleware"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
	"github.com/keypurse/keypurse/store/memstore"
)

// upTo reserves c for every request.
func upTo(c quota.Credits) middleware.Config {
	return middleware.Config{Cost: middleware.UpTo(func(*http.Request) (quota.Credits, error) { return c, nil })}
}

const credit = quota.Credit

func TestSettlement(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(t *testing.T, w http.ResponseWriter, r *http.Request)
		want quota.Credits
		over quota.Credits // of want, overage
	}{
		{name: "untold", do: func(*testing.T, http.ResponseWriter, *http.Request) {}, want: 10 * credit},
		{name: "told", do: func(t *testing.T, _ http.ResponseWriter, r *http.Request) {
			assert.NoError(t, middleware.SetCost(r.Context(), 3*credit))
		}, want: 3 * credit},
		{name: "told nothing", do: func(t *testing.T, _ http.ResponseWriter, r *http.Request) {
			assert.NoError(t, middleware.SetCost(r.Context(), 0))
		}, want: 0},
		{name: "told anew", do: func(t *testing.T, _ http.ResponseWriter, r *http.Request) {
			assert.NoError(t, middleware.SetCost(r.Context(), 3*credit))
			assert.NoError(t, middleware.SetCost(r.Context(), 2*credit))
		}, want: 2 * credit},
		{name: "added", do: func(t *testing.T, _ http.ResponseWriter, r *http.Request) {
			var wg sync.WaitGroup
			for range 7 {
				wg.Go(func() { assert.NoError(t, middleware.AddCost(r.Context(), credit/2)) })
			}
			wg.Wait()
		}, want: 7 * credit / 2},
		{name: "more than reserved", do: func(t *testing.T, _ http.ResponseWriter, r *http.Request) {
			assert.NoError(t, middleware.SetCost(r.Context(), 15*credit))
		}, want: 15 * credit},
		{name: "more than there is", do: func(t *testing.T, _ http.ResponseWriter, r *http.Request) {
			assert.NoError(t, middleware.SetCost(r.Context(), 25*credit))
		}, want: 25 * credit, over: 5 * credit},
		{name: "more than can be counted", do: func(t *testing.T, _ http.ResponseWriter, r *http.Request) {
			assert.NoError(t, middleware.SetCost(r.Context(), quota.MaxCredits))
			assert.ErrorIs(t, middleware.AddCost(r.Context(), 1), quota.ErrOverflow)
		}, want: quota.MaxCredits, over: quota.MaxCredits - 20*credit},
		{name: "negative", do: func(t *testing.T, _ http.ResponseWriter, r *http.Request) {
			assert.ErrorIs(t, middleware.SetCost(r.Context(), -1), quota.ErrInvalid)
			assert.ErrorIs(t, middleware.AddCost(r.Context(), -1), quota.ErrInvalid)
			_, err := middleware.Settle(r.Context(), -1)
			assert.ErrorIs(t, err, quota.ErrInvalid)
		}, want: 10 * credit},
		{name: "settled", do: func(t *testing.T, _ http.ResponseWriter, r *http.Request) {
			d, err := middleware.Settle(r.Context(), 4*credit)
			assert.NoError(t, err)
			left, ok := d.Remaining()
			assert.True(t, ok)
			assert.Equal(t, 16*credit, left)
		}, want: 4 * credit},
		{name: "settled again", do: func(t *testing.T, _ http.ResponseWriter, r *http.Request) {
			d, err := middleware.Settle(r.Context(), 4*credit)
			assert.NoError(t, err)
			again, err := middleware.Settle(r.Context(), 4*credit)
			assert.NoError(t, err)
			assert.Equal(t, d.Limits(), again.Limits())
			_, err = middleware.Settle(r.Context(), 5*credit)
			assert.ErrorIs(t, err, middleware.ErrSettled)
			assert.ErrorIs(t, middleware.SetCost(r.Context(), 9*credit), middleware.ErrSettled)
			assert.ErrorIs(t, middleware.AddCost(r.Context(), credit), middleware.ErrSettled)
		}, want: 4 * credit},
		{name: "settled by many", do: func(t *testing.T, _ http.ResponseWriter, r *http.Request) {
			var wg sync.WaitGroup
			for range 16 {
				wg.Go(func() {
					_, err := middleware.Settle(r.Context(), 2*credit)
					assert.NoError(t, err)
				})
			}
			wg.Wait()
		}, want: 2 * credit},
		{name: "settled at once, then panic", do: func(t *testing.T, _ http.ResponseWriter, r *http.Request) {
			_, err := middleware.Settle(r.Context(), 4*credit)
			assert.NoError(t, err)
			panic(http.ErrAbortHandler)
		}, want: 4 * credit},
		{name: "panic", do: func(*testing.T, http.ResponseWriter, *http.Request) { panic("kaputt") }, want: 10 * credit},
		{name: "panic after it told", do: func(t *testing.T, _ http.ResponseWriter, r *http.Request) {
			assert.NoError(t, middleware.AddCost(r.Context(), credit))
			panic(errors.New("kaputt"))
		}, want: credit},
		{name: "abort", do: func(*testing.T, http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, want: 10 * credit},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := saccounttest.New(t)
			token := h.Token(saccounttest.Spec{Limits: limit("", 20*credit, quota.Never)})
			mw := wrap(t, h, upTo(10*credit), func(w http.ResponseWriter, r *http.Request) {
				used, held, _ := spent(t, h, token)
				assert.Equal(t, []quota.Credits{0, 10 * credit}, []quota.Credits{used, held}, "while it runs")
				c.do(t, w, r)
			})
			var went any
			func() {
				defer func() { went = recover() }()
				r := httptest.NewRequest(http.MethodGet, "/", nil)
				r.Header.Set("Authorization", "Bearer "+token)
				mw.ServeHTTP(httptest.NewRecorder(), r)
			}()
			assert.Equal(t, strings.Contains(c.name, "panic") || c.name == "abort", went != nil, "a panic goes on: %v", went)
			used, held, overage := spent(t, h, token)
			assert.Equal(t, c.want, used+overage)
			assert.Equal(t, c.over, overage)
			assert.Zero(t, held)
		})
	}
}

// TestSettleTogetherWithTheAnswer is the way of a handler that counts what it
// reads and answers what it costs.
func TestSettleTogetherWithTheAnswer(t *testing.T) {
	h := saccounttest.New(t)
	token := h.Token(monthly(500 * credit))
	s := listen(t, wrap(t, h, middleware.Config{Cost: middleware.UpTo(func(r *http.Request) (quota.Credits, error) {
		if r.ContentLength < 0 {
			return 0, &middleware.Problem{Status: http.StatusLengthRequired, Detail: "Send a Content-Length."}
		}
		return (credit / 100).Mul((r.ContentLength + 1) / 2)
	})}, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		d, err := middleware.Settle(r.Context(), credit/100*quota.Credits(len(strings.Fields(string(b)))))
		if err != nil {
			middleware.WriteProblem(w, r, err)
			return
		}
		left, _ := d.Remaining()
		_, _ = io.WriteString(w, left.String())
	}))
	post := func(body io.Reader) answer {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, body)
		require.NoError(t, err)
		r.Header.Set("Authorization", "Bearer "+token)
		res, err := s.Client().Do(r)
		require.NoError(t, err)
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return answer{res.StatusCode, res.Header, string(b)}
	}
	assert.Equal(t, "499.95", post(strings.NewReader("a b c d e")).body)
	assert.Equal(t, 411, post(io.MultiReader(strings.NewReader("chunked"))).status)
	assert.Equal(t, 402, post(strings.NewReader(strings.Repeat("a", 200_000))).status)
	requireSpent(t, h, token, 5*credit/100)
}

func TestNoHold(t *testing.T) {
	h := saccounttest.New(t)
	s := listen(t, wrap(t, h, middleware.Config{Cost: middleware.Fixed(1)}, func(_ http.ResponseWriter, r *http.Request) {
		assert.ErrorIs(t, middleware.SetCost(r.Context(), 1), middleware.ErrNoHold)
		assert.ErrorIs(t, middleware.AddCost(r.Context(), 1), middleware.ErrNoHold)
		_, err := middleware.Settle(r.Context(), 1)
		assert.ErrorIs(t, err, middleware.ErrNoHold)
	}))
	assert.Equal(t, 200, get(t, s, h.Token(saccounttest.Spec{})).status)
}

// TestHangUp: a client that goes away while it is served pays what the handler
// told, once, and a panic of the server's connection changes nothing of it.
func TestHangUp(t *testing.T) {
	h := saccounttest.New(t)
	told, untold := h.Token(monthly(20*credit)), h.Token(monthly(20*credit))
	begun, over := make(chan struct{}), make(chan struct{})
	s := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wrap(t, h, upTo(10*credit), func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/told" {
				assert.NoError(t, middleware.SetCost(r.Context(), 3*credit))
			}
			begun <- struct{}{}
			<-r.Context().Done()
		}).ServeHTTP(w, r)
		over <- struct{}{}
	}))
	for path, token := range map[string]string{"/told": told, "/untold": untold} {
		ctx, hangUp := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, http.NoBody)
		require.NoError(t, err)
		r.Header.Set("Authorization", "Bearer "+token)
		gone := make(chan error)
		go func() {
			res, err := s.Client().Do(r)
			if err == nil {
				_ = res.Body.Close()
			}
			gone <- err
		}()
		<-begun
		hangUp()
		assert.ErrorIs(t, <-gone, context.Canceled)
		<-over
	}
	requireSpent(t, h, told, 3*credit)
	requireSpent(t, h, untold, 10*credit)
}

// TestGoneBeforeItBegan: nothing is charged and the handler does not run.
func TestGoneBeforeItBegan(t *testing.T) {
	h := saccounttest.New(t)
	token := h.Token(monthly(20 * credit))
	p := h.Principal(monthly(20 * credit))
	mw := wrap(t, h, upTo(10*credit), func(http.ResponseWriter, *http.Request) { t.Error("the handler ran") })
	for _, ctx := range []context.Context{t.Context(), saccount.NewContext(t.Context(), p)} {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		mw.ServeHTTP(w, r)
		assert.Equal(t, 503, w.Code)
	}
	requireSpent(t, h, token, 0)
	st, err := h.Service.Status(t.Context(), p)
	require.NoError(t, err)
	assert.Zero(t, st[0].Used+st[0].Held)
}

// TestTimeout: http.TimeoutHandler on either side of the middleware leaves a
// handler behind that goes on; it settles once.
func TestTimeout(t *testing.T) {
	for _, side := range []string{"around", "within"} {
		t.Run(side, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				svc, token := bubble(t)
				late := make(chan error, 3)
				slow := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					late <- middleware.SetCost(r.Context(), 2*credit)
					time.Sleep(3 * time.Second) // the bubble's time
					late <- middleware.SetCost(r.Context(), 5*credit)
					_, err := middleware.Settle(r.Context(), 6*credit)
					late <- err
				})
				mw, err := middleware.New(svc, upTo(10*credit))
				require.NoError(t, err)
				var h http.Handler
				if side == "around" {
					h = http.TimeoutHandler(mw(slow), time.Second, "too late")
				} else {
					h = mw(http.TimeoutHandler(slow, time.Second, "too late"))
				}
				w := httptest.NewRecorder()
				h.ServeHTTP(w, request(t, token))
				assert.Equal(t, http.StatusServiceUnavailable, w.Code)
				assert.Equal(t, "too late", w.Body.String())
				require.NoError(t, <-late)
				one, two := <-late, <-late
				synctest.Wait()
				if side == "around" { // the middleware waits for its handler
					assert.NoError(t, one)
					assert.NoError(t, two)
					assertUsed(t, svc, token, 6*credit)
				} else { // the handler it waits for is the TimeoutHandler
					assert.ErrorIs(t, one, middleware.ErrSettled)
					assert.ErrorIs(t, two, middleware.ErrSettled)
					assertUsed(t, svc, token, 2*credit)
				}
			})
		})
	}
}

// bubble is a Service that goes by a synctest bubble's clock.
func bubble(t *testing.T) (*saccount.Service, string) {
	t.Helper()
	svc, err := saccount.New(memstore.New(), saccount.Config{Now: time.Now})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, svc.Close()) })
	ctx := t.Context()
	_, err = svc.CreateOrg(ctx, "test", saccount.OrgSpec{ID: "acme", Name: "Acme"})
	require.NoError(t, err)
	a, err := svc.CreateAccount(ctx, "test", "acme", saccount.AccountSpec{Name: "Worker", Limits: limit("", 20*credit, quota.Never)})
	require.NoError(t, err)
	token, _, err := svc.CreateKey(ctx, "test", "acme", a.ID, saccount.KeySpec{Name: "Backend"})
	require.NoError(t, err)
	return svc, token.Reveal()
}

func request(t testing.TB, token string) *http.Request {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

func assertUsed(t *testing.T, svc *saccount.Service, token string, want quota.Credits) {
	t.Helper()
	used, held := state(t, svc, token)
	assert.Equal(t, want, used, "used")
	assert.Zero(t, held, "held")
}

func state(t *testing.T, svc *saccount.Service, token string) (used, held quota.Credits) {
	t.Helper()
	p, err := svc.Authenticate(t.Context(), token, connAddr)
	require.NoError(t, err)
	st, err := svc.Status(t.Context(), p)
	require.NoError(t, err)
	require.Len(t, st, 1)
	require.Zero(t, st[0].Overage)
	return st[0].Used, st[0].Held
}

// TestHoldIsRenewed: a handler that runs much longer than a hold lives keeps
// its credits, and the renewing ends with it.
func TestHoldIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		svc, token := bubble(t)
		cfg := upTo(10 * credit)
		cfg.HoldTTL = 10 * time.Second
		mw, err := middleware.New(svc, cfg)
		require.NoError(t, err)
		mw(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			for range 100 {
				time.Sleep(7 * time.Second)
				used, held := state(t, svc, token)
				assert.Equal(t, []quota.Credits{0, 10 * credit}, []quota.Credits{used, held})
			}
			assert.NoError(t, middleware.SetCost(r.Context(), 3*credit))
		})).ServeHTTP(httptest.NewRecorder(), request(t, token))
		assertUsed(t, svc, token, 3*credit)
		time.Sleep(time.Hour)
		synctest.Wait() // nothing of it runs any more, else the bubble would not end
		assertUsed(t, svc, token, 3*credit)
	})
}

// TestHoldThatDied: where the process stood still for longer than the hold
// lived, what was done is charged all the same, once.
func TestHoldThatDied(t *testing.T) {
	h := saccounttest.New(t)
	token := h.Token(saccounttest.Spec{Limits: limit("", 20*credit, quota.Never)})
	s := listen(t, wrap(t, h, upTo(10*credit), func(_ http.ResponseWriter, r *http.Request) {
		h.Advance(time.Hour) // the Service's clock: no timer of this process saw it
		if r.Header.Get("Settle") != "" {
			d, err := middleware.Settle(r.Context(), 3*credit)
			assert.NoError(t, err)
			assert.True(t, d.Allowed)
			_, err = middleware.Settle(r.Context(), 3*credit)
			assert.NoError(t, err)
			return
		}
		assert.NoError(t, middleware.SetCost(r.Context(), 4*credit))
	}))
	assert.Equal(t, 200, get(t, s, token, "Settle", "yes").status)
	requireSpent(t, h, token, 3*credit)
	assert.Equal(t, 200, get(t, s, token).status)
	requireSpent(t, h, token, 7*credit)
}
