package saccount_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
	"github.com/keypurse/keypurse/store/memstore"
)

// notes are the events that an Observer was told of.
type notes struct {
	mu     sync.Mutex
	auth   []saccount.Authenticated
	looked []saccount.Looked
	spent  []saccount.Spent
	stored map[string]int
}

func (n *notes) observer() saccount.Observer {
	n.stored = map[string]int{}
	keep := func(fn func()) { n.mu.Lock(); defer n.mu.Unlock(); fn() }
	return saccount.Observer{
		Authenticated: func(_ context.Context, e saccount.Authenticated) { keep(func() { n.auth = append(n.auth, e) }) },
		Looked:        func(_ context.Context, e saccount.Looked) { keep(func() { n.looked = append(n.looked, e) }) },
		Spent:         func(_ context.Context, e saccount.Spent) { keep(func() { n.spent = append(n.spent, e) }) },
		Stored:        func(_ context.Context, e saccount.Stored) { keep(func() { n.stored[e.Call]++ }) },
	}
}

func TestObserverHearsEveryOutcome(t *testing.T) {
	var n notes
	h := saccounttest.New(t, saccount.Config{Observer: n.observer()})
	token, key := h.Issue(saccounttest.Spec{Key: saccount.KeySpec{Rate: &saccount.RateLimit{PerSecond: 1, Burst: 2}}})
	guarded, _ := h.Issue(saccounttest.Spec{Key: saccount.KeySpec{AllowFrom: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}})
	one := token.Reveal()
	auth := func(token string) { _, _ = h.Service.Authenticate(t.Context(), token, netip.Addr{}) }
	auth("sa_nonsense")
	auth(one)
	auth(one)
	auth(one)
	auth(guarded.Reveal())
	h.Advance(time.Minute)
	require.NoError(t, h.Service.DisableKey(t.Context(), by, "acme", key.ID))
	auth(one)
	n.mu.Lock() // what was used is written meanwhile
	defer n.mu.Unlock()
	var got []string
	for _, e := range n.auth {
		got = append(got, fmt.Sprint(e.Outcome, " ", e.Org))
	}
	assert.Equal(t, []string{"malformed ", "ok acme", "ok acme", "rate ", "address ", "disabled "}, got)
	got = nil
	for _, e := range n.looked {
		got = append(got, fmt.Sprint(e.Kind, " ", e.Hit))
	}
	assert.Equal(t, []string{"key false", "key true", "key true", "key false", "key false"}, got, "a change of the key makes memory worthless")
	assert.Equal(t, 3, n.stored["lookup"]-lookups(t), "one for each that was not in memory")
}

// lookups is how many look-ups the making of the records above takes.
func lookups(t *testing.T) int {
	var n notes
	h := saccounttest.New(t, saccount.Config{Observer: n.observer()})
	_, key := h.Issue(saccounttest.Spec{})
	h.Issue(saccounttest.Spec{})
	require.NoError(t, h.Service.DisableKey(t.Context(), by, "acme", key.ID))
	return n.stored["lookup"]
}

func TestObserverHearsWhatWasSpentAndRefused(t *testing.T) {
	var n notes
	h := saccounttest.New(t, saccount.Config{Observer: n.observer()})
	p := h.Principal(saccounttest.Spec{
		Monthly: 100, Key: saccount.KeySpec{Limits: saccount.Limits{"": saccount.NewLimit(50, quota.Period{Unit: quota.Day})}},
	})
	ctx, svc := t.Context(), h.Service
	charge := func(id string, amount quota.Credits) {
		_, err := svc.Charge(ctx, p, saccount.Charge{ID: id, Amount: amount})
		require.NoError(t, err)
	}
	charge("a", 40)
	charge("a", 40)
	charge("", 20)  // above the key's
	charge("", 200) // above both
	_, err := svc.Refund(ctx, "acme", saccount.Refund{Of: "a", Amount: 15})
	require.NoError(t, err)
	r, _, err := svc.Reserve(ctx, p, saccount.Reserve{Amount: 10, TTL: time.Minute})
	require.NoError(t, err)
	require.NoError(t, r.Renew(ctx, time.Minute))
	_, err = r.Commit(ctx, 13)
	require.NoError(t, err)
	r, _, err = svc.Reserve(ctx, p, saccount.Reserve{Amount: 5, TTL: time.Minute})
	require.NoError(t, err)
	_, err = r.Release(ctx)
	require.NoError(t, err)
	_, err = svc.Refund(ctx, "acme", saccount.Refund{Of: "nothing", Amount: 1})
	require.ErrorIs(t, err, quota.ErrUnknownID)
	var got []string
	for _, e := range n.spent {
		assert.Equal(t, "acme", e.Org)
		got = append(got, fmt.Sprint(e.Verb, " ", int64(e.Amount), " ", e.Outcome(), " ", e.Refused, " ", int64(e.Overrun)))
	}
	assert.Equal(t, []string{
		"charge 40 allowed [] 0", "charge 40 replayed [] 0", "charge 20 refused [key] 0", "charge 200 refused [key account] 0", "refund 15 allowed [] 0",
		"reserve 10 allowed [] 0", "renew 0 allowed [] 0", "commit 13 allowed [] 3", "reserve 5 allowed [] 0", "release 0 allowed [] 0", "refund 1 error [] 0",
	}, got)

	n.spent, n.auth = nil, nil
	_, d, err := svc.AuthenticateAndCharge(ctx, h.Token(saccounttest.Spec{}), nil, saccount.Charge{Amount: 7})
	require.NoError(t, err)
	assert.True(t, d.Allowed)
	assert.Len(t, n.auth, 1)
	require.Len(t, n.spent, 1)
	assert.Equal(t, quota.Credits(7), n.spent[0].Amount)
}

// Nobody who is told of nothing pays for it.
func TestNoObserverCostsNothing(t *testing.T) {
	h := saccounttest.New(t)
	token := h.Token(saccounttest.Spec{Monthly: quota.MaxCredits})
	p, err := h.Service.Authenticate(t.Context(), token, netip.Addr{})
	require.NoError(t, err)
	ctx := context.Background()
	for name, fn := range map[string]func(){
		"authenticate": func() { _, _ = h.Service.Authenticate(ctx, token, netip.Addr{}) },
		"charge":       func() { _, _ = h.Service.Charge(ctx, p, saccount.Charge{Amount: 1}) },
		"both":         func() { _, _, _ = h.Service.AuthenticateAndCharge(ctx, token, nil, saccount.Charge{Amount: 1}) },
	} {
		fn()
		assert.Zero(t, testing.AllocsPerRun(200, fn), name)
	}
}

// away is a store that can be put out of reach.
type away struct {
	*memstore.Store
	err atomic.Pointer[error]
}

func (a *away) out() error {
	if e := a.err.Load(); e != nil {
		return *e
	}
	return nil
}

func (a *away) Apply(ctx context.Context, ops []*quota.Op) error {
	if err := a.out(); err != nil {
		return err
	}
	return a.Store.Apply(ctx, ops)
}

func (a *away) Lookup(ctx context.Context, org string, kind saccount.Kind, id string) (saccount.Lineage, error) {
	if err := a.out(); err != nil {
		return saccount.Lineage{}, err
	}
	return a.Store.Lookup(ctx, org, kind, id)
}

func TestLogTellsAnOperatorAndNoRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		store := &away{Store: memstore.New()}
		svc, err := saccount.New(store, saccount.Config{Logger: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))})
		require.NoError(t, err)
		ctx := t.Context()
		_, err = svc.CreateOrg(ctx, by, saccount.OrgSpec{ID: "acme", Name: "Acme", Limits: saccount.Limits{"": saccount.NewLimit(1000, quota.Period{})}})
		require.NoError(t, err)
		a, err := svc.CreateAccount(ctx, by, "acme", saccount.AccountSpec{Name: "Worker"})
		require.NoError(t, err)
		token, _, err := svc.CreateKey(ctx, by, "acme", a.ID, saccount.KeySpec{Name: "production"})
		require.NoError(t, err)
		p, err := svc.Authenticate(ctx, token.Reveal(), netip.Addr{})
		require.NoError(t, err)
		charge := func() error { _, err := svc.Charge(ctx, p, saccount.Charge{Amount: 1, ID: ""}); return err }
		refused := func() {
			_, _ = svc.Charge(ctx, p, saccount.Charge{Amount: 5000})
			_, _ = svc.Refund(ctx, "acme", saccount.Refund{Of: "x", Amount: 1})
			_, _ = svc.Authenticate(ctx, "sa_nonsense", netip.Addr{})
			_, _ = svc.Authenticate(ctx, strings.Replace(token.Reveal(), "sa_", "sa_x", 1), netip.Addr{})
			done, cancel := context.WithCancel(ctx)
			cancel()
			_, _ = svc.Usage(done, weekOf("acme"))
		}
		require.NoError(t, charge())
		refused()
		require.NoError(t, svc.Flush(ctx))
		assert.Empty(t, out.String(), "what is a caller's business is no line")

		gone := errors.New("connection refused")
		store.err.Store(&gone)
		for range 100 {
			require.Error(t, charge())
		}
		assert.Equal(t, 1, strings.Count(out.String(), "\n"), out.String())
		assert.Contains(t, out.String(), "level=ERROR")
		assert.Contains(t, out.String(), "the store cannot be asked")
		assert.Contains(t, out.String(), "connection refused")
		out.Reset()
		time.Sleep(saccount.TroubleEvery)
		synctest.Wait()
		require.Error(t, charge())
		require.Error(t, charge())
		assert.Equal(t, 1, strings.Count(out.String(), "\n"), out.String())
		assert.Contains(t, out.String(), "calls_before=99")
		out.Reset()

		damaged := fmt.Errorf("counter 7: %w", quota.ErrCorrupt)
		store.err.Store(&damaged)
		require.Error(t, charge())
		assert.Contains(t, out.String(), "level=ERROR")
		assert.Contains(t, out.String(), "damaged", "another trouble has a line of its own")
		out.Reset()

		// Refused requests whose counts are lost.
		store.err.Store(nil)
		_, err = svc.Charge(ctx, p, saccount.Charge{Amount: 5000})
		require.NoError(t, err)
		store.err.Store(&gone)
		time.Sleep(2 * time.Second)
		synctest.Wait() // the line is written in the background
		assert.Contains(t, out.String(), "refused requests were not counted")
		assert.Contains(t, out.String(), "requests=3", "on key, account and organization")
		assert.NotContains(t, out.String(), token.Reveal())
		store.err.Store(nil)
		require.NoError(t, svc.Close())
	})
}
