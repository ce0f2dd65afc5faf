package saccount

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/keypurse/keypurse/quota"
)

// TroubleEvery is how often a trouble that goes on is logged.
const TroubleEvery = 10 * time.Second

// Troubles that an operator must hear of, each with a gate of its own.
const (
	troubleStore = iota
	troubleDamage
	troubleSlow
	troubleBusy
	troubles
)

var troubleLines = [troubles]struct {
	level slog.Level
	text  string
}{
	troubleStore:  {slog.LevelError, "keypurse: the store cannot be asked"},
	troubleDamage: {slog.LevelError, "keypurse: what is stored is damaged: it is refused until it is restored"},
	troubleSlow:   {slog.LevelWarn, "keypurse: callers left before the store had answered"},
	troubleBusy:   {slog.LevelWarn, "keypurse: callers are turned away: too many wait for the store, or records change faster than charges are decided"},
}

// gate lets one line in TroubleEvery through and counts the others.
type gate struct {
	next   atomic.Int64 // nanoseconds since the Service's base
	missed atomic.Int64
}

func (g *gate) pass(now time.Duration) (missed int64, ok bool) {
	next := g.next.Load()
	if int64(now) < next || !g.next.CompareAndSwap(next, int64(now+TroubleEvery)) {
		g.missed.Add(1)
		return 0, false
	}
	return g.missed.Swap(0), true
}

// answers are the errors that say something about a call and nothing about the
// state of things.
var answers = []error{
	ErrInvalid, ErrNotFound, ErrConflict, ErrExists, ErrUnauthenticated, ErrForbidden, ErrRateLimited, ErrClosed,
	quota.ErrInvalid, quota.ErrConflict, quota.ErrExpired, quota.ErrUnknownID, quota.ErrExcess, quota.ErrOverflow, quota.ErrClosed,
}

// trouble logs an error that a call ends with where it is about the store and
// not about the call. The text of errors holds no secret.
func (s *Service) trouble(ctx context.Context, err error) {
	which := troubleStore
	timeout := errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
	switch {
	case errors.Is(err, quota.ErrCorrupt):
		which = troubleDamage
	case errors.Is(err, quota.ErrBusy):
		which = troubleBusy
	case timeout && errors.Is(err, quota.ErrUnknownOutcome):
		which = troubleSlow
	case timeout:
		return // the caller's own time
	default:
		for _, a := range answers {
			if errors.Is(err, a) {
				return
			}
		}
	}
	if missed, ok := s.noise[which].pass(time.Since(s.base)); ok {
		line := &troubleLines[which]
		s.log.Log(ctx, line.level, line.text, "error", err, "calls_before", missed)
	}
}
