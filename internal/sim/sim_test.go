package sim_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/internal/sim"
)

// The short form of `make sim`: no reply and no state differs from the model's.
func TestSimulation(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			r, err := sim.Run(t.Context(), sim.Config{Seed: seed, Steps: 3000, Every: 500})
			require.NoError(t, err)
			assert.NotZero(t, r.Counts["charge allowed"])
			assert.NotZero(t, r.Counts["charge refused"])
		})
	}
}

func TestTheSameSeedIsTheSameHistory(t *testing.T) {
	cfg := sim.Config{Seed: 99, Steps: 1000, Every: 250}
	one, err := sim.Run(t.Context(), cfg)
	require.NoError(t, err)
	two, err := sim.Run(t.Context(), cfg)
	require.NoError(t, err)
	assert.Equal(t, one.Replies, two.Replies)
	cfg.Seed++
	other, err := sim.Run(t.Context(), cfg)
	require.NoError(t, err)
	assert.NotEqual(t, one.Replies, other.Replies)
}
