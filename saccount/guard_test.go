package saccount_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
)

// Whatever is asked twice is done once, and says what it did.
func TestRequestsAreDoneOnce(t *testing.T) {
	h := saccounttest.New(t)
	svc, by := h.Service, saccount.Actor("user:alice")
	_, key := h.Issue(saccounttest.Spec{Monthly: quota.Credit})
	n := 0
	twice := func(subject quota.Subject, call func(g saccount.Guard) error) {
		t.Helper()
		n++
		g := saccount.Guard{Request: saccount.Request{ID: fmt.Sprint("r", n), Mark: "m"}}
		before := collect(t, svc.AuditEntries(t.Context(), saccounttest.Org, saccount.AuditFilter{}))
		require.NoError(t, call(g))
		after := collect(t, svc.AuditEntries(t.Context(), saccounttest.Org, saccount.AuditFilter{}))
		for range 2 {
			require.ErrorIs(t, call(g), saccount.ErrDone)
		}
		again := collect(t, svc.AuditEntries(t.Context(), saccounttest.Org, saccount.AuditFilter{}))
		assert.Len(t, after, len(before)+1)
		assert.Equal(t, after, again)
		d, err := svc.Done(t.Context(), saccounttest.Org, g.Request.ID)
		require.NoError(t, err)
		if subject == "" { // new: it has an id of its own
			subject = after[len(after)-1].Subject
		}
		assert.Equal(t, saccount.Done{Mark: "m", Subject: subject, At: h.Now()}, d)
	}
	with := saccount.WithGuard
	ctx := t.Context()
	twice("", func(g saccount.Guard) error {
		_, err := svc.CreateAccount(with(ctx, g), by, saccounttest.Org, saccount.AccountSpec{Name: "Twice"})
		return err
	})
	twice("", func(g saccount.Guard) error {
		_, _, err := svc.CreateKey(with(ctx, g), by, saccounttest.Org, key.Account, saccount.KeySpec{Name: "Twice"})
		return err
	})
	twice("", func(g saccount.Guard) error {
		_, _, err := svc.CreateManagementKey(with(ctx, g), by, saccounttest.Org, saccount.ManagementKeySpec{Name: "Twice", Role: saccount.RoleView})
		return err
	})
	twice("member:ann", func(g saccount.Guard) error {
		_, err := svc.CreateMember(with(ctx, g), by, saccounttest.Org, saccount.MemberSpec{ID: "ann"})
		return err
	})
	k := quota.NewSubject("key", key.ID)
	twice(k, func(g saccount.Guard) error {
		_, _, err := svc.RotateKey(with(ctx, g), by, saccounttest.Org, key.ID, time.Hour)
		return err
	})
	twice(k, func(g saccount.Guard) error {
		_, err := svc.CancelRotation(with(ctx, g), by, saccounttest.Org, key.ID)
		return err
	})
	twice(quota.NewSubject("account", key.Account), func(g saccount.Guard) error {
		return svc.TopUp(with(ctx, g), by, saccounttest.Org, saccount.KindAccount, key.Account, saccount.TopUp{Amount: quota.Credit})
	})
	twice(k, func(g saccount.Guard) error { return svc.DisableKey(with(ctx, g), by, saccounttest.Org, key.ID) })
	st, err := svc.StatusOf(ctx, saccounttest.Org, saccount.KindAccount, key.Account)
	require.NoError(t, err)
	assert.Equal(t, 2*quota.Credit, st[0].Max, "topped up once")

	// A request that changed nothing is done too, and one that failed is not.
	g := saccount.Guard{Request: saccount.Request{ID: "nothing"}}
	require.NoError(t, svc.DisableKey(with(ctx, g), by, saccounttest.Org, key.ID))
	require.NoError(t, svc.EnableKey(ctx, by, saccounttest.Org, key.ID))
	require.ErrorIs(t, svc.DisableKey(with(ctx, g), by, saccounttest.Org, key.ID), saccount.ErrDone)
	got, err := svc.GetKey(ctx, saccounttest.Org, key.ID)
	require.NoError(t, err)
	assert.False(t, got.Disabled)
	g = saccount.Guard{Request: saccount.Request{ID: "fails"}}
	_, err = svc.CreateAccount(with(ctx, g), by, saccounttest.Org, saccount.AccountSpec{Name: ""})
	require.ErrorIs(t, err, saccount.ErrInvalid)
	_, err = svc.CreateAccount(with(ctx, g), by, saccounttest.Org, saccount.AccountSpec{Name: "Twice"})
	require.ErrorIs(t, err, saccount.ErrExists)
	_, err = svc.CreateAccount(with(ctx, g), by, saccounttest.Org, saccount.AccountSpec{Name: "Works"})
	require.NoError(t, err)

	// Remembered as long as operations' ids.
	h.Advance(quota.DefaultKeep - 1)
	require.ErrorIs(t, svc.DisableKey(with(ctx, saccount.Guard{Request: saccount.Request{ID: "nothing"}}), by, saccounttest.Org, key.ID), saccount.ErrDone)
	h.Advance(1)
	_, err = svc.Done(ctx, saccounttest.Org, "nothing")
	require.ErrorIs(t, err, saccount.ErrNotFound)
	require.NoError(t, svc.DisableKey(with(ctx, saccount.Guard{Request: saccount.Request{ID: "nothing"}}), by, saccounttest.Org, key.ID))
	dropped, err := svc.Sweep(ctx, 0)
	require.NoError(t, err)
	assert.Equal(t, n+1, dropped, "all but the one that was asked again")
}

// Organizations lie in a partition that their request does not know yet.
func TestRequestsThatMakeOrganizations(t *testing.T) {
	h := saccounttest.New(t)
	svc, by := h.Service, saccount.Actor("user:alice")
	g := saccount.Guard{Request: saccount.Request{ID: "r1", Mark: "m"}}
	made := make([]saccount.Org, 20)
	var wg sync.WaitGroup
	var done, again atomic.Int64
	for i := range made {
		wg.Go(func() {
			o, err := svc.CreateOrg(saccount.WithGuard(t.Context(), g), by, saccount.OrgSpec{Name: "Globex"})
			switch {
			case err == nil:
				done.Add(1)
			case errors.Is(err, saccount.ErrDone):
				again.Add(1)
			default:
				t.Errorf("create: %v", err)
			}
			made[i] = o
		})
	}
	wg.Wait()
	assert.EqualValues(t, 1, done.Load())
	assert.EqualValues(t, 19, again.Load())
	page, err := svc.ListOrgs(t.Context(), saccount.Filter{})
	require.NoError(t, err)
	require.Len(t, page.Items, 2)
	d, err := svc.Done(t.Context(), saccount.HostPartition, "r1")
	require.NoError(t, err)
	_, err = svc.GetOrg(t.Context(), d.Subject.ID())
	require.NoError(t, err)

	// An id that another has is no success of this request, however often.
	g.Request.ID = "r2"
	for range 3 {
		_, err = svc.CreateOrg(saccount.WithGuard(t.Context(), g), by, saccount.OrgSpec{ID: saccounttest.Org})
		require.ErrorIs(t, err, saccount.ErrExists)
	}
	_, err = svc.CreateOrg(saccount.WithGuard(t.Context(), g), by, saccount.OrgSpec{Zone: "Nowhere"})
	require.ErrorIs(t, err, saccount.ErrInvalid)
	_, err = svc.CreateOrg(saccount.WithGuard(t.Context(), g), by, saccount.OrgSpec{ID: "initech"})
	require.NoError(t, err)
	_, err = svc.CreateOrg(saccount.WithGuard(t.Context(), g), by, saccount.OrgSpec{ID: "initech"})
	require.ErrorIs(t, err, saccount.ErrDone)
}

func TestGuardedRevision(t *testing.T) {
	h := saccounttest.New(t)
	_, key := h.Issue(saccounttest.Spec{})
	at := func(r int64) saccount.Guard { return saccount.Guard{Revision: r} }
	require.ErrorIs(t, h.Service.DisableKey(saccount.WithGuard(t.Context(), at(7)), "user:alice", saccounttest.Org, key.ID), saccount.ErrConflict)
	require.NoError(t, h.Service.DisableKey(saccount.WithGuard(t.Context(), at(1)), "user:alice", saccounttest.Org, key.ID))
	require.ErrorIs(t, h.Service.DeleteKey(saccount.WithGuard(t.Context(), at(1)), "user:alice", saccounttest.Org, key.ID), saccount.ErrConflict)
	require.NoError(t, h.Service.DeleteKey(saccount.WithGuard(t.Context(), at(2)), "user:alice", saccounttest.Org, key.ID))
}
