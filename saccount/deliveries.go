package saccount

import (
	"context"
	"fmt"
	"slices"

	"github.com/keypurse/keypurse/alert"
)

// TestAlert sends an alert that says it is a test, to one recipient, or, where
// none is named, to all of the organization's and the host's sinks, whatever
// their filters. Watch delivers it like any other; Deliveries tell what came of
// it. Errors: ErrNotFound, ErrInvalid, and the store's.
func (s *Service) TestAlert(ctx context.Context, by Actor, org, recipient string) error {
	if err := s.begin("test alert"); err != nil {
		return err
	}
	if err := checkActor(by); err != nil {
		return fmt.Errorf("saccount: test alert: %w", err)
	}
	n, err := s.get(ctx, org, KindOrg, org, nil)
	if err != nil {
		return err
	}
	figures := map[string]string{"by": string(by)}
	if recipient != "" {
		switch r := n.recipient(recipient); {
		case r == nil:
			return fmt.Errorf("saccount: test alert: recipient %q: %w", recipient, ErrNotFound)
		case r.Disabled:
			return fmt.Errorf("saccount: test alert: %w recipient %q: it is disabled and gets nothing; enable it first", ErrInvalid, recipient)
		}
		figures[alert.FigureSink] = recipientSink + recipient
	}
	now := Micro(s.now())
	p, err := alert.New(alert.KindTest, n.subject(), "", now, now, figures)
	if err != nil {
		return err
	}
	b := Batch{Org: org, At: now, Alerts: []alert.Post{p}}
	if err := s.noteDone(ctx, &b, by, "test_alert", recipient, n); err != nil {
		return fmt.Errorf("saccount: test alert: %w", err)
	}
	return nil
}

// noteDone writes a batch with the audit entry of what was done about an
// organization's recipient (empty: all), which changed no record.
func (s *Service) noteDone(ctx context.Context, b *Batch, by Actor, action, recipient string, n *node) error {
	if recipient != "" {
		ctx = doneAs(ctx, recipientSubject(recipient))
	}
	if err := s.remember(ctx, b, n.subject()); err != nil {
		return err
	}
	if err := s.noteChange(ctx, b, by, action, nil, n, b.At); err != nil {
		return err
	}
	return s.write(ctx, *b)
}

// AlertDeliveries lists what became of alerts, dead letters among them: see
// alert.Query. Errors: ErrInvalid and the store's.
func (s *Service) AlertDeliveries(ctx context.Context, q alert.Query) ([]alert.Delivery, error) {
	if err := s.begin("alert deliveries"); err != nil {
		return nil, err
	}
	ds, err := s.store.Deliveries(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("saccount: alert deliveries: %w", s.mark(err))
	}
	return ds, nil
}

// ReplayAlerts makes dead letters that match pending again: they are tried at
// once and by the whole schedule. Errors are the store's; what was replayed
// until then stays so.
func (s *Service) ReplayAlerts(ctx context.Context, q alert.Query) (replayed int, err error) {
	if err := s.begin("replay alerts"); err != nil {
		return 0, err
	}
	n, err := s.alerts.deliverer.Replay(ctx, q)
	if err != nil {
		return n, fmt.Errorf("saccount: replay alerts: %w", err)
	}
	return n, nil
}

// ReplayRecipient makes dead letters of a recipient pending again, those of the
// alerts named (by Alert.ID) or all, and says how many: they are tried at once
// and by the whole schedule. It is done though its audit entry could not be
// written; doing it again does no more. Errors: ErrNotFound, also for an alert
// that is no dead letter, ErrInvalid, and the store's.
func (s *Service) ReplayRecipient(ctx context.Context, by Actor, org, recipient string, alerts ...string) (replayed int, err error) {
	if err := checkActor(by); err != nil {
		return 0, fmt.Errorf("saccount: replay: %w", err)
	}
	n, err := s.get(ctx, org, KindOrg, org, nil)
	if err != nil {
		return 0, err
	}
	switch r := n.recipient(recipient); {
	case r == nil:
		return 0, fmt.Errorf("saccount: replay: recipient %q: %w", recipient, ErrNotFound)
	case r.Disabled:
		return 0, fmt.Errorf("saccount: replay: %w recipient %q: it is disabled and gets nothing; enable it first", ErrInvalid, recipient)
	}
	q := alert.Query{Org: org, Sink: recipientSink + recipient, State: alert.Dead, Newest: true, N: alert.MaxPage}
	if len(alerts) > 0 {
		if q.Seqs, err = s.deadLetters(ctx, q, alerts); err != nil {
			return 0, fmt.Errorf("saccount: replay: %w", err)
		}
	}
	b := Batch{Org: org, At: Micro(s.now())}
	if replayed, err = s.ReplayAlerts(ctx, q); err != nil {
		return replayed, err
	}
	if err := s.noteDone(ctx, &b, by, "replay_alerts", recipient, n); err != nil {
		return replayed, fmt.Errorf("saccount: replay: %w", err)
	}
	return replayed, nil
}

// deadLetters finds the places in the outbox of dead letters by their ids.
func (s *Service) deadLetters(ctx context.Context, q alert.Query, ids []string) (seqs []int64, err error) {
	if len(ids) > alert.MaxPage {
		return nil, fieldf("/alerts", "alerts: %d; give up to %d", len(ids), alert.MaxPage)
	}
	want := slices.Compact(slices.Sorted(slices.Values(ids)))
	for {
		ds, err := s.store.Deliveries(ctx, q)
		if err != nil {
			return nil, err
		}
		for i := range ds {
			q.AfterSeq, q.AfterSink = ds[i].Alert.Seq, ds[i].Sink
			if slices.Contains(want, alert.Read(ds[i].Alert, "").ID) {
				seqs = append(seqs, ds[i].Alert.Seq)
			}
		}
		if len(seqs) == len(want) {
			return seqs, nil
		}
		if len(ds) < q.N {
			return nil, fmt.Errorf("a dead letter among those named: %w", ErrNotFound)
		}
	}
}
