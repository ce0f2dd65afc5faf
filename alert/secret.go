package alert

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"log/slog"

	"github.com/keypurse/keypurse/quota"
)

// MinSecret is the least length of a host's secret, in bytes.
const MinSecret = 32

// Secret signs a webhook's messages. Printed under any verb, in JSON and in
// slog, it is redacted.
type Secret struct{ key []byte }

// DeriveSecret makes the secret of an endpoint from the host's, so that none
// is stored: HKDF-SHA-256 (RFC 5869) of the host's secret, with organization,
// endpoint and version as the info. Another version is another secret. Errors
// wrap quota.ErrInvalid: a host's secret of fewer than MinSecret bytes.
func DeriveSecret(host []byte, org, endpoint string, version int) (Secret, error) {
	if len(host) < MinSecret {
		return Secret{}, fmt.Errorf("alert: derive a secret: %w secret of %d bytes; give at least %d bytes of chance", quota.ErrInvalid, len(host), MinSecret)
	}
	info := []byte("keypurse webhook")
	for _, s := range [...]string{org, endpoint} {
		info = append(binary.AppendUvarint(info, uint64(len(s))), s...)
	}
	info = binary.AppendUvarint(info, uint64(version))
	key, err := hkdf.Key(sha256.New, host, nil, string(info), 32)
	if err != nil {
		return Secret{}, fmt.Errorf("alert: derive a secret: %w", err)
	}
	return Secret{key}, nil
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
