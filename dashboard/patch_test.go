package dashboard_test

import (
	"github.com/stretchr/testify/assert"
	"testing"
)

// What is left out is unchanged, null clears (RFC 7396), field by field.
func TestMergePatch(t *testing.T) {
	k := newKit(t)
	account := "orgs/acme/accounts/" + k.do(manager, "POST", "orgs/acme/accounts", `{"name":"Production Worker"}`).ok(201)["id"].(string)
	made := k.do(manager, "POST", account+"/keys", `{"name":"Backend","environment":"production","labels":{"a":"1","b":"2"},"scopes":["words:read","words:write"],
		"allow_from":["192.0.2.0/24"],"rate":{"per_second":2.5,"burst":7},"expires":"2030-02-01T00:00:00+01:00",
		"limits":{"credits":{"max":"500","period":{"unit":"month","zone":"Europe/Berlin"},"thresholds":["80%","left 20"]},"daily":{"max":"20","period":{"unit":"day"},"soft":true}}}`).ok(201)
	path := "orgs/acme/keys/" + made["id"].(string)
	whole := func() map[string]any {
		m := k.do(manager, "GET", path, "").ok(200)
		for _, f := range []string{"revision", "updated"} {
			delete(m, f)
		}
		return m
	}
	start := whole()
	assert.Equal(t, "2030-01-31T23:00:00Z", start["expires"])
	patch := func(body string, change func(m map[string]any)) {
		t.Helper()
		want := whole()
		change(want)
		k.do(manager, "PATCH", path, body, "If-Match", "*").ok(200)
		assert.Equal(t, want, whole(), body)
	}
	limits := func(m map[string]any, name string) map[string]any {
		return m["limits"].(map[string]any)[name].(map[string]any)
	}
	patch(`{}`, func(map[string]any) {})
	patch(`{"name":"Front"}`, func(m map[string]any) { m["name"] = "Front" })
	patch(`{"environment":null}`, func(m map[string]any) { delete(m, "environment") })
	patch(`{"labels":{"a":null,"c":"3"}}`, func(m map[string]any) { m["labels"] = map[string]any{"b": "2", "c": "3"} })
	patch(`{"labels":null}`, func(m map[string]any) { delete(m, "labels") })
	patch(`{"scopes":["one"]}`, func(m map[string]any) { m["scopes"] = []any{"one"} })
	patch(`{"scopes":null,"allow_from":null}`, func(m map[string]any) { delete(m, "scopes"); delete(m, "allow_from") })
	patch(`{"rate":{"burst":9}}`, func(m map[string]any) { m["rate"] = map[string]any{"per_second": 2.5, "burst": 9.0} })
	patch(`{"rate":null}`, func(m map[string]any) { delete(m, "rate") })
	patch(`{"expires":null}`, func(m map[string]any) { delete(m, "expires") })
	patch(`{"limits":{"credits":{"max":"501.5"}}}`, func(m map[string]any) { limits(m, "credits")["max"] = "501.5" })
	patch(`{"limits":{"credits":{"thresholds":null}}}`, func(m map[string]any) { delete(limits(m, "credits"), "thresholds") })
	patch(`{"limits":{"credits":{"thresholds":[]}}}`, func(m map[string]any) { limits(m, "credits")["thresholds"] = []any{} })
	patch(`{"limits":{"daily":{"soft":null}}}`, func(m map[string]any) { delete(limits(m, "daily"), "soft") })
	patch(`{"limits":{"credits":{"period":{"unit":"week"}}}}`, func(m map[string]any) {
		limits(m, "credits")["period"] = map[string]any{"unit": "week", "zone": "Europe/Berlin"}
	})
	patch(`{"limits":{"daily":null}}`, func(m map[string]any) { delete(m["limits"].(map[string]any), "daily") })
	patch(`{"limits":{"credits":{"period":null}}}`, func(m map[string]any) { delete(limits(m, "credits"), "period") })
	patch(`{"limits":null}`, func(m map[string]any) { delete(m, "limits") })

	before := whole()
	for body, want := range map[string]string{
		`{"name":null}`:                         "#/name",
		`{"name":""}`:                           "#/name",
		`{"status":"active"}`:                   "#/status",
		`{"id":"x"}`:                            "#/id",
		`{"limits":{"x":{"soft":true}}}`:        "#/limits/x/max",
		`{"limits":{"x":{"max":null}}}`:         "#/limits/x/max",
		`{"scopes":[null]}`:                     "#/scopes/0",
		`{"scopes":["a b"]}`:                    "#/scopes",
		`{"expires":"2020-01-01T00:00:00Z"}`:    "#/expires",
		`{"expires":"tomorrow"}`:                "#/expires",
		`{"allow_from":["192.0.2.1"]}`:          "#/allow_from/0",
		`{"rate":{"per_second":-1}}`:            "#/rate",
		`{"rate":{"per_second":1e999}}`:         "#/rate/per_second",
		`{"rate":{"per_second":1,"burst":1.5}}`: "#/rate/burst",
		`{"environment":"UP"}`:                  "#/environment",
		`[]`:                                    "#",
		`null`:                                  "#",
	} {
		a := k.do(manager, "PATCH", path, body, "If-Match", "*")
		assert.Equal(t, 422, a.Code, "%s: %s", body, a.Body)
		assert.Equal(t, []string{want}, a.pointers(), body)
	}
	assert.Equal(t, before, whole(), "nothing was changed")
}

func TestLimitsAsResources(t *testing.T) {
	k := newKit(t)
	path := "orgs/acme/accounts/" + k.do(manager, "POST", "orgs/acme/accounts", `{"name":"Production Worker"}`).ok(201)["id"].(string)
	k.do(manager, "PUT", path+"/limits/credits", `{"max":"100","period":{"unit":"month"}}`).ok(200)
	status := func() map[string]any {
		return k.do(viewer, "GET", path+"/status", "").ok(200)["limits"].([]any)[0].(map[string]any)
	}
	assert.Equal(t, "100", status()["max"])
	assert.Equal(t, "2030-02-01T00:00:00Z", status()["resets_at"])
	k.do(admin, "POST", path+"/limits/credits/top-ups", `{"amount":"5.5","id":"invoice 7"}`).ok(200)
	k.do(admin, "POST", path+"/limits/credits/top-ups", `{"amount":"5.5","id":"invoice 7"}`).ok(200)
	assert.Equal(t, "105.5", status()["max"])
	assert.Equal(t, 409, k.do(admin, "POST", path+"/limits/credits/top-ups", `{"amount":"6","id":"invoice 7"}`).Code)
	a := k.do(admin, "POST", path+"/limits/credits/raise", `{"max":"1","until":"2030-01-20T00:00:00Z"}`)
	assert.Equal(t, []string{"#/max"}, a.pointers())
	k.do(admin, "POST", path+"/limits/credits/raise", `{"max":"300","until":"2030-01-20T00:00:00Z"}`).ok(200)
	assert.Equal(t, "305.5", status()["max"])
	k.do(admin, "DELETE", path+"/limits/credits/raise", "").ok(200)
	assert.Equal(t, "105.5", status()["max"])
	a = k.do(admin, "POST", path+"/limits/credits/raise", `{"max":"300","until":"2020-01-20T00:00:00Z"}`)
	assert.Equal(t, []string{"#/until"}, a.pointers())
	a = k.do(admin, "POST", path+"/limits/credits/top-ups", `{"amount":"-5"}`)
	assert.Equal(t, []string{"#/amount"}, a.pointers())
	for _, op := range [][3]string{
		{"POST", "/limits/nothing/top-ups", `{"amount":"5"}`}, {"POST", "/limits/nothing/raise", `{"max":"1","until":"2030-01-20T00:00:00Z"}`},
		{"DELETE", "/limits/nothing", ""}, {"DELETE", "/limits/nothing/raise", ""},
	} {
		assert.Equal(t, 404, k.do(admin, op[0], path+op[1], op[2]).Code, op)
	}
	k.do(manager, "DELETE", path+"/limits/credits", "").ok(200)
	assert.Empty(t, k.do(viewer, "GET", path+"/status", "").ok(200)["limits"])
}
