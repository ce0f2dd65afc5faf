package saccount

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

const (
	// touchSeconds is how exactly it is known when a key was last used.
	touchSeconds = 60
	touchDelay   = time.Second
	maxTouches   = 1 << 14
)

// uses gathers when keys were last used and writes it within a second; a
// key's first use is written at once, together with whatever waits by then. No
// request waits for it.
type uses struct {
	service *Service
	mu      sync.Mutex
	waiting map[string]Touch
	timer   *time.Timer
	urgent  bool // the timer is for now
	closed  bool
	wg      sync.WaitGroup
}

func newUses(s *Service) *uses { return &uses{service: s, waiting: map[string]Touch{}} }

func (u *uses) note(e *entry, now time.Time, from netip.Addr) {
	first := e.noted.Load() == 0
	e.noted.Store(uint32(now.Unix()))
	t := touchOf(e.org.id, e.id(), now, from)
	u.wait(t, first)
}

func touchOf(org, key string, now time.Time, from netip.Addr) Touch {
	t := Touch{Org: org, Key: key, Use: Use{At: Micro(now)}}
	if from.IsValid() {
		t.Use.Addr = from.Unmap().String()
	}
	return t
}

// wait takes a note to be written; first is a key's first use.
func (u *uses) wait(t Touch, first bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, ok := u.waiting[t.Key]; u.closed || !ok && len(u.waiting) >= maxTouches {
		return // it will be noted with the next use
	}
	u.waiting[t.Key] = t
	switch {
	case u.timer == nil:
		u.wg.Add(1)
		delay := touchDelay
		if first {
			delay = 0
		}
		u.urgent = first
		u.timer = time.AfterFunc(delay, u.fire)
	case first && !u.urgent && u.timer.Stop():
		u.urgent = true
		u.timer = time.AfterFunc(0, u.fire)
	}
}

// fire writes what waits. The timer stays set while it does, so that first
// uses gather behind a write that is under way.
func (u *uses) fire() {
	defer u.wg.Done()
	for {
		u.mu.Lock()
		ts := u.take()
		if len(ts) == 0 {
			u.timer = nil
			u.mu.Unlock()
			return
		}
		u.mu.Unlock()
		u.service.alerts.used(context.Background(), ts)
		if err := u.service.store.Touch(context.Background(), ts); err != nil {
			u.service.log.Warn("keypurse: last uses of keys were not written", "keys", len(ts), "error", err)
		}
	}
}

// take hands over what waits; the caller holds mu.
func (u *uses) take() []Touch {
	ts := make([]Touch, 0, len(u.waiting))
	for _, t := range u.waiting {
		ts = append(ts, t)
	}
	clear(u.waiting)
	return ts
}

// flush writes what waits, and returns when what was being written is there too.
func (u *uses) flush(ctx context.Context) error {
	u.mu.Lock()
	if u.timer != nil && u.timer.Stop() {
		u.timer = nil
		u.wg.Done()
	}
	ts := u.take()
	u.mu.Unlock()
	u.wg.Wait()
	if len(ts) == 0 {
		return nil
	}
	u.service.alerts.used(ctx, ts)
	if err := u.service.store.Touch(ctx, ts); err != nil {
		return fmt.Errorf("saccount: write last uses of keys: %w", err)
	}
	return nil
}

func (u *uses) close() error {
	u.mu.Lock()
	u.closed = true
	u.mu.Unlock()
	return u.flush(context.Background())
}
