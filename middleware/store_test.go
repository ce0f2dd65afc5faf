package middleware_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/middleware"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/memstore"
)

// trouble is what is wrong with a store at the moment.
type trouble int32

const (
	well      trouble = iota
	away              // nothing is done
	lostReply         // it is done, and the answer does not arrive
	corrupt
)

var errAway = errors.New("dial tcp 10.9.8.7: connection refused")

// sick is a real store behind a bad line.
type sick struct {
	saccount.Store
	now  atomic.Int32
	left atomic.Int32 // how many more calls go wrong; negative: all
	verb atomic.Int32 // of the operations that go wrong; 0: all
}

func (s *sick) fall(t trouble, calls int32) {
	s.left.Store(calls)
	s.now.Store(int32(t))
}

func (s *sick) wrong() trouble {
	t := trouble(s.now.Load())
	if t == well || s.left.Load() == 0 {
		return well
	}
	s.left.Add(-1)
	return t
}

func (s *sick) Apply(ctx context.Context, ops []*quota.Op) error {
	if v := quota.Verb(s.verb.Load()); v != 0 && !slices.ContainsFunc(ops, func(o *quota.Op) bool { return o.Verb == v }) {
		return s.Store.Apply(ctx, ops)
	}
	switch s.wrong() {
	case away:
		return errAway
	case lostReply:
		if err := s.Store.Apply(ctx, ops); err != nil {
			return err
		}
		return errAway
	case corrupt:
		for _, o := range ops {
			o.Result = quota.Result{Outcome: quota.Failed, Err: quota.ErrCorrupt}
		}
		return nil
	}
	return s.Store.Apply(ctx, ops)
}

func (s *sick) Lookup(ctx context.Context, org string, kind saccount.Kind, id string) (saccount.Lineage, error) {
	if s.wrong() != well {
		return saccount.Lineage{}, errAway
	}
	return s.Store.Lookup(ctx, org, kind, id)
}

func sickService(t *testing.T, cfg saccount.Config) (*sick, *saccount.Service, string) {
	t.Helper()
	st := &sick{Store: memstore.New()}
	cfg.Now = time.Now
	svc, err := saccount.New(st, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { st.fall(well, 0); assert.NoError(t, svc.Close()) })
	ctx := t.Context()
	_, err = svc.CreateOrg(ctx, "test", saccount.OrgSpec{ID: "acme", Name: "Acme"})
	require.NoError(t, err)
	a, err := svc.CreateAccount(ctx, "test", "acme", saccount.AccountSpec{Name: "Worker", Limits: limit("", 20*credit, quota.Never)})
	require.NoError(t, err)
	token, _, err := svc.CreateKey(ctx, "test", "acme", a.ID, saccount.KeySpec{Name: "Backend"})
	require.NoError(t, err)
	_, err = svc.Authenticate(ctx, token.Reveal(), netip.Addr{})
	require.NoError(t, err)
	return st, svc, token.Reveal()
}

// TestStoreAway: 503 and nothing else, unless the host says otherwise.
func TestStoreAway(t *testing.T) {
	for _, c := range []struct {
		name    string
		trouble trouble
		cfg     middleware.Config
		uncache bool
		status  int
		used    quota.Credits // when all is well again
	}{
		{"away", away, middleware.Config{Cost: middleware.Fixed(credit)}, false, 503, 0},
		{"away, computed", away, cost(credit, nil), false, 503, 0},
		{"away, up to", away, upTo(credit), false, 503, 0},
		{"away, nobody known", away, middleware.Config{Cost: middleware.Fixed(credit)}, true, 503, 0},
		{"away, nobody known, open", away, middleware.Config{Cost: middleware.Fixed(credit), FailOpen: true}, true, 503, 0},
		{"corrupt, open", corrupt, middleware.Config{Cost: middleware.Fixed(credit), FailOpen: true}, false, 503, 0},
		{"corrupt, up to, open", corrupt, middleware.Config{Cost: upTo(credit).Cost, FailOpen: true}, false, 503, 0},
		// What may have been charged is not charged again without an id.
		{"away, open", away, middleware.Config{Cost: middleware.Fixed(credit), FailOpen: true}, false, 200, 0},
		{"lost reply, open", lostReply, middleware.Config{Cost: middleware.Fixed(credit), FailOpen: true}, false, 200, credit},
		{"away, with an id, open", away, middleware.Config{Cost: middleware.Fixed(credit), FailOpen: true, IdempotencyHeader: idem}, false, 200, credit},
		{"lost reply, with an id, open", lostReply, middleware.Config{Cost: middleware.Fixed(credit), FailOpen: true, IdempotencyHeader: idem}, false, 200, credit},
		{"away, up to, open", away, middleware.Config{Cost: upTo(5 * credit).Cost, FailOpen: true}, false, 200, 2 * credit},
		{"lost reply, up to, open", lostReply, middleware.Config{Cost: upTo(5 * credit).Cost, FailOpen: true}, false, 200, 2 * credit},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				size := 0
				if c.uncache {
					size = -1
				}
				st, svc, token := sickService(t, saccount.Config{CacheSize: size})
				var log bytes.Buffer
				c.cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
				mw, err := middleware.New(svc, c.cfg)
				require.NoError(t, err)
				h := mw(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					st.fall(well, 0)
					if err := middleware.SetCost(r.Context(), 2*credit); err != nil {
						assert.ErrorIs(t, err, middleware.ErrNoHold)
					}
				}))
				r := request(t, token)
				r.Header.Set(idem, "one")
				w := httptest.NewRecorder()
				st.fall(c.trouble, -1)
				h.ServeHTTP(w, r)
				assert.Equal(t, c.status, w.Code)
				if c.status == 503 {
					assert.Equal(t, "1", w.Header().Get("Retry-After"))
					assert.Empty(t, w.Header().Get("WWW-Authenticate"))
					assert.NotContains(t, w.Body.String(), "10.9.8.7")
				} else {
					assert.Contains(t, log.String(), "let through")
				}
				assert.NotContains(t, log.String(), token)
				st.fall(well, 0)
				used, held := state(t, svc, token)
				assert.Equal(t, c.used, used)
				assert.Zero(t, held)
			})
		})
	}
}

// TestSettlementOutlivesTrouble: a store that is away for a moment when a
// request ends is asked again, and what it did already it does not do twice.
func TestSettlementOutlivesTrouble(t *testing.T) {
	for name, tr := range map[string]trouble{"away": away, "lost reply": lostReply} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st, svc, token := sickService(t, saccount.Config{})
				mw, err := middleware.New(svc, upTo(5*credit))
				require.NoError(t, err)
				mw(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					st.fall(tr, 4)
					d, err := middleware.Settle(r.Context(), 2*credit)
					assert.NoError(t, err)
					assert.True(t, d.Allowed)
				})).ServeHTTP(httptest.NewRecorder(), request(t, token))
				mw(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					assert.NoError(t, middleware.SetCost(r.Context(), 3*credit))
					st.fall(tr, 4)
				})).ServeHTTP(httptest.NewRecorder(), request(t, token))
				assertUsed(t, svc, token, 5*credit)
			})
		})
	}
}

// TestSettlementIsBounded: a store that stays away holds nobody up for long,
// is told to the log, and the hold ends with its time to live.
func TestSettlementIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, svc, token := sickService(t, saccount.Config{})
		var log bytes.Buffer
		cfg := upTo(5 * credit)
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		mw, err := middleware.New(svc, cfg)
		require.NoError(t, err)
		var ctx context.Context
		begin := time.Now()
		mw(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			ctx = r.Context()
			st.fall(away, -1)
			_, err := middleware.Settle(r.Context(), 2*credit)
			assert.ErrorIs(t, err, quota.ErrUnknownOutcome)
			assert.Equal(t, 503, middleware.Status(err))
		})).ServeHTTP(httptest.NewRecorder(), request(t, token))
		assert.LessOrEqual(t, time.Since(begin), 12*time.Second)
		assert.Contains(t, log.String(), "could not be charged")
		assert.NotContains(t, log.String(), token)
		st.fall(well, 0)
		_, err = middleware.Settle(ctx, 2*credit)
		assert.ErrorIs(t, err, middleware.ErrSettled, "nobody waits for it any more")
		time.Sleep(middleware.DefaultHoldTTL)
		assertUsed(t, svc, token, 0)
	})
}

// TestLateChargeIsOne: work whose hold died is charged once, also where the
// handler's own settlement got no reply.
func TestLateChargeIsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, svc, token := sickService(t, saccount.Config{})
		mw, err := middleware.New(svc, upTo(5*credit))
		require.NoError(t, err)
		mw(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			st.fall(away, -1)
			time.Sleep(2 * middleware.DefaultHoldTTL) // nothing is renewed
			st.verb.Store(int32(quota.VerbCharge))
			st.fall(lostReply, -1)
			_, err := middleware.Settle(r.Context(), 2*credit)
			assert.ErrorIs(t, err, quota.ErrUnknownOutcome)
			st.fall(well, 0)
		})).ServeHTTP(httptest.NewRecorder(), request(t, token))
		assertUsed(t, svc, token, 2*credit)
	})
}

// TestOpenAndStillAway: what could not be charged in the end is in the log.
func TestOpenAndStillAway(t *testing.T) {
	for name, cfg := range map[string]middleware.Config{
		"fixed": {Cost: middleware.Fixed(credit), IdempotencyHeader: idem}, "up to": upTo(credit),
	} {
		synctest.Test(t, func(t *testing.T) {
			st, svc, token := sickService(t, saccount.Config{})
			var log bytes.Buffer
			cfg.Logger, cfg.FailOpen = slog.New(slog.NewTextHandler(&log, nil)), true
			mw, err := middleware.New(svc, cfg)
			require.NoError(t, err)
			r := request(t, token)
			r.Header.Set(idem, "one")
			w := httptest.NewRecorder()
			st.fall(away, -1)
			begin := time.Now()
			mw(ok).ServeHTTP(w, r)
			assert.Equal(t, 200, w.Code)
			assert.Contains(t, log.String(), "could not be charged", name)
			assert.LessOrEqual(t, time.Since(begin), 2*time.Second, "an answer does not wait for a store that is known to be away")
		})
	}
}

// TestClosed: a service that shuts down answers 503.
func TestClosed(t *testing.T) {
	_, svc, token := sickService(t, saccount.Config{})
	require.NoError(t, svc.Close())
	for _, open := range []bool{false, true} {
		for _, cfg := range []middleware.Config{{}, {Cost: middleware.Fixed(1)}, upTo(1)} {
			cfg.FailOpen = open
			mw, err := middleware.New(svc, cfg)
			require.NoError(t, err)
			w := httptest.NewRecorder()
			mw(ok).ServeHTTP(w, request(t, token))
			assert.Equal(t, 503, w.Code)
		}
	}
}
