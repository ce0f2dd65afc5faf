package proof

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/internal/pgtest"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/pgstore"
)

// load charges from some workers, each charge with an id that is tried again
// until it is acknowledged, until stop is called.
type load struct {
	acknowledged atomic.Int64
	failed       atomic.Int64
	last         atomic.Int64 // when a charge was acknowledged, in nanoseconds
	end          chan struct{}
	all          sync.WaitGroup
}

func newLoad(t *testing.T, f *fleet, workers int) *load {
	l := &load{end: make(chan struct{})}
	for w := range workers {
		l.all.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("c%d-%d", w, i)
				for {
					_, d, err := f.svc.AuthenticateAndCharge(ctx, f.tokens[w%len(f.tokens)], nil, saccount.Charge{Amount: 1, ID: id})
					if err == nil {
						assert.True(t, d.Allowed)
						l.last.Store(time.Now().UnixNano())
						l.acknowledged.Add(1)
						break
					}
					l.failed.Add(1)
				}
				select {
				case <-l.end:
					return
				default:
				}
			}
		})
	}
	return l
}

// more returns when n more charges were acknowledged.
func (l *load) more(t *testing.T, n int64) {
	t.Helper()
	at := l.acknowledged.Load()
	require.Eventually(t, func() bool { return l.acknowledged.Load() >= at+n }, 2*time.Minute, time.Millisecond)
}

func (l *load) stop() int64 {
	close(l.end)
	l.all.Wait()
	return l.acknowledged.Load()
}

// A standby that is promoted when the primary is killed has every charge that
// was acknowledged, each once, and goes on at once: where the host's address
// leads to it (a proxy, a virtual address), and where the host names both.
func TestPromotion(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name, driver string
		both         bool
	}{
		{"lib pq, an address that moves", "postgres", false},
		{"lib pq, both named", "postgres", true},
		{"pgx, an address that moves", "pgx", false},
		{"pgx, both named", "pgx", true},
	}[:count(t, "KEYPURSE_PROMOTIONS", 2)] {
		t.Run(x.name, func(t *testing.T) {
			primary, err := pgtest.Start(pgtest.Config{})
			pgtest.Need(t, err)
			t.Cleanup(func() { require.NoError(t, primary.Stop()) })
			standby, err := primary.Standby(pgtest.Config{})
			pgtest.Need(t, err)
			t.Cleanup(func() { require.NoError(t, standby.Stop()) })
			proxy := throughProxy(t, primary.Host())
			dsn := proxy.DSN()
			if x.both {
				dsn = strings.ReplaceAll(primary.DSN(), primary.Host(), primary.Host()+","+standby.Host()) + " target_session_attrs=read-write"
			}
			db := open(t, x.driver, dsn)
			f := newFleet(t, store(t, db, pgstore.Config{Timeout: patient}))
			l := newLoad(t, f, 8)
			l.more(t, 200)
			require.NoError(t, primary.Kill())
			proxy.Target(standby.Host())
			require.NoError(t, standby.Promote())
			begin := time.Now()
			l.more(t, 1)
			first := time.Since(begin)
			l.more(t, 200)
			acknowledged := l.stop()
			f.sums(t, store(t, open(t, "postgres", standby.DSN()), pgstore.Config{Timeout: patient}), acknowledged)
			t.Logf("%d charges; the first %v after the standby took writes", acknowledged, first.Round(time.Millisecond))
			assert.Less(t, first, 30*time.Second)
		})
	}
}

// A commit that waits for a standby which does not answer is not cut short when
// its caller has gone: until the standby has it, nobody is told that it was done,
// also who asks again by its id.
func TestStandbyThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	primary, err := pgtest.Start(pgtest.Config{})
	pgtest.Need(t, err)
	t.Cleanup(func() { require.NoError(t, primary.Stop()) })
	standby, err := primary.Standby(pgtest.Config{})
	pgtest.Need(t, err)
	t.Cleanup(func() { require.NoError(t, standby.Stop()) })
	for _, w := range []way{direct[0], direct[2]} {
		t.Run(w.name, func(t *testing.T) {
			cfg := pgstore.Config{Schema: "s" + w.driver, Timeout: patient}
			checked := store(t, open(t, "postgres", primary.DSN()), cfg)
			require.NoError(t, checked.Apply(ctx, []*quota.Op{charge("acme", "")}))
			cfg.Timeout = 2 * time.Second
			one, other := store(t, open(t, w.driver, primary.DSN()), cfg), store(t, open(t, w.driver, primary.DSN()), cfg)
			require.NoError(t, one.Apply(ctx, []*quota.Op{charge("acme", "")}))
			require.NoError(t, standby.Signal(syscall.SIGSTOP, true))
			for _, s := range []*pgstore.Store{one, other, one} {
				require.ErrorIs(t, s.Apply(ctx, []*quota.Op{charge("acme", "it")}), context.DeadlineExceeded)
			}
			require.NoError(t, standby.Signal(syscall.SIGCONT, true))
			op := charge("acme", "it")
			require.NoError(t, checked.Apply(ctx, []*quota.Op{op}))
			credits, requests := usageOf(t, checked, "acme")
			assert.Equal(t, quota.Credits(3), credits)
			assert.Equal(t, int64(3), requests)
		})
	}
}
