package boltstore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/boltstore"
)

// gathered is a store that writes many changes of one organization together,
// and counts what is read.
type gathered struct {
	*boltstore.Store
	waiting saccount.Batch
	reads   int
}

func (s *gathered) Write(ctx context.Context, b saccount.Batch) error {
	if b.Changes[0].Record.Kind == saccount.KindOrg {
		return s.Store.Write(ctx, b)
	}
	w := &s.waiting
	w.Org, w.At, w.Seal = b.Org, b.At, b.Seal
	w.Changes, w.Open, w.Audit = append(w.Changes, b.Changes...), append(w.Open, b.Open...), append(w.Audit, b.Audit...)
	if len(w.Changes) < 4000 {
		return nil
	}
	return s.flush(ctx)
}

func (s *gathered) flush(ctx context.Context) error {
	if len(s.waiting.Changes) == 0 {
		return nil
	}
	defer func() { s.waiting = saccount.Batch{} }()
	return s.Store.Write(ctx, s.waiting)
}

func (s *gathered) List(ctx context.Context, q saccount.ListQuery) ([]saccount.Record, bool, error) {
	s.reads++
	return s.Store.List(ctx, q)
}

func (s *gathered) Lookup(ctx context.Context, org string, kind saccount.Kind, id string) (saccount.Lineage, error) {
	s.reads++
	return s.Store.Lookup(ctx, org, kind, id)
}

func (s *gathered) Lookups(ctx context.Context, org string, kind saccount.Kind, ids []string) ([]saccount.Lineage, error) {
	s.reads++
	return s.Store.Lookups(ctx, org, kind, ids)
}

// What keys that need a hand cost, with ten keys an account: KEYPURSE_NEEDS_KEYS
// says of how many, 1000000 for what the largest come to.
func TestKeysInNeedReads(t *testing.T) {
	n := 5000
	if s := os.Getenv("KEYPURSE_NEEDS_KEYS"); s != "" {
		var err error
		n, err = strconv.Atoi(s)
		require.NoError(t, err)
	}
	ctx := t.Context()
	bolt, err := boltstore.Open(filepath.Join(t.TempDir(), "needs.db"), boltstore.Config{NoSyncForTests: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, bolt.Close()) }()
	now := time.Date(2030, time.January, 15, 12, 0, 0, 0, time.UTC)
	st := &gathered{Store: bolt}
	svc, err := saccount.New(st, saccount.Config{Now: func() time.Time { return now }})
	require.NoError(t, err)
	defer func() { require.NoError(t, svc.Close()) }()
	_, err = svc.CreateOrg(ctx, "x", saccount.OrgSpec{ID: "acme"})
	require.NoError(t, err)
	limits := saccount.Limits{"": saccount.NewLimit(quota.Credit, quota.Period{Unit: quota.Month})}
	var accounts []string
	for i := range n / 10 {
		a, err := svc.CreateAccount(ctx, "x", "acme", saccount.AccountSpec{Name: fmt.Sprint("Worker ", i), Limits: limits})
		require.NoError(t, err)
		accounts = append(accounts, a.ID)
	}
	require.NoError(t, st.flush(ctx))
	// Accounts take turns, so that those of a page of keys are many; one key in a
	// thousand has no expiry, all the others need nothing.
	fine, without := now.Add(700*24*time.Hour), 0
	for i := range n {
		now = now.Add(time.Millisecond)
		spec := saccount.KeySpec{Name: fmt.Sprint("Backend ", i), Expires: fine}
		if i%1000 == 999 {
			spec.Expires = time.Time{}
			without++
		}
		_, _, err := svc.CreateKey(ctx, "x", "acme", accounts[i%len(accounts)], spec)
		require.NoError(t, err)
	}
	require.NoError(t, st.flush(ctx))

	for what, f := range map[string]saccount.NeedFilter{"every need": {Limit: 1000}, "without limit": {Limit: 1000, Needs: []saccount.Need{saccount.NeedNoLimit}}, "five a page": {Limit: 5}} {
		found, pages, most, longest := 0, 0, 0, time.Duration(0)
		st.reads = 0
		begun := time.Now()
		for cursor, more := "", true; more; more = cursor != "" {
			at, before := time.Now(), st.reads
			f.Cursor = cursor
			p, err := svc.KeysInNeed(ctx, "acme", f)
			require.NoError(t, err)
			found, cursor = found+len(p.Items), p.Next
			pages, most, longest = pages+1, max(most, st.reads-before), max(longest, time.Since(at))
		}
		t.Logf("%d keys, %s: %d found in %d calls, %d reads, %d in one at most; %v, %v a call at most", n, what, found, pages, st.reads, most, time.Since(begun), longest)
		if what != "without limit" {
			assert.Equal(t, without, found)
		}
		assert.LessOrEqual(t, most, 12, "%s: reads of one call", what)
	}
}
