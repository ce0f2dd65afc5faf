package bench

import (
	"fmt"
	"strings"
	"time"

	"github.com/keypurse/keypurse/bench/internal/harness"
)

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

// Conditions are those under which a section was measured.
type Conditions struct {
	Date     time.Time
	Command  string // to type in bench/
	Rounds   int
	Duration time.Duration // of one round of one case
	Took     time.Duration
	Quick    bool
}

func (c *Conditions) write(b *strings.Builder) {
	if c.Quick {
		b.WriteString("**A smoke test: the sizes are cut down and the figures mean nothing.**\n\n")
	}
	fmt.Fprintf(b, "| what | value |\n| --- | --- |\n%s", Machine())
	fmt.Fprintf(b, "| date | %s |\n", c.date())
	fmt.Fprintf(b, "| command | `%s` in bench/ |\n", c.Command)
	fmt.Fprintf(b, "| rounds | %d of %v for each case, interleaved; %s in all |\n", c.Rounds, c.Duration, c.Took.Round(time.Second))
}

func (c *Conditions) date() string { return c.Date.UTC().Format("2006-01-02 15:04 UTC") }

// Report is what is written of one run of a section: its conditions, what it must
// reach, all ratios, all cases.
func Report(section string, c Conditions, rs []*harness.Result) Block {
	var b, reached, ratios strings.Builder
	by := index(rs)
	met := tally{}
	for _, l := range lines() {
		if l.Section != section {
			continue
		}
		var ms []measured
		for _, r := range l.Ratios {
			s, missing := by.measure(r)
			ms = append(ms, measured{r, s, missing})
		}
		must, aim := all(ms, mustOf), all(ms, aimOf)
		met.add(must, aim)
		fmt.Fprintf(&reached, "| %s | %s | %s | %s | %s | %s |\n", l.Path, l.Must, l.Aim, worst(ms), must, aim)
		fmt.Fprintf(&ratios, "| **%s** | | | | | | |\n", l.Path)
		for _, m := range ms {
			if m.missing != "" {
				fmt.Fprintf(&ratios, "| %s | %s | %s | | %s | %s | |\n", m.At, m.What, m.missing, m.Must, m.Aim)
				continue
			}
			fmt.Fprintf(&ratios, "| %s | %s | %s%s | %s..%s | %s | %s | %s, %s |\n", m.At, m.What, number(m.Median), m.mark(),
				number(m.Min), number(m.Max), m.Must, m.Aim, m.met(m.Must), m.met(m.Aim))
		}
	}
	c.write(&b)
	b.WriteString(headReached + reached.String() + headRatios + ratios.String() + headCases)
	for _, r := range rs {
		caseRow(&b, r)
	}
	return Block{Section: section, Date: c.date(), Met: met.String(), Text: b.String()}
}

// The heads of a block's tables. What they mean is said once, at the top.
const (
	headReached = "\n### What must be reached\n\n| path | must | aim | measured | must met | aim met |\n| --- | --- | --- | --- | --- | --- |\n"
	headRatios  = "\n### Ratios\n\n| at | compared | median | min..max | must | aim | met: must, aim |\n| --- | --- | ---: | ---: | --- | --- | --- |\n"
	headCases   = "\n### Cases\n\n| work | who | time | calls/s | min..max | p50 | p99 | allocs | bytes | quiet |\n| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
)

// tally counts the lines that reach what they must and aim at.
type tally struct{ lines, must, aim int }

func (t *tally) add(must, aim string) {
	t.lines++
	if must == "yes" {
		t.must++
	}
	if aim == "yes" {
		t.aim++
	}
}

func (t *tally) String() string { return fmt.Sprintf("must %d of %d, aim %d", t.must, t.lines, t.aim) }

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
