package saccount_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/apikey"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
)

func TestManagementKeyLife(t *testing.T) {
	for _, org := range []string{saccounttest.Org, saccount.HostPartition} {
		h := saccounttest.New(t, saccount.Config{Prefix: "acme_live", Peppers: []apikey.Pepper{{ID: "1", Key: []byte(strings.Repeat("k", 32))}}})
		svc, ctx := h.Service, t.Context()
		spec := saccount.ManagementKeySpec{Name: "Terraform", Role: saccount.RoleManage, AllowFrom: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
		token, k, err := svc.CreateManagementKey(ctx, "user:alice", org, spec)
		require.NoError(t, err)
		assert.Equal(t, "acmemgmt_live_"+k.ID, k.Masked)
		assert.True(t, strings.HasPrefix(token.Reveal(), k.Masked))
		home := netip.MustParseAddr("192.0.2.7")

		m, err := svc.Manager(ctx, token.Reveal(), home)
		require.NoError(t, err)
		assert.Equal(t, saccount.Manager{KeyID: k.ID, Org: org, Role: saccount.RoleManage}, m)
		assert.EqualValues(t, "management_key:"+k.ID, m.Actor())
		require.NoError(t, svc.Flush(ctx))
		k, err = svc.GetManagementKey(ctx, org, k.ID)
		require.NoError(t, err)
		assert.Equal(t, saccount.Use{At: h.Now(), Addr: "192.0.2.7"}, k.LastUsed)

		_, err = svc.Manager(ctx, token.Reveal(), netip.MustParseAddr("198.51.100.1"))
		assert.ErrorIs(t, err, saccount.ErrForbidden)
		// No kind of key is the other.
		_, err = svc.Authenticate(ctx, token.Reveal(), home)
		assert.ErrorIs(t, err, saccount.ErrUnauthenticated)
		_, err = svc.Manager(ctx, h.Token(saccounttest.Spec{}), home)
		assert.ErrorIs(t, err, saccount.ErrUnauthenticated)

		refused := func(token apikey.Token, why string) {
			t.Helper()
			_, err := svc.Manager(ctx, token.Reveal(), home)
			var e *saccount.AuthError
			require.ErrorAs(t, err, &e)
			assert.Equal(t, why, e.Reason)
		}
		require.NoError(t, svc.DisableManagementKey(ctx, "user:alice", org, k.ID))
		refused(token, "disabled")
		require.NoError(t, svc.EnableManagementKey(ctx, "user:alice", org, k.ID))
		next, _, err := svc.RotateManagementKey(ctx, "user:alice", org, k.ID, time.Hour)
		require.NoError(t, err)
		for _, x := range []apikey.Token{token, next} {
			_, err := svc.Manager(ctx, x.Reveal(), home)
			require.NoError(t, err)
		}
		h.Advance(time.Hour)
		refused(token, "rotated")
		expires := h.Now().Add(time.Hour)
		_, err = svc.UpdateManagementKey(ctx, "user:alice", org, k.ID, saccount.Update{Expires: &expires})
		require.NoError(t, err)
		h.Advance(time.Hour)
		refused(next, "expired")
		require.NoError(t, svc.DeleteManagementKey(ctx, "user:alice", org, k.ID))
		refused(next, "wrong secret")
		_, err = svc.GetManagementKey(ctx, org, k.ID)
		assert.ErrorIs(t, err, saccount.ErrNotFound)
		k, err = svc.GetManagementKey(ctx, org, k.ID, saccount.WithDeleted)
		require.NoError(t, err)
		assert.Equal(t, saccount.StatusDeleted, k.Status)

		log := collect(t, svc.AuditEntries(ctx, org, saccount.AuditFilter{}))
		var actions []string
		for _, e := range log {
			assert.NotContains(t, string(e.After)+string(e.Before), "hmac-sha256")
			if e.Subject == quota.NewSubject("management_key", k.ID) {
				actions = append(actions, e.Action)
			}
		}
		assert.Equal(t, []string{"create", "disable", "enable", "rotate", "update", "delete"}, actions)
	}
}

// A management key ends with its organization.
func TestManagementKeyOfAnOrganization(t *testing.T) {
	h := saccounttest.New(t)
	svc, ctx := h.Service, t.Context()
	token, k, err := svc.CreateManagementKey(ctx, "user:alice", saccounttest.Org, saccount.ManagementKeySpec{Name: "Terraform", Role: saccount.RoleView})
	require.NoError(t, err)
	page, err := svc.ListManagementKeys(ctx, saccounttest.Org, saccount.Filter{})
	require.NoError(t, err)
	k, err = svc.GetManagementKey(ctx, saccounttest.Org, k.ID)
	require.NoError(t, err)
	assert.Equal(t, []saccount.ManagementKey{k}, page.Items)
	page, err = svc.ListManagementKeys(ctx, saccount.HostPartition, saccount.Filter{})
	require.NoError(t, err)
	assert.Empty(t, page.Items)
	for _, org := range []string{"other", saccount.HostPartition} {
		_, err = svc.GetManagementKey(ctx, org, k.ID)
		assert.ErrorIs(t, err, saccount.ErrNotFound)
	}
	require.NoError(t, svc.DisableOrg(ctx, "user:alice", saccounttest.Org))
	_, err = svc.Manager(ctx, token.Reveal(), netip.Addr{})
	assert.ErrorIs(t, err, saccount.ErrUnauthenticated)
	require.NoError(t, svc.EnableOrg(ctx, "user:alice", saccounttest.Org))
	_, err = svc.Manager(ctx, token.Reveal(), netip.Addr{})
	require.NoError(t, err)
	require.NoError(t, svc.DeleteOrg(ctx, "user:alice", saccounttest.Org))
	_, err = svc.Manager(ctx, token.Reveal(), netip.Addr{})
	assert.ErrorIs(t, err, saccount.ErrUnauthenticated)
}

func TestManagementPrefix(t *testing.T) {
	for prefix, want := range map[string]string{"acme": "acmemgmt", "acme_live": "acmemgmt_live", "": "samgmt", strings.Repeat("a", 28): strings.Repeat("a", 28) + "mgmt", strings.Repeat("a", 29): ""} {
		h := saccounttest.New(t, saccount.Config{Prefix: prefix})
		assert.Equal(t, want, h.Service.ManagementPrefix().String(), prefix)
		if want == "" {
			_, _, err := h.Service.CreateManagementKey(t.Context(), "user:alice", saccounttest.Org, saccount.ManagementKeySpec{Name: "Terraform", Role: saccount.RoleView})
			assert.ErrorIs(t, err, saccount.ErrInvalid)
			_, err = h.Service.Manager(t.Context(), "x", netip.Addr{})
			assert.ErrorIs(t, err, saccount.ErrUnauthenticated)
		}
	}
	for _, bad := range []string{"sa", "A", "a_b_c"} {
		_, err := saccount.New(saccounttest.New(t).Store, saccount.Config{ManagementPrefix: bad})
		assert.ErrorIs(t, err, saccount.ErrInvalid, bad)
	}
}
