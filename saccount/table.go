package saccount

import (
	"encoding/binary"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/keypurse/keypurse/apikey"
)

// keyID is a key's id by value: nothing of the token that it came in stays in
// memory, and a look-up follows one pointer less.
type keyID [apikey.IDLen]byte

// mix spreads ids by their last characters, which are chance.
func (k *keyID) mix() uint64 {
	return binary.LittleEndian.Uint64(k[apikey.IDLen-8:]) * 0x9E3779B97F4A7C15
}

// keyTable is a cache of keys' entries for look-ups that take no lock and meet
// one line of memory where they end: tables with open addressing, a shard
// each. When a shard is full, some other entry makes room.
type keyTable struct {
	most  int    // entries a shard; 0: nothing is kept
	gone  *entry // in the slot of one that made room
	shard [shards]keyShard
}

type keyShard struct {
	slots atomic.Pointer[[]keySlot]

	mu   sync.Mutex // of what follows and of every change
	live int
	used int    // slots with an id: live and gone
	turn uint64 // chooses who makes room
	_    [24]byte
}

// keySlot is empty where e is nil. The id is written once, before e; a slot is
// never given to another id.
type keySlot struct {
	id keyID
	e  atomic.Pointer[entry]
}

func newKeyTable(size int) *keyTable {
	t := &keyTable{gone: new(entry)}
	if size > 0 {
		t.most = (size + shards - 1) / shards
	}
	return t
}

const shardBits = 6 // of the mixed id; the others choose the slot

func home(mix uint64, slots int) int {
	hi, _ := bits.Mul64(mix<<shardBits, uint64(slots))
	return int(hi)
}

// get finds an entry; nil where there is none.
func (t *keyTable) get(id *keyID) *entry {
	mix := id.mix()
	p := t.shard[mix>>(64-shardBits)].slots.Load()
	if p == nil {
		return nil
	}
	slots := *p
	for i := home(mix, len(slots)); ; i++ {
		if i >= len(slots) {
			i = 0
		}
		s := &slots[i]
		e := s.e.Load()
		if e == nil {
			return nil
		}
		if s.id == *id {
			if e == t.gone {
				return nil
			}
			return e
		}
	}
}

// put keeps e, in the place of an older entry of the id.
func (t *keyTable) put(id *keyID, e *entry) {
	if t.most == 0 {
		return
	}
	mix := id.mix()
	s := &t.shard[mix>>(64-shardBits)]
	s.mu.Lock()
	defer s.mu.Unlock()
	var slots []keySlot
	if p := s.slots.Load(); p != nil {
		slots = *p
		if x := find(slots, mix, id); x.e.Load() != nil {
			if x.e.Load() == t.gone {
				t.makeRoom(s, slots)
				s.live++
			}
			x.e.Store(e)
			return
		}
	}
	t.makeRoom(s, slots)
	if 4*(s.used+1) > 3*len(slots) {
		slots = s.rebuild(slots, t.gone)
	}
	x := find(slots, mix, id)
	x.id = *id
	x.e.Store(e)
	s.live++
	s.used++
}

// find gives the slot of an id, or the empty one where it belongs. There always
// is an empty one. The caller holds the shard.
func find(slots []keySlot, mix uint64, id *keyID) *keySlot {
	for i := home(mix, len(slots)); ; i++ {
		if i >= len(slots) {
			i = 0
		}
		if s := &slots[i]; s.e.Load() == nil || s.id == *id {
			return s
		}
	}
}

// makeRoom lets another entry go where the shard is full.
func (t *keyTable) makeRoom(s *keyShard, slots []keySlot) {
	if s.live < t.most {
		return
	}
	s.turn++
	for i := home(s.turn*0x9E3779B97F4A7C15, len(slots)); ; i++ {
		if i >= len(slots) {
			i = 0
		}
		if e := slots[i].e.Load(); e != nil && e != t.gone {
			slots[i].e.Store(t.gone)
			s.live--
			return
		}
	}
}

// rebuild moves what lives into new slots, half of which stay empty. Readers
// of the old ones see what lived until now.
func (s *keyShard) rebuild(old []keySlot, gone *entry) []keySlot {
	slots := make([]keySlot, max(8, 2*(s.live+1)))
	for i := range old {
		if e := old[i].e.Load(); e != nil && e != gone {
			x := find(slots, old[i].id.mix(), &old[i].id)
			x.id = old[i].id
			x.e.Store(e)
		}
	}
	s.used = s.live
	s.slots.Store(&slots)
	return slots
}
