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
// key's first use is written at once.
type uses struct {
	service *Service
	mu      sync.Mutex
	waiting map[string]Touch
	timer   *time.Timer
	closed  bool
	wg      sync.WaitGroup
}

func newUses(s *Service) *uses { return &uses{service: s, waiting: map[string]Touch{}} }

func (u *uses) note(ctx context.Context, e *entry, now time.Time, from netip.Addr) {
	first := e.noted.Load() == 0
	e.noted.Store(now.Unix())
	t := Touch{Org: e.org.id, Key: e.id(), Use: Use{At: Micro(now)}}
	if from.IsValid() {
		t.Use.Addr = from.Unmap().String()
	}
	if first {
		u.write(ctx, []Touch{t})
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, ok := u.waiting[t.Key]; u.closed || !ok && len(u.waiting) >= maxTouches {
		return // it will be noted with the next use
	}
	u.waiting[t.Key] = t
	if u.timer == nil {
		u.wg.Add(1)
		u.timer = time.AfterFunc(touchDelay, func() {
			defer u.wg.Done()
			u.write(context.Background(), u.take())
		})
	}
}

func (u *uses) take() []Touch {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.timer = nil
	if len(u.waiting) == 0 {
		return nil
	}
	ts := make([]Touch, 0, len(u.waiting))
	for _, t := range u.waiting {
		ts = append(ts, t)
	}
	clear(u.waiting)
	return ts
}

func (u *uses) write(ctx context.Context, ts []Touch) {
	if len(ts) == 0 {
		return
	}
	if err := u.service.store.Touch(ctx, ts); err != nil {
		u.service.log.WarnContext(ctx, "keypurse: last uses of keys were not written", "keys", len(ts), "error", err)
	}
}

func (u *uses) stop() {
	u.mu.Lock()
	if u.timer != nil && u.timer.Stop() {
		u.wg.Done()
	}
	u.timer = nil
	u.mu.Unlock()
	u.wg.Wait()
}

func (u *uses) flush(ctx context.Context) error {
	u.stop()
	ts := u.take()
	if len(ts) == 0 {
		return nil
	}
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
