package apikey

import (
	"crypto/subtle"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// Every byte value in every place of a payload, against the alphabet itself.
func TestPayloadIsBase62IsExact(t *testing.T) {
	var b [payloadLen]byte
	for i := range b {
		b[i] = alphabet[i]
	}
	assert.True(t, payloadIsBase62(&b))
	for i := range b {
		was := b[i]
		for c := range 256 {
			b[i] = byte(c)
			want := strings.IndexByte(alphabet, byte(c)) >= 0
			if got := payloadIsBase62(&b); got != want {
				t.Errorf("byte %#02x at %d: got %v, want %v", c, i, got, want)
			}
		}
		b[i] = was
	}
}

func TestDigitIsExact(t *testing.T) {
	for c := range 256 {
		want := strings.IndexByte(alphabet, byte(c))
		got := digit(byte(c))
		if want < 0 {
			assert.Greater(t, got, uint64(61), "byte %#02x", c)
		} else {
			assert.Equal(t, uint64(want), got, "byte %#02x", c)
		}
	}
}

func TestChecksumTextIsTheOnlyOne(t *testing.T) {
	for _, crc := range []uint32{0, 1, 61, 62, 62*62 - 1, 916132831, 916132832, 1 << 31, 1<<32 - 1} {
		var text [ChecksumLen]byte
		putChecksum(&text, crc)
		assert.True(t, checksumIs(&text, crc), "%d", crc)
		assert.False(t, checksumIs(&text, crc+1), "%d", crc)
		for i := range text {
			was := text[i]
			for c := range 256 {
				if text[i] = byte(c); byte(c) != was && checksumIs(&text, crc) {
					t.Errorf("%d is also written %q", crc, text[:])
				}
			}
			text[i] = was
		}
	}
}

func TestSameSumAgreesWithSubtle(t *testing.T) {
	source := rand.NewChaCha8([32]byte{1})
	for range 200 {
		var a [32]byte
		_, _ = source.Read(a[:])
		b := a
		assert.True(t, sameSum(&a, &b))
		for bit := range 256 {
			b[bit/8] ^= 1 << (bit % 8)
			if got, want := sameSum(&a, &b), subtle.ConstantTimeCompare(a[:], b[:]) == 1; got != want {
				t.Errorf("bit %d: got %v, want %v", bit, got, want)
			}
			b[bit/8] ^= 1 << (bit % 8)
		}
	}
}
