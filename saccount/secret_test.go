package saccount_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/memstore"
)

// key32 is a key of 32 bytes for tests.
func key32(c byte) []byte { return []byte(strings.Repeat(string(rune(c)), 32)) }

func TestSecretsAreChecked(t *testing.T) {
	many := make([]saccount.Secret, saccount.MaxSecrets+1)
	for i := range many {
		many[i] = saccount.Secret{ID: fmt.Sprint("s", i), Key: key32('k')}
	}
	for name, bad := range map[string][]saccount.Secret{
		"no id":          {{Key: key32('k')}},
		"a bad id":       {{ID: "A:b", Key: key32('k')}},
		"a long id":      {{ID: strings.Repeat("a", 33), Key: key32('k')}},
		"a short key":    {{ID: "a", Key: key32('k')[:31]}},
		"a long key":     {{ID: "a", Key: make([]byte, 1025)}},
		"a key of zeros": {{ID: "a", Key: make([]byte, 32)}},
		"one id twice":   {{ID: "a", Key: key32('k')}, {ID: "a", Key: key32('l')}},
		"too many":       many,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := saccount.New(memstore.New(), saccount.Config{Secrets: bad})
			require.ErrorIs(t, err, saccount.ErrInvalid)
			assert.Contains(t, err.Error(), "Secrets")
			assert.NotContains(t, err.Error(), "kkkk", "no byte of a key")
		})
	}
	_, err := saccount.New(memstore.New(), saccount.Config{Secrets: many[1:]})
	require.NoError(t, err)
}

func TestSecretIsNotPrinted(t *testing.T) {
	x := saccount.Secret{ID: "2026-03", Key: key32('k')}
	in := struct{ Secrets []saccount.Secret }{[]saccount.Secret{x}}
	asJSON, err := json.Marshal(in)
	require.NoError(t, err)
	for _, s := range []string{fmt.Sprintf("%v %+v %#v %s %q %x %d", x, x, x, x, x, x, x), fmt.Sprintf("%v %+v %#v %x", in, in, in, in), string(asJSON), x.LogValue().String()} {
		assert.Contains(t, s, "2026-03")
		assert.NotContains(t, s, "kkk")
		assert.NotContains(t, s, "6b6b")
		assert.NotContains(t, s, "107")
	}
}
