package apikey_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/apikey"
)

// bytesFor gives a source from which exactly text is made.
func bytesFor(t testing.TB, text string) io.Reader {
	t.Helper()
	raw := make([]byte, len(text))
	for i := range raw {
		n := strings.IndexByte(base62, text[i])
		require.GreaterOrEqual(t, n, 0)
		raw[i] = byte(n)
	}
	return bytes.NewReader(raw)
}

func TestGenerate(t *testing.T) {
	for _, prefix := range []string{"a", "acme", "acme_live", strings.Repeat("a", 32)} {
		p := mustPrefix(t, prefix)
		token := mustGenerate(t, p)
		text := token.Reveal()
		assert.Len(t, text, len(prefix)+1+apikey.IDLen+apikey.SecretLen+apikey.ChecksumLen)
		assert.True(t, wellFormed(text, prefix), "%s", prefix)
		assert.True(t, apikey.ValidID(token.ID()))
		assert.Equal(t, prefix+"_"+token.ID(), token.Masked())

		parsed, err := apikey.Parse(text, p)
		require.NoError(t, err)
		assert.Equal(t, token.ID(), parsed.ID)
		assert.Equal(t, token.ID(), token.Parsed().ID)
		h := mustHasher(t)
		assert.Equal(t, h.Hash(parsed), h.Hash(token.Parsed()), "made and read are the same secret")

		again, err := apikey.Generate(nil, p, token.ID())
		require.NoError(t, err)
		assert.Equal(t, token.ID(), again.ID())
		assert.NotEqual(t, text, again.Reveal(), "the same id has a new secret")
	}
}

func TestGenerateRefusesIDs(t *testing.T) {
	p := mustPrefix(t, "acme")
	for _, id := range []string{
		"0", strings.Repeat("0", 15), strings.Repeat("0", 17), "000000000000000_", "000000000000000-",
		"000000000000000 ", "00000000000000é", "000000000000000\x00", strings.Repeat("0", 1<<20),
	} {
		assert.False(t, apikey.ValidID(id))
		token, err := apikey.Generate(nil, p, id)
		assert.ErrorIs(t, err, apikey.ErrInvalid)
		assert.Equal(t, apikey.Token{}, token)
		assert.Less(t, len(err.Error()), 200, "the error does not repeat what it refuses")
	}
	assert.False(t, apikey.ValidID(""))
}

func TestNewID(t *testing.T) {
	id, err := apikey.NewID(nil)
	require.NoError(t, err)
	assert.True(t, apikey.ValidID(id))
	id, err = apikey.NewID(bytesFor(t, "FakeKeyId0000001"))
	require.NoError(t, err)
	assert.Equal(t, "FakeKeyId0000001", id)
}

func TestBiasedBytesAreThrownAway(t *testing.T) {
	source := io.MultiReader(
		bytes.NewReader([]byte{248, 249, 250, 251, 252, 253, 254, 255}), bytesFor(t, "01234567"), bytesFor(t, "89ABCDEF"))
	id, err := apikey.NewID(source)
	require.NoError(t, err)
	assert.Equal(t, "0123456789ABCDEF", id)

	id, err = apikey.NewID(bytes.NewReader([]byte{0, 61, 62, 123, 124, 185, 186, 247, 0, 0, 0, 0, 0, 0, 0, 0}))
	require.NoError(t, err)
	assert.Equal(t, "0z0z0z0z00000000", id)
}

func TestFailingSources(t *testing.T) {
	p := mustPrefix(t, "acme")
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		source io.Reader
		want   error
	}{
		"error":      {iotest.ErrReader(broken), broken},
		"nothing":    {strings.NewReader(""), io.EOF},
		"too little": {strings.NewReader("only a few bytes"), io.ErrUnexpectedEOF},
	} {
		token, err := apikey.Generate(c.source, p, "")
		assert.ErrorIs(t, err, c.want, name)
		assert.Equal(t, apikey.Token{}, token, name)
	}
	_, err := apikey.NewID(iotest.ErrReader(broken))
	assert.ErrorIs(t, err, broken)

	_, err = apikey.Generate(stuck{}, p, "")
	assert.ErrorContains(t, err, "no usable bytes", "a stuck source ends in an error, not in a loop")
	slow, err := apikey.Generate(iotest.OneByteReader(rand.NewChaCha8([32]byte{})), p, "")
	require.NoError(t, err)
	assert.True(t, wellFormed(slow.Reveal(), "acme"))
}

// stuck gives only bytes that are thrown away.
type stuck struct{}

func (stuck) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 0xff
	}
	return len(b), nil
}

func TestZeroTokenIsEmpty(t *testing.T) {
	var zero apikey.Token
	assert.Empty(t, zero.Reveal())
	assert.Empty(t, zero.ID())
	assert.Empty(t, zero.Masked())
	assert.Equal(t, apikey.Parsed{}, zero.Parsed())
}

// Every character is equally likely in every part. The source is seeded, so
// the figure is always the same; a byte taken modulo 62 would put it in the
// thousands.
func TestCharactersAreEquallyLikely(t *testing.T) {
	const tokens = 50_000
	p := mustPrefix(t, "acme_live")
	source := rand.NewChaCha8([32]byte{1})
	var ids, secrets [62]int
	for range tokens {
		token, err := apikey.Generate(source, p, "")
		if err != nil {
			t.Fatal(err)
		}
		text := token.Reveal()
		count(&ids, text[10:26])
		count(&secrets, text[26:69])
	}
	for name, counts := range map[string][62]int{"ids": ids, "secrets": secrets} {
		pValue := chiSquareP(counts[:])
		t.Logf("%s: p = %.3f", name, pValue)
		assert.Greater(t, pValue, 0.001, name)
		assert.Less(t, pValue, 0.999, name+": too even to be random")
	}
}

func count(counts *[62]int, text string) {
	for i := range len(text) {
		counts[strings.IndexByte(base62, text[i])]++
	}
}

// chiSquareP is the probability of counts at least as uneven as these where all
// are equally likely, by the approximation of Wilson and Hilferty (1931).
func chiSquareP(counts []int) float64 {
	var sum, chi2 float64
	for _, n := range counts {
		sum += float64(n)
	}
	want := sum / float64(len(counts))
	for _, n := range counts {
		chi2 += (float64(n) - want) * (float64(n) - want) / want
	}
	k := float64(len(counts) - 1)
	z := (math.Cbrt(chi2/k) - (1 - 2/(9*k))) / math.Sqrt(2/(9*k))
	return math.Erfc(z/math.Sqrt2) / 2
}

func TestNoDuplicates(t *testing.T) {
	const tokens = 100_000
	p := mustPrefix(t, "acme")
	ids, secrets := make(map[string]bool, tokens), make(map[string]bool, tokens)
	for range tokens {
		token := mustGenerate(t, p)
		ids[token.ID()] = true
		secrets[token.Reveal()[21:64]] = true
	}
	assert.Len(t, ids, tokens)
	assert.Len(t, secrets, tokens)
}
