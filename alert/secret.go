package alert

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"log/slog"

	"github.com/keypurse/keypurse/quota"
)

// Lengths of a Secret, in bytes, by Standard Webhooks.
const (
	MinSecret = 24
	MaxSecret = 64
)

// Secret signs a webhook's messages. Printed under any verb, in JSON and in
// slog, it is redacted.
type Secret struct{ key []byte }

// NewSecret makes a Secret of random bytes, or of what was derived from such.
// Errors wrap quota.ErrInvalid: fewer than MinSecret bytes, more than MaxSecret.
func NewSecret(key []byte) (Secret, error) {
	if len(key) < MinSecret || len(key) > MaxSecret {
		return Secret{}, fmt.Errorf("alert: %w secret of %d bytes; give %d to %d", quota.ErrInvalid, len(key), MinSecret, MaxSecret)
	}
	return Secret{bytes.Clone(key)}, nil
}

// Reveal is the secret as receivers take it: "whsec_" and base64, by Standard
// Webhooks.
func (s Secret) Reveal() string { return "whsec_" + base64.StdEncoding.EncodeToString(s.key) }

const redacted = "whsec_[redacted]"

// String is redacted.
func (s Secret) String() string { return redacted }

// Format is redacted under every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue is redacted.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText is redacted.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
