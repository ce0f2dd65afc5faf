package sim_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/internal/pgtest"
	"github.com/keypurse/keypurse/internal/sim"
)

// The short form of `make sim LEASES=1`, in a time that passes at once: four
// processes whose clocks differ by up to three minutes, some of which die.
func TestLeases(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, err := sim.Leases(t.Context(), sim.LeaseConfig{Seed: seed, For: 2 * time.Minute, Skew: 90 * time.Second, Crashes: true})
				require.NoError(t, err)
				t.Logf("%+v", r)
				assert.NotZero(t, r.Charged)
				assert.NotZero(t, r.Refused)
				assert.NotZero(t, r.Blocks)
				assert.LessOrEqual(t, r.Acknowledged, r.Settled+r.Stranded)
			})
		})
	}
}

// The same on stores that are real, in real time.
func TestLeasesOnDisk(t *testing.T) {
	for _, store := range []string{"bolt", "postgres"} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			cfg := sim.LeaseConfig{Seed: 5, For: 4 * time.Second, Skew: time.Second, Crashes: true, Store: store, Dir: t.TempDir()}
			if store == "postgres" {
				cfg.DSN = pgtest.DSN(t)
			}
			r, err := sim.Leases(t.Context(), cfg)
			require.NoError(t, err)
			t.Logf("%+v", r)
			assert.NotZero(t, r.Charged)
		})
	}
}

// Where nobody dies every credit that was acknowledged is charged, once.
func TestLeasesOfTheLiving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := sim.Leases(t.Context(), sim.LeaseConfig{Seed: 77, For: 2 * time.Minute})
		require.NoError(t, err)
		t.Logf("%+v", r)
		assert.Equal(t, r.Acknowledged, r.Settled)
		assert.Zero(t, r.Stranded)
	})
}
