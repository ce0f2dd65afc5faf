package browsertest

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// Forms help while they are filled: advice on a name, fields for one more limit,
// a choice that is made by who fills what belongs to it.
func TestForms(t *testing.T) {
	h := newHost(t)
	alice := h.browser(t, "alice")
	alice.open("orgs/acme/accounts/new")
	alice.fill("Name", "test")
	alice.sees(`The name "test" does not say what this is for; a name such as "Production Worker" is found again.`)
	alice.fill("Name", "Payment Worker")
	alice.hides(`[data-advice-text]:not(:empty)`)
	alice.fill("Credit limit", "500")
	assert.Positive(t, js[int](alice, `document.querySelectorAll("#" + document.querySelector("[name=zone]").getAttribute("list") + " option[value='Europe/Berlin']").length`))
	require.Equal(t, 200, alice.press("Add another limit"))
	assert.Equal(t, "Payment Worker", alice.value("Name"), "what was typed is kept")
	assert.Equal(t, "500", js[string](alice, `document.querySelector("[name=max]").value`))
	alice.usable()
	alice.fillNamed("limit-2", "daily")
	alice.fillNamed("max-2", "20")
	alice.chooseNamed("period-2", "Every day")
	require.Equal(t, 200, alice.press("Create the service account"))
	account := alice.address()
	assert.Contains(t, alice.text(), "0 of 500 credits spent")
	assert.Contains(t, alice.text(), "0 of 20 credits spent")

	// Emptied, a limit is removed; the other stays as it was.
	alice.press("Edit")
	alice.fillNamed("max", "")
	require.Equal(t, 200, alice.press("Save"))
	assert.NotContains(t, alice.text(), "of 500 credits")
	assert.Contains(t, alice.text(), "0 of 20 credits spent")

	alice.open(account + "/keys/new")
	assert.Equal(t, "365d", js[string](alice, `document.forms[0].elements.expiry.value`))
	alice.fill("Name", "Backend")
	js[bool](alice, `(f => { f.value = "2031-05-01T12:00"; f.dispatchEvent(new Event("input", { bubbles: true })); return true })(document.querySelector("[name=expires]"))`)
	assert.Equal(t, "at", js[string](alice, `document.forms[0].elements.expiry.value`))
	require.Equal(t, 200, alice.press("Create the key"))
	alice.press("I have stored it")
	assert.Contains(t, alice.text(), "1 May 2031, 12:00:00 CEST")
	alice.press("Rotate")
	alice.fill("Hours", "48")
	assert.Equal(t, "own", js[string](alice, `document.forms[0].elements.overlap.value`))
}

// Of members, their limits are managed.
func TestMembersLimits(t *testing.T) {
	h := newHost(t)
	const id = "mia+1@example.com/x"
	_, err := h.svc.CreateMember(t.Context(), "setup", "acme", saccount.MemberSpec{ID: id, Name: "Mia"})
	require.NoError(t, err)
	alice := h.browser(t, "alice")
	alice.press("Members")
	assert.Contains(t, alice.text(), "no limit of its own")
	alice.press("Mia")
	alice.press("Add a limit")
	alice.fill("Credit limit", "2")
	alice.choose("Resets", "Every day")
	require.Equal(t, 200, alice.press("Add the limit"))
	assert.Contains(t, alice.text(), "0 of 2 credits spent")
	p, err := h.svc.Member(t.Context(), "acme", id)
	require.NoError(t, err)
	for _, allowed := range []bool{true, true, false} {
		d, err := h.svc.Charge(t.Context(), p, saccount.Charge{Amount: quota.Credit})
		require.NoError(t, err)
		assert.Equal(t, allowed, d.Allowed)
	}
	alice.press("Members")
	assert.Contains(t, alice.text(), "2 of 2, 100 %")
	alice.press("Mia")
	alice.press("Edit limit credits")
	require.Equal(t, 200, alice.press("Remove the limit"))
	assert.Contains(t, alice.text(), "No limit of its own")
	d, err := h.svc.Charge(t.Context(), p, saccount.Charge{Amount: quota.Credit})
	require.NoError(t, err)
	assert.True(t, d.Allowed)
}
