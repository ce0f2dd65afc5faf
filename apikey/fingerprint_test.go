package apikey_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/apikey"
)

func TestFingerprint(t *testing.T) {
	p := mustPrefix(t, "acme_live")
	token := mustGenerate(t, p)
	text := token.Reveal()
	h := mustHasher(t, fakePepper("2026"))
	want, ok := h.Fingerprint(text, p)
	require.True(t, ok)
	id, ok := p.IDOf(text)
	assert.True(t, ok)
	assert.Equal(t, token.ID(), id)
	assert.NotZero(t, want[0])
	assert.NotZero(t, want[1])
	again, _ := h.Fingerprint(strings.Clone(text), p)
	assert.Equal(t, want, again)

	// Every byte behind the id counts, in each block of it.
	for i := range text {
		for _, c := range []byte{text[i] ^ 1, text[i] ^ 0x20, text[i] ^ 0x80, 0} {
			b := []byte(text)
			b[i] = c
			got, ok := h.Fingerprint(string(b), p)
			gotID, same := p.IDOf(string(b))
			assert.Equal(t, ok, same)
			switch at := i - len("acme_live_"); {
			case at < 0:
				assert.False(t, ok, "byte %d", i)
			case at < apikey.IDLen:
				assert.True(t, ok && gotID != id && got == want, "byte %d: the id is told apart by itself", i)
			default:
				assert.True(t, ok && gotID == id, "byte %d", i)
				assert.NotEqual(t, want, got, "byte %d", i)
			}
		}
	}
	for _, bad := range []string{"", text[1:], text[:len(text)-1], text + "0", "0" + text} {
		got, ok := h.Fingerprint(bad, p)
		assert.False(t, ok)
		assert.Zero(t, got)
	}
	_, ok = h.Fingerprint(text, apikey.Prefix{})
	assert.False(t, ok)
	other, _ := mustHasher(t, fakePepper("2026")).Fingerprint(text, p)
	assert.NotEqual(t, want, other, "another Hasher with the same pepper has another key")
}

func TestFingerprintIsSafeForGoroutines(t *testing.T) {
	p := mustPrefix(t, "acme")
	var h apikey.Hasher // its key is made by whoever comes first
	mine := mustGenerate(t, p).Reveal()
	got := make([]apikey.Fingerprint, 8)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			other := mustGenerate(t, p).Reveal()
			for range 1000 {
				a, _ := h.Fingerprint(other, p)
				b, _ := h.Fingerprint(mine, p)
				if a == b {
					t.Error("two tokens with one Fingerprint")
				}
				got[i] = b
			}
		})
	}
	wg.Wait()
	for _, f := range got[1:] {
		assert.Equal(t, got[0], f)
	}
}
