package dashboard_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/dashboard"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
	"github.com/keypurse/keypurse/store/memstore"
)

// What a service that is not written in Go does with a request of its client.
func TestSpending(t *testing.T) {
	k := newKit(t)
	token, key := k.Issue(saccounttest.Spec{Monthly: 10 * quota.Credit, Key: saccount.KeySpec{Name: "Backend", Scopes: []string{"words"}}})
	with := func(rest string) string { return fmt.Sprintf(`{"token":%q%s}`, token.Reveal(), rest) }
	used := func() string {
		st, err := k.Service.StatusOf(t.Context(), "acme", saccount.KindAccount, key.Account)
		require.NoError(t, err)
		return fmt.Sprint(st[0].Used, " used, ", st[0].Held, " held")
	}

	v := k.do(staff, "POST", "verify", with(`,"scopes":["words"],"limits":true,"address":"192.0.2.1"`)).ok(200)
	assert.Equal(t, true, v["valid"])
	assert.Equal(t, map[string]any{"subject": "key:" + key.ID, "org": "acme", "account": key.Account, "key": key.ID, "name": "Backend", "scopes": []any{"words"}}, v["caller"])
	assert.Len(t, v["limits"], 1)

	d := k.do(staff, "POST", "charge", with(`,"amount":"3","id":"c1"`)).ok(200)
	assert.Equal(t, true, d["allowed"])
	assert.Equal(t, "7", d["limits"].([]any)[0].(map[string]any)["remaining"])
	d = k.do(staff, "POST", "charge", with(`,"amount":"3","id":"c1"`)).ok(200)
	assert.Equal(t, true, d["replayed"])
	d = k.do(staff, "POST", "charge", with(`,"amount":"3"`), "Idempotency-Key", "c1").ok(200)
	assert.Equal(t, true, d["replayed"], "the header is the same id")
	assert.Equal(t, "3 used, 0 held", used())
	assert.Equal(t, "id_conflict", k.do(staff, "POST", "charge", with(`,"amount":"4","id":"c1"`)).code())
	assert.Equal(t, 400, k.do(staff, "POST", "charge", with(`,"amount":"3","id":"c1"`), "Idempotency-Key", "c2").Code)

	// What is refused says what to tell the client.
	d = k.do(staff, "POST", "charge", with(`,"amount":"8"`)).ok(200)
	assert.Equal(t, false, d["allowed"])
	p := d["problem"].(map[string]any)
	assert.EqualValues(t, 429, p["status"])
	assert.GreaterOrEqual(t, p["retry_after"], float64(16*24*60*60), "the month ends on the 31st")
	d = k.do(staff, "POST", "charge", with(`,"amount":"11"`)).ok(200)
	assert.EqualValues(t, 402, d["problem"].(map[string]any)["status"])

	k.do(staff, "POST", "reserve", with(`,"amount":"5","ttl_seconds":60,"id":"r1"`)).ok(200)
	assert.Equal(t, "3 used, 5 held", used())
	k.do(staff, "POST", "orgs/acme/renew", `{"of":"r1","ttl_seconds":3600}`).ok(200)
	k.Advance(time.Minute)
	d = k.do(staff, "POST", "orgs/acme/commit", `{"of":"r1","amount":"6"}`).ok(200)
	assert.Equal(t, "1", d["overrun"])
	assert.Equal(t, "9 used, 0 held", used())
	k.do(staff, "POST", "orgs/acme/refund", `{"of":"r1","amount":"2","id":"f1"}`).ok(200)
	k.do(staff, "POST", "orgs/acme/refund", `{"of":"r1","amount":"2","id":"f1"}`).ok(200)
	assert.Equal(t, "7 used, 0 held", used())
	assert.Equal(t, "excess", k.do(staff, "POST", "orgs/acme/refund", `{"of":"r1","amount":"5"}`).code())
	k.do(staff, "POST", "reserve", with(`,"amount":"1","ttl_seconds":0.5,"id":"r2"`)).ok(200)
	k.Advance(time.Second)
	assert.Equal(t, "expired", k.do(staff, "POST", "orgs/acme/commit", `{"of":"r2","amount":"1"}`).code())
	k.do(staff, "POST", "reserve", with(`,"amount":"1","ttl_seconds":60,"id":"r3"`)).ok(200)
	k.do(staff, "POST", "orgs/acme/release", `{"of":"r3"}`).ok(200)
	assert.Equal(t, "7 used, 0 held", used())

	_, err := k.Service.CreateMember(t.Context(), "user:alice", "acme", saccount.MemberSpec{ID: "ann"})
	require.NoError(t, err)
	d = k.do(staff, "POST", "charge", `{"member":{"org":"acme","id":"ann"},"amount":"0.000001"}`).ok(200)
	assert.Equal(t, "member:ann", d["caller"].(map[string]any)["subject"])

	for body, want := range map[string]string{
		`{"amount":"1"}`: "#/token", with(`,"member":{"org":"acme","id":"ann"},"amount":"1"`): "#/token", with(``): "#/amount",
		with(`,"amount":"-1"`): "#", with(`,"amount":1`): "#/amount", with(`,"amount":"1","address":"here"`): "#/address",
	} {
		a := k.do(staff, "POST", "charge", body)
		assert.Equal(t, 422, a.Code, "%s: %s", body, a.Body)
		assert.Equal(t, []string{want}, a.pointers(), body)
	}
	assert.Equal(t, []string{"#/ttl_seconds"}, k.do(staff, "POST", "reserve", with(`,"amount":"1","ttl_seconds":-1`)).pointers())
}

// Why somebody is refused is for the log; what their client is told is one answer.
func TestVerifyRefuses(t *testing.T) {
	k := newKit(t)
	token, key := k.Issue(saccounttest.Spec{Key: saccount.KeySpec{Name: "Backend"}})
	check := func(body, reason string, status float64, code string) {
		t.Helper()
		for _, path := range []string{"verify", "charge"} {
			if path == "charge" {
				body = body[:len(body)-1] + `,"amount":"1"}`
			}
			v := k.do(staff, "POST", path, body).ok(200)
			assert.NotEqual(t, true, v["valid"])
			assert.NotEqual(t, true, v["allowed"])
			assert.Nil(t, v["caller"])
			assert.Equal(t, reason, v["reason"])
			p := v["problem"].(map[string]any)
			assert.Equal(t, []any{status, code}, []any{p["status"], p["code"]})
		}
	}
	is := fmt.Sprintf(`{"token":%q}`, token.Reveal())
	check(`{"token":"garbage"}`, "malformed", 401, "invalid_token")
	check(is[:len(is)-1]+`,"scopes":["words"]}`, "scope", 403, "insufficient_scope")
	require.NoError(t, k.Service.DisableKey(t.Context(), "user:alice", "acme", key.ID))
	check(is, "disabled", 401, "invalid_token")
	require.NoError(t, k.Service.EnableKey(t.Context(), "user:alice", "acme", key.ID))
	_, _, err := k.Service.RotateKey(t.Context(), "user:alice", "acme", key.ID, 0)
	require.NoError(t, err)
	check(is, "wrong secret", 401, "invalid_token")

	// A store that is away is no refusal.
	st := memstore.New()
	svc, err := saccount.New(st, saccount.Config{})
	require.NoError(t, err)
	k.h, err = dashboard.New(svc, dashboard.Config{Authorize: authorize})
	require.NoError(t, err)
	require.NoError(t, st.Close())
	for _, path := range []string{"verify", "orgs"} {
		method, body := "POST", is
		if path == "orgs" {
			method, body = "GET", ""
		}
		a := k.do(staff, method, path, body)
		assert.Equal(t, 503, a.Code, a.Body.String())
		assert.Equal(t, "1", a.Header().Get("Retry-After"))
	}
	require.NoError(t, svc.Close())
}
