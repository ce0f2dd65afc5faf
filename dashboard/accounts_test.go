package dashboard_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCreateAndListAccounts(t *testing.T) {
	k := newKit(t)
	made := k.do(manager, "POST", "orgs/acme/accounts", `{"name":"Production Worker","labels":{"team":"core"},
		"limits":{"credits":{"max":"500","period":{"unit":"month"}}}}`)
	a := made.ok(201)
	assert.Equal(t, "Production Worker", a["name"])
	assert.Equal(t, map[string]any{"credits": map[string]any{"max": "500", "period": map[string]any{"unit": "month", "zone": "UTC"}}}, a["limits"])
	assert.Equal(t, `"1"`, made.Header().Get("ETag"))
	assert.Equal(t, "accounts/"+a["id"].(string), made.Header().Get("Location"))
	stored, err := k.Service.GetAccount(t.Context(), "acme", a["id"].(string))
	require.NoError(t, err)
	assert.EqualValues(t, "user:alice", stored.CreatedBy)

	for i := range 5 {
		k.do(manager, "POST", "orgs/acme/accounts", fmt.Sprintf(`{"name":"Batch %d"}`, i)).ok(201)
	}
	var names []any
	for cursor, n := "", 0; n == 0 || cursor != ""; n++ {
		p := k.do(viewer, "GET", "orgs/acme/accounts?limit=4&sort=name&cursor="+cursor, "").ok(200)
		for _, x := range p["items"].([]any) {
			names = append(names, x.(map[string]any)["name"])
		}
		cursor, _ = p["next"].(string)
	}
	assert.Equal(t, []any{"Batch 0", "Batch 1", "Batch 2", "Batch 3", "Batch 4", "Production Worker"}, names)
}

func TestWrongBodiesArePointedAt(t *testing.T) {
	k := newKit(t)
	for body, want := range map[string][]string{
		`{"name":"A","nmae":"B"}`:                   {"#/nmae"},
		`{"name":7,"labels":{"a~b/c":1},"rate":{}}`: {"#/labels/a~0b~1c", "#/name", "#/rate/per_second"},
		`{"name":""}`:         {"#/name"},
		`{"description":"x"}`: {"#/name"},
		`{"name":"A","limits":{"credits":{"max":500}}}`:                 {"#/limits/credits/max"},
		`{"name":"A","limits":{"credits":{"max":"-1"}}}`:                {"#/limits/credits"},
		`{"name":"A","limits":{"BAD":{"max":"1"}}}`:                     {"#/limits/BAD"},
		`{"name":"A","limits":{"c":{"max":"1","period":{"unit":"x"}}}}`: {"#/limits/c/period/unit"},
		`{"name":"A","limits":{"c":null}}`:                              {"#/limits/c"},
		`{"name":"A","labels":{"k":"\u0007"}}`:                          {"#/labels/k"},
		`[]`:                                                            {"#"},
		`7`:                                                             {"#"},
	} {
		a := k.do(manager, "POST", "orgs/acme/accounts", body)
		assert.Equal(t, 422, a.Code, body)
		assert.Equal(t, "invalid", a.code(), body)
		assert.Equal(t, want, a.pointers(), body)
	}
	for _, body := range []string{`{"name":"A"`, `{"name":"A"} {}`, `{"name":"A","name":"B"}`, "{\"name\":\"\xff\"}", `{"a":[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]}`} {
		assert.Equal(t, http.StatusBadRequest, k.do(manager, "POST", "orgs/acme/accounts", body).Code, body)
	}
	p := k.do(viewer, "GET", "orgs/acme/accounts", "").ok(200)
	assert.Empty(t, p["items"], "nothing was made")
}
