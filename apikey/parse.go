package apikey

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"log/slog"
	"unsafe"
)

// Parsed is what a well-formed token holds: it finds a record by ID and is
// given to a [Hasher]. It is well-formed and nothing more: until Verify has
// said so, nobody is authenticated. It refers to the bytes of the string it was
// parsed from. Wherever it is printed or encoded it is its ID. The zero Parsed
// holds no secret and verifies against nothing.
type Parsed struct {
	// ID is the key's id, which may be logged.
	ID string

	// The first byte of id and secret inside the token, hidden from fmt and
	// reflect as in Token. Nil, or followed by bodyLen readable bytes.
	body unsafe.Pointer
}

// Parse reads a token of this prefix: its length, its prefix, its alphabet and
// its checksum must be right to the byte. Everything else is ErrMalformed
// itself, whatever the defect; too long or too short an input is refused by its
// length, before any of it is looked at. It allocates nothing: the result, ID
// included, is part of s. Where a framework writes anew to the memory behind its
// strings (fiber does, after each request), clone what is kept for longer.
//
// Nothing here takes constant time, and nothing needs to: what it looks at can
// be computed by anybody.
func Parse(s string, prefix Prefix) (Parsed, error) {
	id, ok := prefix.IDOf(s)
	if !ok {
		return Parsed{}, ErrMalformed
	}
	n := len(prefix.lead)
	b := view(s)
	body := (*[bodyLen]byte)(b[n:])
	if !payloadIsBase62((*[payloadLen]byte)(body[:])) ||
		!checksumIs((*[ChecksumLen]byte)(body[payloadLen:]), crc32.ChecksumIEEE(b[:n+payloadLen])) {
		return Parsed{}, ErrMalformed
	}
	return Parsed{ID: id, body: unsafe.Pointer(body)}, nil
}

// noSecret stands in for the secret of the zero Parsed, so that it costs the
// same work as any other.
const noSecret = "0000000000000000000000000000000000000000000"

// secret is the part that is hashed, not to be written to.
func (p Parsed) secret() []byte {
	if p.body == nil {
		return view(noSecret)
	}
	return unsafe.Slice((*byte)(unsafe.Add(p.body, IDLen)), SecretLen)
}

// String returns the id.
func (p Parsed) String() string { return p.ID }

// GoString returns the id, for %#v.
func (p Parsed) GoString() string { return p.ID }

// Format writes the id under every verb.
func (p Parsed) Format(f fmt.State, _ rune) { writeRedacted(f, p.ID) }

// MarshalText returns the id.
func (p Parsed) MarshalText() ([]byte, error) { return []byte(p.ID), nil }

// MarshalJSON returns the id as a JSON string.
func (p Parsed) MarshalJSON() ([]byte, error) { return json.Marshal(p.ID) }

// LogValue returns the id.
func (p Parsed) LogValue() slog.Value { return slog.StringValue(p.ID) }

// Value gives database/sql the id.
func (p Parsed) Value() (driver.Value, error) { return p.ID, nil }
