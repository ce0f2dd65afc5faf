package saccount_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/apikey"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// reports are the entries of the audit log that ReportLeak made.
func (w *world) reports(t *testing.T) []saccount.AuditEntry {
	t.Helper()
	return collect(t, w.AuditEntries(t.Context(), "acme", saccount.AuditFilter{Actor: saccount.ActorLeak}))
}

func (w *world) shut(t *testing.T, token string) {
	t.Helper()
	_, err := w.Authenticate(t.Context(), token, netip.Addr{})
	require.ErrorIs(t, err, saccount.ErrUnauthenticated)
}

func TestLeakedKeyIsDisabled(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	token, _, k := w.key(t, "Production Worker", nil)
	p := w.auth(t, token)
	leak := saccount.Leak{Token: "\n " + token + " ", Source: "github", URL: "https://example.com/?k=" + token + "\u202e\x00"}
	got, err := w.ReportLeak(t.Context(), leak)
	require.NoError(t, err)
	subject := quota.NewSubject("key", k.ID)
	assert.Equal(t, saccount.Leaked{Real: true, Org: "acme", Subject: subject, Disabled: true}, got)
	w.shut(t, token)
	_, err = w.Charge(t.Context(), p, saccount.Charge{Amount: 1})
	require.ErrorIs(t, err, saccount.ErrUnauthenticated, "who was in already is out")
	k, err = w.GetKey(t.Context(), "acme", k.ID)
	require.NoError(t, err)
	assert.Equal(t, saccount.StatusDisabled, k.Status)
	assert.Equal(t, w.now, k.Leaked)
	assert.Contains(t, strings.Join(k.Advice, " "), "rotate")
	all := w.reports(t)
	require.Len(t, all, 1)
	assert.Equal(t, "report_leak", all[0].Action)
	assert.Equal(t, subject, all[0].Subject)
	assert.Equal(t, "reported as leaked by github, found at https://example.com/?k=(the token)", all[0].Reason)

	alerts := w.outbox(t)
	require.Len(t, alerts, 1)
	assert.Equal(t, alert.KindKeyLeaked, alerts[0].Kind)
	assert.Equal(t, "The token of key “Production Worker key” was found where it should not be, and the key was disabled: "+all[0].Reason+".", alerts[0].Text)

	// Again: real, and nothing is written for a day.
	got, err = w.ReportLeak(t.Context(), leak)
	require.NoError(t, err)
	assert.Equal(t, saccount.Leaked{Real: true, Org: "acme", Subject: subject}, got)
	assert.Len(t, w.reports(t), 1)
	assert.Len(t, w.outbox(t), 1)
	w.now = w.now.Add(24 * time.Hour)
	_, err = w.ReportLeak(t.Context(), leak)
	require.NoError(t, err)
	assert.Len(t, w.reports(t), 2)
	require.Len(t, w.outbox(t), 2)
	assert.Contains(t, w.outbox(t)[1].Text, "It opened nothing any more.")

	// The secret does not live again, whatever is done.
	require.NoError(t, w.EnableKey(t.Context(), by, "acme", k.ID))
	w.shut(t, token)
	fresh, _, err := w.RotateKey(t.Context(), by, "acme", k.ID, time.Hour)
	require.NoError(t, err)
	w.shut(t, token)
	w.auth(t, fresh.Reveal())
	_, err = w.CancelRotation(t.Context(), by, "acme", k.ID)
	require.ErrorIs(t, err, saccount.ErrInvalid, "there is no secret to go back to")
	k, err = w.GetKey(t.Context(), "acme", k.ID)
	require.NoError(t, err)
	assert.Zero(t, k.Leaked)
	got, err = w.ReportLeak(t.Context(), leak)
	require.NoError(t, err)
	assert.False(t, got.Real, "the secret is not kept any more")
	w.auth(t, fresh.Reveal())
}

func TestLeakOfNothing(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	token, _, k := w.key(t, "Production Worker", nil)
	other := newWorld(t, saccount.Config{})
	unknown, _, _ := other.key(t, "Elsewhere", nil)
	prefix := w.Prefix()
	id := k.ID
	forged, err := apikey.Generate(strings.NewReader(strings.Repeat("forged secret of a known id ", 100)), prefix, id)
	require.NoError(t, err)
	sum := "x"
	if strings.HasSuffix(token, sum) {
		sum = "y"
	}
	before := collect(t, w.AuditEntries(t.Context(), "acme", saccount.AuditFilter{}))
	for name, bad := range map[string]string{
		"nothing": "", "a word": "password", "a token with a bad sum": token[:len(token)-1] + sum, "an unknown token": unknown,
		"a known id with another secret": forged.Reveal(), "a long text": strings.Repeat("x", 1<<20),
	} {
		got, err := w.ReportLeak(t.Context(), saccount.Leak{Token: bad})
		require.NoError(t, err, name)
		assert.Equal(t, saccount.Leaked{}, got, name)
	}
	assert.Equal(t, before, collect(t, w.AuditEntries(t.Context(), "acme", saccount.AuditFilter{})))
	w.auth(t, token)
	require.NoError(t, w.DeleteKey(t.Context(), by, "acme", k.ID))
	got, err := w.ReportLeak(t.Context(), saccount.Leak{Token: token})
	require.NoError(t, err)
	assert.Equal(t, saccount.Leaked{}, got, "a deleted key's secret is gone")
}

func TestLeakDuringRotation(t *testing.T) {
	for name, which := range map[string]int{"the older": 0, "the newer": 1} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, saccount.Config{})
			old, _, k := w.key(t, "Production Worker", nil)
			next, _, err := w.RotateKey(t.Context(), by, "acme", k.ID, time.Hour)
			require.NoError(t, err)
			tokens := []string{old, next.Reveal()}
			got, err := w.ReportLeak(t.Context(), saccount.Leak{Token: tokens[which]})
			require.NoError(t, err)
			assert.True(t, got.Real && got.Disabled)
			w.shut(t, tokens[0])
			w.shut(t, tokens[1])
			require.NoError(t, w.EnableKey(t.Context(), by, "acme", k.ID))
			w.shut(t, tokens[which])
			w.auth(t, tokens[1-which])
		})
	}
	w := newWorld(t, saccount.Config{})
	old, _, k := w.key(t, "Production Worker", nil)
	next, _, err := w.RotateKey(t.Context(), by, "acme", k.ID, time.Hour)
	require.NoError(t, err)
	w.now = w.now.Add(time.Hour)
	got, err := w.ReportLeak(t.Context(), saccount.Leak{Token: old})
	require.NoError(t, err)
	assert.Equal(t, [2]bool{true, false}, [2]bool{got.Real, got.Disabled}, "a secret that has ended opens nothing")
	assert.Len(t, w.reports(t), 1)
	w.auth(t, next.Reveal())
}

func TestLeakOfWhatIsOverIsAudited(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	disabled, _, k := w.key(t, "Disabled", nil)
	require.NoError(t, w.DisableKey(t.Context(), by, "acme", k.ID))
	expired, _, k := w.key(t, "Expired", nil)
	soon := w.now.Add(time.Minute)
	_, err := w.UpdateKey(t.Context(), by, "acme", k.ID, saccount.Update{Expires: &soon})
	require.NoError(t, err)
	gone, a, _ := w.key(t, "Gone", nil)
	require.NoError(t, w.DeleteAccount(t.Context(), by, "acme", a.ID))
	w.now = w.now.Add(time.Hour)
	for i, token := range []string{disabled, expired, gone} {
		got, err := w.ReportLeak(t.Context(), saccount.Leak{Token: token})
		require.NoError(t, err)
		assert.True(t, got.Real)
		assert.Len(t, w.reports(t), i+1)
	}
	v, err := w.Verify(t.Context(), "acme", saccount.Verify{})
	require.NoError(t, err)
	require.Nil(t, v.Bad)
}

func TestLeakOfManagementKey(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	for _, org := range []string{"acme", saccount.HostPartition} {
		token, k, err := w.CreateManagementKey(t.Context(), by, org, saccount.ManagementKeySpec{Name: "Terraform", Role: saccount.RoleAdmin})
		require.NoError(t, err)
		got, err := w.ReportLeak(t.Context(), saccount.Leak{Token: token.Reveal()})
		require.NoError(t, err)
		assert.Equal(t, saccount.Leaked{Real: true, Org: org, Subject: quota.NewSubject("management_key", k.ID), Disabled: true}, got)
		_, err = w.Manager(t.Context(), token.Reveal(), netip.Addr{})
		require.ErrorIs(t, err, saccount.ErrUnauthenticated)
		v, err := w.Verify(t.Context(), org, saccount.Verify{})
		require.NoError(t, err)
		require.Nil(t, v.Bad)
		_, err = w.CutAudit(t.Context(), by, org, saccount.CutAudit{Before: w.now.Add(time.Second)})
		require.NoError(t, err, "the host's log is cut like any other")
	}
}
