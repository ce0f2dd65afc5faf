package boltstore

import (
	"context"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// Apply implements quota.Store: one durable transaction for all of the Ops, or
// none where nothing changed. An error means that nothing was done, but where
// the disk failed under it: then the Store refuses everything that writes until
// it is opened again, and that tells what happened.
func (s *Store) Apply(ctx context.Context, ops []*quota.Op) error {
	if err := s.lock(ctx, "apply"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if s.failed != nil {
		return s.failed
	}
	s.batch++
	s.touched = s.touched[:0]
	for _, op := range ops {
		b, err := s.book(op.Org)
		if err == nil {
			err = checkOp(op)
		}
		if err != nil {
			op.Result = quota.Result{Figures: op.Result.Figures[:0], Err: fmt.Errorf("boltstore: apply: %w", err)}
			continue
		}
		s.enter(b)
		b.Apply(op)
	}
	s.done()
	if err := s.commit(nil, nil); err != nil {
		return fmt.Errorf("boltstore: apply: %w", err)
	}
	return nil
}

// enter makes a book part of the transaction that is being gathered.
func (s *Store) enter(b *book) {
	if b.batch != s.batch {
		b.batch = s.batch
		b.Begin()
		s.rows -= b.Rows() // counted again by left
		s.touched = append(s.touched, b)
	}
}

// left counts the rows of the books of a transaction again.
func (s *Store) left() {
	for _, b := range s.touched {
		s.rows += b.Rows()
	}
	s.evict()
}

// checkOp refuses what cannot be part of a key.
func checkOp(op *quota.Op) error {
	for _, l := range op.Levels {
		if len(l.Subject) > maxID {
			return fmt.Errorf("%w subject: %d bytes, at most %d", saccount.ErrInvalid, len(l.Subject), maxID)
		}
		for i := range l.Limits {
			if len(l.Limits[i].Limit) > maxName {
				return fmt.Errorf("%w limit: a name of %d bytes, at most %d", saccount.ErrInvalid, len(l.Limits[i].Limit), maxName)
			}
		}
	}
	for i := range op.Counts {
		if len(op.Counts[i].Subject) > maxID || len(op.Counts[i].Series) > maxName {
			return fmt.Errorf("%w count: a subject or series of more than %d bytes", saccount.ErrInvalid, maxID)
		}
	}
	return nil
}

// commit makes durable what the touched books changed, alerts that are posted
// beside theirs, and what also does in the same transaction, or undoes it all.
// The caller holds mu.
func (s *Store) commit(posted []quota.Alert, also func(tx *bbolt.Tx) error) error {
	changes, alerts := s.gather()
	for _, a := range posted {
		a.Seq = s.alerts + int64(len(alerts)) + 1
		alerts = append(alerts, a)
	}
	if len(changes) == 0 && len(alerts) == 0 && also == nil {
		s.left()
		return nil
	}
	err := s.write(changes, alerts, also, s.pace())
	if err != nil && s.failed == nil && s.ckpt.on && s.ckpt.broken == nil {
		// The slice may have been in the way: without it there is less to write
		// and no table to touch.
		if e := s.write(changes, alerts, also, 0); e == nil {
			s.giveUp(err)
			err = nil
		}
	}
	if err != nil {
		for _, b := range s.touched {
			b.Rollback()
		}
		s.left()
		return err
	}
	for i := range changes {
		c := &changes[i]
		for _, r := range c.Rows {
			s.ckpt.row(c.b, r)
		}
		for _, r := range c.Receipts {
			s.ckpt.receipt(c.b, r)
			c.b.ForgetReceipt(r.ID) // the loader has it
		}
		for sub, o := range c.Openings {
			s.ckpt.opening(c.b, sub, o)
		}
		c.b.TakeAlerts()
	}
	clear(changes)
	s.alerts += int64(len(alerts))
	if s.due() {
		s.round()
	}
	s.left()
	return nil
}

// gather collects what the touched books changed.
func (s *Store) gather() (changes []change, alerts []quota.Alert) {
	changes = s.changes[:0]
	for _, b := range s.touched {
		ch := b.Changes()
		if ch.Empty() {
			continue
		}
		for _, a := range ch.Alerts {
			a.Seq = s.alerts + int64(len(alerts)) + 1
			alerts = append(alerts, a)
		}
		changes = append(changes, change{b: b, Changes: ch})
	}
	s.changes = changes
	return changes, alerts
}

// write is one transaction: the journal's value, the alerts, what else belongs
// to it, and a slice of the checkpoint.
func (s *Store) write(changes []change, alerts []quota.Alert, also func(tx *bbolt.Tx) error, pace int) error {
	var to progress
	parts := 0
	journalled := false
	for i := range changes {
		c := &changes[i]
		journalled = journalled || len(c.Rows)+len(c.Receipts)+len(c.Openings)+len(c.gone)+len(c.goneIDs) > 0
	}
	if journalled {
		s.buf = encode(s.buf[:0], changes)
	}
	err := s.update(func(tx *bbolt.Tx) (err error) {
		if also != nil {
			if err := also(tx); err != nil {
				return err
			}
		}
		if journalled {
			if parts, err = s.append(tx, s.buf); err != nil {
				return err
			}
		}
		if err := putAlerts(tx, alerts); err != nil {
			return err
		}
		to = s.ckpt.at
		if pace > 0 {
			to, err = s.slice(tx, pace)
		}
		return err
	})
	if err != nil {
		return err
	}
	// The round's end goes by the generations that were there when it was
	// written: first wrote, then appended.
	if pace > 0 {
		s.wrote(to)
	}
	if journalled {
		s.appended(parts, len(s.buf))
	}
	return nil
}
