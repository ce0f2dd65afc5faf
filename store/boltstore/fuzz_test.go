package boltstore

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// Keys sort as what they stand for, whatever bytes that holds.
func TestKeysAreOrdered(t *testing.T) {
	var ids []quota.CounterID
	for _, sub := range []quota.Subject{"key:a", "key:b", "key:\x00"} {
		for _, number := range []uint32{0, 1, math.MaxUint32} {
			for _, series := range []string{"", "a", "b"} {
				for _, start := range []int64{math.MinInt64, -1, 0, 1, math.MaxInt64} {
					ids = append(ids, quota.CounterID{Subject: sub, Number: number, Series: series, Start: start})
				}
			}
		}
	}
	for _, id := range ids {
		org, back, err := parseCounterKey(counterKey(nil, "\x05org", id))
		require.NoError(t, err)
		assert.Equal(t, "\x05org", org)
		assert.Equal(t, id, back)
	}
	slices.SortFunc(ids, func(a, b quota.CounterID) int {
		return bytes.Compare(counterKey(nil, "o", a), counterKey(nil, "o", b))
	})
	assert.True(t, slices.IsSortedFunc(ids, func(a, b quota.CounterID) int {
		return cmp.Or(cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Number, b.Number),
			cmp.Compare(len(a.Series), len(b.Series)), cmp.Compare(a.Series, b.Series), cmp.Compare(a.Start, b.Start))
	}))
	assert.Nil(t, after([]byte{0xff, 0xff}))
	assert.Equal(t, []byte{1}, after([]byte{0, 0xff}))
}

// Parts never run into each other.
func FuzzCounterKey(f *testing.F) {
	f.Add("acme", "key:k1", "credits", uint32(1), int64(5))
	f.Add("", "", "", uint32(0), int64(math.MinInt64))
	f.Fuzz(func(t *testing.T, org, sub, series string, number uint32, start int64) {
		id := quota.CounterID{Subject: quota.Subject(sub), Series: series, Number: number, Start: start}
		o, back, err := parseCounterKey(counterKey(nil, org, id))
		require.NoError(t, err)
		assert.Equal(t, org, o)
		assert.Equal(t, id, back)
		_, _, _ = parseCounterKey([]byte(org + sub + series)) // it must not panic
	})
}

func FuzzRecord(f *testing.F) {
	for _, r := range []saccount.Record{
		{},
		{Kind: saccount.KindKey, Org: "acme", ID: "k", Parent: "a", Name: "n", Disabled: true, Created: now, Deleted: now, Expires: now.Add(time.Microsecond),
			Labels: map[string]string{"a": "", "": "b"}, Revision: math.MaxInt64, Data: []byte{0}},
	} {
		f.Add(appendRecord(nil, &r))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(saccount.KindKey, "k", []byte("k"), b)
		if err != nil {
			require.ErrorIs(t, err, quota.ErrCorrupt)
			return
		}
		again, err := parseRecord(saccount.KindKey, "k", []byte("k"), appendRecord(nil, r))
		require.NoError(t, err)
		assert.Equal(t, r, again)
	})
}

// Whatever stands in the journal is read or refused, and asks for no memory
// that it does not fill.
func FuzzJournal(f *testing.F) {
	s := &Store{books: map[string]*book{}}
	b := s.newBook("acme")
	c := chain("acme", "k1", much)
	op := quota.Op{Verb: quota.VerbReserve, Org: "acme", ID: "id", Amount: 5, TTL: 1, At: now.UnixMicro()}
	for _, p := range c.Purses {
		l, err := p.Level(op.At)
		require.NoError(f, err)
		op.Levels = append(op.Levels, l)
	}
	nb := quota.NewBook("acme", nil)
	nb.Begin()
	nb.Apply(&op)
	require.Equal(f, quota.Applied, op.Result.Outcome)
	f.Add(encode(nil, []change{{b: b, Changes: nb.Changes(), gone: []quota.CounterID{{Subject: "key:k2"}}, goneIDs: []string{"x"}}}))
	f.Add([]byte{journalVersion, 1, 4, 'a', 'c', 'm', 'e', 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, v []byte) {
		s := &Store{books: map[string]*book{}}
		_ = s.replayValue(v) // an error or not
		for _, b := range s.books {
			assert.LessOrEqual(t, b.Rows(), len(v))
		}
	})
}

// A page is laid out as bbolt does it, or refused.
func FuzzPage(f *testing.F) {
	leaf := make([]byte, 4096)
	order.PutUint64(leaf, 7)
	order.PutUint16(leaf[8:], leafPage)
	order.PutUint16(leaf[10:], 1)
	order.PutUint32(leaf[pageHead+4:], elemLen)
	order.PutUint32(leaf[pageHead+8:], 3)
	order.PutUint32(leaf[pageHead+12:], 4)
	copy(leaf[pageHead+elemLen:], "keyabcd")
	p, err := parse(leaf)
	require.NoError(f, err)
	require.Equal(f, "key", string(p.key(0)))
	require.Equal(f, "abcd", string(p.value(0)))
	f.Add(leaf)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parse(b)
		if err != nil {
			require.ErrorIs(t, err, quota.ErrCorrupt)
			return
		}
		for i := range p.n {
			if p.key(i); p.leaf {
				_ = p.value(i)
			} else {
				_ = p.child(i)
			}
		}
	})
}
