package apikey_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/apikey"
)

func TestParsePrefix(t *testing.T) {
	for _, s := range []string{
		"a", "acme", "acme_live", "acme_test", "a1", "a_1", "k8s_9", "acme_0",
		strings.Repeat("a", 32), strings.Repeat("a", 16) + "_" + strings.Repeat("b", 15),
	} {
		p, err := apikey.ParsePrefix(s)
		require.NoError(t, err, s)
		assert.Equal(t, s, p.String())
		assert.True(t, p == mustPrefix(t, s), "equal prefixes are ==")
	}
	for name, s := range map[string]string{
		"empty":                     "",
		"upper case":                "Acme",
		"upper case environment":    "acme_Live",
		"digit first":               "1acme",
		"underscore first":          "_live",
		"underscore last":           "acme_",
		"underscore only":           "_",
		"two underscores":           "acme__live",
		"two environments":          "acme_live_eu",
		"hyphen":                    "acme-live",
		"space":                     "acme live",
		"line feed at the end":      "acme\n",
		"NUL":                       "acme\x00",
		"letter outside ASCII":      "acmé",
		"invalid UTF-8":             "acme\xff",
		"right-to-left override":    "acme\u202e",
		"regular expression":        "a.*",
		"quote that ends a rule":    "a'''",
		"one character too long":    strings.Repeat("a", 33),
		"environment too long":      "a_" + strings.Repeat("b", 31),
		"a megabyte":                strings.Repeat("a", 1<<20),
		"full-width letter at last": "acmeａ",
	} {
		p, err := apikey.ParsePrefix(s)
		assert.ErrorIs(t, err, apikey.ErrInvalid, name)
		assert.Zero(t, p, name)
	}
}

func TestZeroPrefixDoesNothing(t *testing.T) {
	var zero apikey.Prefix
	assert.Empty(t, zero.String())
	token, err := apikey.Generate(nil, zero, "")
	assert.ErrorIs(t, err, apikey.ErrInvalid)
	assert.Empty(t, token.Reveal())
	text := mustGenerate(t, mustPrefix(t, "acme")).Reveal()
	for _, s := range []string{"", text, strings.TrimPrefix(text, "acme_"), strings.TrimPrefix(text, "acme")} {
		_, err = apikey.Parse(s, zero)
		assert.ErrorIs(t, err, apikey.ErrMalformed)
	}
}

var prefixGrammar = regexp.MustCompile(`\A[a-z][a-z0-9]*(_[a-z0-9]+)?\z`)

func FuzzParsePrefix(f *testing.F) {
	for _, s := range []string{"", "acme", "acme_live", "acme_live_eu", "_", "a_", "A", "a\n", "acmé", strings.Repeat("a", 33)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := apikey.ParsePrefix(s)
		if want := len(s) <= apikey.MaxPrefixLen && prefixGrammar.MatchString(s); want != (err == nil) {
			t.Fatalf("%q: %v", s, err)
		}
		if err == nil && p.String() != s {
			t.Fatalf("%q came back as %q", s, p)
		}
	})
}
