package saccount_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/apikey"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/usage"
)

func ptr[T any](v T) *T { return &v }

// refused asserts that a token is refused, and gives the reason for the log.
func (w *world) refused(t *testing.T, token string) string {
	t.Helper()
	_, err := w.Authenticate(t.Context(), token, netip.Addr{})
	require.ErrorIs(t, err, saccount.ErrUnauthenticated)
	var e *saccount.AuthError
	require.ErrorAs(t, err, &e)
	return e.Reason
}

func TestDisableAndEnable(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	token, a, k := w.key(t, "Production Worker", nil)
	p := w.auth(t, token)
	for name, sw := range map[string][2]func() error{
		"key":     {func() error { return w.DisableKey(t.Context(), by, "acme", k.ID) }, func() error { return w.EnableKey(t.Context(), by, "acme", k.ID) }},
		"account": {func() error { return w.DisableAccount(t.Context(), by, "acme", a.ID) }, func() error { return w.EnableAccount(t.Context(), by, "acme", a.ID) }},
		"org":     {func() error { return w.DisableOrg(t.Context(), by, "acme") }, func() error { return w.EnableOrg(t.Context(), by, "acme") }},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, sw[0]())
			assert.Equal(t, "disabled", w.refused(t, token))
			_, err := w.Charge(t.Context(), p, saccount.Charge{Amount: 1})
			require.ErrorIs(t, err, saccount.ErrUnauthenticated, "a Principal from before is charged no more")
			require.NoError(t, sw[0](), "doing it twice is no error")
			require.NoError(t, sw[1]())
			w.auth(t, token)
			d, err := w.Charge(t.Context(), p, saccount.Charge{Amount: 1})
			require.NoError(t, err)
			assert.True(t, d.Allowed)
		})
	}
}

func TestDeleteCascades(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	token, a, k := w.key(t, "Production Worker", nil)
	p := w.auth(t, token)
	_, err := w.Charge(t.Context(), p, saccount.Charge{Amount: 3})
	require.NoError(t, err)
	require.NoError(t, w.DeleteAccount(t.Context(), by, "acme", a.ID))
	assert.Equal(t, "deleted", w.refused(t, token))
	_, err = w.Charge(t.Context(), p, saccount.Charge{Amount: 1})
	require.ErrorIs(t, err, saccount.ErrUnauthenticated)
	for _, err := range []error{
		second(w.GetKey(t.Context(), "acme", k.ID)),
		second(w.GetAccount(t.Context(), "acme", a.ID)),
		w.EnableKey(t.Context(), by, "acme", k.ID),
		w.DeleteAccount(t.Context(), by, "acme", a.ID),
		second(w.ListKeys(t.Context(), "acme", a.ID, saccount.Filter{})),
	} {
		require.ErrorIs(t, err, saccount.ErrNotFound)
	}
	got, err := w.GetKey(t.Context(), "acme", k.ID, saccount.WithDeleted)
	require.NoError(t, err)
	assert.Equal(t, k.Name, got.Name)
	// its history stays, and stays in its parents'
	at := w.now
	tot, err := w.UsageTotals(t.Context(), "acme", []quota.Subject{
		quota.NewSubject(quota.KindKey, k.ID), quota.NewSubject(quota.KindAccount, a.ID), quota.NewSubject(quota.KindOrg, "acme"),
	}, at.Add(-time.Hour), at.Add(time.Hour))
	require.NoError(t, err)
	for _, x := range tot {
		assert.Equal(t, quota.Credits(3), x.Credits, x.Subject)
	}
	// the name is free again, the id is not
	again, err := w.CreateAccount(t.Context(), by, "acme", saccount.AccountSpec{Name: "Production Worker"})
	require.NoError(t, err)
	assert.NotEqual(t, a.ID, again.ID)
	require.NoError(t, w.DeleteOrg(t.Context(), by, "acme"))
	_, err = w.CreateOrg(t.Context(), by, saccount.OrgSpec{ID: "acme"})
	require.ErrorIs(t, err, saccount.ErrExists, "ids are never used again")
}

func second[T any](_ T, err error) error { return err }

func TestRotation(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	one, _, k := w.key(t, "Production Worker", saccount.Limits{"": saccount.NewLimit(10, monthly)})
	old := w.auth(t, one)
	charge := func(p saccount.Principal, amount quota.Credits) bool {
		d, err := w.Charge(t.Context(), p, saccount.Charge{Amount: amount})
		require.NoError(t, err)
		return d.Allowed
	}
	require.True(t, charge(old, 4))
	tok2, k2, err := w.RotateKey(t.Context(), by, "acme", k.ID, time.Hour)
	require.NoError(t, err)
	two := tok2.Reveal()
	assert.Equal(t, k.ID, k2.ID)
	assert.Equal(t, w.now.Add(time.Hour), k2.OverlapEnds)
	require.True(t, charge(old, 3), "the old secret lives until the overlap ends")
	require.False(t, charge(w.auth(t, two), 4), "there is one purse for both")

	k3, err := w.CancelRotation(t.Context(), by, "acme", k.ID)
	require.NoError(t, err)
	assert.True(t, k3.OverlapEnds.IsZero())
	assert.Equal(t, "wrong secret", w.refused(t, two))
	w.now = w.now.Add(2 * time.Hour)
	w.auth(t, one)

	tok4, _, err := w.RotateKey(t.Context(), by, "acme", k.ID, time.Hour)
	require.NoError(t, err)
	tok5, _, err := w.RotateKey(t.Context(), by, "acme", k.ID, time.Hour)
	require.NoError(t, err)
	assert.Equal(t, "wrong secret", w.refused(t, one), "at most two secrets live")
	w.auth(t, tok4.Reveal())
	w.now = w.now.Add(time.Hour)
	assert.Equal(t, "rotated", w.refused(t, tok4.Reveal()), "the overlap is over")
	_, err = w.CancelRotation(t.Context(), by, "acme", k.ID)
	require.ErrorIs(t, err, saccount.ErrInvalid, "after the overlap there is nothing to cancel")

	p5 := w.auth(t, tok5.Reveal())
	tok6, _, err := w.RotateKey(t.Context(), by, "acme", k.ID, 0)
	require.NoError(t, err)
	w.refused(t, tok5.Reveal())
	_, err = w.Charge(t.Context(), p5, saccount.Charge{Amount: 1})
	require.ErrorIs(t, err, saccount.ErrUnauthenticated, "a Principal of a secret that ended is charged no more")
	require.True(t, charge(w.auth(t, tok6.Reveal()), 1))
	_, _, err = w.RotateKey(t.Context(), by, "acme", k.ID, -time.Second)
	require.ErrorIs(t, err, saccount.ErrInvalid)
}

func TestExpiry(t *testing.T) {
	w := newWorld(t, saccount.Config{MaxKeyLife: 90 * 24 * time.Hour})
	_, a, k := w.key(t, "Production Worker", nil)
	assert.Equal(t, w.now.Add(90*24*time.Hour), k.Expires, "a key without an expiry gets the greatest lifetime")
	for _, at := range []time.Time{w.now, w.now.Add(-time.Hour), w.now.Add(91 * 24 * time.Hour)} {
		_, _, err := w.CreateKey(t.Context(), by, "acme", a.ID, saccount.KeySpec{Name: "other", Expires: at})
		require.ErrorIs(t, err, saccount.ErrInvalid)
	}
	tok, k, err := w.CreateKey(t.Context(), by, "acme", a.ID, saccount.KeySpec{Name: "short", Expires: w.now.Add(time.Hour)})
	require.NoError(t, err)
	_, _, err = w.RotateKey(t.Context(), by, "acme", k.ID, 2*time.Hour)
	require.ErrorIs(t, err, saccount.ErrInvalid, "an overlap never outlives its key")
	p := w.auth(t, tok.Reveal())
	w.now = w.now.Add(time.Hour)
	assert.Equal(t, "expired", w.refused(t, tok.Reveal()))
	_, err = w.Charge(t.Context(), p, saccount.Charge{Amount: 1})
	require.ErrorIs(t, err, saccount.ErrUnauthenticated)
	got, err := w.GetKey(t.Context(), "acme", k.ID)
	require.NoError(t, err)
	assert.Equal(t, saccount.StatusExpired, got.Status)
	_, err = w.UpdateKey(t.Context(), by, "acme", k.ID, saccount.Update{Expires: ptr(w.now.Add(time.Hour))})
	require.NoError(t, err)
	w.auth(t, tok.Reveal())
}

func TestWhatIsNotThisTokenIsRefused(t *testing.T) {
	w := newWorld(t, saccount.Config{Prefix: "acme_live"})
	token, _, _ := w.key(t, "Production Worker", nil)
	other, _, k2 := w.key(t, "CI Pipeline", nil)
	swap := func(s string) string { // the case of one letter of the secret
		b := []byte(s)
		for i := len(b) - 10; ; i-- {
			if c := b[i] ^ 0x20; b[i] >= 'A' && c >= 'a' && c <= 'z' || b[i] >= 'a' && b[i] <= 'z' {
				b[i] ^= 0x20
				return string(b)
			}
		}
	}
	for name, bad := range map[string]string{
		"empty": "", "case changed": swap(token), "one more": token + "x", "one less": token[:len(token)-1],
		"another prefix": strings.Replace(token, "acme_live", "acme_test", 1), "spaces": " " + token,
		"long": strings.Repeat(token, 100), "NUL": token[:20] + "\x00" + token[21:], "invalid UTF-8": token[:20] + "\xff" + token[21:],
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, "malformed", w.refused(t, bad)) })
	}
	// another key's id with this secret, its checksum right
	prefix, err := apikey.ParsePrefix("acme_live")
	require.NoError(t, err)
	forged, err := apikey.Generate(nil, prefix, k2.ID)
	require.NoError(t, err)
	assert.Equal(t, "wrong secret", w.refused(t, forged.Reveal()))
	unknown, err := apikey.Generate(nil, prefix, "")
	require.NoError(t, err)
	assert.Equal(t, "unknown", w.refused(t, unknown.Reveal()))
	w.auth(t, other)
}

func TestAllowlist(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	_, a, _ := w.key(t, "Production Worker", nil)
	tok, _, err := w.CreateKey(t.Context(), by, "acme", a.ID, saccount.KeySpec{
		Name: "office", AllowFrom: []netip.Prefix{netip.MustParsePrefix("203.0.113.7/24"), netip.MustParsePrefix("::ffff:198.51.100.0/120"), netip.MustParsePrefix("2001:db8::/32")},
	})
	require.NoError(t, err)
	for addr, ok := range map[string]bool{
		"203.0.113.200": true, "::ffff:203.0.113.1": true, "198.51.100.9": true, "2001:db8::1": true, "2001:db8::1%eth0": true,
		"203.0.114.1": false, "2001:db9::1": false, "127.0.0.1": false,
	} {
		_, err := w.Authenticate(t.Context(), tok.Reveal(), netip.MustParseAddr(addr))
		if ok {
			require.NoError(t, err, addr)
			continue
		}
		require.ErrorIs(t, err, saccount.ErrForbidden, addr)
	}
	_, err = w.Authenticate(t.Context(), tok.Reveal(), netip.Addr{})
	require.ErrorIs(t, err, saccount.ErrForbidden, "an address that is not known is not on the list")
}

func TestRateLimits(t *testing.T) {
	for name, size := range map[string]int{"keys in memory": 0, "none": -1} {
		t.Run(name, func(t *testing.T) { testRateLimits(t, saccount.Config{CacheSize: size}) })
	}
}

func testRateLimits(t *testing.T, cfg saccount.Config) {
	w := newWorld(t, cfg)
	a, err := w.CreateAccount(t.Context(), by, "acme", saccount.AccountSpec{Name: "Worker", Rate: &saccount.RateLimit{PerSecond: 1, Burst: 3}})
	require.NoError(t, err)
	tok, k, err := w.CreateKey(t.Context(), by, "acme", a.ID, saccount.KeySpec{Name: "k", Rate: &saccount.RateLimit{PerSecond: 1, Burst: 2}})
	require.NoError(t, err)
	try := func() error { return second(w.Authenticate(t.Context(), tok.Reveal(), netip.Addr{})) }
	require.NoError(t, try())
	require.NoError(t, try())
	var e *saccount.RateError
	require.ErrorAs(t, try(), &e)
	assert.Equal(t, quota.NewSubject(quota.KindKey, k.ID), e.Subject)
	assert.Equal(t, time.Second, e.RetryAfter)
	_, err = w.UpdateKey(t.Context(), by, "acme", k.ID, saccount.Update{Rate: &saccount.RateLimit{}})
	require.NoError(t, err)
	require.NoError(t, try(), "without its own limit the key has what the account has left")
	require.ErrorAs(t, try(), &e)
	assert.Equal(t, quota.NewSubject(quota.KindAccount, a.ID), e.Subject)
	require.NoError(t, w.Flush(t.Context()))
	tot, err := w.UsageTotals(t.Context(), "acme", []quota.Subject{quota.NewSubject(quota.KindKey, k.ID)}, w.now.Add(-time.Hour), w.now.Add(time.Hour))
	require.NoError(t, err)
	assert.Equal(t, int64(2), tot[0].Reasons.Of(quota.ReasonRate))
}

func TestLastUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, saccount.Config{})
		token, _, k := w.key(t, "Production Worker", nil)
		assert.True(t, k.LastUsed.At.IsZero())
		last := func() saccount.Use {
			synctest.Wait()
			got, err := w.GetKey(t.Context(), "acme", k.ID)
			require.NoError(t, err)
			assert.Equal(t, k.Revision, got.Revision, "a use is no change of the record")
			return got.LastUsed
		}
		_, err := w.Authenticate(t.Context(), token, netip.MustParseAddr("::ffff:203.0.113.7"))
		require.NoError(t, err)
		first := saccount.Use{At: w.now, Addr: "203.0.113.7"}
		<-time.After(time.Nanosecond)
		assert.Equal(t, first, last(), "the first use is written at once")
		w.now = w.now.Add(10 * time.Minute)
		w.auth(t, token)
		<-time.After(time.Millisecond)
		assert.Equal(t, first, last(), "later ones wait to be written together")
		<-time.After(time.Second)
		assert.Equal(t, w.now, last().At, "for a second")
		w.now = w.now.Add(10 * time.Minute)
		w.auth(t, token)
		require.NoError(t, w.Flush(t.Context()))
		assert.Equal(t, w.now, last().At)
	})
}

func TestPeppersMove(t *testing.T) {
	w := newWorld(t, saccount.Config{Peppers: []apikey.Pepper{{ID: "old", Key: []byte("an example pepper, 32 bytes long!")}}})
	token, _, k := w.key(t, "Production Worker", nil)
	reopen := func(peppers ...apikey.Pepper) *saccount.Service {
		svc, err := saccount.New(w.store, saccount.Config{Peppers: peppers, Now: func() time.Time { return w.now }})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, svc.Close()) })
		return svc
	}
	auth := func(s *saccount.Service) error { return second(s.Authenticate(t.Context(), token, netip.Addr{})) }
	old := apikey.Pepper{ID: "old", Key: []byte("an example pepper, 32 bytes long!")}
	next := apikey.Pepper{ID: "next", Key: []byte("another example pepper, 32 bytes!")}
	require.ErrorIs(t, auth(reopen(next)), saccount.ErrUnauthenticated, "a pepper that is gone takes its keys with it")
	require.NoError(t, auth(reopen(old, next)))
	require.NoError(t, auth(reopen(next)), "a key moves to the newest pepper when it is used")
	got, err := w.GetKey(t.Context(), "acme", k.ID)
	require.NoError(t, err)
	assert.Equal(t, k.Name, got.Name)
}

func TestAuditIsInTheSameStep(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	token, a, k := w.key(t, "Production Worker", saccount.Limits{"": saccount.NewLimit(10, monthly)})
	require.NoError(t, w.DisableKey(t.Context(), "user:bob", "acme", k.ID))
	_, err := w.CreateAccount(t.Context(), by, "acme", saccount.AccountSpec{Name: a.Name})
	require.ErrorIs(t, err, saccount.ErrExists)
	page, err := w.Audit(t.Context(), "acme", saccount.AuditFilter{})
	require.NoError(t, err)
	log := page.Items
	var got []string
	for i, e := range log {
		assert.Equal(t, int64(i+1), e.Seq)
		got = append(got, string(e.Actor)+" "+e.Action+" "+e.Subject.Kind())
		for _, raw := range []string{string(e.Before), string(e.After)} {
			assert.NotContains(t, raw, "secret")
			assert.NotContains(t, raw, "hash")
			assert.NotContains(t, raw, token[len(token)-49:])
		}
	}
	assert.Equal(t, []string{"user:alice create org", "user:alice create account", "user:alice create key", "user:bob disable key"}, got,
		"a change that was refused leaves no entry")
	_, err = w.CreateAccount(t.Context(), "", "acme", saccount.AccountSpec{Name: "x"})
	require.ErrorIs(t, err, saccount.ErrInvalid, "every call names its actor")
}

func TestMembersAreCharged(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	_, err := w.CreateMember(t.Context(), by, "acme", saccount.MemberSpec{ID: "alice@example.com", Limits: saccount.Limits{"": saccount.NewLimit(5, monthly)}})
	require.NoError(t, err)
	p, err := w.Member(t.Context(), "acme", "alice@example.com")
	require.NoError(t, err)
	assert.Equal(t, "alice@example.com", p.MemberID())
	assert.Empty(t, p.KeyID())
	d, err := w.Charge(t.Context(), p, saccount.Charge{Amount: 6})
	require.NoError(t, err)
	assert.False(t, d.Allowed)
	require.NoError(t, w.DisableMember(t.Context(), by, "acme", "alice@example.com"))
	_, err = w.Member(t.Context(), "acme", "alice@example.com")
	require.ErrorIs(t, err, saccount.ErrUnauthenticated)
	_, err = w.Member(t.Context(), "acme", "nobody")
	require.ErrorIs(t, err, saccount.ErrNotFound)
	series, err := w.Usage(t.Context(), usage.Query{Org: "acme", Subjects: []quota.Subject{"member:alice@example.com"}, From: w.now.Add(-time.Hour), To: w.now.Add(time.Hour), Step: usage.Hour})
	require.NoError(t, err)
	assert.Equal(t, int64(1), series[0].Total.Reasons.Of(quota.ReasonLimit))
}

func TestClosedService(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	token, _, k := w.key(t, "Production Worker", nil)
	p := w.auth(t, token)
	require.NoError(t, w.Close())
	require.NoError(t, w.Close())
	_, err := w.GetKey(t.Context(), "acme", k.ID)
	require.ErrorIs(t, err, saccount.ErrClosed)
	_, err = w.Charge(t.Context(), p, saccount.Charge{Amount: 1})
	require.Error(t, err)
	require.False(t, errors.Is(err, saccount.ErrUnauthenticated))
}
