package bench

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/keypurse/keypurse/bench/internal/harness"
)

// enough is how many undisturbed rounds a median needs. With fewer, the least
// disturbed ones count and the report says so.
const enough = 3

// stat is what is told of a figure's rounds. N is 0 where nothing was measured.
type stat struct {
	Min, Median, Max float64
	N                int
	Disturbed        bool // too few quiet rounds
}

// statOf takes f of those rounds below n that others disturbed least: of all
// quiet ones, and of enough anyway.
func statOf(n int, foreign, f func(int) float64) stat {
	if n == 0 {
		return stat{}
	}
	rounds := make([]int, n)
	for i := range rounds {
		rounds[i] = i
	}
	slices.SortStableFunc(rounds, func(a, b int) int { return cmp.Compare(foreign(a), foreign(b)) })
	quiet := 0
	for quiet < n && foreign(rounds[quiet]) < harness.Noisy {
		quiet++
	}
	needed := min(n, enough)
	var vs []float64
	for _, i := range rounds[:max(quiet, needed)] {
		vs = append(vs, f(i))
	}
	slices.Sort(vs)
	mid := len(vs) / 2
	median := vs[mid]
	if len(vs)%2 == 0 {
		median = (vs[mid-1] + vs[mid]) / 2
	}
	return stat{vs[0], median, vs[len(vs)-1], len(vs), quiet < needed}
}

// mark is a star on figures of disturbed rounds.
func (s stat) mark() string {
	if s.Disturbed {
		return "*"
	}
	return ""
}

// results finds results by name.
type results map[string]*harness.Result

func index(rs []*harness.Result) results {
	m := make(results, len(rs))
	for _, r := range rs {
		m[r.Name()] = r
	}
	return m
}

// measure takes the ratio in every round and says why it could not.
func (rs results) measure(r ratio) (s stat, missing string) {
	n, cases := -1, []*harness.Result(nil)
	for _, f := range slices.Concat(r.Over, r.Under) {
		for _, name := range []string{f.Case, f.Above} {
			if name == "" {
				continue
			}
			c := rs[name]
			switch {
			case c == nil:
				return stat{}, "not measured"
			case c.NotRun != "":
				return stat{}, "not run: " + c.NotRun
			case c.Err != nil:
				return stat{}, "failed"
			}
			cases = append(cases, c)
			if n < 0 || len(c.Rounds) < n {
				n = len(c.Rounds)
			}
		}
	}
	if n <= 0 {
		return stat{}, "not measured"
	}
	foreign := func(i int) (worst float64) {
		for _, c := range cases {
			worst = max(worst, c.Rounds[i].Foreign)
		}
		return worst
	}
	product := func(fs []figure, i int) float64 {
		x := 1.0
		for _, f := range fs {
			v := f.of(rs[f.Case].Rounds[i])
			if f.Above != "" {
				v -= f.of(rs[f.Above].Rounds[i])
			}
			x *= v
		}
		return x
	}
	return statOf(n, foreign, func(i int) float64 { return product(r.Over, i) / product(r.Under, i) }), ""
}

func (b bound) met(x float64) bool {
	if b.Least {
		return x >= b.X
	}
	return x <= b.X
}

func (b bound) String() string {
	switch {
	case b.Least && b.X == 0:
		return "-"
	case b.Least:
		return "≥ " + number(b.X)
	default:
		return "≤ " + number(b.X)
	}
}

// number writes three digits that matter.
func number(x float64) string {
	switch {
	case x >= 999_500:
		return fmt.Sprintf("%.2fM", x/1e6)
	case x >= 9_995:
		return fmt.Sprintf("%.1fk", x/1e3)
	case x >= 99.5 || x == float64(int64(x)):
		return fmt.Sprintf("%.0f", x)
	case x >= 9.95:
		return fmt.Sprintf("%.1f", x)
	default:
		return fmt.Sprintf("%.2f", x)
	}
}

func duration(ns float64) string {
	switch {
	case ns >= 1e6:
		return number(ns/1e6) + " ms"
	case ns >= 1e3:
		return number(ns/1e3) + " µs"
	default:
		return number(ns) + " ns"
	}
}
