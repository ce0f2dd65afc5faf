package boltstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"go.etcd.io/bbolt"

	"github.com/keypurse/keypurse/quota"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// table is a bbolt bucket whose values end with CRC-32C sums (Castagnoli, little
// endian), of the table's tag, the key and the value.
type table struct {
	name []byte
	tag  byte
	what string // what one row is, for messages
}

// The tables. Names and tags are stored: they never change.
var (
	tabMeta     = &table{[]byte("keypurse/meta"), 'm', "header"}
	tabRecords  = &table{[]byte("keypurse/records"), 'r', "record"}
	tabKeys     = &table{[]byte("keypurse/keys"), 'k', "key's organization"}
	tabChildren = &table{[]byte("keypurse/children"), 'c', "account's key"}
	tabNames    = &table{[]byte("keypurse/names"), 'n', "name"}
	tabStates   = &table{[]byte("keypurse/states"), 'S', "state of a record"}
	tabSettings = &table{[]byte("keypurse/settings"), 's', "settings number"}
	tabUses     = &table{[]byte("keypurse/uses"), 'u', "key's last use"}
	tabAudit    = &table{[]byte("keypurse/audit"), 'a', "audit entry"}
	tabCounters = &table{[]byte("keypurse/counters"), 'C', "counter"}
	tabEnds     = &table{[]byte("keypurse/ends"), 'E', "window's end"}
	tabOpenings = &table{[]byte("keypurse/openings"), 'O', "opening"}
	tabReceipts = &table{[]byte("keypurse/receipts"), 'R', "remembered id"}
	tabKeeps    = &table{[]byte("keypurse/keeps"), 'K', "id's end"}
	tabHolds    = &table{[]byte("keypurse/holds"), 'H', "open reservation"}
	tabOutbox   = &table{[]byte("keypurse/outbox"), 'X', "alert"}
	tabRequests = &table{[]byte("keypurse/requests"), 'Q', "request's end"}
	tabPosts    = &table{[]byte("keypurse/posts"), 'P', "posted alert's id"}
	tabPostEnds = &table{[]byte("keypurse/postends"), 'p', "posted alert's end"}
	tabSent     = &table{[]byte("keypurse/deliveries"), 'd', "delivery"}
	tabDue      = &table{[]byte("keypurse/due"), 'D', "delivery that is due"}
	tabTurns    = &table{[]byte("keypurse/turns"), 't', "turn"}
	tabRecent   = &table{[]byte("keypurse/recent"), 'A', "alert of a subject"}
	tabSinks    = &table{[]byte("keypurse/sinks"), 'Y', "delivery of a sink"}
	tables      = []*table{tabMeta, tabRecords, tabKeys, tabChildren, tabNames, tabStates, tabSettings, tabUses, tabAudit,
		tabCounters, tabEnds, tabOpenings, tabReceipts, tabKeeps, tabHolds, tabOutbox, tabRequests,
		tabPosts, tabPostEnds, tabSent, tabDue, tabTurns, tabRecent, tabSinks}
	// later are those that a file of an older version may lack.
	later = []*table{tabStates, tabRequests, tabPosts, tabPostEnds, tabSent, tabDue, tabTurns, tabRecent, tabSinks}
)

// sumLen is the length of the two checksums behind a value: of the key alone, by
// which a neighbour is told to be where it belongs though its value is damaged,
// and of key and value.
const sumLen = 8

// seal appends the checksums to a value.
func (t *table) seal(key, value []byte) []byte {
	k := t.sum(key)
	v := crc32.Update(k, castagnoli, value)
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(value, k), v)
}

// tagSums are the sums of a tag alone, so that no row needs room for one.
var tagSums = func() (sums [256]uint32) {
	for tag := range sums {
		sums[tag] = crc32.Checksum([]byte{byte(tag)}, castagnoli)
	}
	return sums
}()

func (t *table) sum(key []byte) uint32 { return crc32.Update(tagSums[t.tag], castagnoli, key) }

// unseal checks a stored value and takes the checksums off.
func (t *table) unseal(key, stored []byte) ([]byte, error) {
	if err := t.sound(key, stored); err != nil {
		return nil, err
	}
	n := len(stored) - sumLen
	if binary.LittleEndian.Uint32(stored[n+4:]) != crc32.Update(t.sum(key), castagnoli, stored[:n]) {
		return nil, t.damaged(key)
	}
	return stored[:n:n], nil
}

// sound checks that a row has the key that it was written under.
func (t *table) sound(key, stored []byte) error {
	n := len(stored) - sumLen
	if n < 0 || binary.LittleEndian.Uint32(stored[n:]) != t.sum(key) {
		return t.damaged(key)
	}
	return nil
}

func (t *table) damaged(key []byte) error {
	if t.tag == journalTag.tag && len(key) == 8 {
		return fmt.Errorf("%w: journal value %d fails its checksum; restore the file from a backup", quota.ErrCorrupt, binary.BigEndian.Uint64(key))
	}
	return fmt.Errorf("%w: %s %q fails its checksum; restore it from a backup", quota.ErrCorrupt, t.what, key)
}

func (t *table) bucket(tx *bbolt.Tx) (*bbolt.Bucket, error) {
	if b := tx.Bucket(t.name); b != nil {
		return b, nil
	}
	return nil, fmt.Errorf("%w: the table %s is missing; restore it from a backup", quota.ErrCorrupt, t.name)
}

// get reads a value, which is good until the transaction ends; nil where there
// is none, which is proved.
func (t *table) get(tx *snap, key []byte) ([]byte, error) {
	b, err := t.bucket(tx.Tx)
	if err != nil {
		return nil, err
	}
	if v := b.Get(key); v != nil {
		return t.unseal(key, v)
	}
	c := b.Cursor()
	if k, _ := c.Seek(key); bytes.Equal(k, key) {
		return nil, t.damaged(key) // it is there, and the way to it is not
	}
	if err := t.between(c, key); err != nil {
		return nil, err
	}
	return nil, tx.tree.whole(tx.Tx, t, key, append(bytes.Clone(key), 0))
}

// between proves that the neighbours of a key that is not there, or that a
// scan begins at, stand on their sides of it and are not damaged: a damaged
// key hides what it was.
func (t *table) between(c *bbolt.Cursor, key []byte) error {
	next, v := c.Seek(key)
	if next != nil {
		if err := t.sound(next, v); err != nil {
			return err
		}
		if bytes.Compare(next, key) < 0 {
			return t.damaged(next)
		}
	}
	var prev []byte
	if next == nil {
		prev, v = c.Last()
	} else {
		prev, v = c.Prev()
	}
	if prev == nil {
		return nil
	}
	if err := t.sound(prev, v); err != nil {
		return err
	}
	if bytes.Compare(prev, key) >= 0 {
		return t.damaged(prev)
	}
	return nil
}

// put seals and writes a value, which is the transaction's from then on.
func (t *table) put(tx *bbolt.Tx, key, value []byte) error {
	b, err := t.bucket(tx)
	if err != nil {
		return err
	}
	return b.Put(key, t.seal(key, value))
}

func (t *table) delete(tx *bbolt.Tx, key []byte) error {
	b, err := t.bucket(tx)
	if err != nil {
		return err
	}
	return b.Delete(key)
}

// scan calls fn for the rows with lo <= key < hi, in order, until it returns
// false. A nil hi is no bound. Rows are good until the transaction ends. That
// there are no others is proved.
func (t *table) scan(tx *snap, lo, hi []byte, fn func(key, value []byte) (bool, error)) error {
	b, err := t.bucket(tx.Tx)
	if err != nil {
		return err
	}
	if err := t.between(b.Cursor(), lo); err != nil {
		return err
	}
	end := hi
	err = t.each(tx.Tx, lo, hi, func(k, v []byte) (bool, error) {
		more, err := fn(k, v)
		if !more {
			end = append(bytes.Clone(k), 0)
		}
		return more, err
	})
	if err != nil {
		return err
	}
	return tx.tree.whole(tx.Tx, t, lo, end)
}

// each is scan without the proof.
func (t *table) each(tx *bbolt.Tx, lo, hi []byte, fn func(key, value []byte) (bool, error)) error {
	b, err := t.bucket(tx)
	if err != nil {
		return err
	}
	c := b.Cursor()
	var prev []byte
	for k, v := c.Seek(lo); k != nil && (hi == nil || bytes.Compare(k, hi) < 0); k, v = c.Next() {
		if prev != nil && bytes.Compare(prev, k) >= 0 || bytes.Compare(k, lo) < 0 {
			return t.damaged(k)
		}
		prev = k
		if v, err = t.unseal(k, v); err != nil {
			return err
		}
		if more, err := fn(k, v); err != nil || !more {
			return err
		}
	}
	return nil
}

// after is the least key that is greater than every key with the prefix; nil
// where there is none.
func after(prefix []byte) []byte {
	p := bytes.Clone(prefix)
	for i := len(p) - 1; i >= 0; i-- {
		if p[i]++; p[i] != 0 {
			return p[:i+1]
		}
	}
	return nil
}
