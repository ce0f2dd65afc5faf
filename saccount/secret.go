package saccount

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Bounds of Config.Secrets.
const (
	MinSecretLen = 32   // bytes of a Secret's Key
	MaxSecretLen = 1024 // bytes of a Secret's Key
	MaxSecrets   = 64
	maxSecretID  = 32
)

// Secret is a key of the host's from which this package derives others by HKDF
// (RFC 5869), one for each use and organization: those that seal the audit log.
// It is kept apart from the store, so that who can write to the store alone
// cannot make what passes for the Service's.
//
// Printed or encoded, a Secret is its ID. Do not keep Secrets once a Service
// is made of them; a Service does not show them.
type Secret struct {
	// ID names this version where something was made with it: 1 to 32
	// characters of a-z, 0-9, underscore and hyphen, such as "2026-03". Never
	// give it to another key.
	ID string
	// Key is 32 to 1024 random bytes, not all of them zero.
	Key []byte
}

// String returns the id.
func (x Secret) String() string { return x.ID }

// Format writes the id under every verb.
func (x Secret) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, x.ID) // fmt reports what its writer reports
}

// MarshalText returns the id.
func (x Secret) MarshalText() ([]byte, error) { return []byte(x.ID), nil }

// MarshalJSON returns the id as a JSON string.
func (x Secret) MarshalJSON() ([]byte, error) { return json.Marshal(x.ID) }

// LogValue returns the id.
func (x Secret) LogValue() slog.Value { return slog.StringValue(x.ID) }

// secrets are the host's, extracted: the newest last. The zero secrets have none.
type secrets struct{ all []extracted }

type extracted struct {
	id  string
	prk []byte // HKDF's pseudorandom key
}

// newSecrets checks and extracts them. No error holds a byte of a key.
func newSecrets(in []Secret) (secrets, error) {
	if len(in) > MaxSecrets {
		return secrets{}, invalidf("%d secrets: at most %d", len(in), MaxSecrets)
	}
	var out secrets
	for _, x := range in {
		switch {
		case x.ID == "" || len(x.ID) > maxSecretID || strings.Trim(x.ID, "abcdefghijklmnopqrstuvwxyz0123456789_-") != "":
			return secrets{}, invalidf("secret: an id of 1 to %d characters of a-z, 0-9, _ and - is needed", maxSecretID)
		case len(x.Key) < MinSecretLen || len(x.Key) > MaxSecretLen:
			return secrets{}, invalidf("secret %q: a key of %d bytes; give %d to %d random ones", x.ID, len(x.Key), MinSecretLen, MaxSecretLen)
		case len(bytes.Trim(x.Key, "\x00")) == 0:
			return secrets{}, invalidf("secret %q: a key of zero bytes only; fill it from crypto/rand", x.ID)
		}
		if _, twice := out.find(x.ID); twice {
			return secrets{}, invalidf("secret %q is given twice", x.ID)
		}
		prk, err := hkdf.Extract(sha256.New, x.Key, []byte("keypurse"))
		if err != nil {
			return secrets{}, fmt.Errorf("secret %q: %w", x.ID, err)
		}
		out.all = append(out.all, extracted{x.ID, prk})
	}
	return out, nil
}

// newest is the one that new things are made with; ok is false where there is none.
func (s secrets) newest() (x extracted, ok bool) {
	if len(s.all) == 0 {
		return x, false
	}
	return s.all[len(s.all)-1], true
}

func (s secrets) find(id string) (x extracted, ok bool) {
	for _, x := range s.all {
		if x.id == id {
			return x, true
		}
	}
	return x, false
}

// derive is the key of 32 bytes for one use. What says which, and ends with
// whatever tells two of them apart.
func (x extracted) derive(use string, what ...string) ([]byte, error) {
	info := []byte("keypurse " + use)
	for _, w := range what {
		info = append(append(info, 0), w...)
	}
	key, err := hkdf.Expand(sha256.New, x.prk, string(info), sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("saccount: derive a key: %w", err)
	}
	return key, nil
}
