package boltstore

import (
	"bytes"
	"context"
	"fmt"
	"math"

	"go.etcd.io/bbolt"

	"github.com/keypurse/keypurse/saccount"
)

// An audit log is the rows of its organization in tabAudit, by number. The row
// with number 0, which no entry has, says what was cut from the front.

// auditSealed begins the row of an entry with a mark. Those without begin with
// their time, whose first byte is 0 or 1.
const auditSealed = 2

func appendEntry(dst []byte, e *saccount.Entry) []byte {
	if e.Mark != "" {
		dst = appendPart(append(dst, auditSealed), e.Mark)
	}
	return append(appendTime(dst, e.At), e.Data...)
}

// parseEntry makes an entry that shares nothing with v.
func parseEntry(k []byte, seq int64, v []byte) (saccount.Entry, error) {
	w, e := wire{b: v}, saccount.Entry{Seq: seq}
	if len(v) > 0 && v[0] == auditSealed {
		w.byte()
		e.Mark = w.string()
	}
	e.At = w.time()
	if w.bad {
		return e, tabAudit.damaged(k)
	}
	e.Data = bytes.Clone(w.b)
	return e, nil
}

func appendCut(dst []byte, c *saccount.Cut) []byte {
	return appendPart(appendPart(appendOrdered(dst, c.Through), c.Mark), c.Seal)
}

func parseCut(k, v []byte) (c saccount.Cut, err error) {
	through, rest, err := cutOrdered(v)
	w := wire{b: rest}
	c = saccount.Cut{Through: through, Mark: w.string(), Seal: w.string()}
	if err != nil || w.end() != nil {
		return c, tabAudit.damaged(k)
	}
	return c, nil
}

// storedCut is what was cut from the front of an organization's log.
func storedCut(tx *snap, org string) (c saccount.Cut, err error) {
	k := seqKey(nil, org, 0)
	v, err := tabAudit.get(tx, k)
	if v == nil || err != nil {
		return c, err
	}
	return parseCut(k, v)
}

// lastAudit is the end of an organization's log.
func (s *Store) lastAudit(tx *snap, org string) (head saccount.Head, err error) {
	b, err := tabAudit.bucket(tx.Tx)
	if err != nil {
		return head, err
	}
	prefix := appendPart(nil, org)
	end := appendOrdered(bytes.Clone(prefix), math.MaxInt64)
	if err := tabAudit.between(b.Cursor(), end); err != nil {
		return head, err
	}
	c := b.Cursor()
	var k, v []byte
	if k, _ = c.Seek(end); k == nil {
		k, v = c.Last()
	} else {
		k, v = c.Prev()
	}
	lo := prefix
	if bytes.HasPrefix(k, prefix) {
		if v, err = tabAudit.unseal(k, v); err != nil {
			return head, err
		}
		seq, _, err := cutOrdered(k[len(prefix):])
		if err != nil {
			return head, tabAudit.damaged(k)
		}
		if seq == 0 {
			cut, err := parseCut(k, v)
			if err != nil {
				return head, err
			}
			head = saccount.Head{Seq: cut.Through, Mark: cut.Mark}
		} else {
			e, err := parseEntry(k, seq, v)
			if err != nil {
				return head, err
			}
			head = saccount.Head{Seq: seq, Mark: e.Mark}
		}
		lo = k
	}
	return head, tx.tree.whole(tx.Tx, tabAudit, lo, end)
}

// planAudit decides what a batch does to the audit log.
func (s *Store) planAudit(tx *snap, batch *saccount.Batch, p *plan) error {
	if c := batch.Cut; c != nil {
		stored, err := storedCut(tx, batch.Org)
		if err != nil {
			return err
		}
		var last *saccount.Entry
		k := seqKey(nil, batch.Org, max(c.Through, 1))
		v, err := tabAudit.get(tx, k)
		if err != nil {
			return err
		}
		if v != nil {
			e, err := parseEntry(k, c.Through, v)
			if err != nil {
				return err
			}
			last = &e
		}
		if err := batch.CheckCut(stored, last); err != nil {
			return err
		}
		err = tabAudit.scan(tx, seqKey(nil, batch.Org, 1), seqKey(nil, batch.Org, c.Through+1), func(k, _ []byte) (bool, error) {
			p.cut = append(p.cut, bytes.Clone(k))
			return true, nil
		})
		if err != nil {
			return err
		}
	}
	if len(batch.Audit) == 0 {
		return nil
	}
	head, err := s.lastAudit(tx, batch.Org)
	if err == nil {
		p.audit = batch.Sealed(head)
	}
	return err
}

func putAudit(tx *bbolt.Tx, batch *saccount.Batch, p *plan) error {
	for i := range p.audit {
		e := &p.audit[i]
		if err := tabAudit.put(tx, seqKey(nil, batch.Org, e.Seq), appendEntry(nil, e)); err != nil {
			return err
		}
	}
	for _, k := range p.cut {
		if err := tabAudit.delete(tx, k); err != nil {
			return err
		}
	}
	if batch.Cut != nil {
		return tabAudit.put(tx, seqKey(nil, batch.Org, 0), appendCut(nil, batch.Cut))
	}
	return nil
}

// Audit implements saccount.Store.
func (s *Store) Audit(ctx context.Context, org string, after int64, n int) (out []saccount.Entry, err error) {
	if err := s.open(ctx, "audit"); err != nil {
		return nil, err
	}
	if n < 1 || after == math.MaxInt64 || len(org) > maxID {
		return nil, nil
	}
	prefix := appendPart(nil, org)
	err = s.view(func(tx *snap) error {
		return tabAudit.scan(tx, seqKey(nil, org, max(after, 0)+1), appendOrdered(bytes.Clone(prefix), math.MaxInt64), func(k, v []byte) (bool, error) {
			seq, _, err := cutOrdered(k[len(prefix):])
			if err != nil {
				return false, tabAudit.damaged(k)
			}
			e, err := parseEntry(k, seq, v)
			if err != nil {
				return false, err
			}
			out = append(out, e)
			return len(out) < n, nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("boltstore: audit: %w", err)
	}
	return out, nil
}

// AuditEnds implements saccount.Store.
func (s *Store) AuditEnds(ctx context.Context, org string) (cut saccount.Cut, head saccount.Head, err error) {
	if err := s.open(ctx, "audit ends"); err != nil {
		return cut, head, err
	}
	if len(org) > maxID {
		return cut, head, nil
	}
	err = s.view(func(tx *snap) error {
		if cut, err = storedCut(tx, org); err == nil {
			head, err = s.lastAudit(tx, org)
		}
		return err
	})
	if err != nil {
		return saccount.Cut{}, saccount.Head{}, fmt.Errorf("boltstore: audit ends: %w", err)
	}
	return cut, head, nil
}
