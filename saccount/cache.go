package saccount

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

const shards = 64

// cache is a bounded map in shards. When a shard is full, some other entry
// makes room: what is used comes back with one read of the store.
type cache[T any] struct {
	seed  maphash.Seed
	most  int // entries a shard; 0: nothing is kept
	shard [shards]shard[T]
}

type shard[T any] struct {
	sync.RWMutex
	m map[string]T
	_ [32]byte // each lock on its own cache line
}

func newCache[T any](size int) *cache[T] {
	c := &cache[T]{seed: maphash.MakeSeed()}
	if size > 0 {
		c.most = (size + shards - 1) / shards
	}
	for i := range c.shard {
		c.shard[i].m = map[string]T{}
	}
	return c
}

func (c *cache[T]) at(key string) *shard[T] {
	return &c.shard[maphash.String(c.seed, key)%shards]
}

func (c *cache[T]) get(key string) (T, bool) {
	s := c.at(key)
	s.RLock()
	v, ok := s.m[key]
	s.RUnlock()
	return v, ok
}

// put keeps v. key must not be part of anything secret: it stays in memory.
func (c *cache[T]) put(key string, v T) {
	if c.most == 0 {
		return
	}
	s := c.at(key)
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
