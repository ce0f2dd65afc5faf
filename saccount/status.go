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
	p, err := s.purseOf(l.Record)
	if err != nil {
		return nil, fmt.Errorf("saccount: status: %w", err)
	}
	st, err := s.ledger.Statuses(ctx, l.Record.Org, []*quota.Purse{p}, s.now())
	if err != nil {
		return nil, s.mark(err)
	}
	return st[0], nil
}

// Statuses is StatusOf of up to MaxPage records of a kind, in the order of
// their ids and in two reads, however many there are: for lists. Of a record
// that is not there, or was deleted, it is nil. Errors: ErrInvalid where there
// are more ids, and the store's.
func (s *Service) Statuses(ctx context.Context, org string, kind Kind, ids []string) ([][]quota.LimitStatus, error) {
	if err := s.begin("status"); err != nil {
		return nil, err
	}
	out := make([][]quota.LimitStatus, len(ids))
	ls, err := s.store.Lookups(ctx, org, kind, ids)
	if err != nil {
		return nil, fmt.Errorf("saccount: status: %w", err)
	}
	var purses []*quota.Purse
	var at []int // of each purse, among the ids
	for i := range ls {
		if ls[i].Record.ID == "" || ls[i].dead() {
			continue
		}
		p, err := s.purseOf(ls[i].Record)
		if err != nil {
			return nil, fmt.Errorf("saccount: status: %w", err)
		}
		purses, at = append(purses, p), append(at, i)
	}
	if len(purses) == 0 {
		return out, nil
	}
	st, err := s.ledger.Statuses(ctx, org, purses, s.now())
	if err != nil {
		return nil, s.mark(err)
	}
	for i := range st {
		out[at[i]] = st[i]
	}
	return out, nil
}

func (s *Service) purseOf(r Record) (*quota.Purse, error) {
	n, err := readNode(r)
	if err != nil {
		return nil, err
	}
	return n.purse(s.cfg.Thresholds)
}
