package alert_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/internal/patterns"
	"github.com/keypurse/keypurse/quota"
)

// series reads a generated series: what was spent in each hour of five weeks,
// from a Monday on, and which hours a person would want to hear of.
func series(t *testing.T, path string) (s patterns.Series) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	s.Name = strings.TrimSuffix(filepath.Base(path), ".csv")
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var c, bad int64
		if n, _ := fmt.Sscanf(lines.Text(), "%d,%d", &c, &bad); n != 2 {
			continue
		}
		if h := len(s.Hours); bad == 1 && len(s.Incidents) == 0 {
			s.Incidents = []patterns.Span{{From: h, To: h + 1}}
		} else if bad == 1 {
			s.Incidents[0].To = h + 1
		}
		s.Hours = append(s.Hours, quota.Credits(c)*quota.Credit)
	}
	require.Len(t, s.Hours, 5*7*24)
	return s
}

// The rule on generated series, hour by hour, with the quiet period: what it
// finds, what it misses, where it cries wolf. The sums are those of the package
// documentation; recorded series are judged by make pattern.
func TestUnusualOnGeneratedSeries(t *testing.T) {
	paths, err := filepath.Glob("testdata/series/*.csv")
	require.NoError(t, err)
	require.Len(t, paths, 16)
	var sum patterns.Score
	per := map[string]patterns.Score{}
	for _, path := range paths {
		s := series(t, path)
		per[s.Name] = patterns.Judge(&s)
		sum.Add(per[s.Name])
	}
	t.Log(per)
	assert.Equal(t, patterns.Score{Found: 4, Missed: 2, Far: 4, FoundFar: 4, False: 1, Quiet: 552}, sum)
	assert.Equal(t, 1, per["monthly"].False)
	for _, s := range []string{"leaked_little", "creep"} {
		assert.Equal(t, [2]int{1, 0}, [2]int{per[s].Missed, per[s].False}, s)
	}
}

// What was seen before is no news, however rare; a tenth above it is.
func TestUnusualIsMoreThanEver(t *testing.T) {
	past := make([]quota.Credits, 600)
	for i := range past {
		past[i] = 10
	}
	past[300] = 1000
	for now, want := range map[quota.Credits]bool{900: false, 1000: false, 1100: false, 1101: true, 5000: true} {
		_, is := alert.Unusual(append(slices.Clone(past), now))
		assert.Equal(t, want, is, now)
	}
}

func TestUnusualHasEnoughToGoBy(t *testing.T) {
	usual := func(n int) (hours []quota.Credits) {
		for range n {
			hours = append(hours, 10)
		}
		return hours
	}
	for n, want := range map[int]bool{0: false, 1: false, 24: false, 167: false, 168: true, 672: true, 2000: true} {
		_, is := alert.Unusual(append(usual(n), 1000))
		assert.Equal(t, want, is, "after %d hours", n)
	}
	_, is := alert.Unusual(nil)
	assert.False(t, is)
	_, is = alert.Unusual(append(usual(600), 30)) // three times, not above
	assert.False(t, is)
	u, is := alert.Unusual(append(usual(600), 33))
	assert.True(t, is)
	assert.EqualValues(t, 10, u)
	_, is = alert.Unusual([]quota.Credits{quota.MaxCredits, quota.MaxCredits, quota.MaxCredits})
	assert.False(t, is, "no overflow")
}
