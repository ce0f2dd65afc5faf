package main

import (
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/bench"
)

func TestSections(t *testing.T) {
	names := func(args ...string) (out []string) {
		o, err := parse(args, io.Discard)
		require.NoError(t, err)
		ss, err := o.sections()
		require.NoError(t, err)
		for _, s := range ss {
			out = append(out, s.Name)
		}
		return out
	}
	var all, short []string
	for _, s := range bench.Sections() {
		all = append(all, s.Name)
		if !s.Full {
			short = append(short, s.Name)
		}
	}
	assert.Equal(t, short, names())
	assert.Equal(t, all, names("-full"))
	assert.Equal(t, []string{"postgres", "large"}, names("-section", "large,postgres"), "the longest too, where they are named")

	o, err := parse([]string{"-section", "postgress"}, io.Discard)
	require.NoError(t, err)
	_, err = o.sections()
	assert.ErrorContains(t, err, "there are authenticate, ")
}

// What is no whole section, measured as it must be, never goes into RESULTS.md.
func TestPartsAreNoResults(t *testing.T) {
	for _, args := range [][]string{{"-quick"}, {"-run", "x"}, {"-quick", "-out", "RESULTS.md"}} {
		o, err := parse(args, io.Discard)
		require.NoError(t, err)
		assert.Equal(t, "-", o.out, args)
	}
	for _, args := range [][]string{{"-rounds", "0"}, {"-d", "0s"}, {"more"}} {
		_, err := parse(args, io.Discard)
		assert.Error(t, err, args)
	}
}
