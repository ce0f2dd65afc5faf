package boltstore

import (
	"encoding/binary"
	"errors"
	"time"
)

var errWire = errors.New("it cannot be read")

// wire reads the front of a stored value. Once something is wrong it is bad,
// and gives zeros.
type wire struct {
	b   []byte
	bad bool
}

func (w *wire) byte() byte {
	if w.bad || len(w.b) == 0 {
		w.bad = true
		return 0
	}
	c := w.b[0]
	w.b = w.b[1:]
	return c
}

func (w *wire) uvarint() uint64 {
	n, size := binary.Uvarint(w.b)
	if w.bad || size <= 0 {
		w.bad = true
		return 0
	}
	w.b = w.b[size:]
	return n
}

func (w *wire) varint() int64 {
	n, size := binary.Varint(w.b)
	if w.bad || size <= 0 {
		w.bad = true
		return 0
	}
	w.b = w.b[size:]
	return n
}

// length reads how many things of at least a byte follow.
func (w *wire) length() int {
	n := w.uvarint()
	if n > uint64(len(w.b)) {
		w.bad = true
		return 0
	}
	return int(n)
}

func (w *wire) bytes() []byte {
	n := w.length()
	if w.bad {
		return nil
	}
	b := w.b[:n:n]
	w.b = w.b[n:]
	return b
}

func (w *wire) string() string { return string(w.bytes()) }

// time reads what appendTime wrote.
func (w *wire) time() time.Time {
	if w.byte() == 0 || w.bad {
		return time.Time{}
	}
	return time.UnixMicro(w.varint()).UTC()
}

func appendTime(dst []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(dst, 0)
	}
	return binary.AppendVarint(append(dst, 1), t.UnixMicro())
}

// end reports what was wrong, or that something is left.
func (w *wire) end() error {
	if w.bad || len(w.b) != 0 {
		return errWire
	}
	return nil
}
