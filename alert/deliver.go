package alert

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/keypurse/keypurse/quota"
)

// dispatch puts up the deliveries of the next alerts of the outbox.
func (d *Deliverer) dispatch(ctx context.Context) (more bool, err error) {
	from, err := d.cfg.Store.Dispatched(ctx)
	if err != nil {
		return false, err
	}
	alerts, err := d.cfg.Store.Outbox(ctx, from, perDispatch)
	if err != nil || len(alerts) == 0 {
		return false, err
	}
	now := d.now()
	oldest := now - d.cfg.MaxAge.Microseconds()
	routes := map[string][]Route{}
	var ds []Delivery
	old := 0
	for i := range alerts {
		a := &alerts[i]
		if a.At < oldest {
			old++
			continue
		}
		if _, ok := routes[a.Org]; !ok {
			if routes[a.Org], err = d.routes(ctx, a.Org); err != nil {
				return false, err
			}
		}
		whole := Read(*a, "")
		for _, r := range routes[a.Org] {
			if r.Filter.Match(&whole) && d.meant(a, r.Name) {
				ds = append(ds, Delivery{Alert: *a, Sink: r.Name, State: Pending, Next: now, At: now})
			}
		}
	}
	to := alerts[len(alerts)-1].Seq
	err = d.cfg.Store.Dispatch(ctx, from, to, ds)
	if errors.Is(err, ErrMoved) {
		return true, nil
	}
	if err == nil && old > 0 {
		d.cfg.Logger.Warn("keypurse: alerts were too old to be sent", "alerts", old, "older_than", d.cfg.MaxAge.String())
	}
	return err == nil && len(alerts) == perDispatch, err
}

// meant reports whether a test alert is for the sink.
func (d *Deliverer) meant(a *quota.Alert, sink string) bool {
	if Kind(a.Kind) != KindTest {
		return true
	}
	only := Read(*a, "").Figures[FigureSink]
	return only == "" || only == sink
}

// routes are the sinks of an organization.
func (d *Deliverer) routes(ctx context.Context, org string) ([]Route, error) {
	if d.cfg.Recipients == nil {
		return d.cfg.Sinks, nil
	}
	own, err := d.cfg.Recipients(ctx, org)
	if err != nil {
		if errors.Is(err, quota.ErrCorrupt) {
			// The others' alerts do not wait for it.
			d.cfg.Logger.Error("keypurse: an organization's recipients cannot be read; its alerts go to the host's sinks alone", "org", org, "error", err)
			return d.cfg.Sinks, nil
		}
		return nil, fmt.Errorf("alert: recipients of %q: %w", org, err)
	}
	return append(d.cfg.Sinks[:len(d.cfg.Sinks):len(d.cfg.Sinks)], own...), nil
}

// serve sends what is due of a sink, until nothing is or a try fails. hung is
// what did not end in time; nil where everything did.
func (d *Deliverer) serve(ctx context.Context, sink string) (failed bool, hung *sync.WaitGroup) {
	lease := (perClaim/perSink)*(d.cfg.Timeout+grace) + 30*time.Second
	for ctx.Err() == nil {
		now := d.now()
		claimed, err := d.claim(ctx, sink, now, now+lease.Microseconds())
		if err != nil {
			if ctx.Err() == nil {
				d.cfg.Logger.Warn("keypurse: alerts wait: the store failed", "sink", sink, "error", err)
			}
			return failed, nil
		}
		if len(claimed) == 0 {
			return failed, nil
		}
		var mu sync.Mutex
		var wg, noted sync.WaitGroup
		tried := make(chan Delivery, len(claimed))
		noted.Go(func() { d.settleAll(tried) })
		room := make(chan struct{}, perSink)
		for i := range claimed {
			room <- struct{}{}
			mu.Lock()
			stop := failed || hung != nil || ctx.Err() != nil
			mu.Unlock()
			if stop {
				d.unclaim(claimed[i:])
				break
			}
			wg.Go(func() {
				ok, left := d.one(ctx, &claimed[i])
				tried <- claimed[i]
				mu.Lock()
				defer mu.Unlock()
				failed = failed || !ok
				if left != nil {
					if hung == nil {
						hung = &sync.WaitGroup{}
					}
					hung.Go(func() { <-left })
				}
				<-room
			})
		}
		wg.Wait()
		close(tried)
		noted.Wait()
		if failed || hung != nil {
			return failed, hung
		}
	}
	return failed, nil
}

// claim claims also where ctx ends meanwhile: a claim whose answer nobody waits
// for would keep its alerts from everybody until it is over.
func (d *Deliverer) claim(ctx context.Context, sink string, now, until int64) ([]Delivery, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.cfg.Timeout)
	defer cancel()
	return d.cfg.Store.ClaimDeliveries(ctx, sink, now, until, perClaim)
}

// unclaim gives back what was claimed and not tried: it is due at once.
func (d *Deliverer) unclaim(ds []Delivery) {
	now := d.now()
	for i := range ds {
		ds[i].Tries--
		ds[i].Next = now
	}
	d.settle(ds...)
}

// settle notes what became of deliveries, also when the Deliverer is ending.
func (d *Deliverer) settle(ds ...Delivery) {
	ctx, cancel := context.WithTimeout(context.Background(), d.cfg.Timeout)
	defer cancel()
	if _, err := d.cfg.Store.SettleDeliveries(ctx, ds); err != nil {
		d.cfg.Logger.Warn("keypurse: it could not be noted that alerts were sent; they will be sent again", "alerts", len(ds), "sink", ds[0].Sink, "error", err)
	}
}

// settleAll notes what became of deliveries as they come: each at once, and
// those that come while others are noted, together.
func (d *Deliverer) settleAll(tried <-chan Delivery) {
	for del := range tried {
		ds := []Delivery{del}
		for more := true; more; {
			select {
			case del, more = <-tried:
				if more {
					ds = append(ds, del)
				}
			default:
				more = false
			}
		}
		d.settle(ds...)
	}
}

// one tries one delivery and says in it what came of that. left is closed when
// the sink ends, where it did not in time.
func (d *Deliverer) one(ctx context.Context, del *Delivery) (ok bool, left <-chan struct{}) {
	// What has begun may end: Run waits for it.
	try, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.cfg.Timeout)
	defer cancel()
	left, err := d.try(try, del)
	now := d.now()
	del.At = now
	var f *Failure
	switch {
	case err == nil:
		del.State, del.Error = Delivered, ""
	case errors.Is(err, errNoSink):
		del.State, del.Error = Dead, err.Error()
		ok = true // nobody failed
	default:
		del.Error = cut(err.Error())
		wait, more := d.backoff(del.Tries, 0)
		if errors.As(err, &f) {
			wait, more = d.backoff(del.Tries, f.RetryAfter)
			more = more && !f.Gone
		}
		del.Next = now + wait.Microseconds()
		if !more {
			del.State = Dead
			d.cfg.Logger.Error("keypurse: an alert could not be sent; it is kept as a dead letter", "sink", del.Sink, "org", del.Alert.Org, "tries", del.Tries, "error", err)
		}
	}
	if f != nil && f.Gone && d.cfg.Gone != nil {
		d.cfg.Gone(context.WithoutCancel(ctx), del.Alert.Org, del.Sink, err)
	}
	return ok || err == nil, left
}

// try calls the sink, and leaves it where it does not end in time.
func (d *Deliverer) try(ctx context.Context, del *Delivery) (left <-chan struct{}, err error) {
	routes, err := d.routes(ctx, del.Alert.Org)
	if err != nil {
		return nil, err
	}
	var sink Sink
	for i := range routes {
		if routes[i].Name == del.Sink {
			sink = routes[i].Sink
		}
	}
	if sink == nil {
		return nil, errNoSink
	}
	name := ""
	if d.cfg.Name != nil {
		name = d.cfg.Name(ctx, del.Alert.Org, del.Alert.Subject)
	}
	a := Read(del.Alert, name)
	delete(a.Figures, FigureSink)
	done, result := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				result <- fmt.Errorf("the sink panicked: %v", p)
			}
		}()
		result <- sink.Send(ctx, a)
	}()
	select {
	case err := <-result:
		return nil, err
	case <-ctx.Done():
	}
	end := time.NewTimer(grace)
	defer end.Stop()
	select {
	case err := <-result:
		return nil, err
	case <-end.C:
		return done, errors.New("the sink did not end when its time was over")
	}
}

// cut bounds the text of a failure.
func cut(s string) string {
	if len(s) > maxError {
		s = s[:maxError]
	}
	return strings.ToValidUTF8(s, "")
}

// Replay makes dead letters that match the query pending again, to be tried at
// once and by the whole schedule, and says how many. The query's State does not
// count. It goes on over all pages from the query's cursor.
func (d *Deliverer) Replay(ctx context.Context, q Query) (replayed int, err error) {
	q.State, q.N = Dead, MaxPage
	for {
		ds, err := d.cfg.Store.Deliveries(ctx, q)
		if err != nil {
			return replayed, fmt.Errorf("alert: replay: %w", err)
		}
		if len(ds) == 0 {
			return replayed, nil
		}
		now := d.now()
		for i := range ds {
			ds[i].State, ds[i].Tries, ds[i].Next, ds[i].At = Pending, 0, now, now
			q.AfterSeq, q.AfterSink = ds[i].Alert.Seq, ds[i].Sink
		}
		n, err := d.cfg.Store.SettleDeliveries(ctx, ds)
		replayed += n
		if err != nil {
			return replayed, fmt.Errorf("alert: replay: %w", err)
		}
	}
}
