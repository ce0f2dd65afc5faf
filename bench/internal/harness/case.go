// Package harness measures cases side by side in a closed loop. Every round of
// a section runs each of its cases once, so that the noise of a shared machine
// hits all of them and figures of the same round can be compared as ratios.
package harness

import (
	"context"
	"fmt"
	"time"
)

// Op does one unit of work. w is the caller's number, from 0; i counts that
// caller's calls and never repeats within a run.
type Op func(w, i int) error

// Section is a set of cases that are compared with one another. Nothing of a
// section stays in memory when the next one starts.
type Section struct {
	Name string
	// Full sections take so long that they run only where they are asked for.
	Full bool
	// Cases names the section's cases. It must be cheap: what is expensive
	// belongs into a case's Setup.
	Cases func(Env) []Case
}

// Case is one thing to measure: Who does Work.
type Case struct {
	Work, Who string
	// Group is what the case is compared with: cases of a section that follow
	// one another with the same Group are set up, run and let go of together,
	// so that no other case's memory is in their way. Cases that are compared
	// with one another have the same one.
	Group string
	// Callers work at the same time; 0 means 1.
	Callers int
	// Procs is GOMAXPROCS while the case runs; 0 leaves it alone.
	Procs int
	// Sample takes the latency of every Sample-th call only, for work so short
	// that reading the clock would be a good part of it; 0 means every call.
	Sample int
	Setup  func(context.Context, Env) (*Running, error)
}

// Env is what a run gives to every case.
type Env struct {
	// Dir is a directory on a real disk that is removed after the run.
	Dir string
	// Quick asks for a smoke test: sizes cut down, nothing installed.
	Quick bool
}

// Size is n, or what a smoke test makes of it.
func (e Env) Size(n int) int {
	if e.Quick {
		return min(n, 2000)
	}
	return n
}

// Running is a case that is set up: either an Op that the harness calls in a
// loop, or a Round that measures by itself.
type Running struct {
	Op    Op
	Round func(ctx context.Context, d time.Duration) (Round, error)
	// Begin starts what goes on beside the calls of each round, and ends it when
	// the round is over; nil: nothing does.
	Begin func(context.Context) (end func() error, err error)
	// PIDs are child processes whose work is ours, with all that they start.
	PIDs []int
	// Close releases everything; nil means that there is nothing to release.
	Close func() error
}

// Round is what one round of one case measured.
type Round struct {
	Rate     float64 // units of work a second, all callers together
	P50, P99 float64 // latency of one call, nanoseconds
	Allocs   float64 // allocations a unit, of the whole process
	Bytes    float64 // bytes allocated a unit, of the whole process
	Value    float64 // what a Running.Round measures that is no rate: its Work says what and in which unit
	Foreign  float64 // share of the machine that others used meanwhile
}

// Nanos is the wall time of a unit of work: with two callers on two
// processors half of what each of them sees.
func (r Round) Nanos() float64 {
	if r.Rate == 0 {
		return 0
	}
	return 1e9 / r.Rate
}

// Result is a case with its rounds, in order: the n-th round of every case of
// a section belong together.
type Result struct {
	Section, Work, Who string
	Callers            int
	Rounds             []Round
	// NotRun says why there are no rounds: an environment without what the
	// case needs. Err is a failure.
	NotRun string
	Err    error
}

// Name is section, work and who.
func (r *Result) Name() string { return Name(r.Section, r.Work, r.Who) }

// Name is what a run's filter is matched against.
func Name(section, work, who string) string { return section + "/" + work + "/" + who }

// NotRun is the error of a Setup that cannot run here, with the reason.
type NotRun string

func (n NotRun) Error() string { return fmt.Sprintf("not run: %s", string(n)) }
