package bench

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"hash"
	"hash/crc32"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/keypurse/keypurse/bench/internal/fixture"
	"github.com/keypurse/keypurse/bench/internal/harness"
)

// errRefused is what a case fails with when anything is refused: every case
// has room for all that it asks for.
var errRefused = errors.New("refused")

// pepper is what the secrets are hashed under, here and in keypurse's cases.
var pepper = []byte("a pepper of thirty-two bytes or more")

// counter is one level's purse, on a cache line of its own.
type counter struct {
	used  atomic.Int64
	limit int64
	_     [48]byte
}

// record is what a key's id finds.
type record struct {
	hash    [sha256.Size]byte
	expires int64
	levels  [3]*counter // key, account, organization
}

type slot struct {
	id [fixture.IDLen]byte
	*record
}

// floor is the least that checks a token and charges three levels: a table
// with open addressing behind an atomic pointer, a hasher for each caller that
// keeps its keyed mid-state, a coarse clock.
type floor struct {
	keys    []fixture.Key
	table   atomic.Pointer[[]slot]
	clock   atomic.Int64
	hashers []*hasher
	orgs    []counter
}

// hasher is one caller's.
type hasher struct {
	mac hash.Hash
	sum [sha256.Size]byte
	_   [64]byte
}

func (h *hasher) hash(secret string) []byte {
	h.mac.Reset()
	h.mac.Write(bytesOf(secret))
	return h.mac.Sum(h.sum[:0])
}

func newFloor(shape fixture.Shape, callers int) *floor {
	const never, unlimited = 1 << 62, 1 << 62
	f := &floor{keys: fixture.Keys(shape)}
	for range callers {
		f.hashers = append(f.hashers, &hasher{mac: hmac.New(sha256.New, pepper)})
	}
	size := 16
	for size < 2*len(f.keys) {
		size *= 2
	}
	purses := func(n int) []counter {
		cs := make([]counter, n)
		for i := range cs {
			cs[i].limit = unlimited
		}
		return cs
	}
	own, accounts, orgs := purses(shape.Keys), purses(shape.Accounts), purses(shape.Orgs)
	t := make([]slot, size)
	for i := range f.keys {
		k := &f.keys[i]
		r := &record{expires: never, levels: [3]*counter{&own[i], &accounts[k.Account], &orgs[k.Org]}}
		copy(r.hash[:], f.hashers[0].hash(k.Secret()))
		at := home(k.ID(), size)
		for t[at].record != nil {
			at = (at + 1) & (size - 1)
		}
		copy(t[at].id[:], k.ID())
		t[at].record = r
	}
	f.table.Store(&t)
	f.orgs = orgs
	return f
}

// home is the first slot to look into. Ids are random already; one
// multiplication brings what differs to where the mask looks.
func home(id string, size int) int {
	return int(binary.LittleEndian.Uint64(bytesOf(id)) * 0x9E3779B97F4A7C15 >> 20 & uint64(size-1))
}

// authenticate finds the record of a token, nil if it is not valid.
func (f *floor) authenticate(h *hasher, token string) *record {
	if !wellFormed(token) {
		return nil
	}
	id := token[len(fixture.Prefix):][:fixture.IDLen]
	sum := h.hash(token[len(fixture.Prefix)+fixture.IDLen:][:fixture.SecretLen])
	t := *f.table.Load()
	for at := home(id, len(t)); t[at].record != nil; at = (at + 1) & (len(t) - 1) {
		if string(t[at].id[:]) != id {
			continue
		}
		r := t[at].record
		if subtle.ConstantTimeCompare(sum, r.hash[:]) != 1 || r.expires <= f.clock.Load() {
			return nil
		}
		return r
	}
	return nil
}

// charge takes n from all three levels or from none: an unconditional add,
// taken back where it went over.
func (r *record) charge(n int64) bool {
	for i, c := range r.levels {
		if c.used.Add(n) <= c.limit {
			continue
		}
		for ; i >= 0; i-- {
			r.levels[i].used.Add(-n)
		}
		return false
	}
	return true
}

var digits = func() (d [256]int8) {
	for i := range d {
		d[i] = -1
	}
	for i, c := range []byte(fixture.Alphabet) {
		d[c] = int8(i)
	}
	return d
}()

// wellFormed checks length, prefix, alphabet and checksum.
func wellFormed(token string) bool {
	if len(token) != fixture.TokenLen || !strings.HasPrefix(token, fixture.Prefix) {
		return false
	}
	var bad int8
	for i := len(fixture.Prefix); i < len(token); i++ {
		bad |= digits[token[i]]
	}
	if bad < 0 {
		return false
	}
	var sum uint64
	for i := fixture.TokenLen - fixture.ChecksumLen; i < fixture.TokenLen; i++ {
		sum = sum*62 + uint64(digits[token[i]])
	}
	return uint64(crc32.ChecksumIEEE(bytesOf(token)[:fixture.TokenLen-fixture.ChecksumLen])) == sum
}

// bytesOf views a string without the copy that a conversion makes where the
// callee lets its argument escape. The bytes must not be written.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// floorAuthenticate is parse, checksum, keyed hash and one lookup.
func floorAuthenticate(work string, shape fixture.Shape, procs int) harness.Case {
	return harness.Case{Work: work, Who: whoFloor, Callers: procs, Procs: procs, Sample: 16,
		Setup: func(_ context.Context, env harness.Env) (*harness.Running, error) {
			f := newFloor(cut(env, shape), procs)
			return &harness.Running{Op: func(w, i int) error {
				if f.authenticate(f.hashers[w], f.keys[fixture.Pick(w, i, len(f.keys))].Token) == nil {
					return errRefused
				}
				return nil
			}}, nil
		}}
}

// floorCharge is the same with three fetch-adds behind it.
func floorCharge(work string, shape fixture.Shape, callers int) harness.Case {
	return harness.Case{Work: work, Who: whoFloor, Callers: callers, Sample: 16,
		Setup: func(_ context.Context, env harness.Env) (*harness.Running, error) {
			f := newFloor(cut(env, shape), callers)
			return &harness.Running{Op: func(w, i int) error {
				r := f.authenticate(f.hashers[w], f.keys[fixture.Pick(w, i, len(f.keys))].Token)
				if r == nil || !r.charge(1) {
					return errRefused
				}
				return nil
			}}, nil
		}}
}

// cut is the shape, or what a smoke test makes of it.
func cut(env harness.Env, s fixture.Shape) fixture.Shape {
	return fixture.Shape{Keys: env.Size(s.Keys), Accounts: env.Size(s.Accounts), Orgs: env.Size(s.Orgs)}
}
