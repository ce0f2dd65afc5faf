package saccount_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/memstore"
)

const by = saccount.Actor("user:alice")

var monthly = quota.Period{Unit: quota.Month}

// world is a Service on memstore with a clock that the test sets.
type world struct {
	*saccount.Service
	store *memstore.Store
	now   time.Time
}

func newWorld(t *testing.T, cfg saccount.Config) *world {
	t.Helper()
	w := &world{store: memstore.New(), now: time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)}
	cfg.Now = func() time.Time { return w.now }
	var err error
	w.Service, err = saccount.New(w.store, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.Close()) })
	_, err = w.CreateOrg(t.Context(), by, saccount.OrgSpec{ID: "acme", Name: "Acme"})
	require.NoError(t, err)
	return w
}

// key makes an account and a key with these limits on the account.
func (w *world) key(t *testing.T, name string, limits saccount.Limits) (token string, a saccount.Account, k saccount.Key) {
	t.Helper()
	a, err := w.CreateAccount(t.Context(), by, "acme", saccount.AccountSpec{Name: name, Limits: limits})
	require.NoError(t, err)
	tok, k, err := w.CreateKey(t.Context(), by, "acme", a.ID, saccount.KeySpec{Name: name + " key"})
	require.NoError(t, err)
	return tok.Reveal(), a, k
}

func (w *world) auth(t *testing.T, token string) saccount.Principal {
	t.Helper()
	p, err := w.Authenticate(t.Context(), token, netip.Addr{})
	require.NoError(t, err)
	return p
}

func TestChargeUntilTheCreditsAreGone(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	token, a, k := w.key(t, "Production Worker", saccount.Limits{"": saccount.NewLimit(500*quota.Credit, monthly)})
	p := w.auth(t, token)
	assert.Equal(t, k.ID, p.KeyID())
	assert.Equal(t, a.ID, p.AccountID())
	assert.Equal(t, "acme", p.OrgID())
	for range 5 {
		d, err := w.Charge(t.Context(), p, saccount.Charge{Amount: 100 * quota.Credit})
		require.NoError(t, err)
		require.True(t, d.Allowed)
	}
	d, err := w.Charge(t.Context(), p, saccount.Charge{Amount: 1})
	require.NoError(t, err)
	require.False(t, d.Allowed)
	by := d.RefusedBy()
	require.Len(t, by, 1)
	assert.Equal(t, quota.NewSubject(quota.KindAccount, a.ID), by[0].Subject)
	assert.Equal(t, 500*quota.Credit, by[0].Used)
	assert.Equal(t, time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC), by[0].ResetAt)
	w.now = by[0].ResetAt
	d, err = w.Charge(t.Context(), p, saccount.Charge{Amount: 1})
	require.NoError(t, err)
	assert.True(t, d.Allowed, "the next window has the whole limit")
	st, err := w.Status(context.Background(), p)
	require.NoError(t, err)
	require.Len(t, st, 1)
	assert.Equal(t, quota.Credits(1), st[0].Used)
}
