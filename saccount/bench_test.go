package saccount_test

import (
	"net/netip"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/apikey"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/memstore"
)

// fleet is a Service with many keys, for benchmarks.
func fleet(b testing.TB, keys int) (*saccount.Service, []string) {
	b.Helper()
	svc, err := saccount.New(memstore.New(), saccount.Config{Peppers: []apikey.Pepper{{ID: "p1", Key: []byte("an example pepper, 32 bytes long!")}}})
	require.NoError(b, err)
	ctx := b.Context()
	big := saccount.NewLimit(1e9*quota.Credit, quota.Period{Unit: quota.Month})
	_, err = svc.CreateOrg(ctx, by, saccount.OrgSpec{ID: "acme", Limits: saccount.Limits{"": big}})
	require.NoError(b, err)
	tokens := make([]string, keys)
	var a saccount.Account
	for i := range keys {
		if i%100 == 0 {
			a, err = svc.CreateAccount(ctx, by, "acme", saccount.AccountSpec{Name: "a" + strconv.Itoa(i), Limits: saccount.Limits{"": big}})
			require.NoError(b, err)
		}
		t, _, err := svc.CreateKey(ctx, by, "acme", a.ID, saccount.KeySpec{Name: "k" + strconv.Itoa(i), Limits: saccount.Limits{"": big}})
		require.NoError(b, err)
		tokens[i] = t.Reveal()
	}
	for _, t := range tokens {
		p, err := svc.Authenticate(ctx, t, netip.Addr{})
		require.NoError(b, err)
		_, err = svc.Charge(ctx, p, saccount.Charge{Amount: 1})
		require.NoError(b, err)
	}
	return svc, tokens
}

// A key that is known is let in and charged without an allocation: what a
// charge needs lies on the stack.
func TestAllocations(t *testing.T) {
	svc, tokens := fleet(t, 1)
	defer func() { require.NoError(t, svc.Close()) }()
	ctx := t.Context()
	n := testing.AllocsPerRun(1000, func() {
		_, d, err := svc.AuthenticateAndCharge(ctx, tokens[0], nil, saccount.Charge{Amount: 1})
		if err != nil || !d.Allowed {
			t.Error(err)
		}
	})
	if !raceDetector {
		require.Zero(t, n)
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			svc, tokens := fleet(b, n)
			b.ReportAllocs()
			x := uint64(1)
			for b.Loop() {
				x = x*6364136223846793005 + 1442695040888963407
				if _, err := svc.Authenticate(b.Context(), tokens[x>>33%uint64(n)], netip.Addr{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAuthenticateAndCharge(b *testing.B) {
	svc, tokens := fleet(b, 10_000)
	run := func(b *testing.B, x uint64) uint64 {
		x = x*6364136223846793005 + 1442695040888963407
		p, err := svc.Authenticate(b.Context(), tokens[x>>33%uint64(len(tokens))], netip.Addr{})
		if err == nil {
			var d quota.Decision
			d, err = svc.Charge(b.Context(), p, saccount.Charge{Amount: 1})
			if err == nil && !d.Allowed {
				err = d.Err()
			}
		}
		if err != nil {
			b.Error(err)
		}
		return x
	}
	b.Run("1", func(b *testing.B) {
		b.ReportAllocs()
		x := uint64(1)
		for b.Loop() {
			x = run(b, x)
		}
	})
	b.Run("32", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(16)
		b.RunParallel(func(pb *testing.PB) {
			x := uint64(7)
			for pb.Next() {
				x = run(b, x)
			}
		})
	})
}

// The short way of both, as the middleware takes it.
func BenchmarkAuthenticateAndChargeAtOnce(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			svc, tokens := fleet(b, n)
			ctx := b.Context()
			b.ReportAllocs()
			x := uint64(1)
			for b.Loop() {
				x = x*6364136223846793005 + 1442695040888963407
				_, d, err := svc.AuthenticateAndCharge(ctx, tokens[x>>33%uint64(n)], nil, saccount.Charge{Amount: 1})
				if err != nil || !d.Allowed {
					b.Fatal(err, d.Err())
				}
			}
		})
	}
}
