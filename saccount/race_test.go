package saccount_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/memstore"
)

func TestALimitAdmitsExactlyWhatItAllows(t *testing.T) {
	for _, c := range []struct{ max, cost, workers, calls int }{
		{1, 1, 1000, 1000}, {500, 10, 20, 100}, {100, 1, 50, 200}, {100, 5, 20, 50}, {5, 1, 50, 50},
	} {
		for _, level := range []string{"key", "account", "org", "two accounts"} {
			t.Run(fmt.Sprintf("%d by %d on %s", c.max, c.cost, level), func(t *testing.T) {
				w := newWorld(t, saccount.Config{})
				l := saccount.Limits{"": saccount.NewLimit(quota.Credits(c.max), monthly)}
				var tokens []string
				for i := range 2 {
					spec := saccount.AccountSpec{Name: fmt.Sprint("Worker ", i)}
					key := saccount.KeySpec{Name: "key"}
					switch level {
					case "key":
						key.Limits = l
					case "account":
						spec.Limits = l
					}
					a, err := w.CreateAccount(t.Context(), by, "acme", spec)
					require.NoError(t, err)
					tok, _, err := w.CreateKey(t.Context(), by, "acme", a.ID, key)
					require.NoError(t, err)
					tokens = append(tokens, tok.Reveal())
				}
				if level != "two accounts" {
					tokens = tokens[:1]
				}
				if level == "org" || level == "two accounts" {
					_, err := w.UpdateOrg(t.Context(), by, "acme", saccount.Update{Limits: l})
					require.NoError(t, err)
				}
				var admitted, spent atomic.Int64
				start := make(chan struct{})
				var wg sync.WaitGroup
				for i := range c.workers {
					p := w.auth(t, tokens[i%len(tokens)])
					wg.Go(func() {
						<-start
						for range max(1, c.calls/c.workers) {
							d, err := w.Charge(context.Background(), p, saccount.Charge{Amount: quota.Credits(c.cost)})
							assert.NoError(t, err)
							if d.Allowed {
								admitted.Add(1)
								spent.Add(int64(c.cost))
							}
						}
					})
				}
				close(start)
				wg.Wait()
				assert.Equal(t, int64(c.max/c.cost), admitted.Load())
				tot, err := w.UsageTotals(t.Context(), "acme", []quota.Subject{quota.NewSubject(quota.KindOrg, "acme")}, w.now.Add(-time.Hour), w.now.Add(time.Hour))
				require.NoError(t, err)
				assert.Equal(t, spent.Load(), int64(tot[0].Credits))
				assert.Equal(t, admitted.Load(), tot[0].Requests)
			})
		}
	}
}

func TestNothingIsServedAfterItWasTakenAway(t *testing.T) {
	take := map[string]func(w *world, a saccount.Account, k saccount.Key) error{
		"disable key": func(w *world, _ saccount.Account, k saccount.Key) error {
			return w.DisableKey(context.Background(), by, "acme", k.ID)
		},
		"delete key": func(w *world, _ saccount.Account, k saccount.Key) error {
			return w.DeleteKey(context.Background(), by, "acme", k.ID)
		},
		"rotate": func(w *world, _ saccount.Account, k saccount.Key) error {
			_, _, err := w.RotateKey(context.Background(), by, "acme", k.ID, 0)
			return err
		},
		"disable account": func(w *world, a saccount.Account, _ saccount.Key) error {
			return w.DisableAccount(context.Background(), by, "acme", a.ID)
		},
		"delete account": func(w *world, a saccount.Account, _ saccount.Key) error {
			return w.DeleteAccount(context.Background(), by, "acme", a.ID)
		},
	}
	for name, fn := range take {
		t.Run(name, func(t *testing.T) {
			for round := range 20 {
				w := newWorld(t, saccount.Config{})
				token, a, k := w.key(t, fmt.Sprint("Worker ", round), nil)
				p := w.auth(t, token)
				var gone atomic.Bool
				var wg sync.WaitGroup
				for range 8 {
					wg.Go(func() {
						for range 500 {
							after := gone.Load() // read before the call: it began after the other returned
							_, err := w.Authenticate(context.Background(), token, netip.Addr{})
							if after && !assert.Error(t, err) {
								return
							}
							after = gone.Load()
							d, err := w.Charge(context.Background(), p, saccount.Charge{Amount: 1})
							if after && !assert.True(t, err != nil && !d.Allowed) {
								return
							}
						}
					})
				}
				require.NoError(t, fn(w, a, k))
				gone.Store(true)
				wg.Wait()
			}
		})
	}
}

// slow is a memory store whose next Lookup of a key stops after it has read,
// as a reading does that another call overtakes.
type slow struct {
	*memstore.Store
	stop         atomic.Bool
	read, resume chan struct{}
}

func (s *slow) Lookup(ctx context.Context, org string, kind saccount.Kind, id string) (saccount.Lineage, error) {
	l, err := s.Store.Lookup(ctx, org, kind, id)
	if kind == saccount.KindKey && s.stop.CompareAndSwap(true, false) {
		s.read <- struct{}{}
		<-s.resume
	}
	return l, err
}

func TestAReadingThatWasOvertakenIsNotKept(t *testing.T) {
	st := &slow{Store: memstore.New(), read: make(chan struct{}), resume: make(chan struct{})}
	svc, err := saccount.New(st, saccount.Config{})
	require.NoError(t, err)
	defer func() { require.NoError(t, svc.Close()) }()
	_, err = svc.CreateOrg(t.Context(), by, saccount.OrgSpec{ID: "acme"})
	require.NoError(t, err)
	a, err := svc.CreateAccount(t.Context(), by, "acme", saccount.AccountSpec{Name: "Worker"})
	require.NoError(t, err)
	for _, known := range []bool{false, true} {
		tok, k, err := svc.CreateKey(t.Context(), by, "acme", a.ID, saccount.KeySpec{Name: fmt.Sprint("key ", known)})
		require.NoError(t, err)
		if known { // the key was seen before: its reading knows the organization
			_, err := svc.Authenticate(t.Context(), tok.Reveal(), netip.Addr{})
			require.NoError(t, err)
			_, err = svc.UpdateKey(t.Context(), by, "acme", k.ID, saccount.Update{Name: ptr("renamed")})
			require.NoError(t, err)
		}
		st.stop.Store(true)
		done := make(chan error)
		go func() { done <- second(svc.Authenticate(context.Background(), tok.Reveal(), netip.Addr{})) }()
		<-st.read // it has read the key as it was
		require.NoError(t, svc.DisableKey(t.Context(), by, "acme", k.ID))
		st.resume <- struct{}{}
		<-done // that call began before: either answer is right
		_, err = svc.Authenticate(t.Context(), tok.Reveal(), netip.Addr{})
		require.ErrorIs(t, err, saccount.ErrUnauthenticated)
	}
}

func TestTheCacheIsBounded(t *testing.T) {
	for _, size := range []int{-1, 64} {
		w := newWorld(t, saccount.Config{CacheSize: size})
		var tokens []string
		for i := range 500 {
			token, _, _ := w.key(t, fmt.Sprint("Worker ", i), nil)
			tokens = append(tokens, token)
		}
		for range 2 {
			for _, token := range tokens {
				p := w.auth(t, token)
				d, err := w.Charge(t.Context(), p, saccount.Charge{Amount: 1})
				require.NoError(t, err)
				require.True(t, d.Allowed)
			}
		}
	}
}

func TestKeysMadeWhileTheirAccountIsDeletedNeverLive(t *testing.T) {
	for round := range 100 {
		w := newWorld(t, saccount.Config{})
		_, a, _ := w.key(t, fmt.Sprint("Worker ", round), nil)
		var tokens sync.Map
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				tok, _, err := w.CreateKey(context.Background(), by, "acme", a.ID, saccount.KeySpec{Name: fmt.Sprint("k", i)})
				if err == nil {
					tokens.Store(tok.Reveal(), true)
					return
				}
				assert.ErrorIs(t, err, saccount.ErrNotFound)
			})
		}
		wg.Go(func() { assert.NoError(t, w.DeleteAccount(context.Background(), by, "acme", a.ID)) })
		wg.Wait()
		tokens.Range(func(token, _ any) bool {
			w.refused(t, token.(string))
			return true
		})
	}
}
