package saccount_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/memstore"
)

// What a list shows of its records is what each would say alone, in as few reads
// for a hundred as for one.
func TestStatusesAndCountsOfMany(t *testing.T) {
	store := &counting{Store: memstore.New()}
	now := time.Date(2030, 3, 1, 12, 0, 0, 0, time.UTC)
	svc, err := saccount.New(store, saccount.Config{Now: func() time.Time { return now }})
	require.NoError(t, err)
	defer func() { require.NoError(t, svc.Close()) }()
	_, err = svc.CreateOrg(t.Context(), by, saccount.OrgSpec{ID: "acme"})
	require.NoError(t, err)
	var ids []string
	for i := range 100 {
		spec := saccount.AccountSpec{Name: fmt.Sprint("Worker ", i), Limits: saccount.Limits{}}
		for j := range i % 4 { // with no limit, or up to three
			spec.Limits[fmt.Sprint("limit-", j)] = saccount.NewLimit(quota.Credits(1000*(j+1))*quota.Credit, monthly)
		}
		a, err := svc.CreateAccount(t.Context(), by, "acme", spec)
		require.NoError(t, err)
		ids = append(ids, a.ID)
		for j := range i % 3 {
			token, _, err := svc.CreateKey(t.Context(), by, "acme", a.ID, saccount.KeySpec{Name: fmt.Sprint("Backend ", j)})
			require.NoError(t, err)
			if j == 1 {
				_, d, err := svc.AuthenticateAndCharge(t.Context(), token.Reveal(), nil, saccount.Charge{Amount: quota.Credits(i) * quota.Credit})
				require.NoError(t, err)
				require.True(t, d.Allowed)
			}
		}
	}
	require.NoError(t, svc.DeleteAccount(t.Context(), by, "acme", ids[7]))
	require.NoError(t, svc.DisableAccount(t.Context(), by, "acme", ids[11]))
	require.NoError(t, svc.Flush(t.Context()))
	ids = append(ids, "nobody", ids[3])

	store.reads.Store(0)
	all, err := svc.Statuses(t.Context(), "acme", saccount.KindAccount, ids)
	require.NoError(t, err)
	assert.EqualValues(t, 2, store.reads.Swap(0))
	counts, err := svc.CountKeys(t.Context(), "acme", ids)
	require.NoError(t, err)
	assert.EqualValues(t, 1, store.reads.Load())
	require.Len(t, all, len(ids))
	require.Len(t, counts, len(ids))
	for i, id := range ids {
		want, err := svc.StatusOf(t.Context(), "acme", saccount.KindAccount, id)
		if i == 7 || i == 100 {
			require.ErrorIs(t, err, saccount.ErrNotFound)
			assert.Nil(t, all[i])
		} else {
			require.NoError(t, err)
			assert.Equal(t, want, all[i])
		}
		switch {
		case i == 100:
			assert.Zero(t, counts[i])
		case i < 100:
			assert.Equal(t, i%3, counts[i].Keys)
			assert.Equal(t, i%3 == 2, !counts[i].LastUsed.IsZero(), i)
		}
	}
	assert.Equal(t, quota.Credits(95)*quota.Credit, all[95][2].Used)

	none, err := svc.Statuses(t.Context(), "nobody", saccount.KindAccount, ids[:2])
	require.NoError(t, err)
	assert.Equal(t, make([][]quota.LimitStatus, 2), none)
	_, err = svc.Statuses(t.Context(), "acme", saccount.KindAccount, make([]string, saccount.MaxPage+1))
	require.ErrorIs(t, err, saccount.ErrInvalid)
	_, err = svc.CountKeys(t.Context(), "acme", make([]string, saccount.MaxPage+1))
	require.ErrorIs(t, err, saccount.ErrInvalid)
}
