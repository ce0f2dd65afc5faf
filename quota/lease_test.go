package quota_test

import (
	"context"
	"errors"
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

// flaky counts what a Ledger asks of a memory store, and fails where it is told
// to: before an operation is done, or after.
type flaky struct {
	*memstore.Store
	mu            sync.Mutex
	verbs         map[quota.Verb]int
	batches       int
	before, after bool
}

var errAway = errors.New("the store is away")

func newFlaky() *flaky { return &flaky{Store: memstore.New(), verbs: map[quota.Verb]int{}} }

func (f *flaky) Apply(ctx context.Context, ops []*quota.Op) error {
	f.mu.Lock()
	f.batches++
	for _, o := range ops {
		f.verbs[o.Verb]++
	}
	before, after := f.before, f.after
	f.mu.Unlock()
	if before {
		return errAway
	}
	if err := f.Store.Apply(ctx, ops); err != nil {
		return err
	}
	if after {
		for _, o := range ops {
			o.Result = quota.Result{}
		}
		return errAway
	}
	return nil
}

func (f *flaky) fails(before, after bool) {
	f.mu.Lock()
	f.before, f.after = before, after
	f.mu.Unlock()
}

func (f *flaky) asked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.batches
}

func (f *flaky) count(v quota.Verb) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.verbs[v]
}

// leasing is a Ledger with leases, whose clock begins at noon.
type leasing struct {
	t *testing.T
	*quota.Ledger
	f     *flaky
	chain quota.Chain
	began time.Time
}

func newLeasing(t *testing.T, f *flaky, max quota.Credits) *leasing {
	t.Helper()
	l := &leasing{t: t, f: f, chain: chain(t, max), began: time.Now()}
	l.Ledger = leased(t, f)
	return l
}

// leased is a Ledger with leases that is closed in the end.
func leased(t testing.TB, s quota.Store) *quota.Ledger {
	t.Helper()
	l := newLedger(t, s, quota.LedgerConfig{Leases: true})
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// pass lets time pass, and all that it wakes come to rest.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// usageOf counts requests of a subject, usageIn those in one bucket.
func usageOf(t *testing.T, s *memstore.Store, sub quota.Subject) int64 {
	return usageIn(t, s, sub, time.Time{})
}

func usageIn(t *testing.T, s *memstore.Store, sub quota.Subject, bucket time.Time) (n int64) {
	t.Helper()
	r := usage.Range{Org: "acme", Subjects: []quota.Subject{sub}, From: 0, To: quota.Micros(noon.Add(24 * time.Hour))}
	require.NoError(t, s.Usage(t.Context(), r, func(row usage.Row) error {
		if row.Reason == "" && (bucket.IsZero() || row.Start == quota.Micros(bucket)) {
			n += row.Requests
		}
		return nil
	}))
	return n
}

// now is the caller's clock.
func (l *leasing) now() time.Time { return noon.Add(time.Since(l.began)) }

func (l *leasing) charge(amount quota.Credits) quota.Decision {
	l.t.Helper()
	d, err := l.Charge(l.t.Context(), l.chain, quota.Charge{Amount: amount, At: l.now()})
	require.NoError(l.t, err)
	return d
}

// warm charges until there is a block, and says how much it charged.
func (l *leasing) warm(amount quota.Credits) (spent quota.Credits) {
	l.t.Helper()
	for l.f.count(quota.VerbLease) == 0 {
		require.True(l.t, l.charge(amount).Allowed)
		spent += amount
		require.Less(l.t, spent, 100*amount, "no block was taken")
	}
	return spent
}

// status is the state of the organization's limit as others see it.
func (l *leasing) status() quota.LimitStatus {
	l.t.Helper()
	st, err := l.Status(l.t.Context(), l.chain, l.now())
	require.NoError(l.t, err)
	return st[len(st)-1]
}

// A caller that charges often is charged in memory, and settled within a second.
func TestLeaseSpendsInMemoryAndSettles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeasing(t, newFlaky(), 1_000_000)
		spent := l.warm(1)
		before := l.f.asked()
		for range 40 {
			d := l.charge(1)
			spent++
			require.True(t, d.Allowed)
			last := d.Limits()[len(d.Limits())-1]
			require.Equal(t, spent, last.Used, "figures are those of the last settlement and what was spent since")
		}
		assert.Equal(t, before, l.f.asked(), "no question to the store")
		assert.Less(t, l.status().Used, spent, "not settled yet")
		assert.Positive(t, l.status().Held)
		pass(quota.LeaseSettle + time.Millisecond)
		assert.Equal(t, spent, l.status().Used)
		require.True(t, l.charge(5).Allowed)
		spent += 5
		require.NoError(t, l.Flush(t.Context()))
		assert.Equal(t, spent, l.status().Used, "after Flush usage and Status agree")
		assert.Zero(t, l.status().Stranded)
		assert.Equal(t, int64(spent-4), requests(t, l))
	})
}

// Who charges with an id, or reserves, is asked of the store.
func TestLeaseLeavesIDsToTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeasing(t, newFlaky(), 1_000_000)
		l.warm(1)
		n := l.f.count(quota.VerbCharge)
		for _, id := range []string{"a", "b", "a"} {
			_, err := l.Charge(t.Context(), l.chain, quota.Charge{ID: id, Amount: 1, At: l.now()})
			require.NoError(t, err)
		}
		assert.Equal(t, n+3, l.f.count(quota.VerbCharge))
		_, err := l.Reserve(t.Context(), l.chain, quota.Reserve{Amount: 1, TTL: time.Minute, At: l.now()})
		require.NoError(t, err)
		assert.Equal(t, 1, l.f.count(quota.VerbReserve))
	})
}

// What is idle is given back after a second, and then nothing runs any more.
func TestLeaseIsGivenBackWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeasing(t, newFlaky(), 1_000_000)
		spent := l.warm(1)
		require.Positive(t, l.status().Held)
		pass(time.Second + quota.LeaseSettle + time.Millisecond)
		assert.Zero(t, l.status().Held, "an idle block holds nothing after a second and a settlement")
		assert.Equal(t, spent, l.status().Used)
		pass(2 * time.Second)
		batches := l.f.asked()
		pass(time.Minute)
		assert.Equal(t, batches, l.f.asked())
	})
}

// The last credits of a limit can be spent, whoever holds a block, and no more.
func TestLeaseSpendsAllOfALimitAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlaky()
		a, b := newLeasing(t, f, 10_007), newLeasing(t, f, 10_007)
		b.chain = a.chain
		var spent quota.Credits
		for _, l := range []*leasing{a, b} {
			for range 100 {
				if l.charge(7).Allowed {
					spent += 7
				}
			}
		}
		for range 3 { // what the other holds is given back
			for a.charge(7).Allowed {
				spent += 7
			}
			pass(2 * time.Second)
		}
		require.NoError(t, errors.Join(a.Flush(t.Context()), b.Flush(t.Context())))
		assert.Equal(t, quota.Credits(10_007/7*7), spent)
		st := a.status()
		assert.Equal(t, spent, st.Used)
		assert.Zero(t, st.Held)
		assert.Positive(t, f.count(quota.VerbLease))
	})
}

// A process that refuses first gives back what it holds itself.
func TestLeaseOfOnesOwnNeverStandsInTheWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeasing(t, newFlaky(), 1000)
		spent := l.warm(1)
		require.Positive(t, l.status().Held)
		d := l.charge(1000 - spent)
		assert.True(t, d.Allowed, "all that is left, at once: %+v", d.Limits())
		assert.False(t, l.charge(1).Allowed)
		assert.Equal(t, quota.Credits(1000), l.status().Used)
	})
}

// A settlement whose reply is lost is sent again and applies once; a taking
// whose reply is lost leaves no block behind.
func TestLeaseSurvivesLostReplies(t *testing.T) {
	for name, lost := range map[string][2]bool{"never came": {true, false}, "was done, and the reply lost": {false, true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLeasing(t, newFlaky(), 1_000_000)
				spent := l.warm(1)
				for range 10 {
					l.charge(1)
					spent++
				}
				l.f.fails(lost[0], lost[1])
				assert.Error(t, l.Flush(t.Context()))
				l.charge(1) // spent from the block meanwhile
				spent++
				pass(quota.LeaseSettle)
				l.f.fails(false, false)
				require.NoError(t, l.Flush(t.Context()))
				assert.Equal(t, spent, l.status().Used)
				assert.Equal(t, int64(spent), requests(t, l))
				// A taking.
				pass(5 * time.Second)
				require.Zero(t, l.status().Held)
				l.f.fails(lost[0], lost[1])
				for range 20 {
					d, err := l.Charge(t.Context(), l.chain, quota.Charge{Amount: 1, At: l.now()})
					require.Error(t, err)
					require.False(t, d.Allowed)
				}
				l.f.fails(false, false)
				pass(2 * quota.LeaseSettle)
				assert.Zero(t, l.status().Held)
			})
		})
	}
}

func requests(t *testing.T, l *leasing) (n int64) {
	t.Helper()
	t.Helper()
	return usageOf(t, l.f.Store, l.chain.Purses[0].Subject())
}

// Without the store a block is spent from no longer than LeaseBound.
func TestLeaseEndsWithoutTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeasing(t, newFlaky(), 1_000_000)
		l.warm(1)
		l.f.fails(true, false)
		began := time.Now()
		for {
			_, err := l.Charge(t.Context(), l.chain, quota.Charge{Amount: 1, At: l.now()})
			if err != nil {
				require.ErrorIs(t, err, errAway)
				break
			}
			pass(10 * time.Millisecond)
			require.Less(t, time.Since(began), time.Minute)
		}
		took := time.Since(began)
		assert.LessOrEqual(t, took, quota.LeaseBound+10*time.Millisecond)
		assert.Greater(t, took, quota.LeaseSettle, "a short absence is not felt")
		l.f.fails(false, false)
	})
}

// A block ends with the quarter of an hour that it was taken in.
func TestLeaseEndsWithItsBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeasing(t, newFlaky(), 1_000_000)
		l.began = l.began.Add(-quota.BucketWidth + 1200*time.Millisecond) // 1.2 seconds to 12:15
		spent := l.warm(1)
		for range 200 {
			l.charge(1)
			spent++
			pass(10 * time.Millisecond)
		}
		require.NoError(t, l.Flush(t.Context()))
		one := usageIn(t, l.f.Store, l.chain.Purses[0].Subject(), noon)
		two := usageIn(t, l.f.Store, l.chain.Purses[0].Subject(), noon.Add(quota.BucketWidth))
		assert.Equal(t, int64(spent), one+two)
		assert.Equal(t, int64(80), two, "of 200 charges in two seconds, those after the quarter")
		assert.Equal(t, 2, l.f.count(quota.VerbLease))
	})
}

// What a dead process had not settled stays held; a Ledger that is closed
// leaves nothing.
func TestLeaseOfTheDeadIsStranded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlaky()
		dead := newLeasing(t, f, 1_000_000)
		dead.warm(1)
		f.fails(true, false)
		require.Error(t, dead.Close(), "it says what was not settled")
		f.fails(false, false)
		_, err := dead.Charge(t.Context(), dead.chain, quota.Charge{Amount: 1, At: dead.now()})
		require.ErrorIs(t, err, quota.ErrClosed)
		held := dead.status().Held
		require.Positive(t, held)
		pass(4 * time.Second)
		st := dead.status()
		assert.Equal(t, held, st.Stranded)
		assert.Equal(t, held, st.Held)
		list, err := dead.Stranded(t.Context(), "acme", dead.now())
		require.NoError(t, err)
		require.Len(t, list, 1)
		assert.Equal(t, held, list[0].Held)
		assert.NotEmpty(t, list[0].Owner)
		assert.Equal(t, noon.Truncate(24*time.Hour).Add(24*time.Hour), list[0].Until)
		used := st.Used
		require.ErrorIs(t, dead.SettleStranded(t.Context(), "acme", quota.SettleStranded{ID: "nothing", At: dead.now()}), quota.ErrUnknownID)
		require.ErrorIs(t, dead.SettleStranded(t.Context(), "acme", quota.SettleStranded{ID: list[0].ID, Spent: held + 1, At: dead.now()}), quota.ErrExcess)
		// By hand, by any process; none of it comes from a closed Ledger.
		other := newLeasing(t, f, 1_000_000)
		require.NoError(t, other.SettleStranded(t.Context(), "acme", quota.SettleStranded{ID: list[0].ID, Spent: 2, At: dead.now()}))
		st = dead.status()
		assert.Equal(t, used+2, st.Used)
		assert.Zero(t, st.Held)
	})
}

// Of 32 callers on one key exactly as many are admitted as the limit allows.
func TestLeaseRaceIsExact(t *testing.T) {
	for _, store := range []quota.Store{memstore.New(), struct{ quota.Store }{memstore.New()}} {
		l := leased(t, store)
		const max, cost = 50_000, 3
		c := chain(t, max)
		var admitted atomic.Int64
		var wg sync.WaitGroup
		for range 32 {
			wg.Go(func() {
				for refused := 0; refused < 3; {
					d, err := l.Charge(context.Background(), c, quota.Charge{Amount: cost, At: noon})
					if !assert.NoError(t, err) {
						return
					}
					if d.Allowed {
						admitted.Add(1)
					} else {
						refused++
					}
				}
			})
		}
		wg.Wait()
		assert.Equal(t, int64(max/cost), admitted.Load())
		require.NoError(t, l.Flush(t.Context()))
		st, err := l.Status(t.Context(), c, noon)
		require.NoError(t, err)
		for _, s := range st {
			if s.Max == max {
				assert.Equal(t, quota.Credits(max/cost*cost), s.Used)
			}
		}
	}
}

// A charge from a block allocates nothing.
func TestLeaseAllocatesNothing(t *testing.T) {
	l := leased(t, memstore.New())
	c := chain(t, quota.MaxCredits/2)
	var src quota.Source = c
	for range 1000 {
		_, err := l.Charge(t.Context(), src, quota.Charge{Amount: 1, At: noon})
		require.NoError(t, err)
	}
	ctx := context.Background()
	n := testing.AllocsPerRun(100, func() {
		var d quota.Decision
		if err := l.ChargeInto(ctx, src, quota.Charge{Amount: 1, At: noon}, &d); err != nil || !d.Allowed {
			t.Error(err)
		}
	})
	assert.Less(t, n, 0.5)
}

func BenchmarkChargeFromBlock(b *testing.B) {
	l, err := quota.NewLedger(memstore.New(), quota.LedgerConfig{Leases: true})
	require.NoError(b, err)
	defer l.Close()
	var src quota.Source = chain(b, quota.MaxCredits/2)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		var d quota.Decision
		if err := l.ChargeInto(ctx, src, quota.Charge{Amount: 1, At: noon}, &d); err != nil || !d.Allowed {
			b.Fatal(err)
		}
	}
}
