package apikey

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"log/slog"
)

// Bounds of peppers.
const (
	// MinPepperLen is the least length of a pepper's key, in bytes.
	MinPepperLen = 32
	// MaxPepperLen is the greatest length of a pepper's key, in bytes. More
	// than 64 add nothing: HMAC hashes them first.
	MaxPepperLen = 1024
	// MaxPepperIDLen is the greatest length of a pepper's id, in characters.
	MaxPepperIDLen = 32
	// MaxPeppers is how many a Hasher accepts at once.
	MaxPeppers = 16
)

// Pepper is a key that the host keeps apart from its database, so that a copy
// of the database alone cannot be used to check guesses or to make hashes that
// pass. It cannot be changed for a stored hash without the token itself;
// therefore several are accepted at once and keys move to the newest when they
// are next used.
//
// Printed or encoded, a Pepper is its ID. But Key is an exported field, and so
// is seen by what reads it by reflection (encoding/gob does) and by fmt where it
// calls no methods: for a Pepper in an unexported field, and under %p and %w. Do
// not keep Peppers once a Hasher is made of them; a Hasher does not show them.
type Pepper struct {
	// ID names this version in stored hashes: 1 to 32 characters of a-z, 0-9,
	// underscore and hyphen, such as "2026-03". Never give it to another key.
	ID string
	// Key is 32 to 1024 random bytes, not all of them zero.
	Key []byte

	unpeppered bool
}

// Unpeppered stands for having no pepper among the peppers of [NewHasher]:
// stored SHA-256 hashes stay accepted. A host that starts to use peppers puts
// it before the first one until every key has moved.
func Unpeppered() Pepper { return Pepper{unpeppered: true} }

// check refuses what NewHasher must not accept. No error holds a byte of Key.
func (p Pepper) check() error {
	if p.unpeppered {
		if p.ID != "" || len(p.Key) != 0 {
			return invalid("new hasher", "Unpeppered with an id or a key; name them in a Pepper of their own")
		}
		return nil
	}
	if !validPepperID(p.ID) {
		return invalid("new hasher", "a pepper's id must be 1 to %d characters of a-z, 0-9, _ and -", MaxPepperIDLen)
	}
	if n := len(p.Key); n < MinPepperLen || n > MaxPepperLen {
		return invalid("new hasher", "pepper %q has a key of %d bytes, want %d to %d random ones", p.ID, n, MinPepperLen, MaxPepperLen)
	}
	for _, b := range p.Key {
		if b != 0 {
			return nil
		}
	}
	return invalid("new hasher", "pepper %q has a key of zero bytes only; fill it from crypto/rand", p.ID)
}

func validPepperID(id string) bool {
	if id == "" || len(id) > MaxPepperIDLen {
		return false
	}
	for i := range len(id) {
		if c := id[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// String returns the id.
func (p Pepper) String() string { return p.ID }

// GoString returns the id, for %#v.
func (p Pepper) GoString() string { return p.ID }

// Format writes the id under every verb.
func (p Pepper) Format(f fmt.State, _ rune) { writeRedacted(f, p.ID) }

// MarshalText returns the id.
func (p Pepper) MarshalText() ([]byte, error) { return []byte(p.ID), nil }

// MarshalJSON returns the id as a JSON string.
func (p Pepper) MarshalJSON() ([]byte, error) { return json.Marshal(p.ID) }

// LogValue returns the id.
func (p Pepper) LogValue() slog.Value { return slog.StringValue(p.ID) }

// Value gives database/sql the id.
func (p Pepper) Value() (driver.Value, error) { return p.ID, nil }
