package leak

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// GitHubKeysURL is where GitHub publishes the keys that it signs with.
const GitHubKeysURL = "https://api.github.com/meta/public_keys/secret_scanning"

// KeySource gives public keys on the curve P-256 by their identifiers.
type KeySource func(ctx context.Context) (map[string]*ecdsa.PublicKey, error)

const (
	keysFresh = time.Hour      // keys are asked for again after this
	keysStale = 24 * time.Hour // and are good for this long where nobody answers
	keysRetry = time.Minute    // an unknown identifier, or an error, asks again after this
	maxKeys   = 1 << 20        // bytes
)

// FetchKeys is a KeySource that asks GitHub. client is nil for one that gives
// up after 10 seconds; url is empty for GitHubKeysURL; token, where not empty,
// is a token of GitHub's, without any permissions, that lifts its rate limit.
func FetchKeys(client *http.Client, url, token string) KeySource {
	if client == nil {
		client = &http.Client{Timeout: 10 * time.Second}
	}
	if url == "" {
		url = GitHubKeysURL
	}
	return func(ctx context.Context) (map[string]*ecdsa.PublicKey, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return nil, fmt.Errorf("leak: fetch keys: %w", err)
		}
		req.Header.Set("Accept", "application/json")
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		res, err := client.Do(req)
		if err != nil {
			return nil, fmt.Errorf("leak: fetch keys: %w", err)
		}
		defer func() { _ = res.Body.Close() }() // it was only read
		if res.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("leak: fetch keys: %s answered %s", url, res.Status)
		}
		b, err := io.ReadAll(io.LimitReader(res.Body, maxKeys))
		if err != nil {
			return nil, fmt.Errorf("leak: fetch keys: %w", err)
		}
		return ParseKeys(b)
	}
}

// ParseKeys reads what GitHub publishes: a JSON object whose public_keys each
// have a key_identifier and a key, in PEM. Keys that are not on the curve P-256
// are left out; it is an error where none is left.
func ParseKeys(text []byte) (map[string]*ecdsa.PublicKey, error) {
	var doc struct {
		Keys []struct {
			ID  string `json:"key_identifier"`
			Key string `json:"key"`
		} `json:"public_keys"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("leak: parse keys: %w", err)
	}
	out := map[string]*ecdsa.PublicKey{}
	for _, k := range doc.Keys {
		block, _ := pem.Decode([]byte(k.Key))
		if block == nil {
			continue
		}
		any, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			continue
		}
		if key, ok := any.(*ecdsa.PublicKey); ok && key.Curve == elliptic.P256() && k.ID != "" {
			out[k.ID] = key
		}
	}
	if len(out) == 0 {
		return nil, errors.New("leak: parse keys: there is no key on the curve P-256")
	}
	return out, nil
}

// keyCache remembers keys. One request asks for them while others wait.
type keyCache struct {
	source KeySource
	mu     sync.Mutex
	keys   map[string]*ecdsa.PublicKey
	got    time.Time // when they were had
	asked  time.Time // when they were last asked for
	err    error     // of the last question
}

// get is the key with an identifier, nil where there is none.
func (c *keyCache) get(ctx context.Context, id string, now time.Time) (*ecdsa.PublicKey, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.keys[id]
	if known != nil && now.Sub(c.got) < keysFresh {
		return known, nil
	}
	if c.asked.IsZero() || now.Sub(c.asked) >= keysRetry {
		c.asked = now
		var keys map[string]*ecdsa.PublicKey
		// Whoever asks may hang up; the keys are for all.
		one, cancel := context.WithTimeout(context.WithoutCancel(ctx), workTime)
		keys, c.err = c.source(one)
		cancel()
		if c.err == nil {
			c.keys, c.got, known = keys, now, keys[id]
		}
	}
	if known != nil && now.Sub(c.got) < keysStale {
		return known, nil
	}
	if c.err != nil || now.Sub(c.got) >= keysStale {
		return nil, errors.Join(c.err, errors.New("leak: no public keys"))
	}
	return nil, nil
}
