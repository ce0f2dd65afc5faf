package saccount_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/memstore"
)

// common is a memstore that several Services share as processes share a
// database: it numbers its Writes, and may not answer.
type common struct {
	*memstore.Store
	mu      sync.Mutex
	number  int64
	last    map[string]int64
	away    atomic.Bool
	lookups atomic.Int64
}

var errAway = errors.New("the server is away")

func (s *common) Write(ctx context.Context, b saccount.Batch) error {
	err := s.Store.Write(ctx, b)
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.number++
		s.last[b.Org] = s.number
	}
	return err
}

func (s *common) Lookup(ctx context.Context, org string, kind saccount.Kind, id string) (saccount.Lineage, error) {
	s.lookups.Add(1)
	return s.Store.Lookup(ctx, org, kind, id)
}

func (s *common) Changes(_ context.Context, after int64) (last int64, orgs []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away.Load() {
		return 0, nil, errAway
	}
	for o, n := range s.last {
		if after > 0 && n > after {
			orgs = append(orgs, o)
		}
	}
	return s.number, orgs, nil
}

// twoProcesses are two Services on one store, with a key that both know.
func twoProcesses(t *testing.T) (st *common, one, other *saccount.Service, token, key string) {
	t.Helper()
	st = &common{Store: memstore.New(), last: map[string]int64{}}
	open := func() *saccount.Service {
		svc, err := saccount.New(st, saccount.Config{})
		require.NoError(t, err)
		return svc
	}
	one, other = open(), open()
	ctx := t.Context()
	_, err := one.CreateOrg(ctx, "test", saccount.OrgSpec{ID: "acme"})
	require.NoError(t, err)
	a, err := one.CreateAccount(ctx, "test", "acme", saccount.AccountSpec{Name: "Worker"})
	require.NoError(t, err)
	tok, k, err := one.CreateKey(ctx, "test", "acme", a.ID, saccount.KeySpec{Name: "Backend"})
	require.NoError(t, err)
	for _, svc := range []*saccount.Service{one, other} {
		_, err = svc.Authenticate(ctx, tok.Reveal(), netip.Addr{})
		require.NoError(t, err)
	}
	time.Sleep(saccount.PollInterval) // of the bubble's time: both have their first answer
	synctest.Wait()
	for _, svc := range []*saccount.Service{one, other} {
		_, err = svc.Authenticate(ctx, tok.Reveal(), netip.Addr{}) // known for good
		require.NoError(t, err)
	}
	return st, one, other, tok.Reveal(), k.ID
}

// What one process does to a key reaches the others with the next poll.
func TestOthersHearOfChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, one, other, token, key := twoProcesses(t)
		ctx := t.Context()
		knows := func(want error) {
			t.Helper()
			time.Sleep(saccount.PollInterval)
			synctest.Wait()
			_, err := other.Authenticate(ctx, token, netip.Addr{})
			require.ErrorIs(t, err, want)
		}
		require.NoError(t, one.DisableKey(ctx, "test", "acme", key))
		knows(saccount.ErrUnauthenticated)
		require.NoError(t, one.EnableKey(ctx, "test", "acme", key))
		knows(nil)
		require.NoError(t, one.DeleteKey(ctx, "test", "acme", key))
		knows(saccount.ErrUnauthenticated)
		before := st.lookups.Load()
		_, err := one.Authenticate(ctx, token, netip.Addr{})
		require.ErrorIs(t, err, saccount.ErrUnauthenticated)
		assert.LessOrEqual(t, st.lookups.Load()-before, int64(1))
		require.NoError(t, one.Close())
		require.NoError(t, other.Close())
	})
}

// A key that is known costs no read while the store answers, and one read a
// request while it cannot be asked what changed: nobody trusts memory blindly.
func TestBlindProcessReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, one, other, token, key := twoProcesses(t)
		ctx := t.Context()
		reads := func(n int64) {
			t.Helper()
			before := st.lookups.Load()
			for range 10 {
				_, err := other.Authenticate(ctx, token, netip.Addr{})
				require.NoError(t, err)
			}
			assert.Equal(t, n, st.lookups.Load()-before)
		}
		reads(0)
		st.away.Store(true)
		reads(0)
		time.Sleep(saccount.BlindAfter + saccount.PollInterval)
		synctest.Wait()
		reads(10)
		st.away.Store(false)
		time.Sleep(saccount.PollInterval)
		synctest.Wait()
		reads(0)

		// A change that was made meanwhile is seen at once by who is blind.
		st.away.Store(true)
		time.Sleep(saccount.BlindAfter + saccount.PollInterval)
		synctest.Wait()
		require.NoError(t, one.DisableKey(ctx, "test", "acme", key))
		_, err := other.Authenticate(ctx, token, netip.Addr{})
		require.ErrorIs(t, err, saccount.ErrUnauthenticated)
		require.NoError(t, one.Close())
		require.NoError(t, other.Close())
	})
}

// Without keys in memory nobody asks, and every change holds at once.
func TestNoCacheNoPoll(t *testing.T) {
	st := &common{Store: memstore.New(), last: map[string]int64{}}
	svc, err := saccount.New(st, saccount.Config{CacheSize: -1})
	require.NoError(t, err)
	defer svc.Close()
	ctx := t.Context()
	_, err = svc.CreateOrg(ctx, "test", saccount.OrgSpec{ID: "acme"})
	require.NoError(t, err)
	a, err := svc.CreateAccount(ctx, "test", "acme", saccount.AccountSpec{Name: "Worker"})
	require.NoError(t, err)
	tok, _, err := svc.CreateKey(ctx, "test", "acme", a.ID, saccount.KeySpec{Name: "Backend"})
	require.NoError(t, err)
	before := st.lookups.Load()
	for range 5 {
		_, err = svc.Authenticate(ctx, tok.Reveal(), netip.Addr{})
		require.NoError(t, err)
	}
	assert.Equal(t, int64(5), st.lookups.Load()-before)
}

// An operator hears once that a process went blind, and once that it sees again.
func TestBlindnessIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		store := &common{Store: memstore.New(), last: map[string]int64{}}
		svc, err := saccount.New(store, saccount.Config{Logger: slog.New(slog.NewTextHandler(&out, nil))})
		require.NoError(t, err)
		_, err = svc.CreateOrg(t.Context(), by, saccount.OrgSpec{ID: "acme", Name: "Acme"})
		require.NoError(t, err)
		_, _ = svc.Authenticate(t.Context(), "sa_", netip.Addr{})
		a, err := svc.CreateAccount(t.Context(), by, "acme", saccount.AccountSpec{Name: "Worker"})
		require.NoError(t, err)
		token, _, err := svc.CreateKey(t.Context(), by, "acme", a.ID, saccount.KeySpec{Name: "production"})
		require.NoError(t, err)
		_, err = svc.Authenticate(t.Context(), token.Reveal(), netip.Addr{})
		require.NoError(t, err)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		assert.Empty(t, out.String())
		store.away.Store(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Equal(t, 1, strings.Count(out.String(), "\n"), out.String())
		assert.Contains(t, out.String(), "level=WARN")
		assert.Contains(t, out.String(), errAway.Error())
		out.Reset()
		store.away.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Equal(t, 1, strings.Count(out.String(), "\n"), out.String())
		assert.Contains(t, out.String(), "level=INFO")
		require.NoError(t, svc.Close())
	})
}
