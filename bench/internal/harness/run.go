package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Noisy is the share of the machine from which others disturb a measurement.
const Noisy = 0.10

// retries is how often a disturbed measurement is repeated.
const retries = 3

// Options of a run.
type Options struct {
	Rounds   int
	Duration time.Duration // of one round of one case
	// Patience is how much time the whole run may spend on waiting for a quiet
	// machine and on repeating what was disturbed.
	Patience time.Duration
	Match    *regexp.Regexp // names of the cases to run; nil means all
	Log      io.Writer
	// Done is told of each section when it is over. Nil: nobody.
	Done func(section string, rs []*Result, took time.Duration) error
}

type live struct {
	*Case
	run  *Running
	next []int // each caller's next call
	res  *Result
}

// Run measures the sections one after the other. What fails is in the results;
// an error means that the context ended, or is Done's.
func Run(ctx context.Context, sections []Section, env Env, o Options) ([]*Result, error) {
	var out []*Result
	for i, s := range sections {
		patience := o.Patience / time.Duration(len(sections)-i)
		start := time.Now()
		rs, spent, err := runSection(ctx, s, env, o, patience)
		out = append(out, rs...)
		if err == nil && o.Done != nil {
			err = o.Done(s.Name, rs, time.Since(start))
		}
		if err != nil {
			return out, err
		}
		o.Patience -= spent
	}
	return out, nil
}

// runSection measures one group after the other.
func runSection(ctx context.Context, s Section, env Env, o Options, patience time.Duration) (out []*Result, spent time.Duration, err error) {
	var groups [][]Case
	for _, c := range s.Cases(env) {
		if o.Match != nil && !o.Match.MatchString(Name(s.Name, c.Work, c.Who)) {
			continue
		}
		last := len(groups) - 1
		if last < 0 || groups[last][0].Group != c.Group {
			groups = append(groups, nil)
			last++
		}
		groups[last] = append(groups[last], c)
	}
	for i, g := range groups {
		rs, lost, err := runGroup(ctx, s.Name, g, env, o, (patience-spent)/time.Duration(len(groups)-i))
		out, spent = append(out, rs...), spent+lost
		if err != nil {
			return out, spent, err
		}
	}
	return out, spent, nil
}

func runGroup(ctx context.Context, section string, cases []Case, env Env, o Options, patience time.Duration) (out []*Result, spent time.Duration, err error) {
	var ls []*live
	defer func() {
		for _, l := range ls {
			if l.run.Close == nil {
				continue
			}
			if err := l.run.Close(); err != nil && l.res.Err == nil {
				l.res.Err = fmt.Errorf("close: %w", err)
			}
		}
		ls = nil
		debug.FreeOSMemory()
	}()
	for _, c := range cases {
		name := Name(section, c.Work, c.Who)
		if ctx.Err() != nil {
			return out, spent, ctx.Err()
		}
		c.Callers, c.Sample = max(c.Callers, 1), max(c.Sample, 1)
		r := &Result{Section: section, Work: c.Work, Who: c.Who, Callers: c.Callers}
		out = append(out, r)
		run, err := c.Setup(ctx, env)
		if no := NotRun(""); errors.As(err, &no) {
			r.NotRun = string(no)
			fmt.Fprintf(o.Log, "%s: %v\n", name, err)
			continue
		}
		if err != nil {
			r.Err = fmt.Errorf("setup: %w", err)
			fmt.Fprintf(o.Log, "%s: %v\n", name, r.Err)
			continue
		}
		ls = append(ls, &live{&c, run, make([]int, c.Callers), r})
	}
	runtime.GC() // what the setups left behind is not the first case's to sweep
	for round := -1; round < o.Rounds; round++ {
		d := o.Duration
		if round < 0 {
			d /= 2 // the warm-up, not counted
		}
		for _, l := range ls {
			if l.res.Err != nil {
				continue
			}
			r, lost, err := l.quietly(ctx, d, round >= 0, patience-spent)
			spent += lost
			if ctx.Err() != nil {
				return out, spent, ctx.Err()
			}
			if err != nil {
				l.res.Err = err
				fmt.Fprintf(o.Log, "%s: %v\n", l.res.Name(), err)
				continue
			}
			if round >= 0 {
				l.res.Rounds = append(l.res.Rounds, r)
			}
		}
		if round >= 0 && len(ls) > 0 {
			fmt.Fprintf(o.Log, "%s: round %d of %d\n", strings.Trim(section+", "+cases[0].Group, ", "), round+1, o.Rounds)
		}
	}
	return out, spent, nil
}

// quietly measures once, and again while others disturb and patience lasts. It
// answers with the least disturbed measurement and with the time that waiting
// and repeating took.
func (l *live) quietly(ctx context.Context, d time.Duration, counts bool, patience time.Duration) (best Round, lost time.Duration, err error) {
	for try := 0; ; try++ {
		if counts && patience > lost {
			lost += waitQuiet(Noisy, min(patience-lost, 2*time.Second))
		}
		start := time.Now()
		r, err := l.measure(ctx, d)
		if err != nil {
			return r, lost, err
		}
		if try == 0 || r.Foreign < best.Foreign {
			best = r
		}
		if try > 0 {
			lost += time.Since(start)
		}
		if !counts || best.Foreign < Noisy || try == retries || lost >= patience {
			return best, lost, nil
		}
	}
}

func (l *live) measure(ctx context.Context, d time.Duration) (r Round, err error) {
	if l.Procs > 0 {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(l.Procs))
	}
	if l.run.Begin != nil {
		end, e := l.run.Begin(ctx)
		if e != nil {
			return r, e
		}
		defer func() { err = errors.Join(err, end()) }()
	}
	m := startMeter(l.run.PIDs...)
	if l.run.Round != nil {
		r, err = l.run.Round(ctx, d)
	} else {
		r, err = l.loop(ctx, d)
	}
	r.Foreign = m.foreign()
	return r, err
}

// caller is what one caller counts, apart from its neighbours in memory.
type caller struct {
	hist  hist
	calls int
	err   error
	_     [64]byte
}

// callAll lets all callers call op until d is over. next has each caller's next
// call and goes on.
func callAll(ctx context.Context, op Op, next []int, sample int, d time.Duration) (sum caller, took time.Duration) {
	cs := make([]caller, len(next))
	var stop atomic.Bool
	var wg sync.WaitGroup
	start := time.Now()
	for w := range cs {
		wg.Go(func() { cs[w].loop(op, w, next[w], sample, &stop) })
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
	stop.Store(true)
	wg.Wait()
	took = time.Since(start)
	var errs []error
	for w := range cs {
		sum.hist.merge(&cs[w].hist)
		sum.calls += cs[w].calls
		next[w] += cs[w].calls
		errs = append(errs, cs[w].err)
	}
	sum.err = errors.Join(errs...)
	return sum, took
}

// loop measures a round of an Op.
func (l *live) loop(ctx context.Context, d time.Duration) (Round, error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	sum, took := callAll(ctx, l.run.Op, l.next, l.Sample, d)
	runtime.ReadMemStats(&after)
	n := float64(max(sum.calls, 1))
	return Round{
		Rate:   float64(sum.calls) / took.Seconds(),
		P50:    float64(sum.hist.quantile(.50)),
		P99:    float64(sum.hist.quantile(.99)),
		Allocs: float64(after.Mallocs-before.Mallocs) / n,
		Bytes:  float64(after.TotalAlloc-before.TotalAlloc) / n,
	}, sum.err
}

func (c *caller) loop(op Op, w, i, sample int, stop *atomic.Bool) {
	first := i
	for !stop.Load() && c.err == nil {
		s := time.Now()
		c.err = op(w, i)
		c.hist.add(time.Since(s))
		i++
		for k := 1; k < sample && c.err == nil; k++ {
			c.err = op(w, i)
			i++
		}
	}
	c.calls = i - first
}
