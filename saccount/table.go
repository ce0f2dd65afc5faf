package saccount

import (
	"encoding/binary"
	"math"
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

// keySlot is one line of memory: all that Authenticate asks of a plain key in use,
// which is met by chance, and once. It is empty where e is nil. The id is written
// once, before e; a slot is never given to another id. The other fields are e's while
// e is in it: who reads them looks before and behind whether it is (see is).
type keySlot struct {
	id    keyID
	e     atomic.Pointer[entry]
	gen   atomic.Pointer[atomic.Uint64]
	read  atomic.Uint64
	seen  [2]atomic.Uint64 // of its own cred
	plain atomic.Uint64    // see entry.plain
}

// hold gives the slot to e. The caller holds the shard.
func (s *keySlot) hold(e, gone *entry) {
	if s.e.Load() != nil {
		s.e.Store(gone) // nobody takes what follows for the former one's
	}
	s.gen.Store(e.gen)
	s.read.Store(e.read)
	s.learn(e)
	s.e.Store(e)
}

// learn notes what changes of e. The caller holds the shard.
func (s *keySlot) learn(e *entry) {
	s.seen[0].Store(e.own.seen[0].Load())
	s.seen[1].Store(e.own.seen[1].Load())
	s.plain.Store(e.plain())
}

// fresh is entry.fresh.
func (s *keySlot) fresh() bool {
	gen := s.gen.Load()
	return gen != nil && gen.Load() == s.read.Load()
}

// is reports whether a token with this Fingerprint is e's own secret, and whether
// that is all there is to ask in this second. What of the slot was read before is
// e's then.
func (s *keySlot) is(e *entry, print *apikey.Fingerprint, second int64) bool {
	plain := s.plain.Load()
	return s.seen[0].Load() == print[0] && s.seen[1].Load() == print[1] && print[0] != 0 &&
		second >= int64(plain>>32) && second < int64(plain&math.MaxUint32) && s.e.Load() == e
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

// get finds an entry and where it is; nil where there is none.
func (t *keyTable) get(id *keyID) (*keySlot, *entry) {
	mix := id.mix()
	p := t.shard[mix>>(64-shardBits)].slots.Load()
	if p == nil {
		return nil, nil
	}
	slots := *p
	for i := home(mix, len(slots)); ; i++ {
		if i >= len(slots) {
			i = 0
		}
		s := &slots[i]
		e := s.e.Load()
		if e == nil {
			return nil, nil
		}
		if s.id == *id {
			if e == t.gone {
				return nil, nil
			}
			return s, e
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
			x.hold(e, t.gone)
			return
		}
	}
	t.makeRoom(s, slots)
	if 4*(s.used+1) > 3*len(slots) {
		slots = s.rebuild(slots, t.gone)
	}
	x := find(slots, mix, id)
	x.id = *id
	x.hold(e, t.gone)
	s.live++
	s.used++
}

// learn notes what changed of e: its own secret was seen, or its use noted.
func (t *keyTable) learn(id *keyID, e *entry) {
	mix := id.mix()
	s := &t.shard[mix>>(64-shardBits)]
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.slots.Load()
	if p == nil {
		return
	}
	if x := find(*p, mix, id); x.e.Load() == e {
		x.learn(e)
	}
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

// rebuild moves what lives into new slots, of which two in five stay empty. Readers
// of the old ones see what lived until now.
func (s *keyShard) rebuild(old []keySlot, gone *entry) []keySlot {
	slots := make([]keySlot, max(8, (s.live+1)*5/3))
	for i := range old {
		if e := old[i].e.Load(); e != nil && e != gone {
			x := find(slots, old[i].id.mix(), &old[i].id)
			x.id = old[i].id
			x.hold(e, gone)
		}
	}
	s.used = s.live
	s.slots.Store(&slots)
	return slots
}
