package boltstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/keypurse/keypurse/quota"
)

// The journal is a run of values under ascending sequence numbers without
// gaps, each what one transaction left of the rows that it changed: to replay
// one twice does nothing. One that is long lies in parts, each under a number
// of its own. The journal lies in buckets, one for each generation, named by
// the sequence number of its first value; once all that a generation holds was
// written into the tables, it is dropped whole.

var (
	journalPrefix = []byte("keypurse/journal/")
	journalTag    = &table{tag: 'j', what: "journal value"}
	metaDropped   = []byte("dropped") // the last sequence number that was dropped
)

// The first byte of what lies under a sequence number.
const (
	journalVersion  = 1 // a whole value
	journalPart     = 2 // of a value, of which the next number has more
	journalLastPart = 3
)

const (
	maxGenerations = 1 << 10
	// partLen lets four parts into a page of 4 KiB. bbolt puts at least two
	// values on a page and up to four on one that is too long for its size:
	// whole values of 8 KiB would be written anew with each of the next three.
	partLen = 980
	// maxValue bounds what a value's parts say together.
	maxValue = 1 << 30
)

type journal struct {
	seq    uint64   // of the last value
	gens   []uint64 // generations, oldest first
	active bool     // the last generation takes more values
	bytes  int      // in the active generation
	count  int
}

func journalName(gen uint64) []byte {
	return binary.BigEndian.AppendUint64(bytes.Clone(journalPrefix), gen)
}

// change is what one transaction does to one organization's rows.
type change struct {
	b *book
	quota.Changes
	gone    []quota.CounterID // dropped from their table by the same transaction
	goneIDs []string
}

// encode appends the value of a transaction. Rows are written with what the row
// before has already said left out.
func encode(dst []byte, changes []change) []byte {
	dst = append(dst, journalVersion)
	dst = binary.AppendUvarint(dst, uint64(len(changes)))
	for i := range changes {
		c := &changes[i]
		dst = appendPart(dst, c.b.id)
		dst = binary.AppendUvarint(dst, uint64(len(c.Rows)))
		var subject quota.Subject
		var start int64
		for j, r := range c.Rows {
			id, state := r.ID(), r.Counter()
			same := byte(0)
			if j > 0 && id.Subject == subject {
				same = 1
			}
			dst = append(dst, same)
			if same == 0 {
				dst = appendPart(dst, string(id.Subject))
			}
			dst = appendPart(dst, id.Series)
			dst = binary.AppendUvarint(dst, uint64(id.Number))
			dst = binary.AppendVarint(dst, id.Start-start)
			dst = quota.AppendCounter(dst, &state)
			subject, start = id.Subject, id.Start
		}
		dst = binary.AppendUvarint(dst, uint64(len(c.Receipts)))
		for _, r := range c.Receipts {
			dst = quota.AppendReceipt(dst, r)
		}
		dst = binary.AppendUvarint(dst, uint64(len(c.Openings)))
		for sub, o := range c.Openings {
			dst = quota.AppendOpenings(appendPart(dst, string(sub)), o)
		}
		dst = binary.AppendUvarint(dst, uint64(len(c.gone)))
		for _, id := range c.gone {
			dst = quota.AppendCounterID(dst, id)
		}
		dst = binary.AppendUvarint(dst, uint64(len(c.goneIDs)))
		for _, id := range c.goneIDs {
			dst = appendPart(dst, id)
		}
	}
	return dst
}

// append writes a value under the next sequence numbers and returns how many it
// took. The sequence moves only when the transaction has committed: see appended.
func (s *Store) append(tx *bbolt.Tx, value []byte) (parts int, err error) {
	seq := s.jour.seq + 1
	gen := seq
	if s.jour.active {
		gen = s.jour.gens[len(s.jour.gens)-1]
	}
	b, err := tx.CreateBucketIfNotExists(journalName(gen))
	if err != nil {
		return 0, err
	}
	b.FillPercent = 1 // values come in order
	var key [8]byte
	put := func(value []byte) error {
		binary.BigEndian.PutUint64(key[:], seq)
		seq++
		parts++
		return b.Put(key[:], journalTag.seal(key[:], value))
	}
	if len(value) <= partLen {
		return 1, put(value)
	}
	// bbolt keeps what it is given until the commit: one room for all parts.
	room := slices.Grow(s.parts[:0], len(value)+(len(value)/partLen+1)*(1+sumLen))
	s.parts = room
	for len(value) > 0 {
		kind, n := byte(journalPart), partLen
		if n >= len(value) {
			kind, n = journalLastPart, len(value)
		}
		part := append(append(room[len(room):], kind), value[:n]...)
		room, value = room[:len(room)+len(part)+sumLen], value[n:]
		if err := put(part); err != nil {
			return 0, err
		}
	}
	return parts, nil
}

func (s *Store) appended(parts, size int) {
	j := &s.jour
	if !j.active {
		j.gens, j.active, j.bytes, j.count = append(j.gens, j.seq+1), true, 0, 0
	}
	j.seq += uint64(parts)
	j.bytes += size
	j.count += parts
}

// rotate makes the next value begin a generation of its own.
func (j *journal) rotate() { j.active, j.bytes, j.count = false, 0, 0 }

// replay reads the journal into memory.
func (s *Store) replay(tx *snap) error {
	v, err := tabMeta.get(tx, metaDropped)
	if err != nil {
		return err
	}
	if v != nil {
		if len(v) != 8 {
			return tabMeta.damaged(metaDropped)
		}
		s.jour.seq = binary.BigEndian.Uint64(v)
	}
	c := tx.Cursor()
	for k, _ := c.Seek(journalPrefix); bytes.HasPrefix(k, journalPrefix); k, _ = c.Next() {
		if len(k) != len(journalPrefix)+8 || len(s.jour.gens) >= maxGenerations {
			return fmt.Errorf("%w: the journal has a generation %q", quota.ErrCorrupt, k)
		}
		s.jour.gens = append(s.jour.gens, binary.BigEndian.Uint64(k[len(journalPrefix):]))
	}
	var whole gathered
	for _, gen := range s.jour.gens {
		if gen != s.jour.seq+1 {
			return missing(s.jour.seq + 1)
		}
		t := *journalTag
		t.name = journalName(gen)
		err := t.scan(tx, []byte{0}, nil, func(k, v []byte) (bool, error) {
			if len(k) != 8 || binary.BigEndian.Uint64(k) != s.jour.seq+1 {
				return false, missing(s.jour.seq + 1)
			}
			s.jour.seq++
			value, err := whole.add(v)
			if err == nil && value != nil {
				err = s.replayValue(value)
			}
			if err != nil {
				return false, fmt.Errorf("%w: journal value %d: %w", quota.ErrCorrupt, s.jour.seq, err)
			}
			return true, nil
		})
		if err == nil && whole.open {
			err = missing(s.jour.seq + 1) // a value never goes on in the next generation
		}
		if err != nil {
			return fmt.Errorf("the journal ends at value %d: %w", s.jour.seq, err)
		}
	}
	for _, b := range s.books {
		if err := b.fill(tx); err != nil {
			return err
		}
		for _, r := range b.receipts {
			if r.Held() {
				b.RestoreReceipt(r)
			}
		}
		for sub, o := range b.openings {
			b.RestoreOpenings(sub, o)
		}
		s.rows += b.Rows()
	}
	return nil
}

// gathered puts a value's parts together.
type gathered struct {
	value []byte
	open  bool // more must follow
}

// add takes what lies under the next sequence number and returns the value
// that it completes, or nil.
func (g *gathered) add(v []byte) ([]byte, error) {
	if len(v) == 0 {
		return nil, errWire
	}
	if !g.open {
		if v[0] != journalPart {
			return v, nil // replayValue knows a whole one
		}
		g.value = g.value[:0]
	}
	if v[0] != journalPart && v[0] != journalLastPart || len(g.value)+len(v) > maxValue {
		return nil, errWire
	}
	g.open = v[0] == journalPart
	g.value = append(g.value, v[1:]...)
	if g.open {
		return nil, nil
	}
	return g.value, nil
}

func missing(seq uint64) error {
	return fmt.Errorf("%w: journal value %d is missing; restore the file from a backup", quota.ErrCorrupt, seq)
}

func (s *Store) replayValue(v []byte) error {
	w := wire{b: v}
	if w.byte() != journalVersion {
		return errWire
	}
	for range w.length() {
		org := w.string()
		if w.bad {
			break
		}
		b := s.books[org]
		if b == nil {
			b = s.newBook(org)
			s.books[org] = b
		}
		if err := s.replayRows(b, &w); err != nil {
			return err
		}
	}
	return w.end()
}

func (s *Store) replayRows(b *book, w *wire) (err error) {
	var id quota.CounterID
	for range w.length() {
		if w.byte() == 0 {
			id.Subject = quota.Subject(w.string())
		}
		id.Series = w.string()
		id.Number = uint32(w.uvarint())
		id.Start += w.varint()
		if w.bad {
			return errWire
		}
		var c quota.Counter
		if c, w.b, err = quota.ParseCounter(w.b); err != nil {
			return err
		}
		s.ckpt.row(b, b.Restore(id, c, false))
	}
	for range w.length() {
		var r *quota.Receipt
		if r, w.b, err = quota.ParseReceipt(w.b); err != nil {
			return err
		}
		s.ckpt.receipt(b, r)
	}
	for range w.length() {
		sub := quota.Subject(w.string())
		var o []quota.Opening
		if o, w.b, err = quota.ParseOpenings(w.b); err != nil {
			return err
		}
		s.ckpt.opening(b, sub, o)
	}
	for range w.length() {
		var gone quota.CounterID
		if gone, w.b, err = quota.ParseCounterID(w.b); err != nil {
			return err
		}
		b.Remove(gone)
	}
	for range w.length() {
		delete(b.receipts, w.string())
	}
	if w.bad {
		return errWire
	}
	return nil
}
