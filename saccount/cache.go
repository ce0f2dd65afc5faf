package saccount

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

const shards = 64

// cache is a bounded map in shards. When a shard is full, some other entry
// makes room: what is used comes back with one read of the store.
type cache[K comparable, V any] struct {
	seed  maphash.Seed
	most  int // entries a shard; 0: nothing is kept
	shard [shards]shard[K, V]
}

type shard[K comparable, V any] struct {
	sync.RWMutex
	m map[K]V
	_ [32]byte // each lock on its own cache line
}

func newCache[K comparable, V any](size int) *cache[K, V] {
	c := &cache[K, V]{seed: maphash.MakeSeed()}
	if size > 0 {
		c.most = (size + shards - 1) / shards
	}
	for i := range c.shard {
		c.shard[i].m = map[K]V{}
	}
	return c
}

func (c *cache[K, V]) at(hash uint64) *shard[K, V] { return &c.shard[hash%shards] }

func (c *cache[K, V]) get(hash uint64, key K) (V, bool) {
	s := c.at(hash)
	s.RLock()
	v, ok := s.m[key]
	s.RUnlock()
	return v, ok
}

// put keeps v. key must not be part of anything secret: it stays in memory.
func (c *cache[K, V]) put(hash uint64, key K, v V) {
	if c.most == 0 {
		return
	}
	s := c.at(hash)
	s.Lock()
	defer s.Unlock()
	if _, ok := s.m[key]; !ok && len(s.m) >= c.most {
		for k := range s.m {
			delete(s.m, k)
			break
		}
	}
	s.m[key] = v
}

// place names a record that is not found by a key's id.
type place struct {
	kind    Kind
	org, id string
}

func (p *place) hash(seed maphash.Seed) uint64 { return maphash.String(seed, p.id) }

// generations tell whether what was read from the store still counts. A change
// raises its organization's generation after it was written and before its
// call returns; what was read under an older one is read again. A read that
// began before the change therefore never puts the old record back.
// Organizations share generations by their hash: one that shares with another
// reads once more than it must.
type generations struct {
	seed maphash.Seed
	once sync.Once
	all  atomic.Uint64 // raised first, whatever the organization
	n    [1024]atomic.Uint64
}

func (g *generations) of(org string) *atomic.Uint64 {
	g.once.Do(func() { g.seed = maphash.MakeSeed() })
	return &g.n[maphash.String(g.seed, org)%uint64(len(g.n))]
}

func (g *generations) raise(org string) {
	g.all.Add(1)
	g.of(org).Add(1)
}

func (g *generations) raiseAll() {
	g.all.Add(1)
	for i := range g.n {
		g.n[i].Add(1)
	}
}
