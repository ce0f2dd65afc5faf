package saccount

import (
	"context"
	"fmt"

	"github.com/keypurse/keypurse/quota"
)

// Status is the state of every limit on the caller's chain: the key's or
// member's own first, the organization's last.
func (s *Service) Status(ctx context.Context, p Principal) ([]quota.LimitStatus, error) {
	if p.c == nil {
		return nil, fmt.Errorf("saccount: status: %w: the Principal is nobody", ErrUnauthenticated)
	}
	st, err := s.ledger.Status(ctx, p.c, s.now())
	return st, s.mark(err)
}

// StatusOf is the state of a record's own limits in their current windows.
// Errors: ErrNotFound, also for what was deleted, and the store's.
func (s *Service) StatusOf(ctx context.Context, org string, kind Kind, id string) ([]quota.LimitStatus, error) {
	if err := s.begin("status"); err != nil {
		return nil, err
	}
	l, err := s.living(ctx, org, kind, id)
	if err != nil {
		return nil, fmt.Errorf("saccount: status: %w", err)
	}
	n, err := readNode(l.Record)
	if err != nil {
		return nil, err
	}
	p, err := quota.NewPurse(n.subject(), n.Sequence, n.Limits, s.cfg.Thresholds)
	if err != nil {
		return nil, fmt.Errorf("saccount: status: %w", err)
	}
	st, err := s.ledger.Status(ctx, quota.Chain{Org: n.Org, Settings: l.Settings, Caller: n.subject(), Purses: []*quota.Purse{p}}, s.now())
	return st, s.mark(err)
}
