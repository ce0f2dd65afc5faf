package harness

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestHistClasses(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	last := -1
	for _, d := range []time.Duration{-1, 0, 1, 31, 32, 63, 64, 65, 127, 128, time.Millisecond, time.Hour, 1<<63 - 1} {
		c := class(d)
		require.GreaterOrEqual(t, c, last, d)
		require.Less(t, c, len(hist{}.n), d)
		last = c
	}
	for range 10_000 {
		d := time.Duration(r.Int64N(1 << r.IntN(62)))
		low := lowest(class(d))
		assert.LessOrEqual(t, low, d)
		assert.GreaterOrEqual(t, low, d-d/steps, "the class of %d is too wide", d)
	}
}

func TestHistQuantile(t *testing.T) {
	var a, b hist
	assert.Zero(t, a.quantile(.5))
	var ds []time.Duration
	r := rand.New(rand.NewPCG(5, 6))
	for i := range 10_000 {
		d := time.Duration(r.ExpFloat64() * 1e5)
		ds = append(ds, d)
		if i%2 == 0 {
			a.add(d)
		} else {
			b.add(d)
		}
	}
	a.merge(&b)
	slices.Sort(ds)
	for _, q := range []float64{0, .5, .99, .999} {
		want := ds[int(q*float64(len(ds)))]
		assert.InDelta(t, float64(want), float64(a.quantile(q)), float64(want)/steps+1, "%v", q)
	}
}

// order is a case that writes its name down whenever it runs a round.
func order(who string, log *[]string, closed *[]string) Case {
	return Case{Work: "work", Who: who, Setup: func(context.Context, Env) (*Running, error) {
		return &Running{
			Round: func(context.Context, time.Duration) (Round, error) {
				*log = append(*log, who)
				return Round{Rate: float64(len(*log))}, nil
			},
			Close: func() error { *closed = append(*closed, who); return nil },
		}, nil
	}}
}

func TestRunInterleavesAndCloses(t *testing.T) {
	var log, closed []string
	failing := Case{Work: "work", Who: "fails", Setup: func(context.Context, Env) (*Running, error) {
		return &Running{Op: func(_, i int) error {
			if i == 3 {
				return errors.New("broken")
			}
			return nil
		}}, nil
	}}
	absent := Case{Work: "work", Who: "absent", Setup: func(context.Context, Env) (*Running, error) {
		return nil, NotRun("no such program")
	}}
	filtered := Case{Work: "other", Who: "filtered"}
	sections := []Section{
		{Name: "first", Cases: func(Env) []Case {
			return []Case{order("a", &log, &closed), failing, order("b", &log, &closed), absent, filtered}
		}},
		{Name: "second", Cases: func(Env) []Case { return []Case{order("c", &log, &closed)} }},
	}
	rs, err := Run(t.Context(), sections, Env{}, Options{
		Rounds: 2, Duration: time.Millisecond, Match: regexp.MustCompile("/work/"), Log: io.Discard,
	})
	require.NoError(t, err)
	// One round more than asked for warms up.
	assert.Equal(t, []string{"a", "b", "a", "b", "a", "b", "c", "c", "c"}, log)
	assert.Equal(t, []string{"a", "b", "c"}, closed)
	require.Len(t, rs, 5)
	assert.Equal(t, "first/work/a", rs[0].Name())
	assert.Len(t, rs[0].Rounds, 2)
	assert.EqualError(t, rs[1].Err, "broken")
	assert.Empty(t, rs[1].Rounds)
	assert.Equal(t, "no such program", rs[3].NotRun)
}

// What goes on beside a case's calls goes on in its own rounds alone.
func TestBeginIsOfARound(t *testing.T) {
	var log, closed []string
	beside := order("a", &log, &closed)
	setup := beside.Setup
	beside.Setup = func(ctx context.Context, env Env) (*Running, error) {
		run, err := setup(ctx, env)
		run.Begin = func(context.Context) (func() error, error) {
			log = append(log, "begin")
			return func() error {
				if log = append(log, "end"); len(log) > 6 {
					return errors.New("ended badly")
				}
				return nil
			}, nil
		}
		return run, err
	}
	rs, err := Run(t.Context(), []Section{{Name: "s", Cases: func(Env) []Case { return []Case{beside, order("b", &log, &closed)} }}}, Env{},
		Options{Rounds: 1, Duration: time.Millisecond, Log: io.Discard})
	require.NoError(t, err)
	assert.Equal(t, []string{"begin", "a", "end", "b", "begin", "a", "end", "b"}, log)
	assert.EqualError(t, rs[0].Err, "ended badly")
}

func TestRunCountsEveryCall(t *testing.T) {
	var calls, odd atomic.Int64
	next := make([]atomic.Int64, 3)
	c := Case{Work: "w", Who: "o", Callers: 3, Procs: 2, Sample: 4, Setup: func(context.Context, Env) (*Running, error) {
		return &Running{Op: func(w, i int) error {
			calls.Add(1)
			if next[w].Add(1) != int64(i)+1 {
				odd.Add(1)
			}
			return nil
		}}, nil
	}}
	rs, err := Run(t.Context(), []Section{{Name: "s", Cases: func(Env) []Case { return []Case{c} }}}, Env{},
		Options{Rounds: 2, Duration: 5 * time.Millisecond, Log: io.Discard})
	require.NoError(t, err)
	require.NoError(t, rs[0].Err)
	assert.Zero(t, odd.Load(), "a caller's call numbers go on across rounds, without a gap")
	for _, r := range rs[0].Rounds {
		assert.Positive(t, r.Rate)
		assert.InDelta(t, 1e9/r.Rate, r.Nanos(), 1e-6)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	closed := false
	c := Case{Setup: func(context.Context, Env) (*Running, error) {
		return &Running{Op: func(_, i int) error { cancel(); return nil }, Close: func() error { closed = true; return nil }}, nil
	}}
	_, err := Run(ctx, []Section{{Name: "s", Cases: func(Env) []Case { return []Case{c} }}}, Env{},
		Options{Rounds: 2, Duration: time.Hour, Log: io.Discard})
	require.ErrorIs(t, err, context.Canceled)
	assert.True(t, closed)
}

// Groups of a section run one after the other, and the first is let go of before
// the second is set up.
func TestRunLetsGoOfAGroup(t *testing.T) {
	var log []string
	note := func(group, who string) Case {
		return Case{Work: "w", Who: who, Group: group, Setup: func(context.Context, Env) (*Running, error) {
			log = append(log, "open "+who)
			return &Running{
				Round: func(context.Context, time.Duration) (Round, error) {
					log = append(log, who)
					return Round{}, nil
				},
				Close: func() error { log = append(log, "close "+who); return nil },
			}, nil
		}}
	}
	s := Section{Name: "s", Cases: func(Env) []Case { return []Case{note("1", "a"), note("1", "b"), note("2", "c")} }}
	var told []string
	rs, err := Run(t.Context(), []Section{s}, Env{}, Options{Rounds: 1, Log: io.Discard, Done: func(name string, rs []*Result, _ time.Duration) error {
		for _, r := range rs {
			told = append(told, name+r.Who)
		}
		return nil
	}})
	require.NoError(t, err)
	assert.Len(t, rs, 3)
	assert.Equal(t, []string{"sa", "sb", "sc"}, told)
	assert.Equal(t, []string{"open a", "open b", "a", "b", "a", "b", "close a", "close b", "open c", "c", "c", "close c"}, log)
}

// What a child's children do is ours, also when they are gone.
func TestMeterCountsATree(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc")
	}
	cmd := exec.Command("sh", "-c", "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; read x; exit 0")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	spent := func() time.Duration { return treeTime([]int{cmd.Process.Pid}) }
	assert.Eventually(t, func() bool { return processTime(strconv.Itoa(cmd.Process.Pid)).ended > 0 }, time.Minute, 5*time.Millisecond)
	assert.GreaterOrEqual(t, spent(), 2*tick)
	require.NoError(t, in.Close())
	require.NoError(t, cmd.Wait())
	assert.Zero(t, spent())
}

func TestRoundOfParts(t *testing.T) {
	next := make([]int, 3)
	var calls atomic.Int64
	var parts []Part
	for range 2 {
		p, err := MeasurePart(t.Context(), func(_, _ int) error { calls.Add(1); return nil }, next, 2*time.Millisecond)
		require.NoError(t, err)
		parts = append(parts, p)
	}
	assert.EqualValues(t, calls.Load(), parts[0].Calls+parts[1].Calls)
	assert.EqualValues(t, calls.Load(), next[0]+next[1]+next[2])
	for i := range parts {
		parts[i].Took = time.Second
	}
	assert.InDelta(t, float64(calls.Load()), RoundOf(parts).Rate, 1e-6)
	slow := Part{Calls: 1, Took: time.Second, Classes: map[int]uint32{class(time.Second): 1, -1: 1, 1 << 20: 1}}
	assert.InDelta(t, 1e9, RoundOf([]Part{slow}).P99, 1e9/steps, "classes that are not there are left out")
}
