package browsertest

import (
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/saccount"
)

// A token is seen once: not after the page is loaded again, not when somebody
// comes back to it, and not in another tab.
func TestTokenOnce(t *testing.T) {
	for _, on := range []bool{true, false} {
		name := map[bool]string{true: "with scripts", false: "without"}[on]
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			a, err := h.svc.CreateAccount(t.Context(), "setup", "acme", saccount.AccountSpec{Name: "Production Worker"})
			require.NoError(t, err)
			alice := h.browser(t, "alice")
			alice.do(scripts(on))
			hidden := func(what string) {
				t.Helper()
				assert.NotRegexp(t, tokenShaped, alice.source(), what)
			}
			account := "orgs/acme/accounts/" + a.ID
			alice.open(account)
			alice.createKey("Backend")

			other := alice.another()
			other.open(js[string](alice, "location.href"))
			assert.NotRegexp(t, tokenShaped, other.source(), "in a second tab")

			// Loaded again, the form is sent again: the key is made once.
			assert.Equal(t, 409, alice.leads(chromedp.Reload()))
			assert.Contains(t, alice.text(), "Shown before")
			hidden("loaded again")
			if on {
				alice.usable()
			}
			keys, err := h.svc.ListKeys(t.Context(), "acme", a.ID, saccount.Filter{})
			require.NoError(t, err)
			assert.Len(t, keys.Items, 1)

			// Left, and come back to.
			alice.open(account)
			alice.createKey("Nightly job")
			alice.press("I have stored it")
			alice.back()
			hidden("come back to")
		})
	}
}
