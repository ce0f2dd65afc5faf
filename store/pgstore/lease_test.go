package pgstore

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/internal/pgtest"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// What another process does to a key or its limit reaches a block that is spent
// from within quota.LeaseBound, and what was spent until then is charged.
func TestLeasesHearOfOthers(t *testing.T) {
	t.Parallel()
	dsn, schema := pgtest.Schema(t)
	f := newFleet(t, openAt(t, dsn, Config{Schema: schema}), nil, saccount.Limits{"": saccount.NewLimit(1<<40, quota.Period{Unit: quota.Month})}, nil)
	less := quota.Credits(10)
	for i, c := range []struct {
		name   string
		change func(key saccount.Key) error
	}{
		{"a key is disabled", func(k saccount.Key) error { return f.svc.DisableKey(ctx, actor, "acme", k.ID) }},
		{"a key is deleted", func(k saccount.Key) error { return f.svc.DeleteKey(ctx, actor, "acme", k.ID) }},
		{"an account's limit is lowered", func(k saccount.Key) error {
			_, err := f.svc.UpdateAccount(ctx, actor, "acme", k.Account, saccount.Update{Limits: saccount.Limits{"": {Max: &less}}})
			return err
		}},
	} {
		leasing, err := saccount.New(openAt(t, dsn, Config{Schema: schema}), saccount.Config{Leases: true})
		require.NoError(t, err)
		who, err := leasing.Authenticate(ctx, f.tokens[i], netip.Addr{})
		require.NoError(t, err)
		key := quota.NewSubject(quota.KindKey, f.keys[i].ID)
		used := func() int64 {
			got, err := f.svc.UsageTotals(ctx, "acme", []quota.Subject{key}, time.Unix(0, 0), time.Now().Add(time.Hour))
			require.NoError(t, err)
			if len(got) == 0 {
				return 0
			}
			return got[0].Requests
		}
		spent := int64(0)
		pace := time.NewTicker(2 * time.Millisecond) // so that a block lasts
		defer pace.Stop()
		charge := func() bool {
			<-pace.C
			d, err := leasing.Charge(ctx, who, saccount.Charge{Amount: 1})
			if err != nil || !d.Allowed {
				return false
			}
			spent++
			return true
		}
		for warm := time.Now(); time.Since(warm) < 3*quota.LeaseSettle || used() == spent; { // until it is spent from a block
			for range 50 {
				require.True(t, charge())
			}
		}
		// It goes on to charge while the other makes the change.
		var last time.Time // when the last charge that was admitted began
		refused := make(chan struct{})
		go func() {
			defer close(refused)
			for began := time.Now(); charge(); began = time.Now() {
				last = began
			}
		}()
		begin := time.Now()
		require.NoError(t, c.change(f.keys[i]))
		changed := time.Now()
		<-refused
		assert.Less(t, last.Sub(changed), quota.LeaseBound, c.name)
		t.Logf("%s: that took %v; the block was spent from for another %v", c.name, changed.Sub(begin).Round(time.Millisecond), last.Sub(changed).Round(time.Millisecond))
		require.NoError(t, leasing.Close())
		assert.Equal(t, spent, used(), c.name)
	}
}
