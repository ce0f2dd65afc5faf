package apikey

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"unsafe"
)

// Token is a plaintext credential, as it is shown once to whoever asked for the
// key. Wherever it is printed or encoded, by every verb of fmt, encoding/json,
// encoding/xml, log/slog or database/sql, it is [Token.Masked]; only
// [Token.Reveal] gives the credential. The zero Token is none: everything about
// it is empty.
//
// Tokens are immutable and may be used by any number of goroutines. Two are
// equal under == only where one is a copy of the other.
type Token struct {
	prefix Prefix
	id     string
	// The first byte of the text. Fmt cannot call the methods of a value in
	// somebody's unexported field and prints such a value's own fields instead;
	// of this one it prints an address, as does everything built on reflect.
	text unsafe.Pointer
}

// Generate makes a token with 256 random bits of secret. An empty id makes a
// random one; a given one must be a [ValidID], which is how a key keeps its id
// when its secret is rotated. A nil source is crypto/rand; any other must be as
// unpredictable, and is meant for tests.
//
// ErrInvalid is wrapped for the zero Prefix and for an id that is not valid; an
// error of the source is wrapped too. The zero Token comes with every error.
func Generate(source io.Reader, prefix Prefix, id string) (Token, error) {
	if prefix == (Prefix{}) {
		return Token{}, invalid("generate", "no prefix; make one with ParsePrefix")
	}
	if id != "" && !ValidID(id) {
		return Token{}, invalid("generate", "the id is not %d characters of 0-9A-Za-z", IDLen)
	}
	b := make([]byte, prefix.tokenLen())
	body := b[copy(b, prefix.lead):]
	if err := fillBase62(source, body[copy(body, id):payloadLen]); err != nil {
		return Token{}, fmt.Errorf("apikey: generate: %w", err)
	}
	putChecksum((*[ChecksumLen]byte)(body[payloadLen:]), crc32.ChecksumIEEE(b[:len(b)-ChecksumLen]))
	return Token{prefix: prefix, id: string(body[:IDLen]), text: unsafe.Pointer(&b[0])}, nil
}

// NewID makes a random key id, with which [Generate] may be called later. A nil
// source is crypto/rand. An error of the source is wrapped.
func NewID(source io.Reader) (string, error) {
	var b [IDLen]byte
	if err := fillBase62(source, b[:]); err != nil {
		return "", fmt.Errorf("apikey: new id: %w", err)
	}
	return string(b[:]), nil
}

// ValidID reports whether id has the form of a key's id: 16 characters of
// 0-9A-Za-z. It says nothing about whether there is such a key.
func ValidID(id string) bool { return len(id) == IDLen && isBase62(id) }

// Reveal returns the credential itself. Show it once; keep its [Hash].
func (t Token) Reveal() string {
	if t.text == nil {
		return ""
	}
	// The text was written by Generate, is of exactly this length and is never
	// written again.
	return unsafe.String((*byte)(t.text), t.prefix.tokenLen())
}

// ID returns the key's id, which may be logged.
func (t Token) ID() string { return t.id }

// Masked returns the prefix and the id and nothing after, as lists show it:
// acme_live_FakeKeyId0000002.
func (t Token) Masked() string { return t.prefix.lead + t.id }

// Parsed returns the token as [Parse] would, for a [Hasher].
func (t Token) Parsed() Parsed {
	if t.text == nil {
		return Parsed{}
	}
	return Parsed{ID: t.id, body: unsafe.Add(t.text, len(t.prefix.lead))}
}

// String returns the masked token.
func (t Token) String() string { return t.Masked() }

// GoString returns the masked token, for %#v.
func (t Token) GoString() string { return t.Masked() }

// Format writes the masked token under every verb.
func (t Token) Format(f fmt.State, _ rune) { writeRedacted(f, t.Masked()) }

// MarshalText returns the masked token.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.Masked()), nil }

// MarshalJSON returns the masked token as a JSON string.
func (t Token) MarshalJSON() ([]byte, error) { return json.Marshal(t.Masked()) }

// LogValue returns the masked token.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.Masked()) }

// Value gives database/sql the masked token.
func (t Token) Value() (driver.Value, error) { return t.Masked(), nil }

// writeRedacted ignores the error as fmt does: there is nobody to tell.
func writeRedacted(f fmt.State, s string) { _, _ = io.WriteString(f, s) }
