package saccount_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/apikey"
	"github.com/keypurse/keypurse/saccount"
)

// A token that was let in is recognized without its hash from then on: nothing
// else with its id is, to the byte, and it is not once it ended.
func TestRecognizedToken(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	token, _, k := w.key(t, "Production Worker", nil)
	for range 2 {
		w.auth(t, token)
		lead := len(token) - apikey.IDLen - apikey.SecretLen - apikey.ChecksumLen
		for i := lead + apikey.IDLen; i < len(token); i++ {
			b := []byte(token)
			b[i] ^= 1
			_, err := w.Authenticate(t.Context(), string(b), netip.Addr{})
			require.ErrorIs(t, err, saccount.ErrUnauthenticated, "byte %d", i)
		}
	}

	fresh, _, err := w.RotateKey(t.Context(), by, "acme", k.ID, time.Hour)
	require.NoError(t, err)
	for range 2 { // both are recognized, and told apart
		for _, x := range []string{token, fresh.Reveal()} {
			w.auth(t, x)
		}
	}
	w.now = w.now.Add(time.Hour)
	_, err = w.Authenticate(t.Context(), token, netip.Addr{})
	var why *saccount.AuthError
	require.ErrorAs(t, err, &why)
	assert.Equal(t, "rotated", why.Reason)
	w.auth(t, fresh.Reveal())
	err = w.DisableKey(t.Context(), by, "acme", k.ID)
	require.NoError(t, err)
	_, err = w.Authenticate(t.Context(), fresh.Reveal(), netip.Addr{})
	require.ErrorAs(t, err, &why)
	assert.Equal(t, "disabled", why.Reason)
}
