package dashboard_test

import (
	"encoding/csv"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
)

func TestKeyPolicy(t *testing.T) {
	k := newKit(t)
	const at = "orgs/acme/key-policy"
	a := k.do(viewer, "GET", at, "")
	assert.Equal(t, map[string]any{"unused_days": 90.0, "disable_days": 0.0, "grace_days": 7.0, "expiry_days": 14.0, "max_life_days": 0.0, "rotate_days": 0.0, "revision": 1.0}, a.ok(200))
	tag := a.Header().Get("ETag")
	set := k.do(manager, "PUT", at, `{"unused_days":30,"disable_days":60,"max_life_days":365,"rotate_days":180}`, "If-Match", tag).ok(200)
	assert.Equal(t, map[string]any{"unused_days": 30.0, "disable_days": 60.0, "grace_days": 7.0, "expiry_days": 14.0, "max_life_days": 365.0, "rotate_days": 180.0, "revision": 2.0}, set)
	assert.Equal(t, set, k.do(viewer, "GET", at, "").ok(200))
	o, err := k.Service.GetOrg(t.Context(), "acme")
	require.NoError(t, err)
	assert.Equal(t, saccount.KeyPolicy{UnusedDays: 30, DisableDays: 60, MaxLifeDays: 365, RotateDays: 180}, *o.Keys)
	assert.Equal(t, 412, k.do(manager, "PUT", at, `{}`, "If-Match", tag).Code, "somebody changed it meanwhile")
	for body, want := range map[string]string{
		`{"unused_days":-1}`: "#/unused_days", `{"rotate_days":3651}`: "#/rotate_days", `{"disable_days":7}`: "#/grace_days", `{"keys":1}`: "#/keys", `{"unused_days":"7"}`: "#/unused_days",
		`{"unused_days":null}`: "#/unused_days", `{"unused_days":1.5}`: "#/unused_days",
	} {
		a := k.do(manager, "PUT", at, body)
		assert.Equal(t, 422, a.Code, body)
		assert.Equal(t, []string{want}, a.pointers(), body)
	}
	assert.Equal(t, 90.0, k.do(manager, "PUT", at, `{}`).ok(200)["unused_days"], "what is left out is at its default")
	log, err := k.Service.Audit(t.Context(), "acme", saccount.AuditFilter{Newest: true, Limit: 1})
	require.NoError(t, err)
	assert.EqualValues(t, "user:alice", log.Items[0].Actor)
}

func TestKeysInNeed(t *testing.T) {
	k := newKit(t)
	mk := func(s saccounttest.Spec) saccount.Key {
		k.Advance(time.Second) // ids are in order of creation, by the millisecond
		_, key := k.Issue(s)
		return key
	}
	soon := mk(saccounttest.Spec{Monthly: quota.Credit, Key: saccount.KeySpec{Name: "Soon", Expires: k.Now().Add(20 * 24 * time.Hour)}})
	mk(saccounttest.Spec{Monthly: quota.Credit, Key: saccount.KeySpec{Name: "For ever"}})
	free := mk(saccounttest.Spec{Key: saccount.KeySpec{Name: "test", Expires: k.Now().Add(900 * 24 * time.Hour)}})
	k.Advance(10 * 24 * time.Hour)
	const at = "orgs/acme/keys-in-need"
	names := func(query string) (out []string) {
		for cursor, n := "", 0; n == 0 || cursor != ""; n++ {
			p := k.do(viewer, "GET", at+"?limit=1&cursor="+cursor+query, "").ok(200)
			for _, x := range p["items"].([]any) {
				m := x.(map[string]any)
				text := m["key"].(map[string]any)["name"].(string)
				for _, need := range m["needs"].([]any) {
					text += " " + need.(string)
				}
				assert.Regexp(t, `^Account \d$`, m["account_name"])
				assert.Len(t, m["advice"], len(m["needs"].([]any)))
				out = append(out, text)
			}
			cursor, _ = p["next"].(string)
		}
		return out
	}
	assert.Equal(t, []string{"Soon never_used expiring", "For ever never_used no_expiry", "test never_used name no_limit"}, names(""))
	assert.Equal(t, []string{"Soon expiring", "For ever no_expiry"}, names("&need=expiring&need=no_expiry"))
	assert.Equal(t, []string{"Soon never_used expiring"}, names("&account="+soon.Account))
	assert.Equal(t, []string{"test no_limit"}, names("&need=no_limit&account="+free.Account))
	for q, wrong := range map[string]string{"need=bored": "need", "need=never%20used": "need", "cursor=x": "cursor", "limit=1001": "limit"} {
		a := k.do(viewer, "GET", at+"?"+q, "")
		assert.Equal(t, 400, a.Code, q)
		assert.Equal(t, []string{wrong}, a.pointers(), q)
	}
	w := newWorld(t)
	foreign, unknown := w.do(admin, "GET", at+"?account="+w.Globex.Account, ""), w.do(admin, "GET", at+"?account=sa_0000000000000000", "")
	assert.Equal(t, 404, foreign.Code)
	assert.Equal(t, unknown.Body.String(), foreign.Body.String())
}

func TestReports(t *testing.T) {
	w := newWorld(t)
	w.Advance(10 * 24 * time.Hour)
	charge := func(amount quota.Credits) {
		token, _, err := w.Service.RotateKey(t.Context(), "test", "acme", w.Acme.Key, 0)
		require.NoError(t, err)
		p, err := w.Service.Authenticate(t.Context(), token.Reveal(), netip.Addr{})
		require.NoError(t, err)
		d, err := w.Service.Charge(t.Context(), p, saccount.Charge{Amount: amount})
		require.NoError(t, err)
		require.Equal(t, amount < 1000*quota.Credit, d.Allowed)
	}
	charge(20 * quota.Credit)
	charge(5000 * quota.Credit) // refused
	r := w.do(viewer, "GET", "orgs/acme/report?from=2030-01-20T00:00:00Z&to=2030-01-30T00:00:00Z", "").ok(200)
	assert.Equal(t, map[string]any{"credits": "20", "requests": 1.0, "refused": 1.0, "reasons": map[string]any{"limit": 1.0}}, r["total"])
	assert.Equal(t, map[string]any{"before": "2030-01-10T00:00:00Z", "from": "2030-01-20T00:00:00Z", "to": "2030-01-30T00:00:00Z"}, r["period"])
	assert.Equal(t, "5", r["before"].(map[string]any)["credits"])
	assert.Len(t, r["days"], 10)
	top := r["keys"].(map[string]any)["top"].([]any)
	require.Len(t, top, 1)
	assert.Equal(t, []any{"Backend", w.Acme.Account, "key:" + w.Acme.Key, "20"}, []any{top[0].(map[string]any)["name"], top[0].(map[string]any)["account"], top[0].(map[string]any)["subject"], top[0].(map[string]any)["credits"]})
	limit := r["limits"].([]any)[0].(map[string]any)
	assert.Equal(t, "25", limit["status"].(map[string]any)["used"])
	assert.Equal(t, true, limit["projection"].(map[string]any)["known"])
	assert.NotEmpty(t, limit["projection"].(map[string]any)["at_end"])
	line := limit["line"].([]any)
	require.Len(t, line, 10)
	assert.Equal(t, map[string]any{"reached": "25", "max": "1000"}, line[5])
	for path, subject := range map[string]string{
		"accounts/" + w.Acme.Account: "account:" + w.Acme.Account, "keys/" + w.Acme.Key: "key:" + w.Acme.Key, "members/ann": "member:ann",
	} {
		r := w.do(viewer, "GET", "orgs/acme/"+path+"/report", "").ok(200)
		assert.Equal(t, subject, r["subject"])
		assert.NotContains(t, r, "accounts")
	}
	assert.NotContains(t, w.do(viewer, "GET", "orgs/acme/report?top=0", "").ok(200), "keys")
	for q, wrong := range map[string][]string{"top=101": {"top"}, "top=x": {"top"}, "from=x": {"from"}, "from=2030-01-02T00:00:00Z&to=2030-01-01T00:00:00Z": {}, "zone=Mars/Base": {}} {
		a := w.do(viewer, "GET", "orgs/acme/report?"+q, "")
		assert.Equal(t, 400, a.Code, q)
		assert.Equal(t, wrong, a.pointers(), q)
	}
}

func TestSuggestedLimit(t *testing.T) {
	k := newKit(t)
	p := k.Principal(saccounttest.Spec{})
	at := "orgs/acme/accounts/" + p.AccountID() + "/suggested-limit?step=day"
	s := k.do(viewer, "GET", at, "").ok(200)
	assert.Equal(t, false, s["enough"])
	assert.NotContains(t, s, "max")
	for day := range 21 {
		k.Advance(24 * time.Hour)
		_, err := k.Service.Charge(t.Context(), p, saccount.Charge{Amount: quota.Credits(day+1) * quota.Credit})
		require.NoError(t, err)
	}
	k.Advance(24 * time.Hour)
	s = k.do(viewer, "GET", at, "").ok(200)
	assert.Equal(t, []any{true, "20", "21", "25", 25.0}, []any{s["enough"], s["p95"], s["peak"], s["max"], s["head_room"]})
	assert.Equal(t, "20", k.do(viewer, "GET", at+"&head_room=0", "").ok(200)["max"])
	for q, wrong := range map[string]string{"step=hour": "step", "step=x": "step", "head_room=1001": "head_room"} {
		a := k.do(viewer, "GET", "orgs/acme/suggested-limit?"+q, "")
		assert.Equal(t, 400, a.Code, q)
		assert.Equal(t, []string{wrong}, a.pointers())
	}
}

func TestUsageExport(t *testing.T) {
	w := newWorld(t)
	const at = "orgs/acme/usage/export?from=2030-01-15T00:00:00Z&to=2030-01-16T00:00:00Z"
	rows := func(query string) (out []string) {
		t.Helper()
		a := w.do(viewer, "GET", at+query, "")
		require.Equal(t, 200, a.Code, a.Body.String())
		assert.Equal(t, `attachment; filename="usage.csv"`, a.Header().Get("Content-Disposition"))
		all, err := csv.NewReader(a.Body).ReadAll()
		require.NoError(t, err)
		for _, r := range all[1:] {
			out = append(out, strings.Join([]string{r[0], r[1], r[4]}, " "))
		}
		return out
	}
	assert.Equal(t, []string{"org:acme Acme 5"}, rows("&format=csv"))
	assert.Equal(t, []string{"key:" + w.Acme.Key + " Backend 5"}, rows("&format=csv&kind=key"))
	assert.Equal(t, []string{"account:" + w.Acme.Account + " Production Worker 5", "member:ann  0"}, rows("&format=csv&subject=account:"+w.Acme.Account+"&subject=member:ann"))
	for q, wrong := range map[string][]string{
		"&kind=org": {"kind"}, "&kind=key&subject=org:acme": {"kind"}, "&format=pdf": {"format"}, "&each=true": {"each"}, "&step=x": {"step"}, "&zone=Mars/Base": {},
	} {
		a := w.do(viewer, "GET", at+q, "")
		assert.Equal(t, 400, a.Code, q)
		assert.Equal(t, wrong, a.pointers(), q)
	}
}

// Whatever is handed in is answered alike; what is real is shut.
func TestLeaks(t *testing.T) {
	w := newWorld(t)
	head := func(org string) int64 {
		h, err := w.Service.AuditHead(t.Context(), org)
		require.NoError(t, err)
		return h.Seq
	}
	report := func(by who, token string) answer {
		return w.do(by, "POST", "leaks", `{"token":"`+token+`","source":"a scanner","url":"https://paste.example/1"}`)
	}
	before := head("globex")
	unknown := report(manager, strings.Replace(w.Globex.Token, w.Globex.Key, "0000000000000000", 1))
	garbage := report(manager, "not a token")
	begun := time.Now()
	real := report(manager, w.Globex.Token)
	assert.GreaterOrEqual(t, time.Since(begun), 500*time.Millisecond, "the time does not tell either")
	for _, a := range []answer{unknown, garbage, real, report(staff, w.Globex.Token)} {
		assert.Equal(t, 204, a.Code)
		assert.Equal(t, real.Header(), a.Header())
		assert.Zero(t, a.Body.Len())
	}
	assert.Equal(t, before+1, head("globex"), "once, and only of what is real")
	_, err := w.Service.Authenticate(t.Context(), w.Globex.Token, netip.Addr{})
	require.ErrorIs(t, err, saccount.ErrUnauthenticated)
	k, err := w.Service.GetKey(t.Context(), "globex", w.Globex.Key)
	require.NoError(t, err)
	assert.True(t, k.Disabled)
	log, err := w.Service.Audit(t.Context(), "globex", saccount.AuditFilter{Newest: true, Limit: 1})
	require.NoError(t, err)
	e := log.Items[0]
	assert.Equal(t, []string{"report_leak", string(saccount.ActorLeak), "reported as leaked by a scanner, found at https://paste.example/1"}, []string{e.Action, string(e.Actor), e.Reason})
	assert.NotContains(t, string(e.Before)+string(e.After)+e.Reason, "alice", "who of acme handed it in is not globex's business")
	// A management key's token is one too.
	report(staff, w.Acme.ManageToken)
	assert.Equal(t, 401, w.do("", "GET", "whoami", "", "Authorization", "Bearer "+w.Acme.ManageToken).Code)
	for body, wrong := range map[string]string{`{"token":""}`: "#/token", `{}`: "#/token", `{"token":"` + strings.Repeat("x", 1025) + `"}`: "#/token", `{"token":"x","source":"` + strings.Repeat("x", 201) + `"}`: "#/source", `{"token":"x","org":"acme"}`: "#/org"} {
		a := w.do(staff, "POST", "leaks", body)
		assert.Equal(t, 422, a.Code, wrong)
		assert.Equal(t, []string{wrong}, a.pointers())
	}
}
