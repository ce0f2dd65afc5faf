package saccount

import (
	"context"
	"fmt"

	"github.com/keypurse/keypurse/alert"
)

// MaxWaiting is the most that AlertsWaiting counts.
const MaxWaiting = 10_000

// AlertsWaiting is how many alerts are on their way: deliveries that are still
// to be sent, of each sink apart, and alerts of which no process has looked yet
// to whom they go. At most MaxWaiting, which stands for that and more: it is a
// figure for a dashboard, and takes as few reads as there are thousands. Dead
// letters do not wait. Errors are the store's.
func (s *Service) AlertsWaiting(ctx context.Context) (int64, error) {
	if err := s.begin("count alerts"); err != nil {
		return 0, err
	}
	n, err := s.alertsWaiting(ctx)
	if err != nil {
		return 0, fmt.Errorf("saccount: count alerts: %w", s.mark(err))
	}
	return min(n, MaxWaiting), nil
}

func (s *Service) alertsWaiting(ctx context.Context) (n int64, err error) {
	after, err := s.store.Dispatched(ctx)
	if err != nil {
		return 0, err
	}
	for n < MaxWaiting {
		page, err := s.store.Outbox(ctx, after, alert.MaxPage)
		if err != nil {
			return 0, err
		}
		if n += int64(len(page)); len(page) < alert.MaxPage {
			break
		}
		after = page[len(page)-1].Seq
	}
	q := alert.Query{State: alert.Pending, N: alert.MaxPage}
	for n < MaxWaiting {
		page, err := s.store.Deliveries(ctx, q)
		if err != nil {
			return 0, err
		}
		if n += int64(len(page)); len(page) < alert.MaxPage {
			break
		}
		last := &page[len(page)-1]
		q.AfterSeq, q.AfterSink = last.Alert.Seq, last.Sink
	}
	return n, nil
}
