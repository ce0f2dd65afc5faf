package saccount

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func tableID(n int) *keyID {
	id := keyID([]byte(fmt.Sprintf("%016x", uint64(n)*0x9E3779B97F4A7C15)))
	return &id
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
		require.Nil(t, table.get(tableID(i)))
		entries[i] = &entry{settings: int64(i)}
		table.put(tableID(i), entries[i])
	}
	for i := range entries {
		require.Same(t, entries[i], table.get(tableID(i)))
	}
	again := &entry{}
	table.put(tableID(7), again)
	assert.Same(t, again, table.get(tableID(7)), "a newer entry takes the place of the older")
	assert.Equal(t, len(entries), table.count())
}

func TestKeyTableIsBounded(t *testing.T) {
	table := newKeyTable(64 * 5)
	for round := range 20 { // those that made room come back
		for i := range 1000 {
			e := &entry{settings: int64(i)}
			table.put(tableID(i), e)
			require.Same(t, e, table.get(tableID(i)), "round %d", round)
		}
	}
	assert.LessOrEqual(t, table.count(), 64*5)
	for i := range 1000 {
		if e := table.get(tableID(i)); e != nil {
			require.EqualValues(t, i, e.settings)
		}
	}
	none := newKeyTable(-1)
	none.put(tableID(1), &entry{})
	assert.Nil(t, none.get(tableID(1)))
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
				} else if e := table.get(tableID(n)); e != nil && e.settings != int64(n) {
					t.Errorf("asked for %d, found %d", n, e.settings)
					return
				}
			}
		})
	}
	wg.Wait()
	assert.LessOrEqual(t, table.count(), 64*4)
}
