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
	to      int64             // dispatched
	sent    []*alert.Delivery // by Seq and sink; their Alert has the Seq alone
	pending []*alert.Delivery // those of sent that are to be sent, in the same order
	turns   map[string]int64
}

func byPlace(d *alert.Delivery, p *alert.Delivery) int {
	return cmp.Or(cmp.Compare(d.Alert.Seq, p.Alert.Seq), cmp.Compare(d.Sink, p.Sink))
}

// place is where d's place is in a list.
func place(list []*alert.Delivery, d *alert.Delivery) (int, bool) {
	return slices.BinarySearchFunc(list, d, byPlace)
}

// note lists a delivery of sent as pending, or not.
func (a *alerts) note(d *alert.Delivery) {
	i, listed := place(a.pending, d)
	switch {
	case listed && d.State != alert.Pending:
		a.pending = slices.Delete(a.pending, i, i+1)
	case !listed && d.State == alert.Pending:
		a.pending = slices.Insert(a.pending, i, d)
	}
}

// drop forgets the deliveries of the oldest alert.
func (a *alerts) drop(seq int64) {
	for _, list := range []*[]*alert.Delivery{&a.sent, &a.pending} {
		for len(*list) > 0 && (*list)[0].Alert.Seq <= seq {
			*list = (*list)[1:]
		}
	}
}

// bySeq finds an alert in the outbox.
func bySeq(a quota.Alert, seq int64) int { return cmp.Compare(a.Seq, seq) }

// whole is a delivery with its alert; the caller holds mu.
func (s *Store) whole(d *alert.Delivery) alert.Delivery {
	out := *d
	i, _ := slices.BinarySearchFunc(s.outbox, d.Alert.Seq, bySeq)
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
		if _, there := slices.BinarySearchFunc(s.outbox, d.Alert.Seq, bySeq); !there {
			continue // it was purged
		}
		d.Attempt, d.Tries, d.Error = 0, 0, ""
		if at, there := place(s.alerts.sent, &d); !there {
			s.alerts.sent = slices.Insert(s.alerts.sent, at, &d)
			s.alerts.note(&d)
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
	for _, d := range s.alerts.pending {
		if d.Next <= now && d.Sink > after {
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
	for _, d := range s.alerts.pending {
		if d.Sink == sink && d.Next <= now {
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
		at, there := place(s.alerts.sent, &ds[i])
		if !there || s.alerts.sent[at].Attempt != ds[i].Attempt {
			continue
		}
		d := s.alerts.sent[at]
		d.State, d.Tries, d.Next, d.At, d.Error = ds[i].State, ds[i].Tries, ds[i].Next, ds[i].At, ds[i].Error
		s.alerts.note(d)
		settled++
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
	for i := range s.alerts.sent {
		if q.Newest {
			i = len(s.alerts.sent) - 1 - i
		}
		if w := s.whole(s.alerts.sent[i]); q.Match(&w) && len(out) < q.N {
			out = append(out, w)
		}
	}
	return out, nil
}

// Alerts implements alert.Store.
func (s *Store) Alerts(ctx context.Context, q alert.Recent) ([]quota.Alert, error) {
	if err := s.begin(ctx, "alerts"); err != nil {
		return nil, err
	}
	if err := q.Check(); err != nil {
		return nil, fmt.Errorf("memstore: alerts: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []quota.Alert
	for i := len(s.outbox) - 1; i >= 0 && len(out) < q.N; i-- {
		if q.Match(&s.outbox[i]) {
			out = append(out, s.outbox[i])
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
