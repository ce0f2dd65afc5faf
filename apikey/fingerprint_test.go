package apikey_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/keypurse/keypurse/apikey"
)

func TestFingerprint(t *testing.T) {
	p := mustPrefix(t, "acme_live")
	token := mustGenerate(t, p)
	parsed, other := token.Parsed(), mustGenerate(t, p).Parsed()
	h := mustHasher(t, fakePepper("2026"))
	want := h.Fingerprint(parsed)

	assert.Equal(t, want, h.Fingerprint(parsed), "the same secret, again")
	assert.NotEqual(t, want, h.Fingerprint(other))
	assert.NotEqual(t, want, h.Fingerprint(apikey.Parsed{}))
	assert.NotEqual(t, want, mustHasher(t, fakePepper("2026")).Fingerprint(parsed), "another Hasher with the same pepper has another key")
	assert.NotZero(t, want[0])
	assert.NotZero(t, want[1])

	// Every character of the secret counts, in each block of it.
	text := token.Reveal()
	secret := len(text) - apikey.ChecksumLen - apikey.SecretLen
	for i := range apikey.SecretLen {
		b := []byte(text[secret:][:apikey.SecretLen])
		if b[i]++; !apikey.ValidID("000000000000000" + string(b[i])) {
			b[i] = '0'
		}
		changed, err := apikey.Generate(bytesFor(t, string(b)), p, token.ID())
		assert.NoError(t, err)
		assert.NotEqual(t, want, h.Fingerprint(changed.Parsed()), "character %d", i)
	}

	var zero apikey.Hasher
	assert.Equal(t, zero.Fingerprint(parsed), zero.Fingerprint(parsed))
}

func TestFingerprintIsSafeForGoroutines(t *testing.T) {
	p := mustPrefix(t, "acme")
	var h apikey.Hasher // made by whoever comes first
	mine := mustGenerate(t, p).Parsed()
	got := make([]apikey.Fingerprint, 8)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			other := mustGenerate(t, p).Parsed()
			for range 1000 {
				if h.Fingerprint(other) == h.Fingerprint(mine) {
					t.Error("two secrets with one Fingerprint")
				}
			}
			got[i] = h.Fingerprint(mine)
		})
	}
	wg.Wait()
	for _, f := range got[1:] {
		assert.Equal(t, got[0], f)
	}
}
