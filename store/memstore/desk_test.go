package memstore_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/store/memstore"
)

var noon = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)

// chargeable is a Ledger on a store and a caller with a limit.
func chargeable(t *testing.T, s quota.Store, limit quota.Credits) (*quota.Ledger, quota.Chain) {
	t.Helper()
	l, err := quota.NewLedger(s, quota.LedgerConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, l.Close()) })
	p, err := quota.NewPurse("org:acme", 1, []quota.Limit{{Name: "credits", Max: limit, Number: 1}}, nil)
	require.NoError(t, err)
	return l, quota.Chain{Org: "acme", Caller: "org:acme", Purses: []*quota.Purse{p}}
}

// around is a store of a user's own that looks at what passes.
type around struct {
	*memstore.Store
	applied atomic.Int64
}

func (s *around) Apply(ctx context.Context, ops []*quota.Op) error {
	s.applied.Add(int64(len(ops)))
	return s.Store.Apply(ctx, ops)
}

// A store around this one is not passed over.
func TestDeskIsOfTheStoreItself(t *testing.T) {
	inner := memstore.New()
	assert.NotNil(t, inner.Desk(inner, "acme"))
	s := &around{Store: inner}
	assert.Nil(t, inner.Desk(s, "acme"))
	l, c := chargeable(t, s, 10)
	for range 3 {
		d, err := l.Charge(t.Context(), c, quota.Charge{Amount: 1, At: noon})
		require.NoError(t, err)
		require.True(t, d.Allowed)
	}
	assert.EqualValues(t, 3, s.applied.Load())
}

// What is decided at a Desk is what Apply decides: the same Decisions, and
// charges with and without an id spend from one purse.
func TestDeskDecidesAsApply(t *testing.T) {
	direct, gathered := memstore.New(), &around{Store: memstore.New()}
	l1, c1 := chargeable(t, direct, 10)
	l2, c2 := chargeable(t, gathered, 10)
	for i, amount := range []quota.Credits{3, 0, 4, 5, 3, 1, 0} {
		charge := quota.Charge{Amount: amount, At: noon.Add(time.Duration(i) * time.Minute)}
		if i == 2 {
			charge.ID = "with an id"
		}
		a, err := l1.Charge(t.Context(), c1, charge)
		require.NoError(t, err)
		b, err := l2.Charge(t.Context(), c2, charge)
		require.NoError(t, err)
		assert.Equal(t, b.Allowed, a.Allowed, i)
		assert.Equal(t, b.Limits(), a.Limits(), i)
		assert.Equal(t, b.RefusedBy(), a.RefusedBy(), i)
		assert.Equal(t, b.Requested, a.Requested, i)
	}
	x, err := direct.Outbox(t.Context(), 0, 100)
	require.NoError(t, err)
	y, err := gathered.Outbox(t.Context(), 0, 100)
	require.NoError(t, err)
	assert.Equal(t, y, x)
}

func TestDeskErrors(t *testing.T) {
	s := memstore.New()
	l, c := chargeable(t, s, quota.MaxCredits)
	charge := quota.Charge{Amount: 1, At: noon}
	_, err := l.Charge(t.Context(), c, charge)
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = l.Charge(ctx, c, charge)
	require.ErrorIs(t, err, context.Canceled)
	_, err = l.Charge(t.Context(), c, quota.Charge{Amount: -1, At: noon})
	require.ErrorIs(t, err, quota.ErrInvalid)
	_, err = l.Charge(t.Context(), c, quota.Charge{Amount: 1, At: time.Unix(-1, 0)})
	require.ErrorIs(t, err, quota.ErrInvalid)
	_, err = l.Charge(t.Context(), quota.Chain{Org: "acme"}, charge)
	require.ErrorIs(t, err, quota.ErrInvalid)
	c.Settings = 7 // read at a number that the organization has not
	_, err = l.Charge(t.Context(), c, charge)
	require.ErrorIs(t, err, quota.ErrBusy)
	c.Settings = 0
	gone := errors.New("gone")
	_, err = l.Charge(t.Context(), failing{gone}, charge)
	require.ErrorIs(t, err, gone)

	st, err := l.Status(t.Context(), c, noon)
	require.NoError(t, err)
	assert.EqualValues(t, 1, st[0].Used, "nothing that failed was charged")
	require.NoError(t, s.Close())
	_, err = l.Charge(t.Context(), c, charge)
	require.ErrorIs(t, err, quota.ErrClosed)
}

type failing struct{ err error }

func (f failing) Chain(context.Context, bool) (quota.Chain, error) { return quota.Chain{}, f.err }
