package apikey_test

import (
	"hash/crc32"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/apikey"
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// checksumOf is written apart from the package, to check it.
func checksumOf(before string) string {
	n, text := crc32.ChecksumIEEE([]byte(before)), ""
	for range 6 {
		text = base62[n%62:n%62+1] + text
		n /= 62
	}
	return text
}

// refused fails the test unless s is refused with ErrMalformed itself. It is
// called millions of times, hence no assertion for what goes well.
func refused(t *testing.T, s string, p apikey.Prefix, why string) {
	t.Helper()
	if parsed, err := apikey.Parse(s, p); err != apikey.ErrMalformed || parsed != (apikey.Parsed{}) {
		t.Errorf("%s: %q gave %v, %v", why, s, parsed, err)
	}
}

func TestParseRefusesEveryChange(t *testing.T) {
	p := mustPrefix(t, "acme_live")
	for range 100 {
		text := mustGenerate(t, p).Reveal()
		parsed, err := apikey.Parse(text, p)
		require.NoError(t, err)
		require.Equal(t, text[10:26], parsed.ID)

		changed := []byte(text)
		for i := range changed {
			was := changed[i]
			for c := range 256 {
				if byte(c) != was {
					changed[i] = byte(c)
					refused(t, string(changed), p, "one character changed")
				}
			}
			changed[i] = was
			if i > 0 && changed[i] != changed[i-1] {
				changed[i], changed[i-1] = changed[i-1], changed[i]
				refused(t, string(changed), p, "two neighbours swapped")
				changed[i], changed[i-1] = changed[i-1], changed[i]
			}
			refused(t, text[:i], p, "cut off")
			refused(t, text[:i]+text[i+1:], p, "one character less")
			for _, c := range "0aA_ \n" {
				refused(t, text[:i]+string(c)+text[i:], p, "one character more")
			}
		}
		for _, s := range []string{
			strings.ToUpper(text), strings.ToLower(text), text + "0", text + "\x00", text + "\n", " " + text,
			text + text, "Bearer " + text, `"` + text + `"`, text + strings.Repeat("0", 257),
		} {
			if s != text {
				refused(t, s, p, "around the token")
			}
		}
	}
}

func TestParseRefusesOtherPrefixes(t *testing.T) {
	live := mustPrefix(t, "acme_live")
	text := mustGenerate(t, live).Reveal()
	for _, other := range []string{"acme", "acme_test", "acme_liv", "acme_live1", "bcme_live", "a"} {
		refused(t, text, mustPrefix(t, other), other)
	}
	test := mustPrefix(t, "acme_test")
	moved := "acme_test" + strings.TrimPrefix(text, "acme_live")
	refused(t, moved, test, "the checksum covers the prefix")
	moved = moved[:len(moved)-6] + checksumOf(moved[:len(moved)-6])
	_, err := apikey.Parse(moved, test)
	assert.NoError(t, err, "anybody can make a checksum")
}

func TestParseRefusesLongInput(t *testing.T) {
	p := mustPrefix(t, "acme")
	for _, n := range []int{256, 257, 1 << 10, 1 << 20} {
		long := "acme_" + strings.Repeat("0", n-5)
		refused(t, long, p, "long")
		long = long[:n-6] + checksumOf(long[:n-6])
		refused(t, long, p, "long, with the right checksum")
		assert.Zero(t, testing.AllocsPerRun(10, func() { _, _ = apikey.Parse(long, p) }))
	}
}

func TestParseAndVerifyAllocateNothing(t *testing.T) {
	p := mustPrefix(t, "acme_live")
	h := mustHasher(t, fakePepper("2025"), fakePepper("2026"))
	token := mustGenerate(t, p)
	text, stored := token.Reveal(), h.Hash(token.Parsed())
	wrong := text[:len(text)-1] + "-"
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		_, _ = apikey.Parse(text, p)
		_, _ = apikey.Parse(wrong, p)
	}))
	if !raceDetector {
		assert.Zero(t, testing.AllocsPerRun(1000, func() {
			parsed, err := apikey.Parse(text, p)
			ok, _ := h.Verify(parsed, stored)
			if err != nil || !ok {
				t.Error("refused")
			}
			h.Dummy(parsed)
		}))
	}
}

func FuzzParse(f *testing.F) {
	vectors := readVectors(f)
	for _, v := range vectors.Valid {
		f.Add(v.Token, v.Prefix)
	}
	for _, v := range vectors.Invalid {
		f.Add(v.Token, v.Prefix)
	}
	h, err := apikey.NewHasher(fakePepper("2026"))
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, s, prefix string) {
		p, err := apikey.ParsePrefix(prefix)
		if err != nil {
			return
		}
		parsed, err := apikey.Parse(s, p)
		if want := wellFormed(s, prefix); want != (err == nil) {
			t.Fatalf("%q under %q: %v, want well-formed %v", s, prefix, err, want)
		}
		if err != nil {
			require.Equal(t, apikey.Parsed{}, parsed)
			return
		}
		// A token made of the same id is found by the same rules and has
		// another secret.
		require.Equal(t, s[len(prefix)+1:len(prefix)+17], parsed.ID)
		again, err := apikey.Generate(nil, p, parsed.ID)
		require.NoError(t, err)
		ok, stale := h.Verify(parsed, h.Hash(parsed))
		require.True(t, ok && !stale)
		ok, _ = h.Verify(again.Parsed(), h.Hash(parsed))
		require.False(t, ok)
	})
}

// wellFormed says in the plainest words what Parse accepts.
func wellFormed(s, prefix string) bool {
	rest, found := strings.CutPrefix(s, prefix+"_")
	if !found || len(rest) != 65 || strings.Trim(rest, base62) != "" {
		return false
	}
	for _, c := range rest {
		if !strings.ContainsRune(base62, c) {
			return false
		}
	}
	return s[len(s)-6:] == checksumOf(s[:len(s)-6])
}
