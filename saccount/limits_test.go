package saccount_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

const credit = quota.Credit

var daily = quota.Period{Unit: quota.Day}

// spend charges whole credits and reports whether it was allowed.
func (w *world) spend(t *testing.T, p saccount.Principal, credits int) bool {
	t.Helper()
	d, err := w.Charge(t.Context(), p, saccount.Charge{Amount: quota.Credits(credits) * credit})
	require.NoError(t, err)
	return d.Allowed
}

// left is what the account's limit has left.
func (w *world) left(t *testing.T, account string) quota.LimitStatus {
	t.Helper()
	st, err := w.StatusOf(t.Context(), "acme", saccount.KindAccount, account)
	require.NoError(t, err)
	require.Len(t, st, 1)
	return st[0]
}

func (w *world) setLimit(t *testing.T, account string, l *saccount.LimitSpec) {
	t.Helper()
	_, err := w.UpdateAccount(t.Context(), by, "acme", account, saccount.Update{Limits: saccount.Limits{"": l}})
	require.NoError(t, err)
}

func TestAnEditGrantsNoMoreThanItMust(t *testing.T) {
	t.Run("monthly made daily: what the month had left, till midnight", func(t *testing.T) {
		w := newWorld(t, saccount.Config{})
		token, a, _ := w.key(t, "Worker", saccount.Limits{"": saccount.NewLimit(500*credit, monthly)})
		p := w.auth(t, token)
		w.now = time.Date(2026, 3, 9, 12, 0, 0, 0, time.UTC)
		require.True(t, w.spend(t, p, 400))
		w.now = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
		w.setLimit(t, a.ID, &saccount.LimitSpec{Period: &daily})
		assert.Equal(t, 100*credit, w.left(t, a.ID).Remaining)
		require.False(t, w.spend(t, p, 101))
		require.True(t, w.spend(t, p, 100))
		require.False(t, w.spend(t, p, 1))
		w.now = time.Date(2026, 3, 11, 0, 0, 0, 0, time.UTC)
		assert.Equal(t, 500*credit, w.left(t, a.ID).Remaining)
		require.True(t, w.spend(t, p, 500))
	})
	t.Run("daily made monthly: as if it had always run", func(t *testing.T) {
		w := newWorld(t, saccount.Config{})
		token, a, _ := w.key(t, "Worker", saccount.Limits{"": saccount.NewLimit(10*credit, daily)})
		p := w.auth(t, token)
		require.True(t, w.spend(t, p, 10))
		w.now = w.now.Add(24 * time.Hour)
		require.True(t, w.spend(t, p, 5))
		w.setLimit(t, a.ID, saccount.NewLimit(300*credit, monthly))
		st := w.left(t, a.ID)
		assert.Equal(t, 15*credit, st.Used)
		assert.Equal(t, 285*credit, st.Remaining)
	})
	t.Run("a new Max holds at once and used stays", func(t *testing.T) {
		w := newWorld(t, saccount.Config{})
		token, a, _ := w.key(t, "Worker", saccount.Limits{"": saccount.NewLimit(10*credit, monthly)})
		p := w.auth(t, token)
		require.True(t, w.spend(t, p, 8))
		w.setLimit(t, a.ID, &saccount.LimitSpec{Max: ptr(5 * credit)})
		st := w.left(t, a.ID)
		assert.Equal(t, 8*credit, st.Used)
		assert.Equal(t, quota.Credits(0), st.Remaining, "never negative")
		require.False(t, w.spend(t, p, 1))
		w.setLimit(t, a.ID, &saccount.LimitSpec{Max: ptr(9 * credit)})
		require.True(t, w.spend(t, p, 1))
	})
	t.Run("a hold from before the edit is held and settled under the new limit too", func(t *testing.T) {
		w := newWorld(t, saccount.Config{})
		token, a, _ := w.key(t, "Worker", saccount.Limits{"": saccount.NewLimit(500*credit, monthly)})
		p := w.auth(t, token)
		r, d, err := w.Reserve(t.Context(), p, saccount.Reserve{Amount: 50 * credit, TTL: time.Hour})
		require.NoError(t, err)
		require.True(t, d.Allowed)
		w.setLimit(t, a.ID, saccount.NewLimit(100*credit, daily))
		assert.Equal(t, 50*credit, w.left(t, a.ID).Held)
		_, err = r.Commit(t.Context(), 30*credit)
		require.NoError(t, err)
		st := w.left(t, a.ID)
		assert.Equal(t, quota.Credits(0), st.Held)
		assert.Equal(t, 30*credit, st.Used)
	})
	t.Run("never resets: counts from when it was set", func(t *testing.T) {
		w := newWorld(t, saccount.Config{})
		token, a, _ := w.key(t, "Worker", nil)
		p := w.auth(t, token)
		require.True(t, w.spend(t, p, 70))
		w.setLimit(t, a.ID, &saccount.LimitSpec{Max: ptr(10 * credit)})
		assert.Equal(t, 10*credit, w.left(t, a.ID).Remaining)
	})
	t.Run("a first limit opens with what was spent", func(t *testing.T) {
		w := newWorld(t, saccount.Config{})
		token, a, _ := w.key(t, "Worker", nil)
		p := w.auth(t, token)
		require.True(t, w.spend(t, p, 7))
		w.setLimit(t, a.ID, saccount.NewLimit(10*credit, monthly))
		assert.Equal(t, 3*credit, w.left(t, a.ID).Remaining)
	})
}

func TestLimitsGoByName(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	token, a, _ := w.key(t, "Worker", saccount.Limits{"day": saccount.NewLimit(10*credit, daily), "month": saccount.NewLimit(100*credit, monthly)})
	p := w.auth(t, token)
	require.False(t, w.spend(t, p, 11))
	got, err := w.UpdateAccount(t.Context(), by, "acme", a.ID, saccount.Update{Limits: saccount.Limits{"day": nil}})
	require.NoError(t, err)
	require.Len(t, got.Limits, 1, "nil removes that limit, a name left out is unchanged")
	assert.Equal(t, "month", got.Limits[0].Name)
	require.True(t, w.spend(t, p, 11))
	d, err := w.Charge(t.Context(), p, saccount.Charge{Amount: 1000 * credit})
	require.NoError(t, err)
	require.Len(t, d.RefusedBy(), 1)
	_, err = w.UpdateAccount(t.Context(), by, "acme", a.ID, saccount.Update{Limits: saccount.Limits{"month": {Max: ptr(quota.Credits(0))}}})
	require.NoError(t, err)
	require.False(t, w.spend(t, p, 1), "0 is nothing, not unlimited")
	_, err = w.UpdateAccount(t.Context(), by, "acme", a.ID, saccount.Update{Limits: saccount.Limits{"month": nil}})
	require.NoError(t, err)
	require.True(t, w.spend(t, p, 1_000_000), "no limit of its own, and none above")
}

func TestEveryLimitThatRefusesIsNamed(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	_, err := w.UpdateOrg(t.Context(), by, "acme", saccount.Update{Limits: saccount.Limits{"": saccount.NewLimit(3*credit, monthly)}})
	require.NoError(t, err)
	a, err := w.CreateAccount(t.Context(), by, "acme", saccount.AccountSpec{Name: "Worker", Limits: saccount.Limits{
		"day": saccount.NewLimit(5*credit, daily), "ever": {Max: ptr(50 * credit)}, "watch": {Max: ptr(credit), Soft: ptr(true)}}})
	require.NoError(t, err)
	tok, k, err := w.CreateKey(t.Context(), by, "acme", a.ID, saccount.KeySpec{Name: "k", Limits: saccount.Limits{"": saccount.NewLimit(4*credit, daily)}})
	require.NoError(t, err)
	p := w.auth(t, tok.Reveal())
	require.True(t, w.spend(t, p, 2))
	d, err := w.Charge(t.Context(), p, saccount.Charge{Amount: 4 * credit})
	require.NoError(t, err)
	var got []string
	for _, l := range d.RefusedBy() {
		got = append(got, fmt.Sprintf("%s %s %s/%s left %s", l.Subject.Kind(), l.Limit, l.Used, l.Max, l.Remaining))
		assert.Equal(t, 4*credit, l.Requested)
	}
	assert.Equal(t, []string{"key credits 2/4 left 2", "account day 2/5 left 3", "org credits 2/3 left 1"}, got)
	var e *quota.ExceededError
	require.ErrorAs(t, d.Err(), &e)
	require.ErrorIs(t, d.Err(), quota.ErrExceeded)
	st, err := w.Status(t.Context(), p)
	require.NoError(t, err)
	require.Len(t, st, 5)
	assert.Equal(t, quota.NewSubject(quota.KindKey, k.ID), st[0].Subject)
	assert.Equal(t, 2*credit, st[3].Used, "a soft limit counts beyond its Max")
	assert.True(t, st[3].Soft)
}

func TestRaiseAndTopUp(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	token, a, _ := w.key(t, "Worker", saccount.Limits{"": saccount.NewLimit(10*credit, daily)})
	p := w.auth(t, token)
	require.True(t, w.spend(t, p, 10))
	up := saccount.TopUp{Amount: 5 * credit, ID: "invoice-7"}
	for range 2 { // the second is the retry of a lost reply
		require.NoError(t, w.TopUp(t.Context(), by, "acme", saccount.KindAccount, a.ID, up))
	}
	st := w.left(t, a.ID)
	assert.Equal(t, 15*credit, st.Max)
	assert.Equal(t, 5*credit, st.Extra, "visible in the status")
	up.Amount++
	require.ErrorIs(t, w.TopUp(t.Context(), by, "acme", saccount.KindAccount, a.ID, up), saccount.ErrConflict)
	require.True(t, w.spend(t, p, 5))
	require.False(t, w.spend(t, p, 1))
	until := w.now.Add(30 * time.Hour)
	require.NoError(t, w.RaiseLimit(t.Context(), by, "acme", saccount.KindAccount, a.ID, "", 12*credit, until))
	require.True(t, w.spend(t, p, 2))
	w.now = time.Date(2026, 3, 11, 1, 0, 0, 0, time.UTC)
	assert.Equal(t, 12*credit, w.left(t, a.ID).Max, "the top-up was of yesterday, the raise still holds")
	require.True(t, w.spend(t, p, 11))
	w.now = until
	assert.Equal(t, 10*credit, w.left(t, a.ID).Max)
	require.False(t, w.spend(t, p, 1))
	for _, err := range []error{
		w.TopUp(t.Context(), by, "acme", saccount.KindAccount, a.ID, saccount.TopUp{}),
		w.TopUp(t.Context(), by, "acme", saccount.KindAccount, a.ID, saccount.TopUp{Amount: -1}),
		w.RaiseLimit(t.Context(), by, "acme", saccount.KindAccount, a.ID, "", 12*credit, w.now),
	} {
		require.ErrorIs(t, err, saccount.ErrInvalid)
	}
	require.ErrorIs(t, w.TopUp(t.Context(), by, "acme", saccount.KindAccount, a.ID, saccount.TopUp{Limit: "no", Amount: 1}), saccount.ErrNotFound)
}

func TestZones(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	_, err := w.UpdateOrg(t.Context(), by, "acme", saccount.Update{Zone: ptr("Asia/Kathmandu")})
	require.NoError(t, err)
	_, a, _ := w.key(t, "Worker", saccount.Limits{"": saccount.NewLimit(10*credit, daily)})
	assert.Equal(t, "Asia/Kathmandu", a.Limits[0].Period.Zone, "the organization's zone is copied into a limit")
	assert.Equal(t, time.Date(2026, 3, 10, 18, 15, 0, 0, time.UTC), w.left(t, a.ID).ResetAt)
	_, err = w.UpdateOrg(t.Context(), by, "acme", saccount.Update{Zone: ptr("UTC")})
	require.NoError(t, err)
	assert.Equal(t, time.Date(2026, 3, 10, 18, 15, 0, 0, time.UTC), w.left(t, a.ID).ResetAt, "changing it later touches no limit")
	for _, zone := range []string{"Local", "Nowhere/Land", "../../etc/passwd", "/etc/localtime", "europe/berlin/", "Europe/Berlin\x00"} {
		_, err := w.UpdateOrg(t.Context(), by, "acme", saccount.Update{Zone: &zone})
		require.ErrorIs(t, err, saccount.ErrInvalid, zone)
	}
}

func TestBadInput(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	_, a, k := w.key(t, "Worker", nil)
	rtl, nul, bad := "a\u202eb", "a\x00b", "a\xffb"
	names := []string{"", "   ", strings.Repeat("x", 101), rtl, nul, bad, "a\nb", "\u2066x"}
	check := func(what string, err error) {
		t.Helper()
		assert.ErrorIs(t, err, saccount.ErrInvalid, what)
	}
	for _, n := range names {
		check(n, second(w.CreateAccount(t.Context(), by, "acme", saccount.AccountSpec{Name: n})))
		_, _, err := w.CreateKey(t.Context(), by, "acme", a.ID, saccount.KeySpec{Name: n})
		check(n, err)
		check(n, second(w.UpdateAccount(t.Context(), by, "acme", a.ID, saccount.Update{Name: &n})))
		check(n, second(w.CreateMember(t.Context(), by, "acme", saccount.MemberSpec{ID: n + n})))
		check(n, second(w.CreateAccount(t.Context(), saccount.Actor(n+n), "acme", saccount.AccountSpec{Name: "ok"})))
	}
	for _, id := range []string{" acme", strings.Repeat("x", 129), nul, bad, rtl} {
		check(id, second(w.CreateOrg(t.Context(), by, saccount.OrgSpec{ID: id, Name: "n"})))
	}
	future := quota.Period{Unit: quota.Month, Anchor: w.now.Add(24 * time.Hour)}
	crooked := quota.Period{Unit: quota.Month, Anchor: w.now.Add(-24*time.Hour + time.Minute)}
	for what, l := range map[string]saccount.Limits{
		"no Max":         {"": {Period: &monthly}},
		"negative":       {"": saccount.NewLimit(-1, monthly)},
		"bad name":       {"Credits!": saccount.NewLimit(1, monthly)},
		"name and empty": {"": saccount.NewLimit(1, monthly), "credits": saccount.NewLimit(1, monthly)},
		"unknown unit":   {"": saccount.NewLimit(1, quota.Period{Unit: 99})},
		"future anchor":  {"": saccount.NewLimit(1, future)},
		"crooked anchor": {"": saccount.NewLimit(1, crooked)},
		"Local":          {"": saccount.NewLimit(1, quota.Period{Unit: quota.Day, Zone: "Local"})},
		"path":           {"": saccount.NewLimit(1, quota.Period{Unit: quota.Day, Zone: "../UTC"})},
		"every":          {"": saccount.NewLimit(1, quota.Period{Unit: quota.Day, Every: -3})},
		"thresholds":     {"": {Max: ptr(credit), Thresholds: &[]quota.Threshold{5000}}},
	} {
		check(what, second(w.CreateAccount(t.Context(), by, "acme", saccount.AccountSpec{Name: "x", Limits: l})))
	}
	many := saccount.Limits{}
	for i := range quota.MaxLimits + 1 {
		many[fmt.Sprint("l", i)] = saccount.NewLimit(1, monthly)
	}
	check("many limits", second(w.CreateAccount(t.Context(), by, "acme", saccount.AccountSpec{Name: "x", Limits: many})))
	check("scope", second(w.UpdateKey(t.Context(), by, "acme", k.ID, saccount.Update{Scopes: &[]string{"a b"}})))
	check("scope twice", second(w.UpdateKey(t.Context(), by, "acme", k.ID, saccount.Update{Scopes: &[]string{"a", "a"}})))
	check("environment", second(w.UpdateKey(t.Context(), by, "acme", k.ID, saccount.Update{Environment: ptr("Prod!")})))
	check("rate", second(w.UpdateKey(t.Context(), by, "acme", k.ID, saccount.Update{Rate: &saccount.RateLimit{PerSecond: math.NaN(), Burst: 1}})))
	check("not the account's", second(w.UpdateAccount(t.Context(), by, "acme", a.ID, saccount.Update{Scopes: &[]string{"a"}})))
	p := w.auth(t, mustToken(t, w, a.ID))
	for _, amount := range []quota.Credits{-1, math.MinInt64} {
		_, err := w.Charge(t.Context(), p, saccount.Charge{Amount: amount})
		check("amount", err)
	}
	for _, id := range []string{strings.Repeat("x", 256), nul, bad} {
		_, err := w.Charge(t.Context(), p, saccount.Charge{Amount: 1, ID: id})
		check("id", err)
	}
	for _, ttl := range []time.Duration{0, -1, quota.MaxTTL + 1} {
		_, _, err := w.Reserve(t.Context(), p, saccount.Reserve{Amount: 1, TTL: ttl})
		check("ttl", err)
	}
	check("page", second(w.ListAccounts(t.Context(), "acme", saccount.Filter{Limit: saccount.MaxPage + 1})))
	_, err := w.Charge(t.Context(), saccount.Principal{}, saccount.Charge{Amount: 1})
	require.ErrorIs(t, err, saccount.ErrUnauthenticated)
	// what is another organization's is answered like what is not there
	_, err = w.CreateOrg(t.Context(), by, saccount.OrgSpec{ID: "evil"})
	require.NoError(t, err)
	for _, err := range []error{
		second(w.GetKey(t.Context(), "evil", k.ID)), second(w.GetAccount(t.Context(), "evil", a.ID)),
		w.DeleteKey(t.Context(), by, "evil", k.ID), second(w.UpdateAccount(t.Context(), by, "evil", a.ID, saccount.Update{Name: ptr("mine")})),
		second(w.ListKeys(t.Context(), "evil", a.ID, saccount.Filter{})), second(w.GetAccount(t.Context(), "", a.ID)),
	} {
		require.ErrorIs(t, err, saccount.ErrNotFound)
	}
	got, err := w.GetAccount(t.Context(), "acme", a.ID)
	require.NoError(t, err)
	assert.Equal(t, a, got, "nothing was changed by all that")
}

func mustToken(t *testing.T, w *world, account string) string {
	t.Helper()
	tok, _, err := w.CreateKey(t.Context(), by, "acme", account, saccount.KeySpec{Name: fmt.Sprint("key ", w.now.UnixNano())})
	require.NoError(t, err)
	return tok.Reveal()
}

func TestNamesThatSayNothingGetAdvice(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	for name, advised := range map[string]bool{"SA1": true, "Test": true, "my key 2": true, "Production Worker": false, "CI/CD Pipeline": false, "Testing Robot for Billing": false} {
		a, err := w.CreateAccount(t.Context(), by, "acme", saccount.AccountSpec{Name: name})
		require.NoError(t, err, "it is accepted all the same")
		assert.Equal(t, advised, len(a.Advice) > 0, name)
	}
}

func TestRevisions(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	_, a, _ := w.key(t, "Worker", nil)
	_, err := w.UpdateAccount(t.Context(), by, "acme", a.ID, saccount.Update{Revision: a.Revision, Description: ptr("one")})
	require.NoError(t, err)
	_, err = w.UpdateAccount(t.Context(), by, "acme", a.ID, saccount.Update{Revision: a.Revision, Description: ptr("two")})
	require.ErrorIs(t, err, saccount.ErrConflict)
	var wg sync.WaitGroup
	for i := range 8 { // without a revision every update lands
		wg.Go(func() {
			_, err := w.UpdateAccount(context.Background(), by, "acme", a.ID, saccount.Update{Labels: map[string]*string{fmt.Sprint("l", i): ptr("x")}})
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	got, err := w.GetAccount(t.Context(), "acme", a.ID)
	require.NoError(t, err)
	assert.Len(t, got.Labels, 8)
	assert.Equal(t, "one", got.Description)
}

func TestIdempotency(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	token, a, _ := w.key(t, "Worker", saccount.Limits{"": saccount.NewLimit(10*credit, monthly)})
	p := w.auth(t, token)
	c := saccount.Charge{ID: "order-1", Amount: 4 * credit}
	first, err := w.Charge(t.Context(), p, c)
	require.NoError(t, err)
	w.setLimit(t, a.ID, &saccount.LimitSpec{Max: ptr(4 * credit)})
	again, err := w.Charge(t.Context(), p, c)
	require.NoError(t, err)
	assert.True(t, again.Replayed)
	assert.Equal(t, first.Limits(), again.Limits(), "the first result is given again")
	c.Amount++
	_, err = w.Charge(t.Context(), p, c)
	require.ErrorIs(t, err, quota.ErrConflict)
	_, _, err = w.Reserve(t.Context(), p, saccount.Reserve{ID: "order-1", Amount: 4 * credit, TTL: time.Hour})
	require.ErrorIs(t, err, quota.ErrConflict, "one namespace for all verbs")
	other, _, _ := w.key(t, "Other", nil)
	_, err = w.Charge(t.Context(), w.auth(t, other), saccount.Charge{ID: "order-1", Amount: 4 * credit})
	require.ErrorIs(t, err, quota.ErrConflict, "another key")
	d, err := w.Refund(t.Context(), "acme", saccount.Refund{ID: "r1", Of: "order-1", Amount: 3 * credit})
	require.NoError(t, err)
	assert.Equal(t, credit, d.Limits()[0].Used)
	d, err = w.Refund(t.Context(), "acme", saccount.Refund{ID: "r1", Of: "order-1", Amount: 3 * credit})
	require.NoError(t, err)
	assert.True(t, d.Replayed)
	_, err = w.Refund(t.Context(), "acme", saccount.Refund{ID: "r2", Of: "order-1", Amount: 2 * credit})
	require.ErrorIs(t, err, quota.ErrExcess)
	_, err = w.Refund(t.Context(), "acme", saccount.Refund{ID: "r3", Of: "nothing", Amount: 1})
	require.ErrorIs(t, err, quota.ErrUnknownID)
	w.now = w.now.Add(36 * 24 * time.Hour)
	_, err = w.Refund(t.Context(), "acme", saccount.Refund{ID: "r4", Of: "order-1", Amount: 1})
	require.ErrorIs(t, err, quota.ErrUnknownID, "ids live 35 days")
}

func TestHoldsExpireWithoutAJob(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	token, a, _ := w.key(t, "Worker", saccount.Limits{"": saccount.NewLimit(10*credit, monthly)})
	p := w.auth(t, token)
	r, _, err := w.Reserve(t.Context(), p, saccount.Reserve{Amount: 8 * credit, TTL: time.Minute})
	require.NoError(t, err)
	none, d, err := w.Reserve(t.Context(), p, saccount.Reserve{Amount: 3 * credit, TTL: time.Minute})
	require.NoError(t, err)
	assert.False(t, d.Allowed)
	assert.Nil(t, none)
	assert.Equal(t, 8*credit, w.left(t, a.ID).Held)
	w.now = w.now.Add(time.Minute)
	assert.Equal(t, quota.Credits(0), w.left(t, a.ID).Held, "its time is over, nobody had to do anything")
	require.True(t, w.spend(t, p, 10))
	_, err = r.Commit(t.Context(), credit)
	require.ErrorIs(t, err, quota.ErrExpired)
	assert.Equal(t, 10*credit, w.left(t, a.ID).Used, "and nothing was changed")

	w.now = w.now.Add(31 * 24 * time.Hour)
	r, _, err = w.Reserve(t.Context(), p, saccount.Reserve{Amount: 8 * credit, TTL: time.Minute})
	require.NoError(t, err)
	require.NoError(t, r.Renew(t.Context(), time.Hour))
	w.now = w.now.Add(30 * time.Minute)
	d, err = r.Commit(t.Context(), 13*credit)
	require.NoError(t, err)
	assert.Equal(t, 5*credit, d.Overrun)
	st := w.left(t, a.ID)
	assert.Equal(t, 10*credit, st.Used)
	assert.Equal(t, 3*credit, st.Overage, "what found no room is shown apart, never clamped away")
	d, err = r.Commit(t.Context(), 13*credit)
	require.NoError(t, err)
	assert.True(t, d.Replayed)
	_, err = r.Release(t.Context())
	require.ErrorIs(t, err, quota.ErrConflict)
}

func TestRefusedCallsAndErrorsAreApart(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	token, _, _ := w.key(t, "Worker", nil)
	p := w.auth(t, token)
	d, err := w.Charge(t.Context(), p, saccount.Charge{Amount: math.MaxInt64})
	require.NoError(t, err)
	require.True(t, d.Allowed)
	_, err = w.Charge(t.Context(), p, saccount.Charge{Amount: 1})
	require.ErrorIs(t, err, quota.ErrOverflow, "nothing wraps")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = w.Charge(ctx, p, saccount.Charge{Amount: 0})
	require.True(t, errors.Is(err, context.Canceled))
}
