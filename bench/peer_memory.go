package bench

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/sethvargo/go-limiter/memorystore"
	"github.com/throttled/throttled/v2"
	"github.com/throttled/throttled/v2/store/memstore"
	"github.com/ulule/limiter/v3"
	ulule "github.com/ulule/limiter/v3/drivers/store/memory"
	"golang.org/x/time/rate"

	"github.com/keypurse/keypurse/bench/internal/fixture"
	"github.com/keypurse/keypurse/bench/internal/harness"
)

// plenty is a limit that no case reaches.
const plenty = 1 << 40

// plentyInt is what of it an int holds.
const plentyInt = min(plenty, math.MaxInt)

// limiterOf is one peer's way to take 1 from the bucket of a name.
type limiterOf struct {
	who  string
	open func() (take func(name string) (bool, error), closeIt func() error, err error)
}

// gcra is throttled's limiter with a quota that no case reaches.
func gcra() (*throttled.GCRARateLimiterCtx, error) {
	st, err := memstore.NewCtx(0)
	if err != nil {
		return nil, err
	}
	g, err := throttled.NewGCRARateLimiterCtx(st, throttled.RateQuota{MaxRate: throttled.PerDuration(1_000_000_000, time.Second), MaxBurst: 1 << 30})
	if err != nil {
		return nil, err
	}
	g.SetMaxCASAttemptsLimit(1000) // the default of 10 fails with a hot organization
	return g, nil
}

var limiters = []limiterOf{
	{whoGoLimiter, func() (func(string) (bool, error), func() error, error) {
		s, err := memorystore.New(&memorystore.Config{Tokens: plenty, Interval: time.Hour})
		if err != nil {
			return nil, nil, err
		}
		ctx := context.Background()
		return func(n string) (bool, error) { _, _, _, ok, err := s.Take(ctx, n); return ok, err },
			func() error { return s.Close(ctx) }, nil
	}},
	{whoUlule, func() (func(string) (bool, error), func() error, error) {
		l := limiter.New(ulule.NewStore(), limiter.Rate{Period: time.Hour, Limit: plenty})
		ctx := context.Background()
		return func(n string) (bool, error) { c, err := l.Get(ctx, n); return !c.Reached, err }, nil, nil
	}},
	{whoThrottled, func() (func(string) (bool, error), func() error, error) {
		g, err := gcra()
		if err != nil {
			return nil, nil, err
		}
		ctx := context.Background()
		return func(n string) (bool, error) { over, _, err := g.RateLimitCtx(ctx, n, 1); return !over, err }, nil, nil
	}},
	{whoRate, func() (func(string) (bool, error), func() error, error) {
		var m sync.Map
		return func(n string) (bool, error) {
			v, ok := m.Load(n)
			if !ok {
				v, _ = m.LoadOrStore(n, rate.NewLimiter(1e9, plentyInt))
			}
			return v.(*rate.Limiter).Allow(), nil
		}, nil, nil
	}},
}

// node is a key as one would keep it beside a limiter: found by the hash of
// the whole token, with the names of its three buckets.
type node struct{ levels [3]string }

// nodes are a shape's keys with what a peer's lookup needs.
func nodes(s fixture.Shape) (keys []fixture.Key, byHash map[string]*node) {
	keys = fixture.Keys(s)
	byHash = make(map[string]*node, len(keys))
	for i, k := range keys {
		byHash[hashHex(k.Token)] = &node{[3]string{
			"key:" + strconv.Itoa(i), "account:" + strconv.Itoa(k.Account), "org:" + strconv.Itoa(k.Org),
		}}
	}
	return keys, byHash
}

func hashHex(token string) string {
	h := sha256.Sum256([]byte(token))
	return hex.EncodeToString(h[:])
}

// peerCharge checks the key the way that is usual (SHA-256, a map behind a
// lock) and takes from a peer's limiter once a level. None of them can take
// from all or none: this is less than what keypurse does.
func peerCharge(l limiterOf, work string, shape fixture.Shape, callers int) harness.Case {
	return harness.Case{Work: work, Who: l.who, Callers: callers, Sample: 16,
		Setup: func(_ context.Context, env harness.Env) (*harness.Running, error) {
			keys, byHash := nodes(cut(env, shape))
			take, closeIt, err := l.open()
			if err != nil {
				return nil, err
			}
			var mu sync.RWMutex
			return &harness.Running{Close: closeIt, Op: func(w, i int) error {
				h := hashHex(keys[fixture.Pick(w, i, len(keys))].Token)
				mu.RLock()
				n := byHash[h]
				mu.RUnlock()
				if n == nil {
					return errRefused
				}
				for _, name := range n.levels {
					if ok, err := take(name); err != nil {
						return err
					} else if !ok {
						return errRefused
					}
				}
				return nil
			}}, nil
		}}
}

// naiveCharge is what one writes in an afternoon: one mutex over two maps.
func naiveCharge(work string, shape fixture.Shape, callers int) harness.Case {
	type purse struct{ used, limit int64 }
	return harness.Case{Work: work, Who: whoNaive, Callers: callers, Sample: 16,
		Setup: func(_ context.Context, env harness.Env) (*harness.Running, error) {
			keys, byHash := nodes(cut(env, shape))
			purses := make(map[string]*purse)
			for _, n := range byHash {
				for _, name := range n.levels {
					purses[name] = &purse{limit: plenty}
				}
			}
			var mu sync.Mutex
			return &harness.Running{Op: func(w, i int) error {
				h := hashHex(keys[fixture.Pick(w, i, len(keys))].Token)
				mu.Lock()
				defer mu.Unlock()
				n := byHash[h]
				if n == nil {
					return errRefused
				}
				a, b, c := purses[n.levels[0]], purses[n.levels[1]], purses[n.levels[2]]
				if a.used >= a.limit || b.used >= b.limit || c.used >= c.limit {
					return errRefused
				}
				a.used++
				b.used++
				c.used++
				return nil
			}}, nil
		}}
}
