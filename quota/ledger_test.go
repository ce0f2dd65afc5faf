package quota_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/store/memstore"
	"github.com/keypurse/keypurse/usage"
)

var noon = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)

// gated is a memory store that is not Direct, so that the Ledger gathers, and
// whose Apply waits for a token: the commit that the next batch gathers behind.
type gated struct {
	quota.Store
	gate    chan struct{}
	batches [][]*quota.Op
	fail    error
	mu      sync.Mutex
}

func newGated() *gated { return &gated{Store: memstore.New(), gate: make(chan struct{})} }

func (g *gated) Apply(ctx context.Context, ops []*quota.Op) error {
	g.mu.Lock()
	g.batches = append(g.batches, append([]*quota.Op(nil), ops...))
	fail := g.fail
	g.mu.Unlock()
	<-g.gate
	if fail != nil {
		return fail
	}
	return g.Store.Apply(ctx, ops)
}

func (g *gated) sizes() (n []int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, b := range g.batches {
		n = append(n, len(b))
	}
	return n
}

func chain(t testing.TB, max quota.Credits) quota.Chain {
	t.Helper()
	purse := func(s quota.Subject) *quota.Purse {
		p, err := quota.NewPurse(s, 1, []quota.Limit{{Name: "credits", Max: max, Number: 1, Period: quota.Period{Unit: quota.Day}}}, quota.DefaultThresholds())
		require.NoError(t, err)
		return p
	}
	return quota.Chain{Org: "acme", Caller: "key:k", Purses: []*quota.Purse{purse("key:k"), purse("account:a"), purse("org:acme")}}
}

func newLedger(t testing.TB, s quota.Store, cfg quota.LedgerConfig) *quota.Ledger {
	t.Helper()
	l, err := quota.NewLedger(s, cfg)
	require.NoError(t, err)
	return l
}

func TestCallersGatherWhileACommitIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated()
		l := newLedger(t, g, quota.LedgerConfig{})
		src := chain(t, 60)
		var allowed atomic.Int64
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				d, err := l.Charge(t.Context(), src, quota.Charge{Amount: 1, At: noon})
				assert.NoError(t, err)
				if d.Allowed {
					allowed.Add(1)
				}
			})
		}
		synctest.Wait()
		assert.Equal(t, []int{1}, g.sizes(), "a lone caller waits for nobody")
		g.gate <- struct{}{}
		synctest.Wait()
		assert.Equal(t, []int{1, 99}, g.sizes(), "the others share one commit")
		g.gate <- struct{}{}
		wg.Wait()
		assert.Equal(t, int64(60), allowed.Load())
		close(g.gate)
		require.NoError(t, l.Close())
		require.NoError(t, l.Close())
		_, err := l.Charge(t.Context(), src, quota.Charge{Amount: 1, At: noon})
		require.ErrorIs(t, err, quota.ErrClosed)
	})
}

func TestACallerWhoLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated()
		l := newLedger(t, g, quota.LedgerConfig{})
		src := chain(t, 10)
		ctx, leave := context.WithCancel(t.Context())
		var first, waiting error
		var wg sync.WaitGroup
		wg.Go(func() { _, first = l.Charge(t.Context(), src, quota.Charge{Amount: 1, At: noon}) })
		synctest.Wait()
		wg.Go(func() { _, waiting = l.Charge(ctx, src, quota.Charge{Amount: 1, At: noon}) })
		synctest.Wait()
		leave()
		synctest.Wait()
		close(g.gate)
		wg.Wait()
		require.NoError(t, first)
		require.ErrorIs(t, waiting, context.Canceled)
		require.NotErrorIs(t, waiting, quota.ErrUnknownOutcome, "its batch had not been taken: nothing was charged")
		st, err := l.Status(t.Context(), src, noon)
		require.NoError(t, err)
		assert.Equal(t, quota.Credits(1), st[0].Used)
		_, err = l.Charge(ctx, src, quota.Charge{Amount: 1, At: noon})
		require.ErrorIs(t, err, context.Canceled)
		require.NoError(t, l.Close())
	})
}

func TestACallerWhoLeavesTooLateLearnsTheOutcomeByItsID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated()
		l := newLedger(t, g, quota.LedgerConfig{})
		src := chain(t, 10)
		ctx, leave := context.WithCancel(t.Context())
		var late error
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = l.Charge(t.Context(), src, quota.Charge{Amount: 1, At: noon}) })
		synctest.Wait()
		wg.Go(func() { _, late = l.Charge(ctx, src, quota.Charge{ID: "x", Amount: 1, At: noon}) })
		synctest.Wait()
		g.gate <- struct{}{} // the second batch is taken and waits in Apply
		synctest.Wait()
		leave()
		synctest.Wait()
		require.ErrorIs(t, late, quota.ErrUnknownOutcome)
		close(g.gate)
		wg.Wait()
		d, err := l.Charge(t.Context(), src, quota.Charge{ID: "x", Amount: 1, At: noon})
		require.NoError(t, err)
		assert.True(t, d.Replayed, "it had been charged, once")
		require.NoError(t, l.Close())
	})
}

func TestTooManyCallersAreToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated()
		l := newLedger(t, g, quota.LedgerConfig{Waiting: 2})
		src := chain(t, 10)
		var busy atomic.Int64
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if _, err := l.Charge(t.Context(), src, quota.Charge{Amount: 1, At: noon}); errors.Is(err, quota.ErrBusy) {
					busy.Add(1)
				}
			})
		}
		synctest.Wait()
		assert.Equal(t, int64(7), busy.Load(), "one commits, two wait")
		close(g.gate)
		wg.Wait()
		require.NoError(t, l.Close())
	})
}

func TestAFailingStoreFailsTheWholeBatch(t *testing.T) {
	g := newGated()
	close(g.gate)
	g.fail = errors.New("disk on fire")
	l := newLedger(t, g, quota.LedgerConfig{})
	_, err := l.Charge(t.Context(), chain(t, 10), quota.Charge{Amount: 1, At: noon})
	require.ErrorIs(t, err, quota.ErrUnknownOutcome)
	require.ErrorIs(t, err, g.fail)
}

// moving is a Source whose records moved a number of times before they settle.
type moving struct {
	quota.Chain
	reads int
}

func (m *moving) at(ctx context.Context, fresh bool) (quota.Chain, error) {
	if fresh {
		m.reads++
		m.Settings++
	}
	return m.Chain, nil
}

type source func(context.Context, bool) (quota.Chain, error)

func (f source) Chain(ctx context.Context, fresh bool) (quota.Chain, error) { return f(ctx, fresh) }

func TestRecordsAreReadAgainWhenTheyMoved(t *testing.T) {
	l := newLedger(t, memstore.New(), quota.LedgerConfig{})
	m := &moving{Chain: chain(t, 10)}
	m.Settings = -3 // the store is at 0: three readings are stale
	d, err := l.Charge(t.Context(), source(m.at), quota.Charge{Amount: 1, At: noon})
	require.NoError(t, err)
	assert.True(t, d.Allowed)
	assert.Equal(t, 3, m.reads)
	m.Settings = 1 // it never settles
	_, err = l.Charge(t.Context(), source(m.at), quota.Charge{Amount: 1, At: noon})
	require.ErrorIs(t, err, quota.ErrBusy)
	gone := errors.New("gone")
	_, err = l.Charge(t.Context(), source(func(_ context.Context, fresh bool) (quota.Chain, error) {
		if fresh {
			return quota.Chain{}, gone
		}
		return m.Chain, nil
	}), quota.Charge{Amount: 1, At: noon})
	require.ErrorIs(t, err, gone)
}

func TestRefusedRequestsAreCountedWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memstore.New()
		l := newLedger(t, st, quota.LedgerConfig{})
		src := chain(t, 0)
		d, err := l.Charge(t.Context(), src, quota.Charge{Amount: 1, At: noon})
		require.NoError(t, err)
		require.False(t, d.Allowed)
		<-time.After(2 * time.Second)
		synctest.Wait()
		var refused int64
		r := usage.Range{Org: "acme", Subjects: []quota.Subject{"key:k"}, From: 0, To: quota.Micros(noon.Add(time.Hour))}
		require.NoError(t, st.Usage(t.Context(), r, func(row usage.Row) error {
			assert.Equal(t, quota.ReasonLimit, row.Reason)
			refused += row.Requests
			return nil
		}))
		assert.Equal(t, int64(1), refused)
		out, err := st.Outbox(t.Context(), 0, 10)
		require.NoError(t, err)
		assert.Empty(t, out, "a refused charge alerts nobody")
		require.NoError(t, l.Close())
	})
}

func TestLedgerConfig(t *testing.T) {
	st := memstore.New()
	for _, cfg := range []quota.LedgerConfig{{Keep: time.Hour}, {Keep: 500 * 24 * time.Hour}, {Waiting: -1}} {
		_, err := quota.NewLedger(st, cfg)
		require.ErrorIs(t, err, quota.ErrInvalid)
	}
	_, err := quota.NewLedger(nil, quota.LedgerConfig{})
	require.ErrorIs(t, err, quota.ErrInvalid)
}

func TestThresholdText(t *testing.T) {
	for _, th := range []quota.Threshold{quota.Percent(1), quota.Percent(80), quota.Percent(1000), quota.ThresholdOverage, quota.Left(0), quota.Left(quota.Credit / 2)} {
		b, err := th.MarshalText()
		require.NoError(t, err)
		var back quota.Threshold
		require.NoError(t, back.UnmarshalText(b))
		assert.Equal(t, th, back, "%s", b)
	}
	for _, bad := range []string{"", "0%", "1001%", "-5%", "left -1", "left", "half", "80"} {
		var th quota.Threshold
		require.ErrorIs(t, th.UnmarshalText([]byte(bad)), quota.ErrInvalid, bad)
	}
}

func Example() {
	purse, err := quota.NewPurse("account:robot", 1, []quota.Limit{{
		Name: "credits", Max: 10 * quota.Credit, Period: quota.Period{Unit: quota.Day}, Number: 1,
	}}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	ledger, err := quota.NewLedger(memstore.New(), quota.LedgerConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ledger.Close()
	caller := quota.Chain{Org: "acme", Caller: "account:robot", Purses: []*quota.Purse{purse}}
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	for _, cost := range []quota.Credits{6 * quota.Credit, 5 * quota.Credit} {
		d, err := ledger.Charge(context.Background(), caller, quota.Charge{Amount: cost, At: now})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(d.Allowed, d.Err())
	}
	// Output:
	// true <nil>
	// false limit exceeded: 5 credits requested; account:robot credits has 4 of 10 left until 2026-03-11T00:00:00Z
}

func ExampleLedger_Reserve() {
	purse, _ := quota.NewPurse("account:robot", 1, []quota.Limit{{Name: "credits", Max: 10 * quota.Credit, Number: 1}}, nil)
	ledger, _ := quota.NewLedger(memstore.New(), quota.LedgerConfig{})
	defer ledger.Close()
	caller := quota.Chain{Org: "acme", Caller: "account:robot", Purses: []*quota.Purse{purse}}
	ctx, now := context.Background(), time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)

	held, err := ledger.Reserve(ctx, caller, quota.Reserve{Amount: 8 * quota.Credit, TTL: time.Minute, At: now})
	if err != nil || !held.Allowed {
		fmt.Println(err, held.Err())
		return
	}
	spent, err := ledger.Commit(ctx, "acme", quota.Commit{Of: held.ID, Amount: 3 * quota.Credit, At: now})
	if err != nil {
		fmt.Println(err)
		return
	}
	left, _ := spent.Remaining()
	fmt.Println("left:", left)
	// Output: left: 7
}
