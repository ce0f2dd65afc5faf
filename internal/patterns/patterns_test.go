package patterns

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
)

// recorded is twelve days of a benchmark's series, every half an hour, with more
// in some of the hours.
func recorded(peaks map[int]int) string {
	var b strings.Builder
	b.WriteString("timestamp,value\n")
	at := time.Date(2015, time.March, 1, 9, 42, 53, 0, time.UTC)
	for i := range 12 * 48 {
		v := 10
		if p, ok := peaks[i/2]; ok {
			v = p
		}
		fmt.Fprintf(&b, "%s,%d\n", at.Add(time.Duration(i)*30*time.Minute).Format(time.DateTime), v)
	}
	return b.String()
}

func TestBenchmark(t *testing.T) {
	dir := fstest.MapFS{
		"labels/combined_windows.json": {Data: []byte(`{
			"realTweets/a.csv": [["2015-03-02 10:00:00.000000", "2015-03-02 20:00:00.000000"],
				["2015-03-09 20:12:53.000000", "2015-03-09 23:12:53.000000"], ["2015-03-11 09:00:00.000000", "2015-03-11 12:00:00.000000"]],
			"realTraffic/speed.csv": []}`)},
		"data/realTweets/a.csv":      {Data: []byte(recorded(map[int]int{204: 100, 280: 150}))},
		"data/realTraffic/speed.csv": {Data: []byte("timestamp,value\nit is no amount")},
	}
	all, sum, err := Benchmark(dir)
	require.NoError(t, err)
	require.Len(t, all, 1)
	assert.Len(t, sum, 64)
	s := &all[0]
	assert.Equal(t, "realTweets/a", s.Name)
	require.Len(t, s.Hours, 12*24+1, "from the hour that it begins in to the one that it ends in")
	assert.Equal(t, 10*quota.Credit, s.Hours[0], "half an hour")
	assert.Equal(t, 20*quota.Credit, s.Hours[1])
	assert.Equal(t, []Span{{25, 36}, {203, 207}, {240, 244}}, s.Incidents)
	assert.Equal(t, Score{Found: 1, Far: 1, FoundFar: 1, Missed: 1, Early: 1, False: 1, Quiet: 8}, Judge(s))
	text := Tables(all, sum)
	for _, line := range []string{"| incidents with an hour above 3 times the usual | 1 | 0 |", "| other incidents | 0 | 1 |", "| days without an incident | 1 | 8 |", "| realTweets/a | 12 | 1 | 1 | 1 | 1 | 1 | 8 |", "1 series, 289 hours"} {
		assert.Contains(t, text, line)
	}
	for want, data := range map[string]string{"line 2": "timestamp,value\n2015-03-01 00:00:00,-5", "cannot parse": "timestamp,value\nyesterday,5", "is no amount": "timestamp,value\n2015-03-01 00:00:00,5\n2014-03-01 00:00:00,5"} {
		dir["data/realTweets/a.csv"] = &fstest.MapFile{Data: []byte(data)}
		_, _, err := Benchmark(dir)
		require.ErrorContains(t, err, want)
		assert.ErrorContains(t, err, "realTweets/a.csv")
	}
	delete(dir, "data/realTweets/a.csv")
	_, _, err = Benchmark(dir)
	require.ErrorContains(t, err, "no series")
	_, _, err = Benchmark(fstest.MapFS{})
	require.ErrorContains(t, err, "no copy of the Numenta Anomaly Benchmark")
}
