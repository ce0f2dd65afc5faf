package dashboard_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/internal/apiworld"
)

// Ids of another organization, wherever they stand, are answered with the
// very bytes of ids that nobody has.
func TestIdsOfOtherOrganizations(t *testing.T) {
	w := newWorld(t)
	n := 0
	same := func(what string, foreign, unknown answer) {
		t.Helper()
		n++
		require.Equal(t, unknown.Code, foreign.Code, "%s: %s", what, foreign.Body)
		require.Equal(t, unknown.Body.String(), foreign.Body.String(), what)
		require.Equal(t, unknown.Header(), foreign.Header(), what)
	}
	nobody := apiworld.Tenant{Org: "nobody", Account: "sa_0000000000000000", Key: "0000000000000000", Member: "nobody", Manage: "0000000000000000", Recipient: "rcp_0000000000000000"}
	for _, op := range w.operations() {
		if !strings.Contains(op.Path, "{org}") {
			continue
		}
		// Their organization in the path.
		theirs, unknown := w.Globex, nobody
		foreign := w.send(admin, op, theirs)
		require.Equal(t, 404, foreign.Code, op.ID)
		same(op.ID, foreign, w.send(admin, op, unknown))
		// Ours, with their record, by us and by the host.
		if strings.Contains(op.Path, "{id}") {
			theirs.Org, unknown.Org = "acme", "acme"
			for _, by := range []who{admin, staff} {
				if strings.Contains(op.Path, "members") {
					continue // members of both are called ann
				}
				foreign := w.send(by, op, theirs)
				require.Equal(t, 404, foreign.Code, op.ID)
				same(op.ID, foreign, w.send(by, op, unknown))
			}
		}
	}
	// In the query.
	const span = "from=2030-01-01T00:00:00Z&to=2030-02-01T00:00:00Z"
	for _, path := range []string{"orgs/acme/alerts?subject=", "orgs/acme/alerts?kind=test&subject="} {
		same(path, w.do(admin, "GET", path+"account:"+w.Globex.Account, ""), w.do(admin, "GET", path+"account:"+nobody.Account, ""))
	}
	strip := func(a answer, id string) answer {
		body := strings.ReplaceAll(a.Body.String(), id, "ID")
		a.Body.Reset()
		a.Body.WriteString(body)
		a.Header().Del("Content-Length")
		return a
	}
	for _, path := range []string{"orgs/acme/usage?" + span + "&subject=", "orgs/acme/usage?each=true&" + span + "&subject=", "orgs/acme/usage/totals?" + span + "&subject="} {
		for _, x := range [][2]string{{"account:" + w.Globex.Account, "account:" + nobody.Account}, {"key:" + w.Globex.Key, "key:" + nobody.Key}, {"org:globex", "org:nobody"}} {
			same(path+x[0], strip(w.do(admin, "GET", path+x[0], ""), x[0]), strip(w.do(admin, "GET", path+x[1], ""), x[1]))
		}
	}
	// In the body.
	for _, x := range []struct{ path, foreign, unknown string }{
		{"verify", `{"token":"` + w.Globex.Token + `"}`, `{"token":"` + strings.Replace(w.Globex.Token, w.Globex.Key, nobody.Key, 1) + `"}`},
		{"charge", `{"token":"` + w.Globex.Token + `","amount":"1","id":"x"}`, `{"token":"` + strings.Replace(w.Globex.Token, w.Globex.Key, nobody.Key, 1) + `","amount":"1","id":"x"}`},
		{"charge", `{"member":{"org":"globex","id":"ann"},"amount":"1"}`, `{"member":{"org":"nobody","id":"ann"},"amount":"1"}`},
		{"reserve", `{"member":{"org":"globex","id":"ann"},"amount":"1","ttl_seconds":1}`, `{"member":{"org":"acme","id":"nobody"},"amount":"1","ttl_seconds":1}`},
		{"orgs/acme/commit", `{"of":"globex-hold","amount":"1"}`, `{"of":"nobody-hold","amount":"1"}`},
		{"orgs/acme/release", `{"of":"globex-hold"}`, `{"of":"nobody-hold"}`},
		{"orgs/acme/renew", `{"of":"globex-hold","ttl_seconds":5}`, `{"of":"nobody-hold","ttl_seconds":5}`},
		{"orgs/acme/refund", `{"of":"globex-charge","amount":"1"}`, `{"of":"nobody-charge","amount":"1"}`},
	} {
		foreign, unknown := w.do(admin, "POST", x.path, x.foreign), w.do(admin, "POST", x.path, x.unknown)
		if x.path == "verify" || x.path == "charge" && strings.Contains(x.foreign, "token") {
			// The log's reason tells them apart for nobody but a checksum that fails.
			for _, a := range []answer{foreign, unknown} {
				body := a.object()
				assert.Contains(t, []any{"unknown", "malformed"}, body["reason"])
				assert.Equal(t, "invalid_token", body["problem"].(map[string]any)["code"])
			}
			n++
			continue
		}
		same(x.path, foreign, unknown)
	}
	st := w.do(staff, "GET", "orgs/globex/status", "").ok(200)["limits"].([]any)[0].(map[string]any)
	assert.Equal(t, "5", st["used"], "nothing of theirs was spent")
	t.Logf("%d pairs", n)
}
