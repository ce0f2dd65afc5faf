package bench

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

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

// measured is a ratio with its figures.
type measured struct {
	ratio
	stat
	missing string
}

func (m *measured) met(b bound) string {
	switch {
	case m.missing != "":
		return m.missing
	case b.met(m.Median):
		return "yes"
	default:
		return "no"
	}
}

// worst answers for a whole line: the ratio furthest on the wrong side for
// each thing that is compared.
func worst(ms []measured) string {
	var out []string
	for len(ms) > 0 {
		what := ms[0].What
		var same, rest []measured
		for _, m := range ms {
			if m.What == what {
				same = append(same, m)
			} else {
				rest = append(rest, m)
			}
		}
		ms = rest
		w := same[0]
		for _, m := range same[1:] {
			if w.missing != "" {
				break
			}
			if m.missing != "" || m.Must.Least && m.Median < w.Median || !m.Must.Least && m.Median > w.Median {
				w = m
			}
		}
		switch {
		case w.missing != "":
			out = append(out, what+": "+w.missing)
		case len(same) == 1:
			out = append(out, fmt.Sprintf("%s %s (%s)", number(w.Median), what, w.At))
		default:
			out = append(out, fmt.Sprintf("%s %s (worst of %d: %s)", number(w.Median), what, len(same), w.At))
		}
	}
	return strings.Join(out, "; ")
}

// all is yes if every ratio meets its bound, no if one does not.
func all(ms []measured, of func(*measured) bound) string {
	answer := "yes"
	for i := range ms {
		switch m := ms[i].met(of(&ms[i])); {
		case m == "no":
			return m
		case m != "yes":
			answer = m
		}
	}
	return answer
}

func mustOf(m *measured) bound { return m.Must }
func aimOf(m *measured) bound  { return m.Aim }

// Report writes a run's results as Markdown, under what the head says of the
// conditions.
func Report(w io.Writer, head string, rs []*harness.Result) error {
	var b strings.Builder
	by := index(rs)
	fmt.Fprintf(&b, "# Results\n\n%s", head)
	b.WriteString("\n## What must be reached\n\nThe worst figure of each line; all of them follow below.\n\n" +
		"| path | must | aim | measured | must met | aim met |\n| --- | --- | --- | --- | --- | --- |\n")
	var detail strings.Builder
	for _, l := range lines() {
		var ms []measured
		for _, r := range l.Ratios {
			s, missing := by.measure(r)
			ms = append(ms, measured{r, s, missing})
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", l.Path, l.Must, l.Aim, worst(ms), all(ms, mustOf), all(ms, aimOf))
		fmt.Fprintf(&detail, "| **%s** | | | | | | |\n", l.Path)
		for _, m := range ms {
			if m.missing != "" {
				fmt.Fprintf(&detail, "| %s | %s | %s | | %s | %s | |\n", m.At, m.What, m.missing, m.Must, m.Aim)
				continue
			}
			fmt.Fprintf(&detail, "| %s | %s | %s%s | %s..%s | %s | %s | %s, %s |\n", m.At, m.What, number(m.Median), m.mark(),
				number(m.Min), number(m.Max), m.Must, m.Aim, m.met(m.Must), m.met(m.Aim))
		}
	}
	b.WriteString("\n## Ratios\n\nA ratio is taken in each round, between cases that ran one after the other in it; " +
		"median and smallest..largest of the undisturbed rounds, or of the least disturbed (*) where there were too few.\n\n" +
		"| at | compared | median | min..max | must | aim | met: must, aim |\n| --- | --- | ---: | ---: | --- | --- | --- |\n")
	b.WriteString(detail.String())
	fmt.Fprintf(&b, "\n## Cases\n\nTime is wall time a call, all callers together. "+
		"Quiet counts the rounds in which others used less than %.0f %% of the machine; the figures are theirs, "+
		"or of the %d least disturbed (*) where fewer were quiet.\n", 100*harness.Noisy, enough)
	section := ""
	for _, r := range rs {
		if r.Section != section {
			section = r.Section
			fmt.Fprintf(&b, "\n### %s\n\n| work | who | time | calls/s | min..max | p50 | p99 | allocs | bytes | quiet |\n"+
				"| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n", section)
		}
		caseRow(&b, r)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func caseRow(b *strings.Builder, r *harness.Result) {
	n := len(r.Rounds)
	switch {
	case r.NotRun != "":
		fmt.Fprintf(b, "| %s | %s | not run: %s | | | | | | | |\n", r.Work, r.Who, r.NotRun)
		return
	case r.Err != nil:
		fmt.Fprintf(b, "| %s | %s | failed | | | | | | | |\n", r.Work, r.Who)
		return
	case n == 0:
		fmt.Fprintf(b, "| %s | %s | no rounds | | | | | | | |\n", r.Work, r.Who)
		return
	}
	quiet := 0
	for _, x := range r.Rounds {
		if x.Foreign < harness.Noisy {
			quiet++
		}
	}
	get := func(f func(harness.Round) float64) stat {
		return statOf(n, func(i int) float64 { return r.Rounds[i].Foreign }, func(i int) float64 { return f(r.Rounds[i]) })
	}
	v, speed := get(value.of), get(perSec.of)
	mark := speed.mark()
	if v.Max > 0 {
		fmt.Fprintf(b, "| %s | %s | %s | | %s..%s | | | | | %d/%d%s |\n", r.Work, r.Who, number(v.Median), number(v.Min), number(v.Max), quiet, n, mark)
		return
	}
	fmt.Fprintf(b, "| %s | %s | %s | %s | %s..%s | %s | %s | %s | %s | %d/%d%s |\n", r.Work, r.Who,
		duration(get(nanos.of).Median), number(speed.Median), number(speed.Min), number(speed.Max),
		duration(get(func(x harness.Round) float64 { return x.P50 }).Median), duration(get(p99.of).Median),
		number(get(allocs.of).Median), number(get(func(x harness.Round) float64 { return x.Bytes }).Median), quiet, n, mark)
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
