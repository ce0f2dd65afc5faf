package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"runtime/debug"
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
}

type live struct {
	*Case
	run  *Running
	next []int // each caller's next call
	res  *Result
}

// Run measures the sections one after the other. What fails is in the results;
// an error means that the context ended.
func Run(ctx context.Context, sections []Section, env Env, o Options) ([]*Result, error) {
	var out []*Result
	for i, s := range sections {
		patience := o.Patience / time.Duration(len(sections)-i)
		rs, spent, err := runSection(ctx, s, env, o, patience)
		out = append(out, rs...)
		if err != nil {
			return out, err
		}
		o.Patience -= spent
	}
	return out, nil
}

func runSection(ctx context.Context, s Section, env Env, o Options, patience time.Duration) (out []*Result, spent time.Duration, err error) {
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
	for _, c := range s.Cases(env) {
		name := Name(s.Name, c.Work, c.Who)
		if o.Match != nil && !o.Match.MatchString(name) {
			continue
		}
		if ctx.Err() != nil {
			return out, spent, ctx.Err()
		}
		c.Callers, c.Sample = max(c.Callers, 1), max(c.Sample, 1)
		r := &Result{Section: s.Name, Work: c.Work, Who: c.Who, Callers: c.Callers}
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
			fmt.Fprintf(o.Log, "%s: round %d of %d\n", s.Name, round+1, o.Rounds)
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

func (l *live) measure(ctx context.Context, d time.Duration) (Round, error) {
	if l.Procs > 0 {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(l.Procs))
	}
	var pids []int
	if l.run.PID != 0 {
		pids = append(pids, l.run.PID)
	}
	m := startMeter(pids...)
	var r Round
	var err error
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

// loop lets all callers call Op until d is over.
func (l *live) loop(ctx context.Context, d time.Duration) (Round, error) {
	cs := make([]caller, l.Callers)
	var stop atomic.Bool
	var wg sync.WaitGroup
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	for w := range cs {
		wg.Go(func() { cs[w].loop(l.run.Op, w, l.next[w], l.Sample, &stop) })
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
	stop.Store(true)
	wg.Wait()
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	var sum caller
	var errs []error
	for w := range cs {
		sum.hist.merge(&cs[w].hist)
		sum.calls += cs[w].calls
		l.next[w] += cs[w].calls
		errs = append(errs, cs[w].err)
	}
	n := float64(max(sum.calls, 1))
	return Round{
		Rate:   float64(sum.calls) / took.Seconds(),
		P50:    float64(sum.hist.quantile(.50)),
		P99:    float64(sum.hist.quantile(.99)),
		Allocs: float64(after.Mallocs-before.Mallocs) / n,
		Bytes:  float64(after.TotalAlloc-before.TotalAlloc) / n,
	}, errors.Join(errs...)
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
