package saccount_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/memstore"
)

const days = 24 * time.Hour

func (w *world) policy(t *testing.T, p saccount.KeyPolicy) {
	t.Helper()
	o, err := w.UpdateOrg(t.Context(), by, "acme", saccount.Update{Keys: &p})
	require.NoError(t, err)
	if p == (saccount.KeyPolicy{}) {
		assert.Nil(t, o.Keys)
		return
	}
	assert.Equal(t, p, *o.Keys)
}

// outbox is every alert.
func (w *world) outbox(t *testing.T) (out []alert.Alert) {
	t.Helper()
	all, err := w.store.Outbox(t.Context(), 0, 1000)
	require.NoError(t, err)
	for _, a := range all {
		out = append(out, alert.Read(a, ""))
	}
	return out
}

// used uses a token, so that its last use is now.
func (w *world) used(t *testing.T, token string) {
	t.Helper()
	w.auth(t, token)
	require.NoError(t, w.Flush(t.Context()))
}

// needs are those of every key that has one, by name.
func (w *world) needs(t *testing.T, f saccount.NeedFilter) map[string][]saccount.Need {
	t.Helper()
	out := map[string][]saccount.Need{}
	for k, err := range w.AllKeysInNeed(t.Context(), "acme", f) {
		require.NoError(t, err)
		require.Len(t, k.Advice, len(k.Needs))
		require.NotContains(t, out, k.Key.Name, "once")
		out[k.Key.Name] = k.Needs
	}
	return out
}

func TestKeysInNeed(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	w.policy(t, saccount.KeyPolicy{UnusedDays: 30, ExpiryDays: 10, RotateDays: 60, MaxLifeDays: 0})
	limited, err := w.CreateAccount(t.Context(), by, "acme", saccount.AccountSpec{Name: "Production Worker", Limits: saccount.Limits{"": saccount.NewLimit(quota.Credit, monthly)}})
	require.NoError(t, err)
	open, err := w.CreateAccount(t.Context(), by, "acme", saccount.AccountSpec{Name: "Nightly Export"})
	require.NoError(t, err)
	start := w.now
	far := start.Add(1000 * days)
	mk := func(account, name string, expires time.Time) string {
		t.Helper()
		tok, _, err := w.CreateKey(t.Context(), by, "acme", account, saccount.KeySpec{Name: name, Expires: expires})
		require.NoError(t, err)
		return tok.Reveal()
	}
	get := func(name string) saccount.Key {
		for k, err := range w.Keys(t.Context(), "acme", "", saccount.Filter{}) {
			require.NoError(t, err)
			if k.Name == name {
				return k
			}
		}
		t.Fatal(name)
		return saccount.Key{}
	}
	unused := mk(limited.ID, "Unused", far)
	mk(limited.ID, "Never used", far)
	fine := mk(limited.ID, "Fine", far)
	expiring := mk(limited.ID, "Expiring", start.Add(45*days))
	mk(limited.ID, "Expired", start.Add(20*days))
	forever := mk(limited.ID, "For ever", time.Time{})
	free := mk(open.ID, "Without limit", far)
	test := mk(limited.ID, "test", far)
	leaked := mk(limited.ID, "Leaked", far)
	mk(limited.ID, "Disabled", start.Add(1*days))
	require.NoError(t, w.DisableKey(t.Context(), by, "acme", get("Disabled").ID))
	_, err = w.ReportLeak(t.Context(), saccount.Leak{Token: leaked})
	require.NoError(t, err)
	gone, err := w.CreateAccount(t.Context(), by, "acme", saccount.AccountSpec{Name: "Gone"})
	require.NoError(t, err)
	mk(gone.ID, "test 2", time.Time{})
	require.NoError(t, w.DeleteAccount(t.Context(), by, "acme", gone.ID))
	w.used(t, unused)
	w.now = start.Add(40 * days)
	for _, token := range []string{fine, expiring, forever, free, test} {
		w.used(t, token)
	}
	want := map[string][]saccount.Need{
		"Unused": {saccount.NeedUnused}, "Never used": {saccount.NeedNeverUsed}, "Expiring": {saccount.NeedExpiring}, "Expired": {saccount.NeedExpired},
		"For ever": {saccount.NeedNoExpiry}, "Without limit": {saccount.NeedNoLimit}, "test": {saccount.NeedName}, "Leaked": {saccount.NeedLeaked},
	}
	for _, page := range []int{0, 1, 2, 1000} {
		assert.Equal(t, want, w.needs(t, saccount.NeedFilter{Limit: page}))
	}
	assert.Equal(t, map[string][]saccount.Need{"Expired": {saccount.NeedExpired}, "Expiring": {saccount.NeedExpiring}},
		w.needs(t, saccount.NeedFilter{Needs: []saccount.Need{saccount.NeedExpired, saccount.NeedExpiring}}))
	assert.Equal(t, map[string][]saccount.Need{"Without limit": {saccount.NeedNoLimit}}, w.needs(t, saccount.NeedFilter{Account: open.ID}))
	// A rotation age, a lifetime and the edges.
	w.now = start.Add(60*days - time.Microsecond)
	assert.NotContains(t, w.needs(t, saccount.NeedFilter{})["Fine"], saccount.NeedRotation)
	w.now = start.Add(60 * days)
	assert.Equal(t, []saccount.Need{saccount.NeedRotation}, w.needs(t, saccount.NeedFilter{})["Fine"])
	w.policy(t, saccount.KeyPolicy{MaxLifeDays: 365})
	assert.Equal(t, []saccount.Need{saccount.NeedLifetime}, w.needs(t, saccount.NeedFilter{})["Fine"])
	assert.Equal(t, []saccount.Need{saccount.NeedLifetime}, w.needs(t, saccount.NeedFilter{})["For ever"])
	for _, bad := range []saccount.NeedFilter{{Limit: -1}, {Limit: 1001}, {Needs: []saccount.Need{"love"}}} {
		_, err := w.KeysInNeed(t.Context(), "acme", bad)
		require.ErrorIs(t, err, saccount.ErrInvalid)
	}
	_, err = w.KeysInNeed(t.Context(), "nobody", saccount.NeedFilter{})
	require.ErrorIs(t, err, saccount.ErrNotFound)
	_, err = w.KeysInNeed(t.Context(), "acme", saccount.NeedFilter{Account: gone.ID})
	require.ErrorIs(t, err, saccount.ErrNotFound)
}

// readCounter is a store that counts reads.
type readCounter struct {
	*memstore.Store
	lists, lookups int
}

func (c *readCounter) List(ctx context.Context, q saccount.ListQuery) ([]saccount.Record, bool, error) {
	c.lists++
	return c.Store.List(ctx, q)
}

func (c *readCounter) Lookup(ctx context.Context, org string, kind saccount.Kind, id string) (saccount.Lineage, error) {
	c.lookups++
	return c.Store.Lookup(ctx, org, kind, id)
}

// However many keys there are, a call reads one page of them and the accounts
// that it must know.
func TestKeysInNeedReadsInBounds(t *testing.T) {
	st := &readCounter{Store: memstore.New()}
	svc, err := saccount.New(st, saccount.Config{})
	require.NoError(t, err)
	defer func() { require.NoError(t, svc.Close()) }()
	_, err = svc.CreateOrg(t.Context(), by, saccount.OrgSpec{ID: "acme", Limits: saccount.Limits{"": saccount.NewLimit(quota.Credit, monthly)}})
	require.NoError(t, err)
	soon := time.Now().Add(100 * days)
	n := 0
	for i := range 25 {
		a, err := svc.CreateAccount(t.Context(), by, "acme", saccount.AccountSpec{Name: fmt.Sprint("Worker ", i)})
		require.NoError(t, err)
		for j := range 100 {
			spec := saccount.KeySpec{Name: fmt.Sprint("Backend ", i, " ", j), Expires: soon}
			if j == 50 {
				spec.Expires = time.Time{}
				n++
			}
			_, _, err := svc.CreateKey(t.Context(), by, "acme", a.ID, spec)
			require.NoError(t, err)
		}
	}
	got, calls := 0, 0
	for f := (saccount.NeedFilter{}); ; calls++ {
		st.lists, st.lookups = 0, 0
		p, err := svc.KeysInNeed(t.Context(), "acme", f)
		require.NoError(t, err)
		assert.Equal(t, 1, st.lists)
		assert.LessOrEqual(t, st.lookups, 12, "the organization, and an account for each key that is told")
		got += len(p.Items)
		if f.Cursor = p.Next; p.Next == "" {
			break
		}
	}
	assert.Equal(t, n, got)
	assert.Equal(t, 2, calls, "3 calls of up to 1000 keys")
}

func TestKeyPolicyIsChecked(t *testing.T) {
	w := newWorld(t, saccount.Config{MaxKeyLife: 200 * days})
	for _, bad := range []saccount.KeyPolicy{{UnusedDays: -1}, {DisableDays: 3651}, {DisableDays: 7}, {DisableDays: 30, GraceDays: 30}, {RotateDays: -1}, {MaxLifeDays: -1}, {ExpiryDays: -1}} {
		_, err := w.UpdateOrg(t.Context(), by, "acme", saccount.Update{Keys: &bad})
		require.ErrorIs(t, err, saccount.ErrInvalid, "%+v", bad)
	}
	a, err := w.CreateAccount(t.Context(), by, "acme", saccount.AccountSpec{Name: "Worker"})
	require.NoError(t, err)
	_, err = w.UpdateAccount(t.Context(), by, "acme", a.ID, saccount.Update{Keys: &saccount.KeyPolicy{}})
	require.ErrorIs(t, err, saccount.ErrInvalid, "an account has none")
	w.policy(t, saccount.KeyPolicy{MaxLifeDays: 100})
	_, k, err := w.CreateKey(t.Context(), by, "acme", a.ID, saccount.KeySpec{Name: "Backend"})
	require.NoError(t, err)
	assert.Equal(t, w.now.Add(100*days), k.Expires, "a key without an expiry gets the greatest lifetime")
	long := w.now.Add(101 * days)
	_, _, err = w.CreateKey(t.Context(), by, "acme", a.ID, saccount.KeySpec{Name: "Long", Expires: long})
	require.ErrorIs(t, err, saccount.ErrInvalid)
	_, err = w.UpdateKey(t.Context(), by, "acme", k.ID, saccount.Update{Expires: &long})
	require.ErrorIs(t, err, saccount.ErrInvalid)
	w.policy(t, saccount.KeyPolicy{MaxLifeDays: 300})
	_, err = w.UpdateKey(t.Context(), by, "acme", k.ID, saccount.Update{Expires: &long})
	require.NoError(t, err)
	long = w.now.Add(201 * days)
	_, err = w.UpdateKey(t.Context(), by, "acme", k.ID, saccount.Update{Expires: &long})
	require.ErrorIs(t, err, saccount.ErrInvalid, "the host's bound holds too")
	w.policy(t, saccount.KeyPolicy{})
}

func TestPolicyDisablesUnusedKeys(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	token, _, k := w.key(t, "Production Worker", nil)
	busy, _, busyKey := w.key(t, "Nightly Export", nil)
	start := w.now
	w.used(t, token)
	var told []string
	sweep := func(day float64) []string {
		t.Helper()
		told = nil
		w.now = start.Add(time.Duration(day * float64(days)))
		require.NoError(t, w.EnforceKeyPolicy(t.Context(), "acme", w.now, func(e saccount.Enforced) error {
			told = append(told, fmt.Sprintf("%s %t %s %s", e.Key.Name, e.Disabled, e.Unused.Sub(start), e.When.Sub(start)))
			return nil
		}))
		return told
	}
	assert.Empty(t, sweep(1000), "nothing is disabled by default")
	w.policy(t, saccount.KeyPolicy{DisableDays: 90, GraceDays: 14})
	w.now = start.Add(75 * days)
	w.used(t, busy)
	assert.Empty(t, sweep(75.9))
	assert.Equal(t, []string{"Production Worker key false 0s 2160h0m0s"}, sweep(76), "a warning, with the day on which it will be disabled")
	assert.Empty(t, sweep(77), "once")
	assert.Empty(t, sweep(89.9))
	w.auth(t, token)
	require.NoError(t, w.DisableKey(t.Context(), by, "acme", busyKey.ID))
	// That use was at day 89.9: it begins anew, and the old warning is void.
	assert.Empty(t, sweep(90))
	assert.Empty(t, sweep(165.8))
	assert.Len(t, sweep(170), 1)
	assert.Empty(t, sweep(183.9), "late, and no key is disabled before its grace is over")
	assert.Equal(t, []string{"Production Worker key true 2157h36m0s 4416h0m0s"}, sweep(184))
	assert.Empty(t, sweep(185))
	w.shut(t, token)
	require.NoError(t, w.EnableKey(t.Context(), by, "acme", k.ID))
	assert.Len(t, sweep(186), 1, "enabled again: warned again")
	assert.Empty(t, sweep(199.9))
	assert.Len(t, sweep(200), 1)
	var log []string
	for _, e := range collect(t, w.AuditEntries(t.Context(), "acme", saccount.AuditFilter{Actor: saccount.ActorPolicy})) {
		assert.Equal(t, quota.NewSubject("key", k.ID), e.Subject)
		assert.Contains(t, e.Reason, "disables keys after 90 days")
		log = append(log, e.Action)
	}
	assert.Equal(t, []string{"warn_unused", "warn_unused", "disable", "warn_unused", "disable"}, log)
	// What was told is in the outbox, by the same step.
	var texts []string
	for _, a := range w.outbox(t) {
		texts = append(texts, a.Text)
	}
	assert.Equal(t, []string{
		"Key “Production Worker key” was not used for 76 days, and will be disabled on 8 June 2026, 12:00 UTC unless it is used.",
		"Key “Production Worker key” was not used for 80 days, and will be disabled on 10 September 2026, 12:00 UTC unless it is used.",
		"Key “Production Worker key” was disabled: it was not used since 2026-06-08.",
		"Key “Production Worker key” was not used for 96 days, and will be disabled on 26 September 2026, 12:00 UTC unless it is used.",
		"Key “Production Worker key” was disabled: it was not used since 2026-06-08.",
	}, texts)
	// An error of fn ends it, and what was done stays.
	require.NoError(t, w.EnableKey(t.Context(), by, "acme", k.ID))
	w.now = w.now.Add(days)
	require.ErrorIs(t, w.EnforceKeyPolicy(t.Context(), "acme", w.now, func(saccount.Enforced) error { return errTest }), errTest)
	require.NoError(t, w.EnforceKeyPolicy(t.Context(), "acme", w.now, func(saccount.Enforced) error { return errors.New("again") }))
	require.ErrorIs(t, w.EnforceKeyPolicy(t.Context(), "nobody", w.now, nil), saccount.ErrNotFound)
}

// A key that cannot be used is not blamed for it.
func TestPolicyLeavesDisabledAccountsAlone(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	_, a, k := w.key(t, "Production Worker", nil)
	w.policy(t, saccount.KeyPolicy{DisableDays: 30})
	require.NoError(t, w.DisableAccount(t.Context(), by, "acme", a.ID))
	for range 3 {
		w.now = w.now.Add(30 * days)
		require.NoError(t, w.EnforceKeyPolicy(t.Context(), "acme", w.now, nil))
	}
	require.NoError(t, w.EnableAccount(t.Context(), by, "acme", a.ID))
	require.NoError(t, w.DisableOrg(t.Context(), by, "acme"))
	require.NoError(t, w.EnforceKeyPolicy(t.Context(), "acme", w.now, nil))
	require.NoError(t, w.EnableOrg(t.Context(), by, "acme"))
	assert.Empty(t, w.outbox(t))
	require.NoError(t, w.SweepAlerts(t.Context()), "Watch enforces policies too")
	assert.Len(t, w.outbox(t), 1, "a warning, with its grace")
	w.now = w.now.Add(7 * days)
	require.NoError(t, w.SweepAlerts(t.Context()))
	got, err := w.GetKey(t.Context(), "acme", k.ID)
	require.NoError(t, err)
	assert.Equal(t, saccount.StatusDisabled, got.Status)
}

// A key that is used while the sweep is under way is not disabled: the use that
// is still in memory counts.
func TestPolicySeesUsesInMemory(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	token, _, k := w.key(t, "Production Worker", nil)
	w.used(t, token)
	w.policy(t, saccount.KeyPolicy{DisableDays: 30})
	w.now = w.now.Add(25 * days)
	require.NoError(t, w.EnforceKeyPolicy(t.Context(), "acme", w.now, nil))
	w.now = w.now.Add(10 * days)
	_, err := w.Authenticate(t.Context(), token, netip.Addr{})
	require.NoError(t, err)
	require.NoError(t, w.EnforceKeyPolicy(t.Context(), "acme", w.now, nil))
	k, err = w.GetKey(t.Context(), "acme", k.ID)
	require.NoError(t, err)
	assert.Equal(t, saccount.StatusActive, k.Status)
}
