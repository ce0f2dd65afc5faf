package dashboard_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/dashboard"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
)

// mailbox is a mailer whose letters can be refused.
type mailbox struct {
	mu      sync.Mutex // held while a letter comes; several may
	letters []alert.Email
	fails   error
}

func (m *mailbox) config() saccount.Config {
	return saccount.Config{
		Secrets: []saccount.Secret{{ID: "one", Key: bytes.Repeat([]byte{'k'}, 32)}},
		Alerts: saccount.Alerts{Schedule: []time.Duration{}, Email: func(_ context.Context, e alert.Email) error {
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.fails == nil {
				m.letters = append(m.letters, e)
			}
			return m.fails
		}},
	}
}

// A recipient on its way through its life, and what went to it.
func TestRecipientsOverTheAPI(t *testing.T) {
	var m mailbox
	k := kitOf(t, saccounttest.New(t, m.config()), dashboard.Config{})
	const all = "orgs/acme/recipients"
	a := k.do(manager, "POST", all, `{"name":"Ops","url":"https://hooks.example.com/in/T0KEN","filter":{"kinds":["overage"]}}`)
	hook := a.ok(201)
	assert.Equal(t, `"1"`, a.Header().Get("ETag"))
	assert.Equal(t, "recipients/"+hook["id"].(string), a.Header().Get("Location"))
	assert.Regexp(t, `^whsec_`, hook["secret"])
	one := all + "/" + hook["id"].(string)
	secrets := func() []any { return k.do(manager, "GET", one+"/secrets", "").ok(200)["secrets"].([]any) }
	assert.Equal(t, []any{hook["secret"]}, secrets())
	assert.Equal(t, 403, k.do(viewer, "GET", one+"/secrets", "").Code)
	mail := k.do(manager, "POST", all, `{"email":"operations@example.com"}`).ok(201)
	assert.NotContains(t, mail, "secret")
	letters := all + "/" + mail["id"].(string)

	// Who may manage sees the whole, who may look sees where it goes.
	assert.Equal(t, "https://hooks.example.com/in/T0KEN", k.do(manager, "GET", one, "").ok(200)["url"])
	for _, path := range []string{all, one, letters} {
		body := k.do(viewer, "GET", path, "")
		body.ok(200)
		assert.NotContains(t, body.Body.String(), "T0KEN")
		assert.NotContains(t, body.Body.String(), "operations@")
		assert.NotContains(t, k.do(admin, "GET", path, "").Body.String(), "whsec_")
	}
	assert.Equal(t, "o…@example.com", k.do(viewer, "GET", letters, "").ok(200)["email"])

	// What is left out stays, null clears, and an old revision is refused.
	assert.Equal(t, 428, k.do(manager, "PATCH", one, `{"name":"Night"}`).Code)
	got := k.do(manager, "PATCH", one, `{"name":"Night"}`, "If-Match", `"1"`).ok(200)
	assert.Equal(t, "Night", got["name"])
	assert.Equal(t, map[string]any{"kinds": []any{"overage"}}, got["filter"])
	assert.Equal(t, 412, k.do(manager, "PATCH", one, `{"name":"Day"}`, "If-Match", `"1"`).Code)
	assert.Equal(t, 412, k.do(manager, "DELETE", one, "", "If-Match", `"1"`).Code)
	assert.Equal(t, 412, k.do(manager, "POST", one+"/rotate-secret", "", "If-Match", `"1"`).Code)
	assert.NotContains(t, k.do(manager, "PATCH", one, `{"filter":null,"name":null}`, "If-Match", "*").ok(200), "filter")
	for body, pointer := range map[string]string{
		`{"url":"http://hooks.example.com/"}`: "#/url", `{"url":"https://10.0.0.1/"}`: "#/url", `{"url":null}`: "#/url", `{"email":"a@b.example"}`: "#/url",
		`{"filter":{"kinds":["none"]}}`: "#/filter", `{"filter":{"other":1}}`: "#/filter/other", `{"status":"disabled"}`: "#/status", `{"name":"a\u202eb"}`: "#/name",
	} {
		a := k.do(manager, "PATCH", one, body, "If-Match", "*")
		assert.Equal(t, 422, a.Code, body)
		assert.Equal(t, []string{pointer}, a.pointers(), body)
	}
	assert.Equal(t, 422, k.do(manager, "POST", all, `{}`).Code)

	// Its secret, changed while both sign.
	next := k.do(manager, "POST", one+"/rotate-secret", `{"overlap_seconds":3600}`).ok(200)
	assert.NotEqual(t, hook["secret"], next["secret"])
	assert.Equal(t, []any{next["secret"], hook["secret"]}, secrets())
	assert.NotEmpty(t, next["overlap_ends"])
	k.Advance(2 * time.Hour)
	assert.Equal(t, []any{next["secret"]}, secrets())
	assert.NotContains(t, k.do(manager, "GET", one, "").ok(200), "overlap_ends")
	assert.Equal(t, 422, k.do(manager, "POST", letters+"/rotate-secret", "").Code, "a mail address has none")
	assert.Equal(t, 422, k.do(manager, "GET", letters+"/secrets", "").Code)

	// A test, that fails, and is replayed.
	m.fails = errors.New("mailbox full of operations@example.com")
	k.do(manager, "POST", letters+"/test", "").ok(202)
	require.NoError(t, k.Service.DeliverAlerts(t.Context()))
	dead := k.do(manager, "GET", letters+"/deliveries?state=dead", "").ok(200)["items"].([]any)
	require.Len(t, dead, 1)
	d := dead[0].(map[string]any)
	assert.Equal(t, m.fails.Error(), d["error"])
	assert.Equal(t, "test", d["alert"].(map[string]any)["kind"])
	for _, path := range []string{letters + "/deliveries", "orgs/acme/alerts"} {
		assert.NotContains(t, k.do(viewer, "GET", path, "").Body.String(), "mailbox full", path)
	}
	assert.Empty(t, k.do(manager, "GET", one+"/deliveries", "").ok(200)["items"])
	id := d["alert"].(map[string]any)["id"].(string)
	assert.Equal(t, 404, k.do(manager, "POST", letters+"/replay", `{"alerts":["alert_none"]}`).Code)
	m.fails = nil
	assert.EqualValues(t, 1, k.do(manager, "POST", letters+"/replay", `{"alerts":["`+id+`"]}`).ok(200)["replayed"])
	assert.EqualValues(t, 0, k.do(manager, "POST", letters+"/replay", "").ok(200)["replayed"])
	require.NoError(t, k.Service.DeliverAlerts(t.Context()))
	require.Len(t, m.letters, 1)
	assert.Equal(t, "delivered", k.do(viewer, "GET", letters+"/deliveries", "").ok(200)["items"].([]any)[0].(map[string]any)["state"])

	k.do(manager, "POST", letters+"/disable", "").ok(200)
	assert.Equal(t, 422, k.do(manager, "POST", letters+"/test", "").Code)
	assert.Equal(t, "active", k.do(manager, "POST", letters+"/enable", "").ok(200)["status"])
	k.do(manager, "DELETE", letters, "").ok(204)
	assert.Equal(t, 404, k.do(manager, "GET", letters, "").Code)
	assert.Len(t, k.do(manager, "GET", all, "").ok(200)["items"], 1)
}

// The alerts of an organization, by whom, kind and state, page by page.
func TestAlertsOverTheAPI(t *testing.T) {
	var m mailbox
	k := kitOf(t, saccounttest.New(t, m.config()), dashboard.Config{})
	k.do(manager, "POST", "orgs/acme/recipients", `{"email":"operations@example.com"}`).ok(201)
	var keys []saccount.Key
	for range 2 {
		token, key := k.Issue(saccounttest.Spec{Monthly: 100 * quota.Credit})
		keys = append(keys, key)
		p, err := k.Service.Authenticate(t.Context(), token.Reveal(), addr("192.0.2.1"))
		require.NoError(t, err)
		_, err = k.Service.Charge(t.Context(), p, saccount.Charge{Amount: 85 * quota.Credit})
		require.NoError(t, err)
	}
	list := func(query string) []any {
		t.Helper()
		return k.do(viewer, "GET", "orgs/acme/alerts"+query, "").ok(200)["items"].([]any)
	}
	assert.Len(t, list(""), 4)
	of := list("?subject=" + url.QueryEscape("account:"+keys[0].Account))
	require.Len(t, of, 2)
	first := of[0].(map[string]any)
	assert.Equal(t, "80%", first["threshold"])
	assert.Equal(t, "85", first["used"])
	assert.Contains(t, first["text"], "has spent 85 credits, 80% or more of its limit of 100 credits")
	assert.Empty(t, list("?kind=overage&kind=test"))
	assert.Len(t, list("?kind=overage&kind=threshold"), 4)
	assert.Empty(t, list("?state=delivered"))
	require.NoError(t, k.Service.DeliverAlerts(t.Context()))
	assert.Len(t, list("?state=delivered"), 4)
	seen := map[any]bool{}
	for next := "?limit=3"; ; {
		p := k.do(viewer, "GET", "orgs/acme/alerts"+next, "").ok(200)
		for _, a := range p["items"].([]any) {
			seen[a.(map[string]any)["id"]] = true
		}
		if p["next"] == nil {
			break
		}
		next = "?limit=3&cursor=" + p["next"].(string)
	}
	assert.Len(t, seen, 4)
	for _, bad := range []string{"?kind=none", "?state=none", "?cursor=x", "?limit=0", "?other=1", "?limit=1&limit=2"} {
		assert.Equal(t, 400, k.do(viewer, "GET", "orgs/acme/alerts"+bad, "").Code, bad)
	}
}

// Thresholds of whatever has limits: left out they stay, null inherits, an
// empty list is none.
func TestThresholdsOverTheAPI(t *testing.T) {
	k := newKit(t)
	a := k.do(manager, "POST", "orgs/acme/accounts", `{"name":"Production Worker","thresholds":["90%","left 20"]}`).ok(201)
	account := "orgs/acme/accounts/" + a["id"].(string)
	key := "orgs/acme/keys/" + k.do(manager, "POST", account+"/keys", `{"name":"Backend","thresholds":[]}`).ok(201)["id"].(string)
	assert.Equal(t, []any{}, k.do(viewer, "GET", key, "").ok(200)["thresholds"])
	k.do(manager, "POST", "orgs/acme/members", `{"id":"ann","thresholds":["10%"]}`).ok(201)
	for _, path := range []string{account, key, "orgs/acme/members/ann", "orgs/acme"} {
		for _, x := range []struct {
			body string
			want any
		}{
			{`{"thresholds":["75%","overage","left 2.5"]}`, []any{"75%", "overage", "left 2.5"}}, {`{"name":"Other"}`, []any{"75%", "overage", "left 2.5"}},
			{`{"thresholds":[]}`, []any{}}, {`{"thresholds":null}`, nil},
		} {
			assert.Equal(t, x.want, k.do(manager, "PATCH", path, x.body, "If-Match", "*").ok(200)["thresholds"], "%s of %s", x.body, path)
			assert.Equal(t, x.want, k.do(viewer, "GET", path, "").ok(200)["thresholds"], "%s of %s", x.body, path)
		}
		a := k.do(manager, "PATCH", path, `{"thresholds":["80"]}`, "If-Match", "*")
		assert.Equal(t, 422, a.Code)
		assert.Equal(t, []string{"#/thresholds/0"}, a.pointers())
		a = k.do(manager, "PATCH", path, `{"thresholds":["1%","2%","3%","4%","5%","6%","7%","8%","9%"]}`, "If-Match", "*")
		assert.Equal(t, []string{"#/thresholds"}, a.pointers())
	}
	o := k.do(staff, "POST", "orgs", `{"id":"new","thresholds":["50%"]}`).ok(201)
	assert.Equal(t, []any{"50%"}, o["thresholds"])
}

// Names that mean something to something come back as they went in, on no page
// as anything but text; whatever is sent is answered.
func TestHostileRecipients(t *testing.T) {
	var m mailbox
	k := kitOf(t, saccounttest.New(t, m.config()), dashboard.Config{})
	const all = "orgs/acme/recipients"
	n := 0
	for _, name := range hostileNames() {
		body, err := json.Marshal(map[string]any{"name": name, "email": "operations@example.com", "filter": map[string]any{"subjects": []string{"account:" + name}, "limits": []string{name}}})
		require.NoError(t, err)
		r := k.do(manager, "POST", all, string(body)).ok(201)
		assert.Equal(t, name, r["name"])
		one := all + "/" + r["id"].(string)
		assert.Equal(t, r["filter"], k.do(viewer, "GET", one, "").ok(200)["filter"])
		for _, p := range []string{all, one, one + "/edit", "orgs/acme/alerts?about=" + url.QueryEscape("key:"+name)} {
			body := k.page(manager, p).text()
			for _, bad := range []string{"<script>", "<img", "<svg/onload", "</title><", `href="javascript`} {
				assert.NotContains(t, body, bad, "%s of %s", p, name)
			}
		}
		k.do(manager, "DELETE", one, "").ok(204)
		n++
	}
	for _, body := range []string{
		`{"email":"a@b.example\r\nBcc: c@d.example"}`, `{"email":"Ann <a@b.example>"}`, `{"email":"a"}`, `{"email":1}`, `{"url":"javascript:alert(1)"}`, `{"url":"https://u:p@h.example/"}`, `{"url":"https://[::1]/"}`,
		`{"url":"//h.example"}`, `{"url":""}`, `{"name":"a\u0000b","email":"a@b.example"}`, `{"email":"a@b.example","filter":{"subjects":["x:y"]}}`, `{"email":"a@b.example","filter":null}`, `{"email":"a@b.example","filter":[]}`,
		`{"email":"` + strings.Repeat("a", 300) + `@b.example"}`,
	} {
		a := k.do(manager, "POST", all, body)
		assert.Equal(t, 422, a.Code, "%s: %s", body, a.Body)
		assert.NotEmpty(t, a.pointers(), body)
	}
	assert.Empty(t, k.do(manager, "GET", all, "").ok(200)["items"])
	t.Logf("%d names", n)
}
