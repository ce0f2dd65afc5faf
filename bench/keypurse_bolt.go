package bench

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/keypurse/keypurse/bench/internal/fixture"
	"github.com/keypurse/keypurse/bench/internal/harness"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/boltstore"
)

// onBolt is the tree of a shape in a bbolt file, with so many days of history.
// It is made without syncs, closed, and opened again as one does.
func onBolt(ctx context.Context, env harness.Env, shape fixture.Shape, days int) (s *service, path string, err error) {
	dir, err := os.MkdirTemp(env.Dir, "keypurse-")
	if err != nil {
		return nil, "", err
	}
	path = filepath.Join(dir, "keypurse.db")
	if env.Quick {
		days = min(days, 3)
	}
	tokens, err := seed(ctx, path, cut(env, shape), days)
	if err != nil {
		return nil, "", errors.Join(err, os.RemoveAll(dir))
	}
	s, err = open(path, tokens)
	if err != nil {
		return nil, "", errors.Join(err, os.RemoveAll(dir))
	}
	return s, path, nil
}

func seed(ctx context.Context, path string, shape fixture.Shape, days int) ([]string, error) {
	st, err := boltstore.Open(path, boltstore.Config{NoSyncForTests: true})
	if err != nil {
		return nil, err
	}
	var c clock
	s, err := newService(ctx, st, shape, c.now)
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	err = s.live(ctx, &c, days)
	return s.tokens, errors.Join(err, s.Close())
}

func open(path string, tokens []string) (*service, error) {
	st, err := boltstore.Open(path, boltstore.Config{})
	if err != nil {
		return nil, err
	}
	svc, err := saccount.New(st, config())
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return &service{Service: svc, store: st, tokens: tokens}, nil
}

// ourDurable is Authenticate and Charge on bbolt, durable before the answer,
// usage included.
func ourDurable(work string, shape fixture.Shape, callers, days int) harness.Case {
	return harness.Case{Work: work, Who: whoKeypurse, Callers: callers,
		Setup: func(ctx context.Context, env harness.Env) (*harness.Running, error) {
			s, path, err := onBolt(ctx, env, shape, days)
			if err != nil {
				return nil, err
			}
			if err := s.knowTogether(ctx); err != nil { // first uses are written for themselves
				return nil, errors.Join(err, s.Close(), os.RemoveAll(filepath.Dir(path)))
			}
			return &harness.Running{
				Op:    func(w, i int) error { return s.charge(ctx, fixture.Pick(w, i, len(s.tokens))) },
				Close: func() error { return errors.Join(s.Close(), os.RemoveAll(filepath.Dir(path))) },
			}, nil
		}}
}

// ourOpen is how long it takes to open a file of so many keys and to answer
// the first request, in seconds.
func ourOpen(work string, shape fixture.Shape) harness.Case {
	return opened(work, shape, func(ctx context.Context, s *service, start time.Time) (float64, error) {
		err := s.charge(ctx, 0)
		return time.Since(start).Seconds(), err
	})
}

// ourMemory is what a key takes in memory once it was authenticated and
// charged, on bbolt, in bytes.
func ourMemory(work string, shape fixture.Shape) harness.Case {
	return opened(work, shape, func(ctx context.Context, s *service, _ time.Time) (float64, error) {
		before := heap()
		err := s.knowTogether(ctx)
		return float64(heap()-before) / float64(len(s.tokens)), err
	})
}

// opened measures a figure of a file that each round opens anew; start is from
// before it does.
func opened(work string, shape fixture.Shape, measure func(ctx context.Context, s *service, start time.Time) (float64, error)) harness.Case {
	return harness.Case{Work: work, Who: whoKeypurse,
		Setup: func(ctx context.Context, env harness.Env) (*harness.Running, error) {
			s, path, err := onBolt(ctx, env, shape, 0)
			if err != nil {
				return nil, err
			}
			tokens := s.tokens
			if err := s.Close(); err != nil {
				return nil, err
			}
			return &harness.Running{
				Round: func(ctx context.Context, _ time.Duration) (harness.Round, error) {
					start := time.Now()
					s, err := open(path, tokens)
					if err != nil {
						return harness.Round{}, err
					}
					v, err := measure(ctx, s, start)
					return harness.Round{Value: v}, errors.Join(err, s.Close())
				},
				Close: func() error { return os.RemoveAll(filepath.Dir(path)) },
			}, nil
		}}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// knowTogether charges every key once, many at a time.
func (s *service) knowTogether(ctx context.Context) error {
	const callers = 256
	errs := make(chan error, callers)
	for w := range callers {
		go func() {
			for i := w; i < len(s.tokens); i += callers {
				if err := s.charge(ctx, i); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	var all error
	for range callers {
		all = errors.Join(all, <-errs)
	}
	return all
}
