package browsertest

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/saccount"
)

// Without a mouse: everything is reached by Tab, seen when it is reached, and
// works by Enter and Space.
func TestKeyboardAlone(t *testing.T) {
	h := newHost(t)
	alice := h.browser(t, "alice")
	// tab goes on until the element that says text, or has it as its label.
	reach := func(text string) {
		t.Helper()
		for range 60 {
			alice.do(chromedp.KeyEvent(kb.Tab))
			at := js[string](alice, `(e => e.labels?.length ? e.labels[0].innerText : e.innerText || e.getAttribute("aria-label") || "")(document.activeElement).trim()`)
			assert.True(t, js[bool](alice, `(e => { const s = getComputedStyle(e), r = e.getBoundingClientRect(); return e === document.body || s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2 && r.right > 0 && r.bottom > 0 && r.top < innerHeight })(document.activeElement)`), "the focus is seen: %s", at)
			if at == text {
				return
			}
		}
		require.Fail(t, "not reached by Tab", text)
	}
	enter := func() int { t.Helper(); return alice.leads(chromedp.KeyEvent(kb.Enter)) }
	reach("Skip to the content")
	alice.do(chromedp.KeyEvent(kb.Enter))
	assert.Equal(t, "main", js[string](alice, "document.activeElement.id"))
	reach("Create a service account")
	enter()
	reach("Name")
	alice.do(chromedp.KeyEvent("Production Worker"))
	reach("Credit limit")
	alice.do(chromedp.KeyEvent("500"))
	require.Equal(t, 200, enter(), "Enter sends a form")
	assert.Contains(t, alice.text(), "0 of 500 credits spent")
	account := alice.address()
	reach("Create a key")
	enter()
	reach("Name")
	alice.do(chromedp.KeyEvent("Backend"))
	reach("Create the key")
	require.Equal(t, 200, alice.leads(chromedp.KeyEvent(" ")), "Space presses a button")
	reach("Token")
	token := alice.value("Token")
	assert.Equal(t, token, js[string](alice, "getSelection().toString()"), "the token is selected, to be copied")
	assert.Equal(t, 200, h.work(t, token))
	alice.open(account)
	reach("7 days")
	enter()
	assert.Contains(t, js[string](alice, "location.search"), "period=7d")
	reach("The figures as a table")
	alice.do(chromedp.KeyEvent(kb.Enter))
	assert.True(t, js[bool](alice, `document.querySelector("details").open`))
	reach("Delete it")
	enter()
	reach("Type its name to confirm")
	alice.do(chromedp.KeyEvent("Production Worker"))
	require.Equal(t, 200, enter())
	assert.Equal(t, 401, h.work(t, token))
}

// Everything works with scripts off.
func TestScriptsOff(t *testing.T) {
	h := newHost(t)
	ada := h.browser(t, "ada")
	ada.do(scripts(false))
	ada.open("orgs/acme/accounts/new")
	ada.fill("Name", "Production Worker")
	ada.fill("Credit limit", "2")
	require.Equal(t, 200, ada.press("Create the service account"))
	account := ada.address()
	token := ada.createKey("Backend")
	assert.False(t, strings.Contains(ada.text(), "Copy\n"), "a button that cannot work is not shown")
	assert.Equal(t, []int{200, 200, 429}, []int{h.work(t, token), h.work(t, token), h.work(t, token)})
	ada.open(account)
	assert.Contains(t, ada.text(), "2 of 2 credits spent")
	ada.press("Edit, top up or raise credits")
	ada.fill("Credits to add, once", "5")
	require.Equal(t, 200, ada.press("Top up"))
	assert.Contains(t, ada.text(), "2 of 7 credits spent")
	assert.Equal(t, 200, h.work(t, token))
	ada.press("Delete it")
	require.Equal(t, 200, ada.press("Disable it instead"))
	assert.Equal(t, 401, h.work(t, token))
}

// Over http to a name that the browser does not trust, where nothing but the
// Origin tells whose form it is: one's own is taken, another site's is not.
func TestPlainHTTP(t *testing.T) {
	h := newHost(t)
	here := h.base
	h.base = strings.Replace(h.base, "127.0.0.1", lanName, 1)
	alice := h.browser(t, "alice")
	alice.allowed = "Cross-Origin-Opener-Policy header has been ignored" // as the browser says, it takes TLS
	require.False(t, js[bool](alice, "isSecureContext"))
	alice.open("orgs/acme/accounts/new")
	alice.fill("Name", "Production Worker")
	require.Equal(t, 200, alice.press("Create the service account"))
	account := alice.address()
	token := alice.createKey("Backend")
	alice.do(chromedp.Click(named("Copy")))
	alice.sees("Copied.")
	list, err := h.svc.ListAccounts(t.Context(), "acme", saccount.Filter{})
	require.NoError(t, err)
	require.Len(t, list.Items, 1)

	// The same machine under another name is another site.
	alice.open(here + "/elsewhere")
	status := alice.leads(submit(h.at(account + "/disable")))
	assert.Equal(t, 403, status)
	h.base = here
	assert.Equal(t, 200, h.work(t, token))
}
