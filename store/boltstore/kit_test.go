package boltstore

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/usage"
)

var (
	ctx = context.Background()
	day = time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)
	now = day.Add(9*time.Hour + 7*time.Minute)
)

const much = 1_000_000 * quota.Credit

// small is a store with a journal that is written out often and little memory.
var small = Config{JournalBytes: minJournalBytes, MaxRows: minRows, NoSyncForTests: true}

func openAt(t testing.TB, path string, cfg Config) *Store {
	t.Helper()
	var log bytes.Buffer
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	}
	s, err := Open(path, cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		if t.Failed() {
			t.Log(log.String())
		}
	})
	return s
}

func openNew(t testing.TB, cfg Config) *Store {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "store.db"), cfg)
}

// tree makes an organization with an account and keys.
func plant(t testing.TB, s *Store, org string, keys ...string) {
	t.Helper()
	require.NoError(t, s.Write(ctx, saccount.Batch{Org: org, At: now, Changes: []saccount.Change{
		{Quiet: true, Record: saccount.Record{Kind: saccount.KindOrg, Org: org, ID: org, Name: org, Created: now, Data: []byte("{}")}},
		{Quiet: true, Record: saccount.Record{Kind: saccount.KindAccount, Org: org, ID: "worker", Parent: org, Name: "Worker", Created: now, Labels: map[string]string{"env": "prod"}}},
	}, Audit: []saccount.Entry{{At: now, Data: []byte("planted " + org)}}}))
	for len(keys) > 0 {
		n := min(len(keys), 1000)
		b := saccount.Batch{Org: org, At: now}
		for _, k := range keys[:n] {
			b.Changes = append(b.Changes, saccount.Change{Quiet: true, Record: saccount.Record{
				Kind: saccount.KindKey, Org: org, ID: k, Parent: "worker", Name: "key " + k, Created: now, Data: bytes.Repeat([]byte(k), 4)}})
		}
		require.NoError(t, s.Write(ctx, b))
		keys = keys[n:]
	}
}

func names(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s%06d", prefix, i)
	}
	return out
}

// chain is a key, its account and its organization, with a monthly limit each.
func chain(org, key string, most quota.Credits) quota.Chain {
	c := quota.Chain{Org: org, Caller: quota.NewSubject(quota.KindKey, key)}
	for _, s := range []quota.Subject{c.Caller, "account:worker", quota.NewSubject(quota.KindOrg, org)} {
		p, err := quota.NewPurse(s, 1, []quota.Limit{{Name: quota.DefaultLimitName, Number: 1, Max: most, Period: quota.Period{Unit: quota.Month}}}, quota.DefaultThresholds())
		if err != nil {
			panic(err)
		}
		c.Purses = append(c.Purses, p)
	}
	return c
}

func ledger(t testing.TB, s quota.Store) *quota.Ledger {
	t.Helper()
	l, err := quota.NewLedger(s, quota.LedgerConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func charge(t testing.TB, l *quota.Ledger, c quota.Chain, id string, amount quota.Credits, at time.Time) {
	t.Helper()
	d, err := l.Charge(ctx, c, quota.Charge{ID: id, Amount: amount, At: at})
	require.NoError(t, err)
	require.True(t, d.Allowed)
}

// used is what the first limit of the chain says, and the sum of the buckets.
func used(t testing.TB, s *Store, c quota.Chain, at time.Time) (q quota.Credits, sum quota.Credits, requests int64) {
	t.Helper()
	st, err := ledger(t, s).Status(ctx, c, at)
	require.NoError(t, err)
	require.NoError(t, s.Usage(ctx, usage.Range{Org: c.Org, Subjects: []quota.Subject{c.Caller}, From: 0, To: day.AddDate(10, 0, 0).UnixMicro()}, func(r usage.Row) error {
		if r.Reason == "" {
			sum += r.Credits
			requests += r.Requests
		}
		return nil
	}))
	return st[0].Used, sum, requests
}
