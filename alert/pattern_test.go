package alert_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
)

// series reads a recorded series: what was spent in each hour of five weeks,
// from a Monday on, and which hours a person would want to hear of.
func series(t *testing.T, path string) (hours []quota.Credits, incident []bool) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var c, i int64
		if n, _ := fmt.Sscanf(lines.Text(), "%d,%d", &c, &i); n == 2 {
			hours, incident = append(hours, quota.Credits(c)*quota.Credit), append(incident, i == 1)
		}
	}
	require.Len(t, hours, 5*7*24)
	return hours, incident
}

// The rule on recorded series, hour by hour, with the quiet period: what it
// finds, what it misses, where it cries wolf. The sums are those of the package
// documentation.
func TestUnusualOnRecordedSeries(t *testing.T) {
	paths, err := filepath.Glob("testdata/series/*.csv")
	require.NoError(t, err)
	require.Len(t, paths, 16)
	found, missed, falseAlarms, quietDays := 0, 0, 0, 0
	per := map[string]string{}
	for _, path := range paths {
		hours, incident := series(t, path)
		name := strings.TrimSuffix(filepath.Base(path), ".csv")
		quiet, alarm, hit := 0, map[int]bool{}, false
		falses := 0
		has := false
		for i := range hours {
			has = has || incident[i]
			if i < quiet {
				continue
			}
			if _, is := alert.Unusual(hours[:i+1]); is {
				quiet = i + alert.PatternQuiet
				alarm[i/24] = true
				if incident[i] {
					hit = true
				} else {
					falses++
				}
			}
		}
		for d := range len(hours) / 24 {
			bad := false
			for _, x := range incident[d*24 : d*24+24] {
				bad = bad || x
			}
			if !bad && !alarm[d] {
				quietDays++
			}
		}
		falseAlarms += falses
		switch {
		case hit:
			found++
		case has:
			missed++
		}
		per[name] = fmt.Sprint("found ", hit, ", false alarms ", falses)
	}
	t.Log(per)
	assert.Equal(t, [4]int{4, 2, 1, 552}, [4]int{found, missed, falseAlarms, quietDays}, "found, missed, false alarms, days rightly without one")
	assert.Equal(t, "found false, false alarms 1", per["monthly"])
	for _, s := range []string{"leaked_little", "creep"} {
		assert.Equal(t, "found false, false alarms 0", per[s])
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
