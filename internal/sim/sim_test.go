package sim_test

import (
	"errors"
	"fmt"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/internal/pgtest"
	"github.com/keypurse/keypurse/internal/sim"
)

// run runs a simulation; of a violation it shows the least that shows it.
func run(t *testing.T, cfg sim.Config) sim.Report {
	t.Helper()
	cfg.Dir = t.TempDir()
	r, err := sim.Run(t.Context(), cfg)
	var v *sim.Violation
	if errors.As(err, &v) {
		if s, _ := sim.Shrink(t.Context(), cfg, v, 20*time.Second); s != nil {
			t.Logf("a part of it is enough:\n%v", s)
		}
	}
	require.NoError(t, err)
	return r
}

// The short form of `make sim`: no reply and no state differs from the model's.
func TestSimulation(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			r := run(t, sim.Config{Seed: seed, Steps: 3000, World: 1500, Every: 500})
			for _, what := range []string{"charge allowed", "charge refused", "reserve allowed", "commit allowed", "refund allowed"} {
				assert.NotZero(t, r.Counts[what], what)
			}
		})
	}
}

// Every store answers the same history in the same words.
func TestStoresAgree(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			cfg := sim.Config{Seed: 100 + seed, Steps: 1000, World: 500, Every: 250}
			memory := run(t, cfg)
			cfg.Store = "bolt"
			bolt := run(t, cfg)
			assert.Equal(t, memory.Replies, bolt.Replies)
			cfg.Store, cfg.DSN = "postgres", pgtest.DSN(t)
			assert.Equal(t, memory.Replies, run(t, cfg).Replies)
		})
	}
}

func TestTheSameSeedIsTheSameHistory(t *testing.T) {
	cfg := sim.Config{Seed: 99, Steps: 1000, Every: 250}
	one, two := run(t, cfg), run(t, cfg)
	assert.Equal(t, one.Replies, two.Replies)
	cfg.Seed++
	assert.NotEqual(t, one.Replies, run(t, cfg).Replies)
}

func TestAnUnknownStore(t *testing.T) {
	_, err := sim.Run(t.Context(), sim.Config{Steps: 1, Store: "clay"})
	require.ErrorContains(t, err, "clay")
}
