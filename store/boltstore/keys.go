package boltstore

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// Keys are made of parts with their length before them, so that no two of them
// run into each other whatever bytes they hold, and of one last part without a
// length, which keeps its order.

// Bounds on what goes into a key, in bytes. They are far above what package
// saccount lets through.
const (
	maxID   = 1 << 10
	maxName = 1 << 10
)

func checkID(what, id string) error {
	if len(id) > maxID {
		return fmt.Errorf("%w %s: %d bytes, at most %d", saccount.ErrInvalid, what, len(id), maxID)
	}
	return nil
}

func appendPart(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// appendOrdered keeps the order of signed numbers.
func appendOrdered(dst []byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(n)^1<<63)
}

func recordPrefix(dst []byte, kind saccount.Kind, org string) []byte {
	if kind == saccount.KindOrg {
		org = "" // so that all of them stand side by side
	}
	return appendPart(append(dst, byte(kind)), org)
}

func recordKey(dst []byte, kind saccount.Kind, org, id string) []byte {
	return append(recordPrefix(dst, kind, org), id...)
}

// The states whose records are found without the others. They are stored: they
// never change.
const (
	stateDisabled byte = 1 + iota // and not deleted
	stateDeleted
)

// stateOf is the state of a status; 0 where it is none.
func stateOf(st saccount.Status) byte {
	switch st {
	case saccount.StatusDisabled:
		return stateDisabled
	case saccount.StatusDeleted:
		return stateDeleted
	}
	return 0
}

// stateIn is the state that a record is in, if there is one.
func stateIn(r *saccount.Record) byte {
	if r == nil {
		return 0
	}
	return stateOf(r.Status(r.Created)) // neither depends on the time
}

func statePrefix(dst []byte, state byte, kind saccount.Kind, org string) []byte {
	return recordPrefix(append(dst, state), kind, org)
}

func stateKey(dst []byte, state byte, r *saccount.Record) []byte {
	return append(statePrefix(dst, state, r.Kind, r.Org), r.ID...)
}

// requestKey orders requests by their end.
func requestKey(dst []byte, r *saccount.Record) []byte {
	var ends int64
	if !r.Expires.IsZero() {
		ends = r.Expires.UnixMicro()
	}
	return recordKey(appendOrdered(dst, ends), r.Kind, r.Org, r.ID)
}

func namePrefix(dst []byte, kind saccount.Kind, org, parent string) []byte {
	return appendPart(appendPart(append(dst, byte(kind)), org), parent)
}

func nameKey(dst []byte, kind saccount.Kind, org, parent, name string) []byte {
	return append(namePrefix(dst, kind, org, parent), name...)
}

// pairKey is two parts and a last one: a key of an account, an id of an
// organization.
func pairKey(dst []byte, first, last string) []byte { return append(appendPart(dst, first), last...) }

func childPrefix(dst []byte, org, account string) []byte {
	return appendPart(appendPart(dst, org), account)
}

func childKey(dst []byte, org, account, key string) []byte {
	return append(childPrefix(dst, org, account), key...)
}

func seqKey(dst []byte, org string, seq int64) []byte {
	return appendOrdered(appendPart(dst, org), seq)
}

// A counter's key is ordered by subject, number, series and start: the buckets
// of a subject lie together, by time.

func subjectPrefix(dst []byte, org string, s quota.Subject) []byte {
	return appendPart(appendPart(dst, org), string(s))
}

func seriesPrefix(dst []byte, org string, s quota.Subject, number uint32, series string) []byte {
	return appendPart(binary.BigEndian.AppendUint32(subjectPrefix(dst, org, s), number), series)
}

func counterKey(dst []byte, org string, id quota.CounterID) []byte {
	return appendOrdered(seriesPrefix(dst, org, id.Subject, id.Number, id.Series), id.Start)
}

var errKey = errors.New("not a key of this table")

// cutPart takes the first part off a key.
func cutPart(k []byte) (part string, rest []byte, err error) {
	n, size := binary.Uvarint(k)
	if size <= 0 || n > uint64(len(k)-size) {
		return "", nil, errKey
	}
	return string(k[size : size+int(n)]), k[size+int(n):], nil
}

func cutOrdered(k []byte) (n int64, rest []byte, err error) {
	if len(k) < 8 {
		return 0, nil, errKey
	}
	return int64(binary.BigEndian.Uint64(k) ^ 1<<63), k[8:], nil
}

// parseCounterKey is the inverse of counterKey.
func parseCounterKey(k []byte) (org string, id quota.CounterID, err error) {
	org, k, err = cutPart(k)
	if err != nil {
		return "", id, err
	}
	sub, k, err := cutPart(k)
	if err != nil || len(k) < 4 {
		return "", id, errKey
	}
	id.Subject, id.Number = quota.Subject(sub), binary.BigEndian.Uint32(k)
	if id.Series, k, err = cutPart(k[4:]); err != nil {
		return "", id, err
	}
	if id.Start, k, err = cutOrdered(k); err != nil || len(k) != 0 {
		return "", id, errKey
	}
	return org, id, nil
}
