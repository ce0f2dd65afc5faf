package saccount_test

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/internal/pgtest"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store"
	"github.com/keypurse/keypurse/store/boltstore"
	"github.com/keypurse/keypurse/store/memstore"
	"github.com/keypurse/keypurse/store/pgstore"
)

// inbox is a sink that keeps what it is sent.
type inbox struct {
	mu  sync.Mutex
	got []alert.Alert
	all atomic.Int64
}

func (b *inbox) Send(_ context.Context, a alert.Alert) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got = append(b.got, a)
	b.all.Add(1)
	return nil
}

// count is how often each came, by what it says.
func (b *inbox) count() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := map[string]int{}
	for i := range b.got {
		a := &b.got[i]
		what := string(a.Kind)
		if a.Threshold != nil {
			what = a.Threshold.String()
		}
		n[fmt.Sprintf("%s %s %s", a.Subject.Kind(), a.Limit, what)]++
	}
	return n
}

// onEach runs a test on every backend.
func onEach(t *testing.T, test func(t *testing.T, st store.Store)) {
	t.Run("memstore", func(t *testing.T) {
		st := memstore.New()
		defer st.Close()
		test(t, st)
	})
	t.Run("boltstore", func(t *testing.T) {
		st, err := boltstore.Open(filepath.Join(t.TempDir(), "s.db"), boltstore.Config{})
		require.NoError(t, err)
		defer func() { require.NoError(t, st.Close()) }()
		test(t, st)
	})
	t.Run("pgstore", func(t *testing.T) {
		dsn, schema := pgtest.Schema(t)
		st, err := pgstore.Open(context.Background(), dsn, pgstore.Config{Schema: schema, Timeout: time.Minute})
		require.NoError(t, err)
		defer func() { require.NoError(t, st.Close()) }()
		test(t, st)
	})
}

// 100,000 concurrent charges across every threshold of four limits: each alert
// is in the outbox once, and each sink gets it once.
func TestAlertsOfManyCharges(t *testing.T) {
	onEach(t, func(t *testing.T, st store.Store) {
		const charges, workers = 100_000, 500
		var box inbox
		svc, err := saccount.New(st, saccount.Config{Alerts: saccount.Alerts{
			Poll:  10 * time.Millisecond,
			Sinks: []alert.Route{{Name: "box", Sink: &box}, {Name: "keys", Sink: alert.Func(func(context.Context, alert.Alert) error { return nil }), Filter: alert.Filter{Subjects: []quota.Subject{"key:"}}}},
		}})
		require.NoError(t, err)
		defer svc.Close()
		ctx := context.Background()
		month := quota.Period{Unit: quota.Month}
		_, err = svc.CreateOrg(ctx, "test", saccount.OrgSpec{ID: "acme", Limits: saccount.Limits{"": saccount.NewLimit(charges, month)}})
		require.NoError(t, err)
		acc, err := svc.CreateAccount(ctx, "test", "acme", saccount.AccountSpec{Name: "Worker", Limits: saccount.Limits{"day": saccount.NewLimit(charges, month), "ever": saccount.NewLimit(2*charges, quota.Period{})}})
		require.NoError(t, err)
		token, key, err := svc.CreateKey(ctx, "test", "acme", acc.ID, saccount.KeySpec{Name: "Backend", Limits: saccount.Limits{"": saccount.NewLimit(charges, month)}})
		require.NoError(t, err)
		watching, stop := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() { assert.NoError(t, svc.Watch(watching)) })
		wg.Go(func() { assert.NoError(t, svc.Watch(watching)) }) // as a second process would
		var chargers sync.WaitGroup
		var admitted atomic.Int64
		for range workers {
			chargers.Go(func() {
				p, err := svc.Authenticate(ctx, token.Reveal(), netip.Addr{})
				if !assert.NoError(t, err) {
					return
				}
				for range charges/workers + 1 {
					d, err := svc.Charge(ctx, p, saccount.Charge{Amount: 1})
					if !assert.NoError(t, err) {
						return
					}
					if d.Allowed {
						admitted.Add(1)
					}
				}
			})
		}
		chargers.Wait()
		stop()
		wg.Wait()
		require.NoError(t, svc.DeliverAlerts(ctx))
		require.EqualValues(t, charges, admitted.Load())
		want := map[string]int{"account ever 50%": 1}
		for _, x := range []string{"org credits", "account day", "key credits"} {
			for _, th := range []string{"50%", "80%", "100%"} {
				want[x+" "+th] = 1
			}
		}
		assert.Equal(t, want, box.count())
		assert.Len(t, box.got, 10)
		sent, err := st.Deliveries(ctx, alert.Query{State: alert.Delivered, N: 100})
		require.NoError(t, err)
		assert.Len(t, sent, 13)
		for _, a := range box.got {
			if a.Subject.Kind() == quota.KindKey && *a.Threshold == 80 {
				assert.Equal(t, quota.NewSubject("key", key.ID), a.Subject)
				assert.Contains(t, a.Text, "Key “Backend” has spent 0.08 credits, 80% or more of its limit of 0.1 credits, which resets on 1 ")
			}
		}
	})
}

// Watch drops what is over without being asked: ids that are no longer
// remembered, alerts that are older than these, with their deliveries. What was
// spent stays, in the window and in the usage.
func TestWatchDropsWhatIsOver(t *testing.T) {
	onEach(t, func(t *testing.T, st store.Store) {
		var at atomic.Int64 // days
		var box inbox
		cfg := saccount.Config{
			Now:    func() time.Time { return crashStart.Add(time.Duration(at.Load()) * 24 * time.Hour) },
			Alerts: saccount.Alerts{Poll: time.Millisecond, Sinks: []alert.Route{{Name: "box", Sink: &box}}},
		}
		svc, err := saccount.New(st, cfg)
		require.NoError(t, err)
		defer svc.Close()
		ctx := t.Context()
		_, err = svc.CreateOrg(ctx, "test", saccount.OrgSpec{ID: "acme", Limits: saccount.Limits{"": saccount.NewLimit(100, quota.Period{})}})
		require.NoError(t, err)
		acc, err := svc.CreateAccount(ctx, "test", "acme", saccount.AccountSpec{Name: "Worker"})
		require.NoError(t, err)
		token, _, err := svc.CreateKey(ctx, "test", "acme", acc.ID, saccount.KeySpec{Name: "Backend"})
		require.NoError(t, err)
		spend := func(id string, amount quota.Credits) {
			_, d, err := svc.AuthenticateAndCharge(ctx, token.Reveal(), nil, saccount.Charge{ID: id, Amount: amount})
			require.NoError(t, err)
			require.True(t, d.Allowed)
		}
		spend("old", 50)
		require.NoError(t, svc.DeliverAlerts(ctx))
		at.Store(int64((quota.DefaultKeep+quota.MaxTTL)/(24*time.Hour)) + 1)
		spend("new", 30)
		watching, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- svc.Watch(watching) }()
		require.Eventually(t, func() bool { // the one of 80 percent alone
			got, err := st.Outbox(ctx, 0, 100)
			return assert.NoError(t, err) && len(got) == 1 && box.all.Load() == 2
		}, time.Minute, 5*time.Millisecond)
		require.Eventually(t, func() bool { // whoever sweeps behind it finds nothing
			dropped, err := svc.Sweep(ctx, 0)
			return assert.NoError(t, err) && assert.Zero(t, dropped)
		}, time.Minute, 5*time.Millisecond)
		stop()
		require.NoError(t, <-ended)
		sent, err := st.Deliveries(ctx, alert.Query{N: 100})
		require.NoError(t, err)
		assert.Len(t, sent, 1)
		status, err := svc.StatusOf(ctx, "acme", saccount.KindOrg, "acme")
		require.NoError(t, err)
		assert.EqualValues(t, 80, status[0].Used)
		total, err := svc.UsageTotals(ctx, "acme", []quota.Subject{"org:acme"}, crashStart.Add(-time.Hour), crashStart.AddDate(1, 0, 0))
		require.NoError(t, err)
		assert.EqualValues(t, 80, total[0].Credits)
		spend("new", 30)
		status, err = svc.StatusOf(ctx, "acme", saccount.KindOrg, "acme")
		require.NoError(t, err)
		assert.EqualValues(t, 80, status[0].Used, "an id that is remembered charges nothing")
	})
}
