package boltstore

import (
	"bytes"
	"context"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// purge is what one call drops, by organization.
type purge struct {
	orgs   map[string]*change
	order  []string
	keeps  [][]byte          // rows of tabKeeps that are spent
	rekeep map[string][]byte // receipts' keys that are kept until another instant
	ends   [][]byte          // rows of tabEnds that are spent
	alerts [][]byte
	asked  [][]byte // rows of tabRequests that are over
	sent   [][]byte // deliveries
	due    [][]byte
	posts  [][]byte
	pends  [][]byte // rows of tabPostEnds
	recent [][]byte // rows of tabRecent
	sinks  [][]byte // rows of tabSinks
	n      int
}

func (p *purge) of(org string) *change {
	c := p.orgs[org]
	if c == nil {
		c = &change{}
		p.orgs[org] = c
		p.order = append(p.order, org)
	}
	return c
}

// Purge implements saccount.Store, as one transaction a call. A window in which
// something is still held stays until that is settled.
func (s *Store) Purge(ctx context.Context, p saccount.Purge) (dropped int, err error) {
	if err := s.open(ctx, "purge"); err != nil {
		return 0, err
	}
	if p.Most < 1 {
		return 0, fmt.Errorf("boltstore: purge: %w bound: at least 1", saccount.ErrInvalid)
	}
	if !p.Receipts.IsZero() || !p.Windows.IsZero() {
		if err := s.checkpoint(ctx, "purge"); err != nil { // so that the tables know everything
			return 0, fmt.Errorf("boltstore: purge: %w", err)
		}
	}
	if err := s.lock(ctx, "purge"); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	defer s.done()
	if s.failed != nil {
		return 0, s.failed
	}
	out := &purge{orgs: map[string]*change{}, rekeep: map[string][]byte{}}
	err = s.read(func(tx *snap) error {
		if err := s.overReceipts(tx, p, out); err != nil {
			return err
		}
		if err := s.overWindows(tx, p, out); err != nil {
			return err
		}
		if err := s.overRequests(tx, p, out); err != nil {
			return err
		}
		if err := s.overAlerts(tx, p, out); err != nil {
			return err
		}
		return s.overPosts(tx, p, out)
	})
	s.done()
	if err == nil {
		err = s.drops(out)
	}
	if err != nil {
		return 0, fmt.Errorf("boltstore: purge: %w", err)
	}
	return out.n, nil
}

// overReceipts finds ids that are remembered no longer.
func (s *Store) overReceipts(tx *snap, p saccount.Purge, out *purge) error {
	if p.Receipts.IsZero() {
		return nil
	}
	limit := p.Receipts.UnixMicro()
	return tabKeeps.scan(tx, []byte{0}, appendOrdered(nil, limit+1), func(k, _ []byte) (bool, error) {
		if out.n >= p.Most {
			return false, nil
		}
		_, key, err := cutOrdered(k)
		if err != nil {
			return false, tabKeeps.damaged(k)
		}
		org, id, err := cutPart(key)
		if err != nil {
			return false, tabKeeps.damaged(k)
		}
		v, err := tabReceipts.get(tx, key)
		if err != nil {
			return false, err
		}
		if b := s.books[org]; b != nil && b.receipts[string(id)] != nil {
			return true, nil // it changed just now
		}
		if v != nil {
			r, err := parseReceipt(key, v)
			if err != nil {
				return false, err
			}
			if r.Held() {
				return true, nil
			}
			if r.Keep > limit {
				out.rekeep[string(key)] = append(appendOrdered(nil, r.Keep), key...)
			} else {
				c := out.of(org)
				c.goneIDs = append(c.goneIDs, string(id))
				out.n++
			}
		}
		out.keeps = append(out.keeps, bytes.Clone(k))
		return true, nil
	})
}

// overRequests finds requests that are remembered no longer.
func (s *Store) overRequests(tx *snap, p saccount.Purge, out *purge) error {
	if p.Receipts.IsZero() || out.n >= p.Most {
		return nil
	}
	return tabRequests.scan(tx, []byte{0}, appendOrdered(nil, p.Receipts.UnixMicro()+1), func(k, _ []byte) (bool, error) {
		if out.n >= p.Most {
			return false, nil
		}
		out.asked = append(out.asked, bytes.Clone(k))
		out.n++
		return true, nil
	})
}

// overWindows finds counters of windows that ended.
func (s *Store) overWindows(tx *snap, p saccount.Purge, out *purge) error {
	if p.Windows.IsZero() || out.n >= p.Most {
		return nil
	}
	return tabEnds.scan(tx, []byte{0}, appendOrdered(nil, p.Windows.UnixMicro()+1), func(k, _ []byte) (bool, error) {
		if out.n >= p.Most {
			return false, nil
		}
		_, key, err := cutOrdered(k)
		if err != nil {
			return false, tabEnds.damaged(k)
		}
		org, id, err := parseCounterKey(key)
		if err != nil {
			return false, tabEnds.damaged(k)
		}
		held, there, err := s.held(tx, org, id, key)
		if err != nil || held {
			return true, err
		}
		if there {
			c := out.of(org)
			c.gone = append(c.gone, id)
			out.n++
		}
		out.ends = append(out.ends, bytes.Clone(k))
		return true, nil
	})
}

// held looks at a counter in memory or in its table.
func (s *Store) held(tx *snap, org string, id quota.CounterID, key []byte) (held, there bool, err error) {
	if b := s.books[org]; b != nil {
		if r := b.Row(id); r != nil {
			return r.Counter().Held != 0, true, nil
		}
	}
	v, err := tabCounters.get(tx, key)
	if v == nil || err != nil {
		return false, false, err
	}
	c, err := parseCounter(key, v)
	return c.Held != 0, true, err
}

// overAlerts finds alerts that were put up long ago.
func (s *Store) overAlerts(tx *snap, p saccount.Purge, out *purge) error {
	if p.Alerts.IsZero() || out.n >= p.Most {
		return nil
	}
	return tabOutbox.scan(tx, []byte{0}, nil, func(k, v []byte) (bool, error) {
		a, err := parseAlert(k, v)
		if err != nil || a.At >= p.Alerts.UnixMicro() || out.n >= p.Most {
			return false, err
		}
		out.alerts = append(out.alerts, bytes.Clone(k))
		out.recent = append(out.recent, recentKey(nil, a.Org, "", a.Seq), recentKey(nil, a.Org, a.Subject, a.Seq))
		out.n++
		return true, s.overSent(tx, a.Seq, out)
	})
}

// drops does it.
func (s *Store) drops(p *purge) error {
	if p.n == 0 && len(p.keeps) == 0 && len(p.ends) == 0 {
		return nil
	}
	s.batch++
	s.touched = s.touched[:0]
	var changes []change
	for _, org := range p.order {
		c := *p.orgs[org]
		if c.b = s.books[org]; c.b == nil {
			c.b = s.newBook(org) // for its name alone
		} else {
			s.enter(c.b)
		}
		changes = append(changes, c)
	}
	err := s.write(changes, nil, func(tx *bbolt.Tx) error { return p.apply(tx, changes) }, 0)
	if err == nil {
		for i := range changes {
			c := &changes[i]
			for _, id := range c.gone {
				c.b.Remove(id)
			}
			for _, id := range c.goneIDs {
				c.b.ForgetReceipt(id)
			}
		}
	}
	s.left()
	return err
}

func (p *purge) apply(tx *bbolt.Tx, changes []change) error {
	for i := range changes {
		c := &changes[i]
		for _, id := range c.goneIDs {
			if err := tabReceipts.delete(tx, pairKey(nil, c.b.id, id)); err != nil {
				return err
			}
		}
		for _, id := range c.gone {
			if err := tabCounters.delete(tx, counterKey(nil, c.b.id, id)); err != nil {
				return err
			}
		}
	}
	for _, rows := range [...]struct {
		t    *table
		keys [][]byte
	}{{tabKeeps, p.keeps}, {tabEnds, p.ends}, {tabOutbox, p.alerts}, {tabRecent, p.recent}, {tabSent, p.sent}, {tabSinks, p.sinks}, {tabDue, p.due}, {tabPosts, p.posts}, {tabPostEnds, p.pends}} {
		for _, k := range rows.keys {
			if err := rows.t.delete(tx, k); err != nil {
				return err
			}
		}
	}
	for _, k := range p.asked {
		_, record, err := cutOrdered(k)
		if err != nil {
			return tabRequests.damaged(k)
		}
		if err := tabRecords.delete(tx, record); err != nil {
			return err
		}
		if err := tabRequests.delete(tx, k); err != nil {
			return err
		}
	}
	for _, k := range p.rekeep {
		if err := tabKeeps.put(tx, k, nil); err != nil {
			return err
		}
	}
	return nil
}
