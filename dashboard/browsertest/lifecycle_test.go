package browsertest

import (
	"net/url"
	"path"
	"regexp"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

var tokenShaped = regexp.MustCompile(`acme_live_[0-9A-Za-z]{65}`)

// address is the path of the page that is shown, below the mount path.
func (b *tab) address() string {
	b.t.Helper()
	u, err := url.Parse(js[string](b, "location.href"))
	require.NoError(b.t, err)
	return u.EscapedPath()[len(mount):]
}

// createKey makes a key on the page of its account, and gives the token that is
// shown.
func (b *tab) createKey(name string) string {
	b.t.Helper()
	require.Equal(b.t, 200, b.press("Create a key"))
	b.fill("Name", name)
	require.Equal(b.t, 200, b.press("Create the key"), b.text)
	token := b.value("Token")
	require.Regexp(b.t, tokenShaped, token)
	return token
}

// A service account's whole life, by somebody who may manage, while others look
// on.
func TestLifecycle(t *testing.T) {
	h := newHost(t)
	alice, bob, vera, nobody := h.browser(t, "alice"), h.browser(t, "bob"), h.browser(t, "vera"), h.browser(t, "")

	// Created with a limit; what was typed wrongly is said and kept.
	assert.Contains(t, alice.text(), "The first service account")
	alice.press("Create a service account")
	alice.fill("Name", "Production Worker")
	alice.fill("Credit limit", "five")
	alice.choose("Resets", "Every month")
	require.Equal(t, 422, alice.press("Create the service account"))
	assert.Contains(t, alice.text(), "Give an amount of credits such as 500")
	assert.Equal(t, "wrong", js[string](alice, "document.activeElement.id"), "what is wrong is read first")
	assert.Equal(t, "Production Worker", alice.value("Name"))
	alice.usable()
	alice.fill("Credit limit", "3")
	require.Equal(t, 200, alice.press("Create the service account"))
	account := alice.address()
	assert.Contains(t, alice.text(), "0 of 3 credits spent, 0 %; 3 remaining")
	assert.Contains(t, alice.text(), "resets every month (Europe/Berlin)")

	// A key, its token copied once, and used.
	token := alice.createKey("Backend")
	assert.Contains(t, alice.text(), "This is the only time the token is shown")
	alice.usable()
	for _, width := range []int64{narrow, wide} {
		alice.look(width, "light")
		assert.True(t, js[bool](alice, `(f => f.scrollHeight <= f.clientHeight && f.scrollWidth <= f.clientWidth)(document.getElementById("token"))`), "all of it is seen")
	}
	alice.allowClipboard()
	alice.do(chromedp.Click(named("Copy")))
	alice.sees("Copied.")
	assert.Equal(t, token, js[string](alice, "navigator.clipboard.readText()"))
	require.Equal(t, 200, alice.press("I have stored it"))
	key := alice.address()
	assert.NotRegexp(t, tokenShaped, alice.source())
	assert.Equal(t, []int{200, 200}, []int{h.work(t, token), h.work(t, token)})
	require.NoError(t, h.svc.Flush(t.Context()))
	alice.open(account)
	assert.Contains(t, alice.text(), "2 of 3 credits spent, 66 %; 1 remaining")
	assert.Contains(t, alice.text(), "Backend: 2")
	assert.Contains(t, alice.text(), "just now from 127.0.0.1")

	// The limit, edited.
	assert.Equal(t, []int{200, 429}, []int{h.work(t, token), h.work(t, token)})
	alice.press("Edit limit credits")
	assert.Equal(t, "3", alice.value("Credit limit"))
	alice.fill("Credit limit", "1000.5")
	require.Equal(t, 200, alice.press("Save"))
	assert.Contains(t, alice.text(), "3 of 1000.5 credits spent")
	assert.Equal(t, 200, h.work(t, token))

	// Others: of the same organization who may only look, of another, and nobody.
	require.Equal(t, 200, vera.open(account))
	assert.Contains(t, vera.text(), "Production Worker")
	assert.Zero(t, js[int](vera, `document.querySelectorAll("form, .danger, main .primary").length`), "nothing that would be refused")
	for _, p := range []string{account, key, "orgs/acme", "orgs/acme/accounts"} {
		assert.Equal(t, 404, bob.open(p), p)
		assert.NotContains(t, bob.source(), "Production Worker")
		assert.Equal(t, 401, nobody.open(p), p)
	}
	bob.usable()
	nobody.usable()
	assert.Equal(t, 404, bob.leads(submit(h.at(account+"/disable"))))
	assert.Equal(t, 403, vera.leads(submit(h.at(account+"/disable"))))
	assert.Equal(t, 401, nobody.leads(submit(h.at(account+"/disable"))))
	assert.Equal(t, 200, h.work(t, token))

	// Rotated: both live; cancelled: the new one has ended.
	alice.open(key)
	alice.press("Rotate")
	alice.click("24 hours")
	require.Equal(t, 200, alice.press("Rotate the key"))
	second := alice.value("Token")
	require.NotEqual(t, token, second)
	alice.press("I have stored it")
	assert.Contains(t, alice.text(), "The old secret lives until")
	assert.Equal(t, []int{200, 200}, []int{h.work(t, token), h.work(t, second)})
	alice.press("Cancel the rotation: end the new secret, keep the old")
	assert.NotContains(t, alice.text(), "The old secret lives until")
	assert.Equal(t, []int{200, 401}, []int{h.work(t, token), h.work(t, second)})

	// Disabled, enabled; the account, too.
	for _, p := range []string{key, account} {
		alice.open(p)
		alice.press("Disable it")
		assert.Contains(t, alice.text(), "Disabled")
		assert.Equal(t, 401, h.work(t, token), p)
		alice.press("Enable it")
		assert.Equal(t, 200, h.work(t, token), p)
	}

	// Deleted, once its name was typed.
	alice.press("Delete it")
	assert.Contains(t, alice.text(), "1 key goes with it")
	alice.fill("Type its name to confirm", "production worker")
	require.Equal(t, 422, alice.press("Delete it for good"))
	assert.Contains(t, alice.text(), "This is not its name. Nothing was deleted.")
	alice.usable()
	assert.Equal(t, 200, h.work(t, token))
	alice.fill("Type its name to confirm", "Production Worker")
	require.Equal(t, 200, alice.press("Delete it for good"))
	assert.Contains(t, alice.text(), "No service account yet")
	assert.Equal(t, 401, h.work(t, token))
	alice.open("orgs/acme/accounts?status=deleted")
	require.Equal(t, 200, alice.press("Production Worker"))
	assert.Contains(t, alice.text(), "Its history stays")
	assert.Contains(t, alice.text(), "Backend: 11")
	assert.Zero(t, js[int](alice, `document.querySelectorAll("form").length`))
	alice.usable()
	st, err := h.svc.GetAccount(t.Context(), "acme", path.Base(account), saccount.WithDeleted)
	require.NoError(t, err)
	assert.Equal(t, 1000*quota.Credit+quota.Credit/2, st.Limits[0].Max)
}
