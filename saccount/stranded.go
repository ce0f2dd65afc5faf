package saccount

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/keypurse/keypurse/quota"
)

// StrandedBlocks lists the blocks of an organization whose owner did not end
// them in time, by id: see Config.Leases. Errors: ErrNotFound for an empty id,
// ErrClosed, and the store's.
func (s *Service) StrandedBlocks(ctx context.Context, org string) ([]quota.Block, error) {
	if err := s.begin("stranded blocks"); err != nil {
		return nil, err
	}
	if org == "" {
		return nil, fmt.Errorf("saccount: stranded blocks of organization %q: %w", org, ErrNotFound)
	}
	bs, err := s.ledger.Stranded(ctx, org, s.now())
	return bs, s.mark(err)
}

// SettleBlock charges spent credits of a stranded block, in the windows and the
// bucket that they were spent in, and frees the rest: 0 frees all of it. Only
// call it where the process that took the block is dead: what a living one then
// settles is refused. The audit entry is written before: one that is there
// without the block being settled says that the settlement failed, and it can
// be tried again. Errors: quota.ErrUnknownID where no such block is stranded,
// quota.ErrExcess where it holds less than spent, ErrInvalid, ErrClosed, and
// the store's.
func (s *Service) SettleBlock(ctx context.Context, by Actor, org, id string, spent quota.Credits) error {
	bs, err := s.StrandedBlocks(ctx, org)
	if err != nil {
		return err
	}
	if err := checkActor(by); err != nil {
		return fmt.Errorf("saccount: settle block: %w", err)
	}
	for _, b := range bs {
		if b.ID != id {
			continue
		}
		if spent < 0 || spent > b.Held {
			break // the Ledger says what is wrong
		}
		now := Micro(s.now())
		type told struct {
			Block string        `json:"block"`
			Owner string        `json:"owner"`
			Held  quota.Credits `json:"held"`
			Spent quota.Credits `json:"spent"`
		}
		after, err := json.Marshal(told{b.ID, b.Owner, b.Held, spent})
		if err != nil {
			return fmt.Errorf("saccount: audit: %w", err)
		}
		entry := Batch{Org: org, At: now}
		if err := s.note(ctx, &entry, kept{Actor: by, Action: "settle_block", Subject: b.Caller, After: after}, now); err != nil {
			return err
		}
		if err := s.store.Write(ctx, entry); err != nil {
			return fmt.Errorf("saccount: settle block: %w", err)
		}
	}
	return s.mark(s.ledger.SettleStranded(ctx, org, quota.SettleStranded{ID: id, Spent: spent, At: s.now()}))
}
