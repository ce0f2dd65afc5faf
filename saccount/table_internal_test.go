package saccount

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/apikey"
)

func tableID(n int) *keyID {
	id := keyID([]byte(fmt.Sprintf("%016x", uint64(n)*0x9E3779B97F4A7C15)))
	return &id
}

// of is the entry of the id of n.
func (t *keyTable) of(n int) *entry {
	_, e := t.get(tableID(n))
	return e
}

func (t *keyTable) count() (n int) {
	for i := range t.shard {
		p := t.shard[i].slots.Load()
		if p == nil {
			continue
		}
		for j := range *p {
			if e := (*p)[j].e.Load(); e != nil && e != t.gone {
				n++
			}
		}
	}
	return n
}

func TestKeyTable(t *testing.T) {
	table := newKeyTable(64 * 100)
	entries := make([]*entry, 3000)
	for i := range entries {
		require.Nil(t, table.of(i))
		entries[i] = &entry{settings: int64(i)}
		table.put(tableID(i), entries[i])
	}
	for i := range entries {
		require.Same(t, entries[i], table.of(i))
	}
	again := &entry{}
	table.put(tableID(7), again)
	assert.Same(t, again, table.of(7), "a newer entry takes the place of the older")
	assert.Equal(t, len(entries), table.count())
}

func TestKeyTableIsBounded(t *testing.T) {
	table := newKeyTable(64 * 5)
	for round := range 20 { // those that made room come back
		for i := range 1000 {
			e := &entry{settings: int64(i)}
			table.put(tableID(i), e)
			require.Same(t, e, table.of(i), "round %d", round)
		}
	}
	assert.LessOrEqual(t, table.count(), 64*5)
	for i := range 1000 {
		if e := table.of(i); e != nil {
			require.EqualValues(t, i, e.settings)
		}
	}
	none := newKeyTable(-1)
	none.put(tableID(1), &entry{})
	assert.Nil(t, none.of(1))
}

// Readers take no lock: whatever they find belongs to the id that they asked for.
func TestKeyTableRace(t *testing.T) {
	table := newKeyTable(64 * 4)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 20_000 {
				n := (i*7 + w*13) % 500
				if w%2 == 0 {
					table.put(tableID(n), &entry{settings: int64(n)})
				} else if e := table.of(n); e != nil && e.settings != int64(n) {
					t.Errorf("asked for %d, found %d", n, e.settings)
					return
				}
			}
		})
	}
	wg.Wait()
	assert.LessOrEqual(t, table.count(), 64*4)
}

// What a slot says is its entry's, however often the entry changes meanwhile: a
// secret is never taken for another entry's, nor for one that is out of date.
func TestKeySlotRace(t *testing.T) {
	table := newKeyTable(64 * 4)
	var gens [2]atomic.Uint64
	gens[1].Store(1)
	made := func(n, k int) *entry {
		e := &entry{settings: int64(k), gen: &gens[k%2], read: uint64(k)}
		e.own.until = forever
		e.own.seen[0].Store(uint64(n)<<32 | uint64(k))
		e.own.seen[1].Store(uint64(k))
		e.noted.Store(uint32(1000 + k))
		return e
	}
	const ids, rounds = 5, 20_000
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for k := range rounds {
				n := (k + w) % ids
				e := made(n, 1+2*k+w)
				table.put(tableID(n), e)
				e.noted.Store(uint32(1000 + e.settings + 7))
				table.learn(tableID(n), e)
			}
		})
	}
	var found atomic.Int64
	for w := range 2 {
		wg.Go(func() {
			for i := range 4 * rounds {
				n := (i*7 + w) % ids
				slot, e := table.get(tableID(n))
				if e == nil {
					continue
				}
				gen, read := slot.gen.Load(), slot.read.Load()
				print := apikey.Fingerprint{slot.seen[0].Load(), slot.seen[1].Load()}
				second := int64(slot.plain.Load() >> 32)
				if !slot.is(e, &print, second) {
					continue
				}
				found.Add(1)
				k := e.settings
				noted := second - 1000 - k
				if print != (apikey.Fingerprint{uint64(n)<<32 | uint64(k), uint64(k)}) || gen != e.gen || read != e.read || noted != 0 && noted != 7 {
					t.Errorf("the slot of %d says %v, %d, %d of entry %d", n, print, read, second, k)
					return
				}
			}
		})
	}
	wg.Wait()
	assert.Positive(t, found.Load())
}

// A slot answers for a key in those seconds only in which there is nothing else to
// ask and nothing to note.
func TestPlain(t *testing.T) {
	const noted = 1_800_000_000
	print := apikey.Fingerprint{1, 2}
	table := newKeyTable(64)
	good := func(change func(*entry)) (seconds []int64) {
		e := &entry{}
		e.own.until = forever
		e.own.seen[0].Store(print[0])
		e.own.seen[1].Store(print[1])
		e.noted.Store(noted)
		change(e)
		table.put(tableID(1), e)
		slot, _ := table.get(tableID(1))
		for s := int64(noted - 70); s < noted+70; s++ {
			if slot.is(e, &print, s) {
				seconds = append(seconds, s-noted)
			}
		}
		if len(seconds) > 0 {
			return []int64{seconds[0], seconds[len(seconds)-1]}
		}
		return nil
	}
	for name, c := range map[string]struct {
		change func(*entry)
		want   []int64
	}{
		"plain":                        {func(*entry) {}, []int64{0, 59}},
		"never used":                   {func(e *entry) { e.noted.Store(0) }, nil},
		"barred":                       {func(e *entry) { e.barred = true }, nil},
		"with an allowlist":            {func(e *entry) { e.guarded = true }, nil},
		"with a rate limit":            {func(e *entry) { e.paced = true }, nil},
		"not seen yet":                 {func(e *entry) { e.own.seen[0].Store(0) }, nil},
		"ends within a second":         {func(e *entry) { e.own.until = noted*1e6 + 999_999 }, nil},
		"ends within the minute":       {func(e *entry) { e.own.until = (noted+30)*1e6 + 1 }, []int64{0, 29}},
		"ended":                        {func(e *entry) { e.own.until = (noted - 30) * 1e6 }, nil},
		"ended before there were keys": {func(e *entry) { e.own.until = -5e6 }, nil},
	} {
		assert.Equal(t, c.want, good(c.change), name)
	}
}
