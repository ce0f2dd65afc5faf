// Package patterns judges alert.Unusual by series of hours of which it is known
// when something was wrong.
package patterns

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
)

// Series is what was spent in each of consecutive hours, with the incidents that
// a person would want to hear of.
type Series struct {
	Name      string
	Hours     []quota.Credits
	Incidents []Span
}

// Span is the hours [From, To) of a series, by their number.
type Span struct{ From, To int }

// Score is what the rule made of series.
type Score struct {
	Found, Missed int // incidents with an alert in one of their hours, and without
	Far, FoundFar int // incidents of these in which an hour was above alert.PatternTimes times the usual: all, and those found
	Early         int // incidents that ended before the rule has enough to go by; not among the others
	False         int // alerts of no incident
	Quiet         int // days without an incident or an alert
}

// Add adds another's.
func (s *Score) Add(o Score) {
	s.Found += o.Found
	s.Missed += o.Missed
	s.Far += o.Far
	s.FoundFar += o.FoundFar
	s.Early += o.Early
	s.False += o.False
	s.Quiet += o.Quiet
}

// Judge looks at a series hour by hour, as a service does, with the quiet time
// after each alert.
func Judge(s *Series) (score Score) {
	within := make([]bool, len(s.Hours))
	found, far := make([]bool, len(s.Incidents)), make([]bool, len(s.Incidents))
	for _, i := range s.Incidents {
		for h := max(i.From, 0); h < min(i.To, len(within)); h++ {
			within[h] = true
		}
	}
	alarm := map[int]bool{}
	for h, quiet := 0, 0; h < len(s.Hours); h++ {
		if h < quiet && !within[h] {
			continue
		}
		usual, is := alert.Unusual(s.Hours[:h+1])
		for n, i := range s.Incidents {
			far[n] = far[n] || i.From <= h && h < i.To && h >= alert.PatternAge && s.Hours[h]/alert.PatternTimes > usual
		}
		if !is || h < quiet {
			continue
		}
		quiet = h + alert.PatternQuiet
		alarm[h/24] = true
		if !within[h] {
			score.False++
		}
		for n, i := range s.Incidents {
			found[n] = found[n] || i.From <= h && h < i.To
		}
	}
	for n, i := range s.Incidents {
		switch {
		case found[n]:
			score.Found++
		case i.To <= alert.PatternAge:
			score.Early++
		default:
			score.Missed++
		}
		if far[n] {
			score.Far++
		}
		if far[n] && found[n] {
			score.FoundFar++
		}
	}
	for d := range len(s.Hours) / 24 {
		bad := alarm[d]
		for _, x := range within[d*24 : d*24+24] {
			bad = bad || x
		}
		if !bad {
			score.Quiet++
		}
	}
	return score
}

// benchmark are the series of the Numenta Anomaly Benchmark that are amounts by
// time, as spending is: mentions, passengers, requests, bytes. Its others are
// temperatures, loads, speeds, prices and times.
var benchmark = []string{
	"realTweets/*.csv", "realKnownCause/nyc_taxi.csv", "realAWSCloudwatch/elb_request_count_*.csv", "realAWSCloudwatch/ec2_network_in_*.csv",
	"realAWSCloudwatch/iio_*.csv", "realAWSCloudwatch/ec2_disk_write_bytes_*.csv",
}

// Benchmark reads the series of a copy of the Numenta Anomaly Benchmark
// (https://github.com/numenta/NAB), folded to hours, with its labelled windows.
//
// sum is the SHA-256 of all that was read.
func Benchmark(dir fs.FS) (out []Series, sum string, err error) {
	read := sha256.New()
	open := func(name string) ([]byte, error) {
		b, err := fs.ReadFile(dir, name)
		read.Write(b)
		return b, err
	}
	b, err := open("labels/combined_windows.json")
	if err != nil {
		return nil, "", fmt.Errorf("patterns: this is no copy of the Numenta Anomaly Benchmark: %w", err)
	}
	var windows map[string][][2]string
	if err := json.Unmarshal(b, &windows); err != nil {
		return nil, "", fmt.Errorf("patterns: labels/combined_windows.json: %w", err)
	}
	for _, pattern := range benchmark {
		names, err := fs.Glob(dir, path.Join("data", pattern))
		if err != nil {
			return nil, "", fmt.Errorf("patterns: %w", err)
		}
		for _, name := range names {
			b, err := open(name)
			if err != nil {
				return nil, "", fmt.Errorf("patterns: %w", err)
			}
			s, err := fold(b, windows[strings.TrimPrefix(name, "data/")])
			if err != nil {
				return nil, "", fmt.Errorf("patterns: %s: %w", name, err)
			}
			s.Name = strings.TrimSuffix(strings.TrimPrefix(name, "data/"), ".csv")
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		return nil, "", errors.New("patterns: there are no series below data")
	}
	return out, hex.EncodeToString(read.Sum(nil)), nil
}

// fold adds lines of "timestamp,value" to hours.
func fold(csv []byte, windows [][2]string) (s Series, err error) {
	var first time.Time
	hour := func(text string) (int, error) {
		at, err := time.Parse("2006-01-02 15:04:05", text) // a fraction is taken too
		return int(math.Floor(at.Sub(first).Hours())), err
	}
	lines := bufio.NewScanner(bytes.NewReader(csv))
	for n := 0; lines.Scan(); n++ {
		if n == 0 {
			continue // the names of the columns
		}
		at, text, _ := strings.Cut(lines.Text(), ",")
		if n == 1 {
			if first, err = time.Parse(time.DateTime, at); err != nil {
				return s, err
			}
			first = first.Truncate(time.Hour)
		}
		h, err := hour(at)
		if err != nil {
			return s, err
		}
		v, err := strconv.ParseFloat(text, 64)
		if err != nil || v < 0 || v > 1e12 || h < 0 || h > 1e6 {
			return s, fmt.Errorf("line %d is no amount: %q", n+1, lines.Text())
		}
		for len(s.Hours) <= h {
			s.Hours = append(s.Hours, 0)
		}
		s.Hours[h] += quota.Credits(v * float64(quota.Credit))
	}
	for _, w := range windows {
		from, err := hour(w[0])
		to, e := hour(w[1])
		if err := errors.Join(err, e); err != nil {
			return s, err
		}
		s.Incidents = append(s.Incidents, Span{from, to + 1})
	}
	return s, lines.Err()
}
