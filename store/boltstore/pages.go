package boltstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"go.etcd.io/bbolt"

	"github.com/keypurse/keypurse/quota"
)

// bbolt's pages carry no checksum. A damaged count, flag or position in one
// hides rows, and what is hidden looks as if it had never been: a counter that
// starts again from nothing. So where a row is not found, and behind every
// scan, the pages on the way are read once more, from the file, and their
// layout is checked: bbolt writes the elements of a page, and then their keys
// and values, without any gap.
//
// The layout is that of bbolt (internal/common/page.go), in the machine's own
// byte order: id 8, flags 2, count 2, overflow 4, and elements of 16 bytes. A
// branch's: position 4, key length 4, page 8; a leaf's: flags 4, position 4,
// key length 4, value length 4; positions count from the element.

const (
	pageHead   = 16
	elemLen    = 16
	branchPage = 1
	leafPage   = 2
	freePage   = 16
	bucketElem = 1
	bucketHead = 16
	maxDepth   = 32
)

var order = binary.NativeEndian

type page struct {
	b    []byte
	leaf bool
	n    int
}

// key is the i-th key; value is a leaf's, child a branch's.
func (p *page) key(i int) []byte {
	at, klen, _ := p.elem(i)
	return p.b[at : at+klen]
}

func (p *page) elem(i int) (at, klen, vlen int) {
	e := pageHead + i*elemLen
	if p.leaf {
		return e + int(order.Uint32(p.b[e+4:])), int(order.Uint32(p.b[e+8:])), int(order.Uint32(p.b[e+12:]))
	}
	return e + int(order.Uint32(p.b[e:])), int(order.Uint32(p.b[e+4:])), 0
}

func (p *page) value(i int) []byte {
	at, klen, vlen := p.elem(i)
	return p.b[at+klen : at+klen+vlen]
}

func (p *page) flags(i int) uint32 { return order.Uint32(p.b[pageHead+i*elemLen:]) }

func (p *page) child(i int) uint64 { return order.Uint64(p.b[pageHead+i*elemLen+8:]) }

func (p *page) overflow() uint64 { return uint64(order.Uint32(p.b[12:])) }

// parse checks a page's layout.
func parse(b []byte) (*page, error) {
	if len(b) < pageHead {
		return nil, fmt.Errorf("%w: a page of %d bytes", quota.ErrCorrupt, len(b))
	}
	id, flags := order.Uint64(b), order.Uint16(b[8:])
	p := &page{b: b, leaf: flags == leafPage, n: int(order.Uint16(b[10:]))}
	bad := func(what string) error {
		return fmt.Errorf("%w: page %d: %s; restore the file from a backup", quota.ErrCorrupt, id, what)
	}
	if flags != leafPage && flags != branchPage || !p.leaf && p.n == 0 {
		return nil, bad("its head is damaged")
	}
	at := pageHead + p.n*elemLen
	if at > len(b) {
		return nil, bad("its count is damaged")
	}
	var prev []byte
	for i := range p.n {
		pos, klen, vlen := p.elem(i)
		if pos != at || klen <= 0 || klen > len(b)-at || vlen < 0 || vlen > len(b)-at-klen { // negative: on 32 bits
			return nil, bad("its layout is damaged")
		}
		key := b[pos : pos+klen]
		if i > 0 && bytes.Compare(prev, key) >= 0 {
			return nil, bad("its keys are not in order")
		}
		prev = key
		at += klen + vlen
	}
	return p, nil
}

// tree reads pages of one transaction from the file, and remembers some.
type tree struct {
	f     io.ReaderAt
	size  int    // of a page
	high  uint64 // pages of the file
	pages map[uint64]*page
	heads map[*table]*page // the first page of a table
}

// maxPages bounds what a tree remembers.
const maxPages = 128

func (s *Store) tree(tx *bbolt.Tx) *tree {
	return &tree{f: s.file, size: s.page, high: uint64(tx.Size()) / uint64(s.page)}
}

func (t *tree) raw(id uint64) ([]byte, error) {
	if id < 2 || id >= t.high {
		return nil, fmt.Errorf("%w: a reference to page %d of %d", quota.ErrCorrupt, id, t.high)
	}
	b := make([]byte, t.size)
	if _, err := t.f.ReadAt(b, int64(id)*int64(t.size)); err != nil {
		return nil, fmt.Errorf("%w: page %d: %w", quota.ErrCorrupt, id, err)
	}
	if order.Uint64(b) != id {
		return nil, fmt.Errorf("%w: page %d says that it is page %d", quota.ErrCorrupt, id, order.Uint64(b))
	}
	over := uint64(order.Uint32(b[12:]))
	if over == 0 {
		return b, nil
	}
	if over > t.high-id-1 {
		return nil, fmt.Errorf("%w: page %d is longer than the file", quota.ErrCorrupt, id)
	}
	b = append(b, make([]byte, int(over)*t.size)...)
	if _, err := t.f.ReadAt(b[t.size:], int64(id+1)*int64(t.size)); err != nil {
		return nil, fmt.Errorf("%w: page %d: %w", quota.ErrCorrupt, id, err)
	}
	return b, nil
}

func (t *tree) load(id uint64) (*page, error) {
	if p := t.pages[id]; p != nil {
		return p, nil
	}
	b, err := t.raw(id)
	if err != nil {
		return nil, err
	}
	p, err := parse(b)
	if err != nil {
		return nil, err
	}
	if t.pages == nil || len(t.pages) >= maxPages {
		t.pages = map[uint64]*page{}
	}
	t.pages[id] = p
	return p, nil
}

// walk checks the pages that hold keys in [lo, hi) and calls fn for each; a nil
// hi is no bound. A page's own keys lie in [from, to), as its parent says.
func (t *tree) walk(p *page, depth int, from, to, lo, hi []byte, fn func(*page) error) error {
	if depth > maxDepth {
		return fmt.Errorf("%w: pages refer to each other in a circle", quota.ErrCorrupt)
	}
	if p.n > 0 && (bytes.Compare(p.key(0), from) < 0 || to != nil && bytes.Compare(p.key(p.n-1), to) >= 0) {
		return fmt.Errorf("%w: page %d holds keys of another", quota.ErrCorrupt, order.Uint64(p.b))
	}
	if err := fn(p); err != nil || p.leaf {
		return err
	}
	for i := range p.n {
		next := to
		if i+1 < p.n {
			next = p.key(i + 1)
		}
		if next != nil && bytes.Compare(next, lo) <= 0 || i > 0 && hi != nil && bytes.Compare(p.key(i), hi) >= 0 {
			continue
		}
		c, err := t.load(p.child(i))
		if err != nil {
			return err
		}
		if err := t.walk(c, depth+1, p.key(i), next, lo, hi, fn); err != nil {
			return err
		}
	}
	return nil
}

// bucket finds the first page of a bucket of the file's root.
func (t *tree) bucket(tx *bbolt.Tx, name []byte) (*page, error) {
	root, err := t.load(uint64(tx.Cursor().Bucket().Root()))
	if err != nil {
		return nil, err
	}
	var head []byte
	err = t.walk(root, 0, nil, nil, name, append(bytes.Clone(name), 0), func(p *page) error {
		for i := range p.n {
			if p.leaf && p.flags(i)&bucketElem != 0 && bytes.Equal(p.key(i), name) {
				head = p.value(i)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return t.inBucket(head)
}

// inBucket is the first page behind a bucket's head: small buckets lie in it.
func (t *tree) inBucket(head []byte) (*page, error) {
	if len(head) < bucketHead {
		return nil, fmt.Errorf("%w: a table is missing", quota.ErrCorrupt)
	}
	if id := order.Uint64(head); id != 0 {
		return t.load(id)
	}
	return parse(head[bucketHead:])
}

// whole proves that nothing of a table's [lo, hi) is hidden.
func (t *tree) whole(tx *bbolt.Tx, of *table, lo, hi []byte) error {
	p := t.heads[of]
	if p == nil {
		var err error
		if p, err = t.bucket(tx, of.name); err != nil {
			return fmt.Errorf("%s: %w", of.name, err)
		}
		if t.heads == nil {
			t.heads = map[*table]*page{}
		}
		t.heads[of] = p
	}
	if err := t.walk(p, 0, nil, nil, lo, hi, func(*page) error { return nil }); err != nil {
		return fmt.Errorf("%s: %w", of.name, err)
	}
	return nil
}
