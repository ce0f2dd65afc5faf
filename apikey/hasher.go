package apikey

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"hash"
	"sync"
	"sync/atomic"
)

// Hasher makes and checks the hashes that are stored of secrets. The zero
// Hasher uses SHA-256 without a pepper. It may be used by any number of
// goroutines and must not be copied after first use.
type Hasher struct {
	accepted []keyed // the newest last
	prints   atomic.Pointer[fingerprinter]
}

// keyed is one way to hash a secret.
type keyed struct {
	id string
	// Keyed HMAC states, as *macState; nil for plain SHA-256. A state that is
	// reset keeps the key's two compressed blocks, so a hash costs two blocks
	// and no allocation instead of four blocks and five.
	states *sync.Pool
}

type macState struct {
	mac hash.Hash
	sum [sha256.Size]byte // here, because what Sum appends to escapes
}

// NewHasher accepts hashes under every pepper given and makes new ones under
// the last, the newest. With none it uses SHA-256 throughout. Hashes without a
// pepper are refused once there is one, unless [Unpeppered] is given too.
// Taking a pepper out ends every key that was not used since the next came.
//
// ErrInvalid is wrapped where an id or a key is outside its bounds, an id is
// given twice, or there are more than [MaxPeppers]. The keys are copied.
func NewHasher(peppers ...Pepper) (*Hasher, error) {
	if len(peppers) > MaxPeppers {
		return nil, invalid("new hasher", "%d peppers, want at most %d; take out those that no key uses", len(peppers), MaxPeppers)
	}
	h := &Hasher{}
	for _, p := range peppers {
		if err := p.check(); err != nil {
			return nil, err
		}
		if _, twice := h.find(p.ID); twice {
			return nil, invalid("new hasher", "pepper %q is given twice", p.ID)
		}
		k := keyed{id: p.ID}
		if !p.unpeppered {
			key := bytes.Clone(p.Key)
			k.states = &sync.Pool{New: func() any {
				return &macState{mac: hmac.New(sha256.New, key)}
			}}
		}
		h.accepted = append(h.accepted, k)
	}
	return h, nil
}

// Hash makes the hash to store for a token, under the newest pepper. The zero
// Parsed has the zero Hash.
func (h *Hasher) Hash(p Parsed) Hash {
	if p.body == nil {
		return Hash{}
	}
	k := h.newest()
	return Hash{Pepper: k.id, Sum: k.sum(p.secret())}
}

// Verify reports whether stored is the hash of this token's secret. Stale says
// that it is, but not under the newest pepper: store [Hasher.Hash] of the same
// token in its place. A hash under a pepper that is not accepted is never ok.
//
// One hash is computed, whatever the outcome, and the sums are compared in
// constant time. It allocates nothing.
func (h *Hasher) Verify(p Parsed, stored Hash) (ok, stale bool) {
	newest := h.newest()
	k, known := newest, true
	if stored.Pepper != newest.id {
		if k, known = h.find(stored.Pepper); !known {
			k = newest
		}
	}
	sum := k.sum(p.secret())
	ok = sameSum(&sum, &stored.Sum) && known && p.body != nil
	return ok, ok && k.id != newest.id
}

// Dummy does the work of Verify for a token whose id is unknown, so that the
// time of an answer does not tell which ids exist.
func (h *Hasher) Dummy(p Parsed) {
	_, _ = h.Verify(p, Hash{Pepper: h.newest().id})
}

func (h *Hasher) newest() keyed {
	if len(h.accepted) == 0 {
		return keyed{}
	}
	return h.accepted[len(h.accepted)-1]
}

func (h *Hasher) find(pepper string) (keyed, bool) {
	for _, k := range h.accepted {
		if k.id == pepper {
			return k, true
		}
	}
	return keyed{}, false
}

func (k keyed) sum(secret []byte) [sha256.Size]byte {
	if k.states == nil {
		return sha256.Sum256(secret)
	}
	s := k.states.Get().(*macState)
	s.mac.Reset()
	s.mac.Write(secret) // a hash.Hash never returns an error
	s.mac.Sum(s.sum[:0])
	sum := s.sum
	k.states.Put(s)
	return sum
}
