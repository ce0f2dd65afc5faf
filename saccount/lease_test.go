package saccount_test

import (
	"encoding/json"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store"
	"github.com/keypurse/keypurse/store/memstore"
	"github.com/keypurse/keypurse/usage"
)

const (
	leaseOrg = "acme"
	admin    = saccount.Actor("user:admin")
)

// leasing is two processes on one store, one of which leases for one key.
type leasing struct {
	t     *testing.T
	store store.Store
	svc   *saccount.Service
	other *saccount.Service
	key   saccount.Key
	who   saccount.Principal
	spent quota.Credits
}

func newLeasing(t *testing.T, max quota.Credits) *leasing {
	t.Helper()
	return newLeasingOn(t, memstore.New(), max)
}

func newLeasingOn(t *testing.T, st store.Store, max quota.Credits) *leasing {
	t.Helper()
	l := &leasing{t: t, store: st}
	open := func(leases bool) *saccount.Service {
		s, err := saccount.New(l.store, saccount.Config{Leases: leases})
		require.NoError(t, err)
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	l.svc, l.other = open(true), open(false)
	limits := saccount.Limits{"": saccount.NewLimit(max, quota.Period{Unit: quota.Never})}
	_, err := l.other.CreateOrg(t.Context(), admin, saccount.OrgSpec{ID: leaseOrg})
	require.NoError(t, err)
	a, err := l.other.CreateAccount(t.Context(), admin, leaseOrg, saccount.AccountSpec{Name: "Worker"})
	require.NoError(t, err)
	token, key, err := l.other.CreateKey(t.Context(), admin, leaseOrg, a.ID, saccount.KeySpec{Name: "Key", Limits: limits})
	require.NoError(t, err)
	l.key = key
	l.who, err = l.svc.Authenticate(t.Context(), token.Reveal(), netip.Addr{})
	require.NoError(t, err)
	return l
}

func (l *leasing) charge() (quota.Decision, error) {
	d, err := l.svc.Charge(l.t.Context(), l.who, saccount.Charge{Amount: 1})
	if d.Allowed {
		l.spent++
	}
	return d, err
}

// warm charges until some is spent from a block.
func (l *leasing) warm() {
	l.t.Helper()
	for range 100 {
		d, err := l.charge()
		require.NoError(l.t, err)
		require.True(l.t, d.Allowed)
	}
	require.Less(l.t, l.status().Used, l.spent, "nothing is spent from a block")
}

// status is the key's limit as every process sees it.
func (l *leasing) status() quota.LimitStatus {
	l.t.Helper()
	st, err := l.other.StatusOf(l.t.Context(), leaseOrg, saccount.KindKey, l.key.ID)
	require.NoError(l.t, err)
	return st[0]
}

// A change in this process reaches a block with the next charge.
func TestLeaseFollowsThisProcessAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeasing(t, 1_000_000)
		l.warm()
		less := quota.Credits(50)
		_, err := l.svc.UpdateKey(t.Context(), admin, leaseOrg, l.key.ID, saccount.Update{Limits: saccount.Limits{"": {Max: &less}}})
		require.NoError(t, err)
		d, err := l.charge()
		require.NoError(t, err)
		assert.False(t, d.Allowed, "a lowered limit")
		assert.Equal(t, l.spent, l.status().Used, "what was admitted is charged")
		assert.Zero(t, l.status().Held)

		l = newLeasing(t, 1_000_000)
		l.warm()
		require.NoError(t, l.svc.DisableKey(t.Context(), admin, leaseOrg, l.key.ID))
		_, err = l.charge()
		require.ErrorIs(t, err, saccount.ErrUnauthenticated)
		<-time.After(2 * time.Second)
		synctest.Wait()
		assert.Equal(t, l.spent, l.status().Used)
		assert.Zero(t, l.status().Held, "its block is given back")
	})
}

// A change in another process reaches a block with the next settlement, and
// never later than LeaseBound. memstore tells nobody of changes, so that
// nothing else does.
func TestLeaseFollowsOtherProcessesWithinItsBound(t *testing.T) {
	eachChange(t, func(t *testing.T, change func(l *leasing) error) {
		l := newLeasing(t, 1_000_000)
		l.warm()
		require.NoError(t, change(l))
		assert.LessOrEqual(t, l.reaches(), quota.LeaseSettle+step)
		assert.Less(t, quota.LeaseSettle, quota.LeaseBound)
	})
}

// Where processes share the store, a change reaches a block when its process
// hears of it, before the next settlement: within PollInterval, whenever it comes
// between two settlements. While it cannot be heard of, the settlement tells.
func TestLeaseHearsOfOtherProcesses(t *testing.T) {
	eachChange(t, func(t *testing.T, change func(l *leasing) error) {
		for _, after := range []time.Duration{0, 60, 120, 180, 240, 300, 360, 420, 480} {
			st := &common{Store: memstore.New(), last: map[string]int64{}}
			l := newLeasingOn(t, st, 1_000_000)
			<-time.After(saccount.PollInterval) // it had its first answer
			l.warm()
			<-time.After(after * time.Millisecond)
			l.warm()
			require.NoError(t, change(l))
			assert.LessOrEqual(t, l.reaches(), saccount.PollInterval+step, "%d ms after a block was taken", after)
			require.NoError(t, l.svc.Close())
			require.NoError(t, l.other.Close())
		}
		st := &common{Store: memstore.New(), last: map[string]int64{}}
		l := newLeasingOn(t, st, 1_000_000)
		<-time.After(saccount.PollInterval)
		l.warm()
		st.away.Store(true)
		require.NoError(t, change(l))
		assert.LessOrEqual(t, l.reaches(), quota.LeaseSettle+step)
	})
}

const step = 20 * time.Millisecond

// reaches is how long a block goes on to be spent from.
func (l *leasing) reaches() time.Duration {
	l.t.Helper()
	began := time.Now()
	for {
		d, err := l.charge()
		if err != nil || !d.Allowed {
			return time.Since(began)
		}
		<-time.After(step)
		require.Less(l.t, time.Since(began), time.Minute)
	}
}

// eachChange runs a test for everything that ends what a block may be spent for.
func eachChange(t *testing.T, test func(t *testing.T, change func(l *leasing) error)) {
	for name, change := range map[string]func(l *leasing) error{
		"a key is disabled": func(l *leasing) error { return l.other.DisableKey(l.t.Context(), admin, leaseOrg, l.key.ID) },
		"an organization is deleted": func(l *leasing) error {
			return l.other.DeleteOrg(l.t.Context(), admin, leaseOrg)
		},
		"a limit is lowered": func(l *leasing) error {
			less := quota.Credits(50)
			_, err := l.other.UpdateKey(l.t.Context(), admin, leaseOrg, l.key.ID, saccount.Update{Limits: saccount.Limits{"": {Max: &less}}})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, change) })
		})
	}
}

// A raise ends for a block when it ends.
func TestLeaseEndsWithARaise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeasing(t, 10)
		require.NoError(t, l.svc.RaiseLimit(t.Context(), admin, leaseOrg, saccount.KindKey, l.key.ID, "", 1_000_000, time.Now().Add(700*time.Millisecond)))
		l.warm()
		for range 700 {
			<-time.After(time.Millisecond)
			d, err := l.charge()
			require.NoError(t, err)
			require.Equal(t, d.Allowed, d.Limits()[0].Extra > 0)
			if !d.Allowed {
				assert.Less(t, quota.Credits(740), l.spent)
				return
			}
		}
		t.Fatal("the raise never ended")
	})
}

// What waits in blocks is written by Flush and Close.
func TestLeaseAgreesWithUsage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeasing(t, 1_000_000)
		l.warm()
		require.NoError(t, l.svc.Flush(t.Context()))
		agree := func() {
			t.Helper()
			assert.Equal(t, l.spent, l.status().Used)
			now := time.Now()
			for _, s := range []quota.Subject{l.who.Subject(), quota.NewSubject(quota.KindAccount, l.who.AccountID()), "org:acme"} {
				all, err := l.other.UsageTotals(t.Context(), leaseOrg, []quota.Subject{s}, now.Add(-time.Hour), now.Add(time.Hour))
				require.NoError(t, err)
				var sum usage.Total
				for _, x := range all {
					sum.Credits, sum.Requests = sum.Credits+x.Credits, sum.Requests+x.Requests
				}
				assert.Equal(t, l.spent, sum.Credits)
				assert.Equal(t, int64(l.spent), sum.Requests)
			}
		}
		agree()
		_, err := l.charge()
		require.NoError(t, err)
		require.NoError(t, l.svc.Close())
		agree()
		assert.Zero(t, l.status().Held)
	})
}

// A block of a process that died is shown, and settled by hand with an entry
// in the audit log.
func TestStrandedBlockIsSettledByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeasing(t, 1_000_000)
		now := time.Now()
		st, err := l.other.StatusOf(t.Context(), leaseOrg, saccount.KindKey, l.key.ID)
		require.NoError(t, err)
		level := &quota.Level{Subject: l.who.Subject(), Sequence: 1, Bucket: quota.BucketStart(quota.Micros(now)), Limits: []quota.Entry{{Limit: "credits", Number: 1, Max: st[0].Max}}}
		lineage, err := l.store.Lookup(t.Context(), leaseOrg, saccount.KindKey, l.key.ID)
		require.NoError(t, err)
		o := &quota.Op{Verb: quota.VerbLease, Org: leaseOrg, Settings: lineage.Settings, At: quota.Micros(now), Caller: l.who.Subject(), ID: "block_of_the_dead", Of: "host/1/x", Amount: 100, Size: 1, TTL: 1_000_000, Levels: []*quota.Level{level}}
		require.NoError(t, l.store.Apply(t.Context(), []*quota.Op{o}))
		require.Equal(t, quota.Applied, o.Result.Outcome)
		<-time.After(2 * time.Second)
		assert.Equal(t, quota.Credits(100), l.status().Stranded)
		blocks, err := l.svc.StrandedBlocks(t.Context(), leaseOrg)
		require.NoError(t, err)
		require.Len(t, blocks, 1)
		assert.Equal(t, "host/1/x", blocks[0].Owner)
		assert.True(t, blocks[0].Until.IsZero(), "the limit never resets")

		require.ErrorIs(t, l.svc.SettleBlock(t.Context(), admin, leaseOrg, "nothing", 0), quota.ErrUnknownID)
		require.ErrorIs(t, l.svc.SettleBlock(t.Context(), admin, leaseOrg, blocks[0].ID, 101), quota.ErrExcess)
		require.ErrorIs(t, l.svc.SettleBlock(t.Context(), admin, leaseOrg, blocks[0].ID, -1), saccount.ErrInvalid)
		before := collect(t, l.svc.AuditEntries(t.Context(), leaseOrg, saccount.AuditFilter{}))
		require.NoError(t, l.svc.SettleBlock(t.Context(), admin, leaseOrg, blocks[0].ID, 30))
		assert.Equal(t, quota.Credits(30), l.status().Used)
		assert.Zero(t, l.status().Held)
		after := collect(t, l.svc.AuditEntries(t.Context(), leaseOrg, saccount.AuditFilter{}))
		require.Len(t, after, len(before)+1)
		e := after[len(before)]
		assert.Equal(t, admin, e.Actor)
		assert.Equal(t, "settle_block", e.Action)
		var said map[string]any
		require.NoError(t, json.Unmarshal(e.After, &said))
		assert.Equal(t, "block_of_the_dead", said["block"])
		require.ErrorIs(t, l.svc.SettleBlock(t.Context(), admin, leaseOrg, blocks[0].ID, 30), quota.ErrUnknownID)
	})
}
