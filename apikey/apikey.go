package apikey

import (
	"errors"
	"fmt"
)

// Lengths of a token's parts, in characters.
const (
	// IDLen is the length of a key's id: 16 base62 characters, 95 bits.
	IDLen = 16
	// SecretLen is the length of the secret: 43 base62 characters are the
	// fewest that hold 256 bits.
	SecretLen = 43
	// ChecksumLen is the length of the checksum: 6 base62 characters are the
	// fewest that hold 32 bits.
	ChecksumLen = 6
	// MaxPrefixLen bounds a prefix, its environment included.
	MaxPrefixLen = 32
	// MaxTokenLen is a bound on any credential worth reading, in bytes. Callers
	// that copy or split a header can refuse what is longer before they do;
	// Parse refuses it by its length alone. No token of this format reaches it.
	MaxTokenLen = 256

	payloadLen = IDLen + SecretLen        // what is random
	bodyLen    = payloadLen + ChecksumLen // what follows the prefix and its underscore
)

// The longest token fits into MaxTokenLen, or this does not compile.
const _ = uint(MaxTokenLen - (MaxPrefixLen + 1 + bodyLen))

// Conditions that callers test with errors.Is. No error of this package holds
// a byte of a secret, of a pepper's key or of the input that was refused.
var (
	// ErrMalformed: the input is not a token of this format and prefix, or its
	// checksum is wrong. Which of these is not said, so that an answer made of
	// it tells nothing. Ask for the token to be copied again, whole.
	ErrMalformed = errors.New("apikey: malformed token")
	// ErrInvalid is wrapped by every refusal of a value that the host gave: a
	// prefix, an id, a pepper, a stored hash.
	ErrInvalid = errors.New("invalid")
)

func invalid(verb, format string, args ...any) error {
	return fmt.Errorf("apikey: %s: %w: %s", verb, ErrInvalid, fmt.Sprintf(format, args...))
}
