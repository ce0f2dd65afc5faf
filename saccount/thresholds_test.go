package saccount_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
)

// Limits that name no thresholds take those of their subject, of what stands
// above it, or the service's, whichever comes first; also for a Principal that
// was let in before they were set.
func TestThresholdsAreInherited(t *testing.T) {
	box := &inbox{}
	h := saccounttest.New(t, saccount.Config{Thresholds: []quota.Threshold{90}, Alerts: saccount.Alerts{Sinks: []alert.Route{{Name: "box", Sink: box}}}})
	svc, ctx := h.Service, t.Context()
	limit := saccount.Limits{"": saccount.NewLimit(100*quota.Credit, quota.Period{})}
	_, err := svc.UpdateOrg(ctx, "test", "acme", saccount.Update{Limits: limit})
	require.NoError(t, err)
	_, err = svc.CreateMember(ctx, "test", "acme", saccount.MemberSpec{ID: "ann", Limits: limit})
	require.NoError(t, err)
	token, key := h.Issue(saccounttest.Spec{Limits: limit, Key: saccount.KeySpec{Limits: limit}})
	charge(t, svc, token.Reveal(), 40*quota.Credit) // everything is in memory now
	set := func(ts ...quota.Threshold) saccount.Update { return saccount.Update{Thresholds: &ts} }
	came := func() map[string]int {
		t.Helper()
		require.NoError(t, svc.DeliverAlerts(ctx))
		n := box.count()
		box.got = nil
		return n
	}
	assert.Empty(t, came())

	org, err := svc.UpdateOrg(ctx, "test", "acme", set(41))
	require.NoError(t, err)
	assert.Equal(t, []quota.Threshold{41}, org.Thresholds)
	charge(t, svc, token.Reveal(), quota.Credit)
	assert.Equal(t, map[string]int{"org credits 41%": 1, "account credits 41%": 1, "key credits 41%": 1}, came(), "all inherit the organization's")

	_, err = svc.UpdateAccount(ctx, "test", "acme", key.Account, set(42))
	require.NoError(t, err)
	charge(t, svc, token.Reveal(), quota.Credit)
	assert.Equal(t, map[string]int{"account credits 42%": 1, "key credits 42%": 1}, came(), "and its own are the account's and its keys'")

	_, err = svc.UpdateKey(ctx, "test", "acme", key.ID, set([]quota.Threshold{}...))
	require.NoError(t, err)
	_, err = svc.UpdateAccount(ctx, "test", "acme", key.Account, set(quota.Left(57*quota.Credit)))
	require.NoError(t, err)
	charge(t, svc, token.Reveal(), quota.Credit)
	assert.Equal(t, map[string]int{"account credits left 57": 1}, came(), "empty is none")

	var inherit []quota.Threshold
	for _, err := range []error{
		func() error {
			_, err := svc.UpdateKey(ctx, "test", "acme", key.ID, saccount.Update{Thresholds: &inherit})
			return err
		}(),
		func() error {
			_, err := svc.UpdateAccount(ctx, "test", "acme", key.Account, saccount.Update{Thresholds: &inherit})
			return err
		}(),
		func() error {
			_, err := svc.UpdateOrg(ctx, "test", "acme", saccount.Update{Thresholds: &inherit})
			return err
		}(),
	} {
		require.NoError(t, err)
	}
	member, err := svc.Member(ctx, "acme", "ann")
	require.NoError(t, err)
	d, err := svc.Charge(ctx, member, saccount.Charge{Amount: 45 * quota.Credit})
	require.NoError(t, err)
	require.True(t, d.Allowed)
	assert.Empty(t, came(), "the service's 90 percent, of 88 spent")
	d, err = svc.Charge(ctx, member, saccount.Charge{Amount: 2 * quota.Credit})
	require.NoError(t, err)
	require.True(t, d.Allowed)
	assert.Equal(t, map[string]int{"org credits 90%": 1}, came())
	_, err = svc.UpdateMember(ctx, "test", "acme", "ann", set(47))
	require.NoError(t, err)
	d, err = svc.Charge(ctx, member, saccount.Charge{Amount: quota.Credit})
	require.NoError(t, err)
	require.True(t, d.Allowed)
	assert.Equal(t, map[string]int{"member credits 47%": 1}, came(), "a Principal from before")

	_, err = svc.UpdateOrg(ctx, "test", "acme", set(1001))
	assert.ErrorIs(t, err, saccount.ErrInvalid)
	_, err = svc.UpdateOrg(ctx, "test", "acme", set(1, 2, 3, 4, 5, 6, 7, 8, 9))
	assert.ErrorIs(t, err, saccount.ErrInvalid)
}
