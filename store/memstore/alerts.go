package memstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// alerts is how far the alerts of the outbox have come; guarded by Store.mu.
type alerts struct {
	to    int64             // dispatched
	sent  []*alert.Delivery // by Seq and sink; their Alert has the Seq alone
	turns map[string]int64
}

func byPlace(d *alert.Delivery, p *alert.Delivery) int {
	return cmp.Or(cmp.Compare(d.Alert.Seq, p.Alert.Seq), cmp.Compare(d.Sink, p.Sink))
}

// find is the delivery at d's place, or nil, and where that is.
func (a *alerts) find(d *alert.Delivery) (*alert.Delivery, int) {
	i, ok := slices.BinarySearchFunc(a.sent, d, byPlace)
	if !ok {
		return nil, i
	}
	return a.sent[i], i
}

// drop forgets the deliveries of the oldest alert.
func (a *alerts) drop(seq int64) {
	for len(a.sent) > 0 && a.sent[0].Alert.Seq <= seq {
		a.sent = a.sent[1:]
	}
}

// whole is a delivery with its alert; the caller holds mu.
func (s *Store) whole(d *alert.Delivery) alert.Delivery {
	out := *d
	i, _ := slices.BinarySearchFunc(s.outbox, d.Alert.Seq, func(a quota.Alert, seq int64) int { return cmp.Compare(a.Seq, seq) })
	out.Alert = s.outbox[i]
	return out
}

// Dispatched implements alert.Store.
func (s *Store) Dispatched(ctx context.Context) (int64, error) {
	if err := s.begin(ctx, "dispatched"); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.alerts.to, nil
}

// Dispatch implements alert.Store.
func (s *Store) Dispatch(ctx context.Context, from, to int64, ds []alert.Delivery) error {
	if err := s.begin(ctx, "dispatch"); err != nil {
		return err
	}
	if err := alert.CheckDispatch(from, to, ds); err != nil {
		return fmt.Errorf("memstore: dispatch: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.alerts.to != from {
		return fmt.Errorf("memstore: dispatch: %w", alert.ErrMoved)
	}
	for i := range ds {
		d := ds[i]
		d.Alert = quota.Alert{Seq: d.Alert.Seq}
		if !slices.ContainsFunc(s.outbox, func(a quota.Alert) bool { return a.Seq == d.Alert.Seq }) {
			continue // it was purged
		}
		d.Attempt, d.Tries, d.Error = 0, 0, ""
		if there, at := s.alerts.find(&d); there == nil {
			s.alerts.sent = slices.Insert(s.alerts.sent, at, &d)
		}
	}
	s.alerts.to = to
	return nil
}

// DueSinks implements alert.Store.
func (s *Store) DueSinks(ctx context.Context, now int64, after string, n int) ([]string, error) {
	if err := s.begin(ctx, "due sinks"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, d := range s.alerts.sent {
		if d.State == alert.Pending && d.Next <= now && d.Sink > after {
			out = append(out, d.Sink)
		}
	}
	slices.Sort(out)
	out = slices.Compact(out)
	return out[:min(len(out), max(n, 0))], nil
}

// ClaimDeliveries implements alert.Store.
func (s *Store) ClaimDeliveries(ctx context.Context, sink string, now, until int64, n int) ([]alert.Delivery, error) {
	if err := s.begin(ctx, "claim"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var due []*alert.Delivery
	for _, d := range s.alerts.sent {
		if d.Sink == sink && d.State == alert.Pending && d.Next <= now {
			due = append(due, d)
		}
	}
	slices.SortStableFunc(due, func(a, b *alert.Delivery) int { return cmp.Compare(a.Next, b.Next) })
	var out []alert.Delivery
	for _, d := range due[:min(len(due), max(n, 0))] {
		d.Attempt++
		d.Tries++
		d.Next = until
		out = append(out, s.whole(d))
	}
	return out, nil
}

// SettleDeliveries implements alert.Store.
func (s *Store) SettleDeliveries(ctx context.Context, ds []alert.Delivery) (settled int, err error) {
	if err := s.begin(ctx, "settle"); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range ds {
		if d, _ := s.alerts.find(&ds[i]); d != nil && d.Attempt == ds[i].Attempt {
			d.State, d.Tries, d.Next, d.At, d.Error = ds[i].State, ds[i].Tries, ds[i].Next, ds[i].At, ds[i].Error
			settled++
		}
	}
	return settled, nil
}

// Deliveries implements alert.Store.
func (s *Store) Deliveries(ctx context.Context, q alert.Query) ([]alert.Delivery, error) {
	if err := s.begin(ctx, "deliveries"); err != nil {
		return nil, err
	}
	if err := q.Check(); err != nil {
		return nil, fmt.Errorf("memstore: deliveries: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []alert.Delivery
	for _, d := range s.alerts.sent {
		if w := s.whole(d); q.Match(&w) && len(out) < q.N {
			out = append(out, w)
		}
	}
	return out, nil
}

// Turn implements alert.Store.
func (s *Store) Turn(ctx context.Context, name string, now, until int64) (bool, error) {
	if err := s.begin(ctx, "turn"); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if end, ok := s.alerts.turns[name]; ok && !alert.TurnOver(end, now, until) {
		return false, nil
	}
	if s.alerts.turns == nil {
		s.alerts.turns = map[string]int64{}
	}
	s.alerts.turns[name] = until
	return true, nil
}

var _ saccount.Store = (*Store)(nil)
