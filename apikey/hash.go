package apikey

import (
	"bytes"
	"encoding/hex"
)

// Hash is what is stored of a secret: HMAC-SHA-256 of its 43 characters under
// the pepper named, or their SHA-256 where Pepper is empty. It cannot be turned
// back into the secret. The zero Hash is that of no secret: nothing verifies
// against it.
type Hash struct {
	// Pepper is the id of the pepper, empty for SHA-256 without one.
	Pepper string
	// Sum is the hash itself.
	Sum [32]byte
}

// Names of the algorithms in a stored hash's text.
const (
	algSHA256 = "sha256"
	algHMAC   = "hmac-sha256"
)

// Equal reports whether both are the same hash under the same pepper. The sums
// are compared in constant time. To check a token use [Hasher.Verify].
func (h Hash) Equal(other Hash) bool {
	return sameSum(&h.Sum, &other.Sum) && h.Pepper == other.Pepper
}

// IsZero reports whether h is the hash of no secret.
func (h Hash) IsZero() bool { return h == Hash{} }

// String returns the text of [Hash.MarshalText], whatever the pepper's id.
func (h Hash) String() string { return string(h.appendText(nil)) }

// AppendText appends what MarshalText returns.
func (h Hash) AppendText(b []byte) ([]byte, error) {
	if h.Pepper != "" && !validPepperID(h.Pepper) {
		return b, invalid("write hash", "the pepper's id must be 1 to %d characters of a-z, 0-9, _ and -", MaxPepperIDLen)
	}
	return h.appendText(b), nil
}

// MarshalText returns the form to store: "sha256:" and 64 lower-case hex
// digits, or "hmac-sha256:", the pepper's id, ":" and the digits; at most 109
// bytes. The zero Hash is the empty text. ErrInvalid is wrapped where Pepper is
// no pepper's id.
func (h Hash) MarshalText() ([]byte, error) { return h.AppendText(nil) }

func (h Hash) appendText(b []byte) []byte {
	switch {
	case h.IsZero():
		return b
	case h.Pepper == "":
		b = append(b, algSHA256...)
	default:
		b = append(append(append(b, algHMAC...), ':'), h.Pepper...)
	}
	return hex.AppendEncode(append(b, ':'), h.Sum[:])
}

// UnmarshalText reads what MarshalText wrote and nothing else: each hash has
// one text. ErrInvalid is wrapped otherwise, and h stays as it was.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*h = Hash{}
		return nil
	}
	var read Hash
	alg, digits, _ := bytes.Cut(text, []byte(":"))
	switch string(alg) {
	case algSHA256:
	case algHMAC:
		var id []byte
		id, digits, _ = bytes.Cut(digits, []byte(":"))
		if len(id) > MaxPepperIDLen || !validPepperID(string(id)) {
			return invalid("read hash", "no pepper's id where one belongs")
		}
		read.Pepper = string(id)
	default:
		return invalid("read hash", "unknown algorithm, want %s or %s; was it written by a newer version?", algSHA256, algHMAC)
	}
	if len(digits) != hex.EncodedLen(len(read.Sum)) || bytes.ContainsAny(digits, "ABCDEF") {
		return invalid("read hash", "want %d lower-case hex digits", hex.EncodedLen(len(read.Sum)))
	}
	if _, err := hex.Decode(read.Sum[:], digits); err != nil {
		// The error of hex would quote a byte of the hash.
		return invalid("read hash", "want %d lower-case hex digits", hex.EncodedLen(len(read.Sum)))
	}
	if read.IsZero() {
		return invalid("read hash", "a SHA-256 of zeros only; the hash of no secret is the empty text")
	}
	*h = read
	return nil
}

// ParseHash reads the text of a stored hash as [Hash.UnmarshalText] does.
func ParseHash(s string) (Hash, error) {
	var h Hash
	err := h.UnmarshalText([]byte(s))
	return h, err
}
