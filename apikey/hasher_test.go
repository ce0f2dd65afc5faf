package apikey_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/apikey"
)

func TestNewHasherRefuses(t *testing.T) {
	good := fakePepper("2026")
	key := func(n int) []byte { return []byte(strings.Repeat("k", n)) }
	tooMany := make([]apikey.Pepper, apikey.MaxPeppers+1)
	for i := range tooMany {
		tooMany[i] = fakePepper(fmt.Sprint(i))
	}
	mixed := apikey.Unpeppered()
	mixed.ID, mixed.Key = good.ID, good.Key

	for name, peppers := range map[string][]apikey.Pepper{
		"no id and no key":      {{}},
		"no id":                 {{Key: key(32)}},
		"no key":                {{ID: "2026"}},
		"a key of 31 bytes":     {{ID: "2026", Key: key(31)}},
		"a key of 1025 bytes":   {{ID: "2026", Key: key(1025)}},
		"a key of zeros":        {{ID: "2026", Key: make([]byte, 32)}},
		"an id of 33":           {{ID: strings.Repeat("a", 33), Key: key(32)}},
		"a colon in an id":      {{ID: "2026:1", Key: key(32)}},
		"a space in an id":      {{ID: "2026 ", Key: key(32)}},
		"upper case in an id":   {{ID: "Y2026", Key: key(32)}},
		"an id twice":           {good, fakePepper("2027"), good},
		"unpeppered twice":      {apikey.Unpeppered(), apikey.Unpeppered()},
		"unpeppered with a key": {mixed},
		"one bad among good":    {good, {ID: "2027", Key: key(8)}},
		"too many":              tooMany,
	} {
		h, err := apikey.NewHasher(peppers...)
		assert.ErrorIs(t, err, apikey.ErrInvalid, name)
		assert.Nil(t, h, name)
	}
	for _, peppers := range [][]apikey.Pepper{
		nil, {}, {good}, tooMany[1:], {{ID: "a_b-c9", Key: key(32)}}, {{ID: "-", Key: key(1024)}},
		{{ID: strings.Repeat("a", 32), Key: key(64)}}, {apikey.Unpeppered()}, {apikey.Unpeppered(), good},
	} {
		_, err := apikey.NewHasher(peppers...)
		assert.NoError(t, err, "%v", peppers)
	}
}

func TestVerify(t *testing.T) {
	p := mustPrefix(t, "acme_live")
	parsed, other := mustGenerate(t, p).Parsed(), mustGenerate(t, p).Parsed()
	first, second, third := fakePepper("2024"), fakePepper("2025"), fakePepper("2026")
	impostor := apikey.Pepper{ID: "2026", Key: second.Key}

	hash := func(peppers ...apikey.Pepper) apikey.Hash { return mustHasher(t, peppers...).Hash(parsed) }
	flipped := hash(third)
	flipped.Sum[31] ^= 1
	renamed := hash(second)
	renamed.Pepper = "2026"
	unnamed, strange := hash(third), hash(third)
	unnamed.Pepper, strange.Pepper = "", "2099"

	for _, c := range []struct {
		name      string
		h         *apikey.Hasher
		stored    apikey.Hash
		ok, stale bool
	}{
		{"newest of one", mustHasher(t, third), hash(third), true, false},
		{"newest of three", mustHasher(t, first, second, third), hash(third), true, false},
		{"second newest", mustHasher(t, first, second, third), hash(second), true, true},
		{"oldest", mustHasher(t, first, second, third), hash(first), true, true},
		{"taken out", mustHasher(t, second, third), hash(first), false, false},
		{"not yet known", mustHasher(t, first, second), hash(third), false, false},
		{"same id, another key", mustHasher(t, first, third), hash(impostor), false, false},
		{"one bit off", mustHasher(t, first, second, third), flipped, false, false},
		{"sum of another pepper", mustHasher(t, first, second, third), renamed, false, false},
		{"the newest's sum without a pepper", mustHasher(t, third), unnamed, false, false},
		{"the newest's sum under an unknown pepper", mustHasher(t, third), strange, false, false},
		{"no pepper at all", mustHasher(t), hash(), true, false},
		{"no pepper, zero Hasher", &apikey.Hasher{}, hash(), true, false},
		{"no pepper, said so", mustHasher(t, apikey.Unpeppered()), hash(), true, false},
		{"a pepper came, the old is not accepted", mustHasher(t, third), hash(), false, false},
		{"a pepper came, the old is accepted", mustHasher(t, apikey.Unpeppered(), third), hash(), true, true},
		{"the pepper went, not accepted", mustHasher(t), hash(third), false, false},
		{"the pepper went, accepted", mustHasher(t, third, apikey.Unpeppered()), hash(third), true, true},
		{"peppered hash, zero Hasher", &apikey.Hasher{}, hash(third), false, false},
		{"nothing stored, pepper", mustHasher(t, third), apikey.Hash{}, false, false},
		{"nothing stored, no pepper", mustHasher(t), apikey.Hash{}, false, false},
		{"nothing stored but a pepper's id", mustHasher(t, third), apikey.Hash{Pepper: "2026"}, false, false},
	} {
		ok, stale := c.h.Verify(parsed, c.stored)
		assert.Equal(t, c.ok, ok, c.name)
		assert.Equal(t, c.stale, stale, c.name)
		for name, wrong := range map[string]apikey.Parsed{"another secret": other, "the zero Parsed": {}} {
			ok, stale = c.h.Verify(wrong, c.stored)
			assert.False(t, ok, "%s: %s", c.name, name)
			assert.False(t, stale, "%s: %s", c.name, name)
		}
		c.h.Dummy(parsed)
		c.h.Dummy(apikey.Parsed{})
	}
}

// A key moves to the newest pepper; after that the old one can go.
func TestRehash(t *testing.T) {
	parsed := mustGenerate(t, mustPrefix(t, "acme")).Parsed()
	stored := mustHasher(t, fakePepper("2025")).Hash(parsed)

	both := mustHasher(t, fakePepper("2025"), fakePepper("2026"))
	ok, stale := both.Verify(parsed, stored)
	require.True(t, ok && stale)
	stored = both.Hash(parsed)
	assert.Equal(t, "2026", stored.Pepper)
	ok, stale = both.Verify(parsed, stored)
	assert.True(t, ok && !stale)

	ok, stale = mustHasher(t, fakePepper("2026")).Verify(parsed, stored)
	assert.True(t, ok && !stale)
}

func TestHashOfNothing(t *testing.T) {
	for _, h := range []*apikey.Hasher{mustHasher(t), mustHasher(t, fakePepper("2026"))} {
		stored := h.Hash(apikey.Parsed{})
		assert.True(t, stored.IsZero())
		ok, _ := h.Verify(apikey.Parsed{}, stored)
		assert.False(t, ok, "no secret does not match no hash")
	}
	// What stands in for the missing secret is no way in.
	token, err := apikey.Generate(bytesFor(t, strings.Repeat("0", 43)), mustPrefix(t, "acme"), fakeID)
	require.NoError(t, err)
	h := mustHasher(t)
	ok, _ := h.Verify(apikey.Parsed{}, h.Hash(token.Parsed()))
	assert.False(t, ok)
}

func TestHasherCopiesKeys(t *testing.T) {
	pepper := fakePepper("2026")
	parsed := mustGenerate(t, mustPrefix(t, "acme")).Parsed()
	want := mustHasher(t, pepper).Hash(parsed)
	h := mustHasher(t, pepper)
	clear(pepper.Key)
	assert.Equal(t, want, h.Hash(parsed))
}

func TestHasherIsSafeForGoroutines(t *testing.T) {
	p := mustPrefix(t, "acme")
	h := mustHasher(t, fakePepper("2025"), fakePepper("2026"))
	old := mustHasher(t, fakePepper("2025"))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			mine, other := mustGenerate(t, p).Parsed(), mustGenerate(t, p).Parsed()
			stored, stored2025 := h.Hash(mine), old.Hash(mine)
			for range 2000 {
				if ok, stale := h.Verify(mine, stored); !ok || stale {
					t.Error("the right secret refused")
				}
				if ok, stale := h.Verify(mine, stored2025); !ok || !stale {
					t.Error("the right secret under the older pepper refused")
				}
				if ok, _ := h.Verify(other, stored); ok {
					t.Error("another secret accepted")
				}
			}
		})
	}
	wg.Wait()
}

func TestHashEqual(t *testing.T) {
	a := apikey.Hash{Pepper: "2026", Sum: [32]byte{1, 31: 2}}
	assert.True(t, a.Equal(a))
	b := a
	b.Sum[31] ^= 0x80
	assert.False(t, a.Equal(b))
	b = a
	b.Pepper = ""
	assert.False(t, a.Equal(b))
	assert.True(t, apikey.Hash{}.Equal(apikey.Hash{}))
	assert.True(t, apikey.Hash{}.IsZero())
	assert.False(t, apikey.Hash{Pepper: "2026"}.IsZero())
	assert.False(t, apikey.Hash{Sum: [32]byte{31: 1}}.IsZero())
}

func TestHashText(t *testing.T) {
	digits := strings.Repeat("0a", 32)
	var sum [32]byte
	for i := range sum {
		sum[i] = 0x0a
	}
	for text, want := range map[string]apikey.Hash{
		"":                             {},
		"sha256:" + digits:             {Sum: sum},
		"hmac-sha256:2026:" + digits:   {Pepper: "2026", Sum: sum},
		"hmac-sha256:-:" + digits:      {Pepper: "-", Sum: sum},
		"hmac-sha256:sha256:" + digits: {Pepper: "sha256", Sum: sum},
		"hmac-sha256:" + strings.Repeat("a", 32) + ":" + digits:       {Pepper: strings.Repeat("a", 32), Sum: sum},
		"hmac-sha256:2026:" + strings.Repeat("0", len(digits)):        {Pepper: "2026"},
		"sha256:" + strings.Repeat("0", len(digits)-1) + "1":          {Sum: [32]byte{31: 1}},
		"hmac-sha256:a_b:" + strings.Repeat("f", len(digits)-1) + "0": {Pepper: "a_b", Sum: allButLast()},
	} {
		got, err := apikey.ParseHash(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got)
		assert.Equal(t, text, got.String())
		written, err := got.MarshalText()
		require.NoError(t, err)
		assert.Equal(t, text, string(written))
		assert.LessOrEqual(t, len(text), 109)

		encoded, err := json.Marshal(holder[apikey.Hash]{got})
		require.NoError(t, err)
		var back holder[apikey.Hash]
		require.NoError(t, json.Unmarshal(encoded, &back))
		assert.Equal(t, got, back.Field)
	}
	for name, text := range map[string]string{
		"digits only":            digits,
		"no algorithm":           ":" + digits,
		"unknown algorithm":      "sha512:" + digits,
		"upper-case algorithm":   "SHA256:" + digits,
		"no digits":              "sha256:",
		"algorithm only":         "sha256",
		"one digit less":         "sha256:" + digits[1:],
		"one digit more":         "sha256:" + digits + "0",
		"upper-case digits":      "sha256:" + strings.ToUpper(digits),
		"no hex":                 "sha256:" + digits[1:] + "g",
		"space after":            "sha256:" + digits[1:] + " ",
		"line feed after":        "sha256:" + digits + "\n",
		"zeros only":             "sha256:" + strings.Repeat("0", 64),
		"sha256 with a pepper":   "sha256:2026:" + digits,
		"hmac without a pepper":  "hmac-sha256:" + digits,
		"hmac with an empty id":  "hmac-sha256::" + digits,
		"hmac with a bad id":     "hmac-sha256:20 26:" + digits,
		"hmac with a long id":    "hmac-sha256:" + strings.Repeat("a", 33) + ":" + digits,
		"hmac with two ids":      "hmac-sha256:a:b:" + digits,
		"hmac with no digits":    "hmac-sha256:2026:",
		"NUL":                    "sha256:\x00" + digits[1:],
		"a megabyte of an id":    "hmac-sha256:" + strings.Repeat("a", 1<<20),
		"a megabyte of digits":   "sha256:" + strings.Repeat("0", 1<<20),
		"JSON of something else": "{}",
	} {
		kept := apikey.Hash{Pepper: "kept", Sum: sum}
		err := kept.UnmarshalText([]byte(text))
		assert.ErrorIs(t, err, apikey.ErrInvalid, name)
		assert.Less(t, len(err.Error()), 200, name)
		assert.Equal(t, apikey.Hash{Pepper: "kept", Sum: sum}, kept, name+": changed although refused")
		_, err = apikey.ParseHash(text)
		assert.ErrorIs(t, err, apikey.ErrInvalid, name)
	}
	_, err := apikey.Hash{Pepper: "no: id", Sum: sum}.MarshalText()
	assert.ErrorIs(t, err, apikey.ErrInvalid, "what could not be read back is not written")
	kept, err := apikey.Hash{Pepper: "no: id", Sum: sum}.AppendText([]byte("kept"))
	assert.ErrorIs(t, err, apikey.ErrInvalid)
	assert.Equal(t, "kept", string(kept))
	appended, err := apikey.Hash{Sum: sum}.AppendText([]byte("hash="))
	require.NoError(t, err)
	assert.Equal(t, "hash=sha256:"+digits, string(appended))
}

func allButLast() (sum [32]byte) {
	for i := range sum {
		sum[i] = 0xff
	}
	sum[31] = 0xf0
	return sum
}

func FuzzHashText(f *testing.F) {
	digits := strings.Repeat("0a", 32)
	for _, s := range []string{
		"", "sha256:" + digits, "hmac-sha256:2026:" + digits, "hmac-sha256::" + digits, "sha256:" + strings.ToUpper(digits),
		"sha256", ":", "::", "hmac-sha256:", "sha256:" + strings.Repeat("0", 64), "md5:" + digits,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var h apikey.Hash
		if err := h.UnmarshalText(text); err != nil {
			require.ErrorIs(t, err, apikey.ErrInvalid)
			require.True(t, h.IsZero())
			return
		}
		written, err := h.MarshalText()
		require.NoError(t, err)
		require.Equal(t, string(text), string(written), "each hash has one text")
	})
}
