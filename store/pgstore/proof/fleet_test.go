package proof

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/pgstore"
	"github.com/keypurse/keypurse/usage"
)

// usageOf is what the buckets of an organization say.
func usageOf(t *testing.T, s *pgstore.Store, org string) (credits quota.Credits, requests int64) {
	t.Helper()
	return spent(t, s, org, quota.NewSubject(quota.KindOrg, org))
}

func spent(t *testing.T, s *pgstore.Store, org string, sub quota.Subject) (credits quota.Credits, requests int64) {
	t.Helper()
	r := usage.Range{Org: org, Subjects: []quota.Subject{sub}, To: math.MaxInt64}
	require.NoError(t, s.Usage(ctx, r, func(u usage.Row) error {
		if u.Reason == "" {
			credits, requests = credits+u.Credits, requests+u.Requests
		}
		return nil
	}))
	return credits, requests
}

// fleet is an organization with a limit that nothing reaches, two accounts and
// four keys, and a Service for it.
type fleet struct {
	svc    *saccount.Service
	tokens []string
	keys   []saccount.Key
}

func newFleet(t *testing.T, s *pgstore.Store) *fleet {
	t.Helper()
	svc, err := saccount.New(s, saccount.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, svc.Close()) })
	const actor = saccount.Actor("test")
	f := &fleet{svc: svc}
	_, err = svc.CreateOrg(ctx, actor, saccount.OrgSpec{ID: "acme", Limits: saccount.Limits{"": saccount.NewLimit(quota.MaxCredits, quota.Period{Unit: quota.Month})}})
	require.NoError(t, err)
	for i := range 2 {
		a, err := svc.CreateAccount(ctx, actor, "acme", saccount.AccountSpec{Name: fmt.Sprintf("Worker %d", i)})
		require.NoError(t, err)
		for k := range 2 {
			token, key, err := svc.CreateKey(ctx, actor, "acme", a.ID, saccount.KeySpec{Name: fmt.Sprintf("Key %d", k)})
			require.NoError(t, err)
			f.tokens = append(f.tokens, token.Reveal())
			f.keys = append(f.keys, key)
		}
	}
	return f
}

// sums checks that what was charged is what was acknowledged, on the keys, on
// the accounts and on the organization, as a Store beside the fleet's reads it.
func (f *fleet) sums(t *testing.T, s *pgstore.Store, acknowledged int64) {
	t.Helper()
	var credits [2]quota.Credits
	var requests [2]int64
	accounts := map[string]bool{}
	for _, k := range f.keys {
		c, n := spent(t, s, "acme", quota.NewSubject(quota.KindKey, k.ID))
		credits[0], requests[0] = credits[0]+c, requests[0]+n
		accounts[k.Account] = true
	}
	for id := range accounts {
		c, n := spent(t, s, "acme", quota.NewSubject(quota.KindAccount, id))
		credits[1], requests[1] = credits[1]+c, requests[1]+n
	}
	c, n := usageOf(t, s, "acme")
	assert.Equal(t, quota.Credits(acknowledged), c, "charged and acknowledged")
	assert.Equal(t, acknowledged, n)
	assert.Equal(t, [2]quota.Credits{c, c}, credits, "keys, accounts and organization")
	assert.Equal(t, [2]int64{n, n}, requests)
}
