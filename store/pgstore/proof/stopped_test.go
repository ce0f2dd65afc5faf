package proof

import (
	"context"
	"net/netip"
	"runtime"
	"sync"
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

// A server that stops, as a machine does whose disk or network hangs, keeps no
// call beyond its deadline or the Store's Timeout; what they left behind is
// bounded by the pool while it lasts and gone after it, and no charge is lost.
func TestStoppedServer(t *testing.T) {
	for _, w := range []way{direct[0], direct[2]} {
		t.Run(w.name, func(t *testing.T) {
			server, err := pgtest.Start(pgtest.Config{})
			pgtest.Need(t, err)
			t.Cleanup(func() { require.NoError(t, server.Stop()) })
			cfg := w.config("keypurse")
			db := open(t, w.driver, server.DSN()+w.dsn)
			require.NoError(t, pgstore.Migrate(ctx, db, cfg))
			cfg.Timeout = 2 * time.Second
			s := store(t, db, cfg)
			f := newFleet(t, s)
			l := newLoad(t, f, 4)
			l.more(t, 100)
			acknowledged := l.stop()
			p, err := f.svc.Authenticate(ctx, f.tokens[0], netip.Addr{})
			require.NoError(t, err)
			before := runtime.NumGoroutine()

			require.NoError(t, server.Signal(syscall.SIGSTOP, true))
			stopped := time.Now()
			var most int
			var mu sync.Mutex
			var unknown int64
			var wg sync.WaitGroup
			for worker := range 16 {
				wg.Go(func() {
					for time.Since(stopped) < time.Duration(count(t, "KEYPURSE_STOPPED_SECONDS", 3))*time.Second {
						within := cfg.Timeout
						own, cancel := ctx, context.CancelFunc(func() {})
						if worker%2 == 0 {
							within = 200 * time.Millisecond
							own, cancel = context.WithTimeout(ctx, within)
						}
						begin := time.Now()
						var err error
						switch worker % 3 {
						case 0:
							_, err = f.svc.Charge(own, p, saccount.Charge{Amount: 1})
							mu.Lock()
							unknown++
							mu.Unlock()
						case 1:
							_, err = s.Peek(own, "acme", []*quota.Level{levelOf("acme")}, noon)
						default:
							_, err = s.Lookup(own, "acme", saccount.KindOrg, "acme")
						}
						took := time.Since(begin)
						cancel()
						assert.ErrorIs(t, err, context.DeadlineExceeded)
						assert.Less(t, took, within+patientBeside, "a call outlasts its deadline")
						mu.Lock()
						most = max(most, runtime.NumGoroutine())
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			require.NoError(t, server.Signal(syscall.SIGCONT, true))
			require.Eventually(t, func() bool {
				_, err := f.svc.Charge(ctx, p, saccount.Charge{Amount: 1})
				mu.Lock()
				defer mu.Unlock()
				unknown++
				return err == nil
			}, 30*time.Second, 10*time.Millisecond)
			after := fewer(before, 30*time.Second)
			if !assert.LessOrEqual(t, after, before, "goroutines are left behind") {
				all := make([]byte, 1<<20)
				t.Logf("%s", all[:runtime.Stack(all, true)])
			}
			assert.Less(t, most, before+90, "what is left behind is bounded")
			credits, _ := usageOf(t, s, "acme")
			assert.GreaterOrEqual(t, credits, quota.Credits(acknowledged+1), "nothing is lost")
			assert.LessOrEqual(t, credits, quota.Credits(acknowledged+unknown))
			t.Logf("%d goroutines before, %d at most while the server was stopped, %d after", before, most, after)
		})
	}
}

// patientBeside is what a call may take longer than its deadline on a machine
// that is busy with other tests.
const patientBeside = 3 * time.Second

// fewer waits until there are at most n goroutines, and says how many there
// are.
func fewer(n int, patience time.Duration) int {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		if now := runtime.NumGoroutine(); now <= n || time.Now().After(end) {
			return now
		}
	}
}
