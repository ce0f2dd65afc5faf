package saccount

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// How soon a process hears of another's changes: it asks every PollInterval,
// and without an answer for BlindAfter it reads every key from the store. So a
// key that was disabled, deleted or rotated by another process authenticates
// nowhere after BlindAfter, and as a rule after PollInterval and a round trip.
// Charges need neither: they are exact at once.
const (
	PollInterval = 250 * time.Millisecond
	BlindAfter   = time.Second
)

// watch asks a Shared store what other processes changed, from the first key
// that is kept in memory until the Service is closed.
type watch struct {
	store Shared
	log   *slog.Logger
	gens  *generations
	base  time.Time
	seen  atomic.Int64 // when the last question that was answered was asked, since base; 0: none
	start sync.Once
	stop  context.CancelFunc
	done  chan struct{}
}

// newWatch is nil where nobody else writes to the store.
func newWatch(s Store, gens *generations, log *slog.Logger) *watch {
	shared, ok := s.(Shared)
	if !ok {
		return nil
	}
	return &watch{store: shared, log: log, gens: gens, base: time.Now()}
}

// sees reports whether what is in memory may be served.
func (w *watch) sees() bool {
	if w == nil {
		return true
	}
	seen := w.seen.Load()
	return seen != 0 && int64(time.Since(w.base))-seen <= int64(BlindAfter)
}

// begin is called before the first key is kept.
func (w *watch) begin() {
	if w == nil {
		return
	}
	w.start.Do(func() {
		ctx, stop := context.WithCancel(context.Background())
		w.stop, w.done = stop, make(chan struct{})
		go w.run(ctx)
	})
}

func (w *watch) close() {
	if w == nil {
		return
	}
	w.start.Do(func() {}) // never after this
	if w.stop != nil {
		w.stop()
		<-w.done
	}
}

func (w *watch) run(ctx context.Context) {
	defer close(w.done)
	tick := time.NewTicker(PollInterval)
	defer tick.Stop()
	var number int64
	known := false
	var blind time.Time // since when; zero: it sees
	for {
		asked := int64(time.Since(w.base)) + 1 // never 0
		one, cancel := context.WithTimeout(ctx, BlindAfter)
		last, orgs, err := w.store.Changes(one, number)
		cancel()
		if err == nil {
			if !known {
				// What was read before the first answer may be older than it.
				known = true
				w.gens.raiseAll()
			}
			for _, org := range orgs {
				w.gens.raise(org)
			}
			number = last
			w.seen.Store(asked)
			if !blind.IsZero() {
				w.log.Info("keypurse: other processes' changes are heard of again; keys are served from memory", "blind_for", time.Since(blind))
				blind = time.Time{}
			}
		} else if blind.IsZero() && ctx.Err() == nil && !w.sees() {
			blind = time.Now()
			w.log.Warn("keypurse: other processes' changes cannot be heard of; every key is read from the store until they are", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
