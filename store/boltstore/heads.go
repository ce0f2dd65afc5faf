package boltstore

import (
	"hash/fnv"
)

// head is one of bbolt's two meta pages. Layout (bbolt, internal/common/meta.go):
// magic 4, version 4, page size 4, flags 4, root bucket 16, freelist 8, pages 8,
// transaction 8, checksum (FNV-1a, 64 bits, of what is before it) 8.
type head struct {
	page     int
	bad      bool
	freelist uint64
	txid     uint64
}

const (
	headLen = 56 // without the checksum
	noFree  = ^uint64(0)
)

// heads reads both.
func (s *Store) heads() (h [2]head) {
	for i := range h {
		h[i] = head{page: i, bad: true}
		b := make([]byte, pageHead+headLen+8)
		if _, err := s.file.ReadAt(b, int64(i*s.page)); err != nil {
			continue
		}
		m := b[pageHead:]
		sum := fnv.New64a()
		_, _ = sum.Write(m[:headLen]) // a hash takes everything
		h[i].bad = sum.Sum64() != order.Uint64(m[headLen:])
		h[i].freelist, h[i].txid = order.Uint64(m[32:]), order.Uint64(m[48:])
	}
	return h
}
