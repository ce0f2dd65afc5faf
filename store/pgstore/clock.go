package pgstore

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// serverClock is the server's time, told without asking it: what it said last,
// and what has passed since by this process's monotonic clock. So the windows,
// holds and leases of all processes run on one clock, however theirs are set.
type serverClock struct {
	last  atomic.Pointer[reading]
	doing sync.Mutex
}

type reading struct {
	here  time.Time // this process's clock, halfway through the question
	there time.Time // the server's
	error time.Duration
}

// remeasure is how often the server is asked.
const remeasure = time.Minute

// measure asks the server. The answer is as good as half of what it took.
func (c *serverClock) measure(ctx context.Context, s *Store) error {
	best := reading{error: -1}
	for range 3 {
		before := s.cfg.now()
		var micros int64
		if err := s.db.QueryRowContext(ctx, `SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint`).Scan(&micros); err != nil {
			return err
		}
		took := s.cfg.now().Sub(before)
		if best.error < 0 || took/2 < best.error {
			best = reading{here: before.Add(took / 2), there: time.UnixMicro(micros).UTC(), error: took / 2}
		}
	}
	c.last.Store(&best)
	return nil
}

// Now is the time by the server's clock. It asks the server when the Store is
// made and about once a minute, in the background of a call, and goes on with
// the last answer while the server is away. See ClockError for how exact it is.
func (s *Store) Now() time.Time {
	r := s.clock.last.Load()
	now := s.cfg.now()
	passed := now.Sub(r.here)
	if passed > remeasure && s.clock.doing.TryLock() {
		if !s.closed.Load() {
			go s.remeasure()
		} else {
			s.clock.doing.Unlock()
		}
	}
	return r.there.Add(passed)
}

func (s *Store) remeasure() {
	defer s.clock.doing.Unlock()
	ctx, end, err := s.begin(context.Background(), "clock")
	if err != nil {
		return
	}
	defer end()
	if err := call(ctx, nil, func() error { return s.clock.measure(ctx, s) }); err != nil {
		s.cfg.Logger.Debug("pgstore: the server's clock cannot be read", "error", err)
	}
}

// ClockError bounds how far Now was from the server's clock when the server was
// last asked: half of the time that the question took. Between questions the two
// clocks' drift comes on top, at most some milliseconds a minute.
func (s *Store) ClockError() time.Duration { return s.clock.last.Load().error }
