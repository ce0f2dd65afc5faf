package boltstore

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/keypurse/keypurse/quota"
)

// A checkpoint goes in rounds. A round begins when the journal has grown to its
// size: all that then waits is sorted, so that rows of one page are written
// together, and written in slices with the commits that follow. Its end drops
// the generations of the journal that were there when it began. What changes
// meanwhile waits for the next round; what is written twice was written anyhow.

const (
	sliceRows   = 16      // with one commit, at least
	settleRows  = 4096    // with one commit, where nobody waits
	receiptCost = 4       // rows that a receipt is worth: three tables
	maxEntries  = 1 << 14 // values of one generation
)

type waiting struct {
	rows     []waitingRow
	receipts []waitingID
	openings []waitingID
}

type waitingRow struct {
	b    *book
	r    *quota.Row
	sort uint64
}

type waitingID struct {
	b  *book
	id string
}

func (w *waiting) empty() bool {
	return len(w.rows) == 0 && len(w.receipts) == 0 && len(w.openings) == 0
}

func (w *waiting) reset() {
	clear(w.rows)
	clear(w.receipts)
	clear(w.openings)
	w.rows, w.receipts, w.openings = w.rows[:0], w.receipts[:0], w.openings[:0]
}

type checkpoint struct {
	next, cur waiting
	on        bool     // a round is under way
	at        progress // what of cur is written
	cover     int      // generations that the round drops
	// broken is why no round is begun any more: a table's pages are damaged.
	// The journal keeps what would be written into it.
	broken error
}

type progress struct{ rows, receipts, openings int }

// cost is what it takes to write so much, in rows.
func (p progress) cost() int { return p.rows + receiptCost*p.receipts + p.openings }

func (w *waiting) cost() int {
	return progress{len(w.rows), len(w.receipts), len(w.openings)}.cost()
}

// row, receipt and opening note what is newer in the journal than in the tables.

func (c *checkpoint) row(b *book, r *quota.Row) {
	if !r.Dirty {
		r.Dirty = true
		b.dirty++
		c.next.rows = append(c.next.rows, waitingRow{b: b, r: r})
	}
}

func (c *checkpoint) receipt(b *book, r *quota.Receipt) {
	if b.receipts[r.ID] == nil {
		c.next.receipts = append(c.next.receipts, waitingID{b, r.ID})
	}
	b.receipts[r.ID] = r
}

func (c *checkpoint) opening(b *book, sub quota.Subject, o []quota.Opening) {
	if _, ok := b.openings[sub]; !ok {
		c.next.openings = append(c.next.openings, waitingID{b, string(sub)})
	}
	b.openings[sub] = o
}

// due reports whether a round should begin.
func (s *Store) due() bool {
	c := &s.ckpt
	return !c.on && c.broken == nil && (s.jour.bytes >= s.cfg.JournalBytes || s.jour.count >= maxEntries || len(c.next.rows) >= max(s.cfg.MaxRows/2, 1024))
}

// round begins one.
func (s *Store) round() {
	c := &s.ckpt
	c.cur, c.next = c.next, c.cur
	c.next.reset()
	c.on, c.at, c.cover = true, progress{}, len(s.jour.gens)
	s.jour.rotate()
	for i := range c.cur.rows {
		w := &c.cur.rows[i]
		w.sort = sortKey(w.r.ID().Subject)
	}
	slices.SortFunc(c.cur.rows, func(a, b waitingRow) int {
		if a.b != b.b {
			return cmp.Compare(a.b.id, b.b.id)
		}
		return cmp.Compare(a.sort, b.sort)
	})
	slices.SortFunc(c.cur.receipts, func(a, b waitingID) int {
		if a.b != b.b {
			return cmp.Compare(a.b.id, b.b.id)
		}
		return cmp.Compare(a.id, b.id)
	})
}

// sortKey orders subjects nearly as their keys are: by kind and the first bytes
// of the id.
func sortKey(s quota.Subject) uint64 {
	var b [8]byte
	kind := s.Kind()
	if kind != "" {
		b[0] = kind[0]
	}
	copy(b[1:], s.ID())
	return binary.BigEndian.Uint64(b[:])
}

// pace is how many rows a commit takes along: so many that the round ends when
// the journal has grown to half its size again. An even pace keeps every commit
// nearly as short as those without a round; few large slices would be what the
// slowest callers wait for.
func (s *Store) pace() int {
	c := &s.ckpt
	if !c.on {
		return sliceRows
	}
	total, done := c.cur.cost(), c.at.cost()
	grown := max(
		float64(s.jour.bytes)/float64(s.cfg.JournalBytes),
		float64(s.jour.count)/maxEntries,
		2*float64(len(c.next.rows))/float64(s.cfg.MaxRows),
	)
	due := int(2*grown*float64(total)) - done
	return min(max(sliceRows, due), settleRows)
}

// slice writes up to most rows of the round into their tables. What it returns
// is for wrote, once the transaction has committed.
func (s *Store) slice(tx *bbolt.Tx, most int) (to progress, err error) {
	c := &s.ckpt
	to = c.at
	if c.broken != nil || !c.on {
		return to, nil
	}
	counters, err := tabCounters.bucket(tx)
	if err != nil {
		return to, err
	}
	for ; to.rows < len(c.cur.rows) && most > 0; to.rows++ {
		w := &c.cur.rows[to.rows]
		if !w.r.Dirty {
			continue // removed
		}
		most--
		if err := writeRow(tx, counters, w.b.id, w.r.ID(), w.r.Counter()); err != nil {
			return to, err
		}
	}
	for ; to.receipts < len(c.cur.receipts) && most > 0; to.receipts++ {
		w := c.cur.receipts[to.receipts]
		r := w.b.receipts[w.id]
		if r == nil {
			continue
		}
		most -= receiptCost
		if err := writeReceipt(tx, w.b.id, r); err != nil {
			return to, err
		}
	}
	for ; to.openings < len(c.cur.openings) && most > 0; to.openings++ {
		w := c.cur.openings[to.openings]
		most--
		if err := tabOpenings.put(tx, pairKey(nil, w.b.id, w.id), quota.AppendOpenings(nil, w.b.openings[quota.Subject(w.id)])); err != nil {
			return to, err
		}
	}
	if !c.done(to) || c.cover == 0 {
		return to, nil
	}
	for _, gen := range s.jour.gens[:c.cover] {
		if err := tx.DeleteBucket(journalName(gen)); err != nil {
			return to, err
		}
	}
	last := s.jour.seq
	if c.cover < len(s.jour.gens) {
		last = s.jour.gens[c.cover] - 1
	}
	return to, tabMeta.put(tx, metaDropped, binary.BigEndian.AppendUint64(nil, last))
}

func (c *checkpoint) done(at progress) bool {
	return at.rows == len(c.cur.rows) && at.receipts == len(c.cur.receipts) && at.openings == len(c.cur.openings)
}

// writeRow writes a counter and, where it is a limit's first, when its window
// ends.
func writeRow(tx *bbolt.Tx, counters *bbolt.Bucket, org string, id quota.CounterID, c quota.Counter) error {
	key := counterKey(make([]byte, 0, 96), org, id)
	if id.Number != 0 && c.End != 0 && counters.Get(key) == nil {
		if err := tabEnds.put(tx, append(appendOrdered(make([]byte, 0, 8+len(key)), c.End), key...), nil); err != nil {
			return err
		}
	}
	return counters.Put(key, tabCounters.seal(key, quota.AppendCounter(make([]byte, 0, 48), &c)))
}

func writeReceipt(tx *bbolt.Tx, org string, r *quota.Receipt) error {
	key := pairKey(nil, org, r.ID)
	if err := tabReceipts.put(tx, key, quota.AppendReceipt(make([]byte, 0, 384), r)); err != nil {
		return err
	}
	if err := tabKeeps.put(tx, append(appendOrdered(nil, r.Keep), key...), nil); err != nil {
		return err
	}
	if r.Held() {
		return tabHolds.put(tx, key, nil)
	}
	if r.Hold != quota.HoldNone {
		return tabHolds.delete(tx, key)
	}
	return nil
}

// wrote notes what a committed transaction wrote of the round.
func (s *Store) wrote(to progress) {
	c := &s.ckpt
	if !c.on || c.broken != nil {
		return
	}
	for i := c.at.rows; i < to.rows; i++ {
		w := &c.cur.rows[i]
		w.r.Dirty = false
		w.b.dirty--
	}
	for i := c.at.receipts; i < to.receipts; i++ {
		w := &c.cur.receipts[i]
		delete(w.b.receipts, w.id)
	}
	for i := c.at.openings; i < to.openings; i++ {
		w := &c.cur.openings[i]
		delete(w.b.openings, quota.Subject(w.id))
	}
	c.at = to
	if c.done(to) {
		s.jour.gens = slices.Clone(s.jour.gens[c.cover:])
		c.on = false
		c.cur.reset()
	}
}

// settle writes all that waits and drops the journal. The caller holds mu.
func (s *Store) settle() error {
	for s.ckpt.on || !s.ckpt.next.empty() || len(s.jour.gens) > 0 {
		if err := s.step(); err != nil {
			return err
		}
	}
	if s.writes == 0 {
		return nil
	}
	// bbolt has two heads and writes them in turn. Where the newest is damaged
	// it goes back to the one before: let that say the same.
	return s.update(func(*bbolt.Tx) error { return nil })
}

// step is a commit of nothing but a slice.
func (s *Store) step() error {
	if s.ckpt.broken != nil {
		return s.ckpt.broken
	}
	if !s.ckpt.on {
		s.round()
	}
	var to progress
	err := s.update(func(tx *bbolt.Tx) (err error) {
		to, err = s.slice(tx, settleRows)
		return err
	})
	if err == nil {
		s.wrote(to)
	}
	return err
}

// checkpoint writes all that waits when it is called, letting others in
// between. The caller does not hold mu.
func (s *Store) checkpoint(ctx context.Context, verb string) error {
	for rounds := 0; rounds < 2; {
		if err := s.lock(ctx, verb); err != nil {
			return err
		}
		var err error
		if s.ckpt.on || rounds == 0 && (!s.ckpt.next.empty() || len(s.jour.gens) > 0) {
			if !s.ckpt.on {
				rounds++
			}
			err = s.step()
		} else {
			rounds = 2
		}
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// giveUp stops checkpoints over damaged pages.
func (s *Store) giveUp(err error) {
	if errors.Is(err, quota.ErrCorrupt) {
		s.ckpt.broken = err
		s.log.Error("boltstore: counters cannot be written into their tables and stay in the journal; run Check", "file", s.db.Path(), "error", err)
	}
}
