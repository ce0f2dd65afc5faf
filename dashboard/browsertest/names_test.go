package browsertest

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/saccount"
)

// What people write is shown as they wrote it, and runs nowhere: not as HTML,
// not as a script, not as a template.
func TestHostileNames(t *testing.T) {
	h := newHost(t)
	alice := h.browser(t, "alice")
	for _, name := range []string{
		`<script>document.title="owned"</script>`, `"><img src=x onerror="document.title='owned'">`, `</title><svg onload=document.title='owned'>`,
		`{{.Root}}`, `{{template "main" .}}`, `javascript:alert(1)`, `=HYPERLINK("http://evil.example")`, `</textarea><b>x`, `&lt;b&gt;`,
	} {
		alice.open("orgs/acme/accounts/new")
		alice.fill("Name", name)
		alice.fill("Description (optional)", name)
		require.Equal(t, 200, alice.press("Create the service account"), name)
		account := alice.address()
		assert.Contains(t, alice.text(), name)
		for _, p := range []string{account, account + "/edit", account + "/delete", account + "/keys/new", "orgs/acme/accounts?q=" + escaped(name)} {
			require.Equal(t, 200, alice.open(p), name)
			assert.NotEqual(t, "owned", js[string](alice, "document.title"), p)
			assert.Zero(t, js[int](alice, `document.querySelectorAll("main img, main b, main script, [onerror], [onload]").length`), p)
		}
		assert.Contains(t, alice.text(), name)
		alice.open(account + "/edit")
		assert.Equal(t, name, alice.value("Name"))
		alice.open(account)
		alice.createKey(name)
		assert.NotEqual(t, "owned", js[string](alice, "document.title"))
	}
	list, err := h.svc.ListAccounts(t.Context(), "acme", saccount.Filter{})
	require.NoError(t, err)
	assert.Len(t, list.Items, 9)
}
