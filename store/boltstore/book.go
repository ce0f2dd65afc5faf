package boltstore

import (
	"encoding/binary"
	"fmt"

	"github.com/keypurse/keypurse/quota"
)

// book is one organization in memory: the counters in use, the open
// reservations, and what the journal holds that its tables do not.
type book struct {
	*quota.Book
	s        *Store
	id       string
	batch    uint64 // that it last took part in
	dirty    int    // rows that wait to be written
	receipts map[string]*quota.Receipt
	openings map[quota.Subject][]quota.Opening
	// memory makes the loader answer from nothing, to see the rows in memory.
	memory bool
}

func (b *book) clean() bool { return b.dirty == 0 && len(b.receipts) == 0 && len(b.openings) == 0 }

func (s *Store) newBook(org string) *book {
	b := &book{s: s, id: org, receipts: map[string]*quota.Receipt{}, openings: map[quota.Subject][]quota.Opening{}}
	b.Book = quota.NewBook(org, b)
	return b
}

// book gives an organization's book, read from the file where it is not in
// memory. The caller holds mu.
func (s *Store) book(org string) (*book, error) {
	if s.last != nil && s.last.id == org {
		return s.last, nil
	}
	b := s.books[org]
	if b == nil {
		if err := checkID("organization", org); err != nil {
			return nil, err
		}
		b = s.newBook(org)
		if err := s.read(func(tx *snap) error { return b.fill(tx) }); err != nil {
			return nil, err
		}
		s.books[org] = b
	}
	s.last = b
	return b, nil
}

// fill reads what a book needs from the first: the settings number and the
// open reservations, but those that the journal knows better.
func (b *book) fill(tx *snap) error {
	n, err := b.s.settings(tx, b.id)
	if err != nil {
		return err
	}
	b.Settings = n
	prefix := appendPart(nil, b.id)
	return tabHolds.scan(tx, prefix, after(prefix), func(k, _ []byte) (bool, error) {
		id := string(k[len(prefix):])
		if b.receipts[id] != nil {
			return true, nil
		}
		r, err := b.stored(tx, id)
		if err == nil && (r == nil || !r.Held()) {
			err = fmt.Errorf("%w: the open reservation %q is not stored as one", quota.ErrCorrupt, id)
		}
		if err != nil {
			// What it holds stays held: that is the safe side, and the others
			// of the organization go on.
			b.s.log.Error("boltstore: an open reservation cannot be read; its credits stay held", "organization", b.id, "id", id, "error", err)
			return true, nil
		}
		b.RestoreReceipt(r)
		return true, nil
	})
}

func (s *Store) settings(tx *snap, org string) (int64, error) {
	key := appendPart(nil, org)
	v, err := tabSettings.get(tx, key)
	if v == nil || err != nil {
		return 0, err
	}
	n, size := binary.Uvarint(v)
	if size != len(v) {
		return 0, tabSettings.damaged(key)
	}
	return int64(n), nil
}

// read runs fn in the loader's transaction, which is made when it is first
// needed and ends with done. The caller holds mu.
func (s *Store) read(fn func(tx *snap) error) error {
	return guarded(func() error {
		if s.reader == nil {
			tx, err := s.snap()
			if err != nil {
				return err
			}
			s.reader = tx
		}
		return fn(s.reader)
	})
}

// done ends the loader's transaction.
func (s *Store) done() {
	if s.reader != nil {
		s.reader.end()
	}
	s.reader = nil
}

// Counter implements quota.Loader.
func (b *book) Counter(id quota.CounterID) (c quota.Counter, ok bool, err error) {
	if b.memory {
		return c, false, nil
	}
	var room [128]byte
	key := counterKey(room[:0], b.id, id)
	err = b.s.read(func(tx *snap) error {
		v, err := tabCounters.get(tx, key)
		if v == nil || err != nil {
			return err
		}
		ok = true
		c, err = parseCounter(key, v)
		return err
	})
	return c, ok, err
}

func parseCounter(key, v []byte) (quota.Counter, error) {
	c, rest, err := quota.ParseCounter(v)
	if err != nil || len(rest) != 0 {
		return c, tabCounters.damaged(key)
	}
	return c, nil
}

// Buckets implements quota.Loader.
func (b *book) Buckets(sub quota.Subject, series string, from, to int64, fn func(int64, quota.Counter)) error {
	if b.memory || from >= to {
		return nil
	}
	prefix := seriesPrefix(nil, b.id, sub, 0, series)
	return b.s.read(func(tx *snap) error {
		return tabCounters.scan(tx, appendOrdered(prefix[:len(prefix):len(prefix)], from), appendOrdered(prefix[:len(prefix):len(prefix)], to), func(k, v []byte) (bool, error) {
			start, _, err := cutOrdered(k[len(prefix):])
			if err != nil {
				return false, tabCounters.damaged(k)
			}
			c, err := parseCounter(k, v)
			if err == nil {
				fn(start, c)
			}
			return true, err
		})
	})
}

// Openings implements quota.Loader.
func (b *book) Openings(sub quota.Subject) (o []quota.Opening, err error) {
	if o, ok := b.openings[sub]; ok {
		return o, nil
	}
	err = b.s.read(func(tx *snap) error {
		o, err = b.storedOpenings(tx, sub)
		return err
	})
	return o, err
}

func (b *book) storedOpenings(tx *snap, sub quota.Subject) ([]quota.Opening, error) {
	key := pairKey(nil, b.id, string(sub))
	v, err := tabOpenings.get(tx, key)
	if v == nil || err != nil {
		return nil, err
	}
	o, rest, err := quota.ParseOpenings(v)
	if err != nil || len(rest) != 0 {
		return nil, tabOpenings.damaged(key)
	}
	return o, nil
}

// Receipt implements quota.Loader.
func (b *book) Receipt(id string) (r *quota.Receipt, err error) {
	if r := b.receipts[id]; r != nil {
		return r, nil
	}
	err = b.s.read(func(tx *snap) error {
		r, err = b.stored(tx, id)
		return err
	})
	return r, err
}

func (b *book) stored(tx *snap, id string) (*quota.Receipt, error) {
	key := pairKey(nil, b.id, id)
	v, err := tabReceipts.get(tx, key)
	if v == nil || err != nil {
		return nil, err
	}
	return parseReceipt(key, v)
}

func parseReceipt(key, v []byte) (*quota.Receipt, error) {
	r, rest, err := quota.ParseReceipt(v)
	if err != nil || len(rest) != 0 {
		return nil, tabReceipts.damaged(key)
	}
	return r, nil
}

// evict keeps the memory bounded. It looks at no more than it must.
func (s *Store) evict() {
	if s.rows <= s.cfg.MaxRows && len(s.books) <= s.cfg.MaxRows {
		return
	}
	goal := s.cfg.MaxRows - s.cfg.MaxRows/8
	for id, b := range s.books {
		if s.rows <= goal && len(s.books) <= goal {
			return
		}
		n := b.Rows()
		switch {
		case b.batch == s.batch:
			continue
		case b.clean() && b.batch+1024 < s.batch:
			delete(s.books, id)
			if s.last == b {
				s.last = nil
			}
			s.rows -= n
		default:
			b.Evict(max(0, n-(s.rows-goal)))
			s.rows += b.Rows() - n
		}
	}
	if s.rows > s.cfg.MaxRows { // all of it belongs to the books of this batch
		for _, b := range s.touched {
			n := b.Rows()
			b.Evict(max(0, n-(s.rows-goal)))
			s.rows += b.Rows() - n
		}
	}
}
