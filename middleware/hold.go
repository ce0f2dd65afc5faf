package middleware

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

const (
	// settleTime bounds how long a settlement may wait for the store, and so
	// how long a client may wait for the end of its answer.
	settleTime = 5 * time.Second
	// openTime is the bound where the store could not be asked before.
	openTime = time.Second
)

// Conditions of SetCost, AddCost and Settle.
var (
	// ErrNoHold: the context is not of a request that credits were reserved
	// for: its Cost is not UpTo, or it is a replay.
	ErrNoHold = errors.New("no credits are reserved for this request")
	// ErrSettled: the request was settled before. Nothing was changed.
	ErrSettled = errors.New("settled before")
)

type holdKey struct{}

// hold is the reservation of one request. It settles exactly once.
type hold struct {
	gate   *gate
	caller saccount.Principal
	id     string
	most   quota.Credits         // what was reserved
	live   *saccount.Reservation // nil where the store could not be asked

	mu       sync.Mutex // held while it settles: a second settlement waits for the first
	told     bool
	cost     quota.Credits
	settled  bool
	decision quota.Decision

	clock sync.Mutex // of the two below; never held during a call
	timer *time.Timer
	over  bool
}

// SetCost says what the request did cost; it is charged when the handler
// returns. It replaces what was said before. Zero is zero. Errors:
// quota.ErrInvalid for a negative cost, ErrSettled, ErrNoHold. Safe for
// concurrent use.
func SetCost(ctx context.Context, c quota.Credits) error {
	h, err := holdFrom(ctx)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tell(c)
}

// AddCost adds to what the request did cost, as SetCost sets it: for work that
// is counted while it is done. Errors are those of SetCost, and
// quota.ErrOverflow.
func AddCost(ctx context.Context, c quota.Credits) error {
	h, err := holdFrom(ctx)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if c < 0 {
		return negative(c)
	}
	sum, err := h.cost.Add(c)
	if err != nil {
		return fmt.Errorf("middleware: add to the cost: %w", err)
	}
	return h.tell(sum)
}

// Settle charges actual credits and frees the rest of the reservation at once:
// for handlers that answer only what is paid for. The Decision says what is
// left. It does not end with ctx, but after a few seconds. Settling again
// with the same amount gives the first Decision; what is said after it changes
// nothing. Errors: quota.ErrInvalid for a negative amount, ErrSettled,
// ErrNoHold, and those of saccount.Reservation.Commit; after the store's the
// settlement is tried again when the handler returns.
func Settle(ctx context.Context, actual quota.Credits) (quota.Decision, error) {
	h, err := holdFrom(ctx)
	if err != nil {
		return quota.Decision{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.settled && h.cost == actual && h.decision.Allowed {
		return h.decision, nil
	}
	if err := h.tell(actual); err != nil {
		return quota.Decision{}, err
	}
	return h.settle(ctx)
}

func holdFrom(ctx context.Context) (*hold, error) {
	h, ok := ctx.Value(holdKey{}).(*hold)
	if !ok {
		return nil, fmt.Errorf("middleware: %w: give the middleware a Cost of UpTo", ErrNoHold)
	}
	return h, nil
}

func negative(c quota.Credits) error {
	return fmt.Errorf("middleware: %w cost: %s credits; a cost is never negative", quota.ErrInvalid, c)
}

// tell notes a cost. The caller holds mu.
func (h *hold) tell(c quota.Credits) error {
	if c < 0 {
		return negative(c)
	}
	if h.settled {
		return fmt.Errorf("middleware: %w, at %s credits", ErrSettled, h.cost)
	}
	h.told, h.cost = true, c
	return nil
}

// reserve holds credits, serves, and settles whatever way the handler ends.
func (h *handler) reserve(w http.ResponseWriter, r *http.Request, p saccount.Principal, most quota.Credits, id string) {
	g := h.gate
	own := id == ""
	if own {
		id = "hold_" + rand.Text()
	}
	// A client that hangs up just now must not leave behind a hold of which
	// nobody knows.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), settleTime)
	live, d, err := g.svc.Reserve(ctx, p, saccount.Reserve{Amount: most, TTL: g.cfg.HoldTTL, ID: id})
	if err == nil && d.Replayed {
		err = g.replay(ctx, p, live)
	}
	cancel()
	switch {
	case err != nil && !g.open(r, err):
		g.refuse(w, r, err)
		return
	case err != nil:
		g.cfg.Logger.WarnContext(r.Context(), "keypurse: a request is let through with nothing reserved: the store cannot be asked", "caller", p.String(), "credits", most.String(), "error", err)
	case !d.Allowed:
		g.refuseLimit(w, r, d)
		return
	case d.Replayed:
		h.serve(w, r, d)
		return
	}
	if g.cfg.RateLimitHeaders && err == nil {
		setRateLimit(w.Header(), d.Limits(), g.cfg.Now())
	}
	o := &hold{gate: g, caller: p, id: id, most: most, live: live}
	if live != nil {
		if r.Context().Err() != nil { // it is over before any work was done
			o.release(r.Context())
			g.refuse(w, r, r.Context().Err())
			return
		}
		o.start()
	}
	defer o.finish(r.Context())
	h.next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), holdKey{}, o)))
}

// replay finds out what became of a reservation that was made before under the
// same id. A nil error: it was committed.
func (g *gate) replay(ctx context.Context, p saccount.Principal, live *saccount.Reservation) error {
	// A renewal never moves the end to an earlier instant, so that this asks
	// and changes nothing.
	err := live.Renew(ctx, time.Microsecond)
	if err == nil {
		return &Problem{
			Status: 409, Code: CodeIDInUse, RetryAfter: time.Second, Err: ErrReplayed,
			Detail: "A request with this idempotency key is still being served.",
		}
	}
	if errors.Is(err, quota.ErrConflict) {
		// Settled. Releasing again what was released is no error.
		if _, err = live.Release(ctx); errors.Is(err, quota.ErrConflict) {
			return nil
		}
		if err == nil {
			err = quota.ErrExpired
		}
	}
	if errors.Is(err, quota.ErrExpired) {
		return &Problem{
			Status: 409, Code: CodeIDInUse, Err: ErrReplayed,
			Detail: "The request with this idempotency key was cut off and nothing was charged; send a new key.",
		}
	}
	return err
}

// start renews the reservation for as long as the handler runs. A handler that
// is done before half of the time to live starts no goroutine.
func (h *hold) start() {
	h.clock.Lock()
	defer h.clock.Unlock()
	h.timer = time.AfterFunc(h.gate.cfg.HoldTTL/2, h.renew)
}

func (h *hold) renew() {
	ttl := h.gate.cfg.HoldTTL
	ctx, cancel := context.WithTimeout(context.Background(), ttl/4)
	defer cancel()
	err := h.live.Renew(ctx, ttl)
	h.clock.Lock()
	defer h.clock.Unlock()
	switch {
	case h.over:
	case err == nil:
		h.timer.Reset(ttl / 2)
	case errors.Is(err, quota.ErrExpired), errors.Is(err, quota.ErrConflict), errors.Is(err, quota.ErrUnknownID), errors.Is(err, quota.ErrInvalid):
		// It is over and no renewal helps. What is settled then is charged.
	default:
		h.timer.Reset(ttl / 8) // the store may be back before the hold ends
	}
}

func (h *hold) stop() {
	h.clock.Lock()
	defer h.clock.Unlock()
	h.over = true
	if h.timer != nil {
		h.timer.Stop()
	}
}

// finish settles what the handler did not: at the cost that it told, and at
// the reserved amount where it told none. It runs while a panic passes by, and
// lets it pass.
func (h *hold) finish(ctx context.Context) {
	h.mu.Lock()
	defer h.mu.Unlock()
	defer h.stop()
	if h.settled {
		return
	}
	if !h.told {
		h.told, h.cost = true, h.most
	}
	_, err := h.settle(ctx)
	if errors.Is(err, quota.ErrOverflow) && h.cost > h.most {
		h.cost = h.most // more than can be counted is not to be had for nothing
		_, err = h.settle(ctx)
	}
	if err != nil {
		h.settled = true // what comes now, from a goroutine left behind, comes too late
		h.gate.unsettled(ctx, h.caller, h.cost, h.id, err)
	}
}

// settle commits the cost that was told. The caller holds mu.
func (h *hold) settle(ctx context.Context) (quota.Decision, error) {
	g, bound := h.gate, settleTime
	if h.live == nil {
		bound = openTime
	}
	ctx = context.WithoutCancel(ctx)
	var d quota.Decision
	err := persist(ctx, bound, func(ctx context.Context) (err error) {
		d, err = g.svc.Commit(ctx, h.caller.OrgID(), saccount.Commit{Of: h.id, Caller: h.caller.Subject(), Amount: h.cost})
		return err
	})
	if errors.Is(err, quota.ErrExpired) || errors.Is(err, quota.ErrUnknownID) {
		// The hold died while the work was done, or never was: then the work
		// is charged like any other.
		d, err = g.settleCharge(ctx, h.caller, saccount.Charge{Amount: h.cost, ID: "late:" + h.id}, bound)
	}
	if err != nil {
		return d, fmt.Errorf("middleware: settle: %w", err)
	}
	h.settled, h.decision = true, d
	h.stop()
	return d, nil
}

// settleCharge charges work that was done. That limits stand in the way is an
// error.
func (g *gate) settleCharge(ctx context.Context, p saccount.Principal, c saccount.Charge, bound time.Duration) (d quota.Decision, err error) {
	if c.ID == "" {
		c.ID = "late_" + rand.Text() // so that it can be tried again
	}
	err = persist(ctx, bound, func(ctx context.Context) (err error) {
		d, err = g.svc.Charge(ctx, p, c)
		return err
	})
	if err == nil {
		err = d.Err()
	}
	return d, err
}

// release gives everything back.
func (h *hold) release(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	err := persist(ctx, settleTime, func(ctx context.Context) error {
		_, err := h.live.Release(ctx)
		return err
	})
	if err != nil { // it ends with its time to live
		h.gate.cfg.Logger.WarnContext(ctx, "keypurse: credits stay on hold for a while", "caller", h.caller.String(), "id", h.id, "error", err)
	}
}

// persist tries again, within bound, what failed because the store did. do must
// be safe to repeat.
func persist(ctx context.Context, bound time.Duration, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := do(ctx)
		if err == nil || !passing(err) || ctx.Err() != nil {
			return err
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return err
		}
	}
}

// passing reports whether an error may be gone when one tries again.
func passing(err error) bool {
	for _, final := range []error{
		quota.ErrInvalid, quota.ErrConflict, quota.ErrExpired, quota.ErrUnknownID, quota.ErrExcess, quota.ErrOverflow, quota.ErrCorrupt, quota.ErrClosed,
		saccount.ErrInvalid, saccount.ErrUnauthenticated, saccount.ErrNotFound, saccount.ErrClosed,
	} {
		if errors.Is(err, final) {
			return false
		}
	}
	return true
}
