package dashboard_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/dashboard"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
)

// hostileNames are a hundred names that mean something to something.
func hostileNames() []string {
	names := []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `</title><script>`, `<svg/onload=alert(1)>`, `javascript:alert(1)`, `' OR 1=1 --`,
		`'; DROP TABLE records; --`, `{{.}}`, `{{template "x"}}`, `${7*7}`, `<%= 7*7 %>`, `#{7*7}`, `=1+1`, `+1+1`, `-1+1`, `@SUM(A1)`, `=cmd|'/C calc'!A0`,
		`../../etc/passwd`, `..`, `.`, `/`, `//`, `\`, `\\server\share`, `%2e%2e%2f`, `%00`, `%`, `%s%s%n`, `a/b`, `a?b=c`, `a#b`, `a;b`, `a,b`, `a&b`, `a=b`, `a b`,
		`null`, `undefined`, `NaN`, `true`, `0`, `-1`, `1e309`, `[]`, `{}`, `"`, `'`, "`", `<!--`, `-->`, `]]>`, `&lt;`, `&amp;`, `&#x3c;`, `__proto__`, `constructor`, `toString`,
		`ﬀ`, `İstanbul`, `ı`, `straße`, `ключ`, `鍵`, `🔑`, `👩‍👩‍👧‍👦`, `é`, "e\u0301", "Z\u0351\u0321algo", `ＦＵＬＬ`, `ᴷᵉʸ`, "a\u00a0b", "a\u200bb", "a\ufeffb",
		strings.Repeat("a", 100), strings.Repeat("鍵", 100), strings.Repeat("🔑", 100), `org:acme`, `account:x`, `sa_0000000000000000`, `host`, `admin`, `*`, `acme live`,
		`Content-Type: text/html`, `Set-Cookie: a=b`, `HTTP/1.1 200 OK`, `a|b`, `a>b`, `a^b`, `~`, `!`, `$(id)`, `;id`, `|id`, `>file`, `CON`, `AUX`, `name`, `next`, `items`, `limit`,
	}
	return names[:100]
}

// A hundred names that are allowed and hostile come back as they went in, and
// the same as ids of organizations and members.
func TestHostileNames(t *testing.T) {
	k := newKit(t)
	n := 0
	for _, name := range hostileNames() {
		body, err := json.Marshal(map[string]any{"name": name, "description": name, "labels": map[string]string{"label": name}})
		require.NoError(t, err)
		a := k.do(manager, "POST", "orgs/acme/accounts", string(body))
		got := a.ok(201)
		assert.Equal(t, name, got["name"])
		assert.NotContains(t, a.Body.String(), "<", "nothing in JSON looks like HTML")
		p := k.do(viewer, "GET", "orgs/acme/accounts?name_prefix="+url.QueryEscape(name)+"&label="+url.QueryEscape("label="+name), "").ok(200)
		require.Len(t, p["items"], 1, name)
		// As an id, in a path.
		body, err = json.Marshal(map[string]any{"id": name, "name": name})
		require.NoError(t, err)
		if len(name) > saccount.MaxID || name != strings.TrimSpace(name) {
			continue
		}
		m := k.do(manager, "POST", "orgs/acme/members", string(body))
		m.ok(201)
		at := "orgs/acme/members/" + url.PathEscape(name)
		assert.Equal(t, name, k.do(viewer, "GET", at, "").ok(200)["id"])
		base, err := url.Parse("http://x/api/v1/orgs/acme/members")
		require.NoError(t, err)
		if name != "." && name != ".." { // what a reference makes of those is another path
			to, err := base.Parse(m.Header().Get("Location"))
			require.NoError(t, err)
			k.raw(viewer, "GET", to.EscapedPath(), "").ok(200)
		}
		if name != "." && name != ".." {
			k.do(staff, "POST", "orgs", string(body)).ok(201)
			assert.Equal(t, name, k.do(staff, "GET", "orgs/"+url.PathEscape(name), "").ok(200)["id"])
			k.do(who("view "+name), "GET", "orgs/"+url.PathEscape(name)+"/accounts", "").ok(200)
		}
		n++
	}
	// And what is not allowed is refused everywhere.
	for _, name := range []string{"", "a\x00b", "a\nb", "a\u202eb", "a\u2066b", "a\u2028b", "a\x7fb", strings.Repeat("a", 101)} {
		body, err := json.Marshal(map[string]any{"name": name})
		require.NoError(t, err)
		assert.Equal(t, 422, k.do(manager, "POST", "orgs/acme/accounts", string(body)).Code, "%q", name)
	}
	t.Logf("%d names", n)
}

// Whatever is sent is answered: nothing panics, nothing is 500, every answer is
// JSON, and what is refused changed nothing.
func FuzzBodies(f *testing.F) {
	for _, s := range []string{
		`{"name":"A"}`, `{"name":"A","limits":{"credits":{"max":"1","period":{"unit":"month","every":2,"anchor":"2026-01-31T00:00:00Z"}}}}`, `{"limits":null}`, `{"name":null}`,
		`{"name":"A","name":"B"}`, `[{}]`, `"\ud800"`, `{"rate":{"per_second":1e400}}`, `{"labels":{"":""}}`, `{"overlap_seconds":99999999999999}`, `{"a":{"a":{"a":{}}}}`, `{"amount":"9223372036854.775807"}`,
		`{"token":"x","amount":"0"}`, `{"expires":"9999-12-31T23:59:59Z"}`, `{"expires":"0001-01-01T00:00:00Z"}`, `{"max":"5","until":"2031-01-01T00:00:00+14:00"}`, `{"unused_days":9223372036854775807,"grace_days":-1}`, "\xff", ``, ` `, `nul`,
		`{"url":"https://hooks.example.com/in"}`, `{"url":"https://[::ffff:10.0.0.1]/"}`, `{"url":"https://user:secret@hooks.example.com:0/%zz"}`, `{"url":null,"email":"a@b.example"}`,
		`{"email":"\"a\\r\\nBcc: all\"@b.example"}`, `{"filter":{"kinds":["overage"],"subjects":["key:","x"],"limits":[""]}}`, `{"filter":{"kinds":[]}}`, `{"filter":null}`, `{"alerts":["x",""]}`, `{"overlap_seconds":3600}`,
	} {
		for i := range uint8(18) {
			f.Add(i, s)
		}
	}
	var m mailbox
	h := saccounttest.New(f, m.config())
	d, err := dashboard.New(h.Service, dashboard.Config{Authorize: authorize, Now: h.Now})
	require.NoError(f, err)
	hook, err := h.Service.AddRecipient(f.Context(), "x", "acme", saccount.RecipientSpec{URL: "https://hooks.example.com/first"})
	require.NoError(f, err)
	letters, err := h.Service.AddRecipient(f.Context(), "x", "acme", saccount.RecipientSpec{Email: "operations@example.com"})
	require.NoError(f, err)
	const recipients = "orgs/acme/recipients"
	_, key := h.Issue(saccounttest.Spec{Monthly: 1})
	routes := [][2]string{
		{"POST", "orgs/acme/accounts"}, {"PATCH", "orgs/acme/accounts/" + key.Account}, {"POST", "orgs/acme/accounts/" + key.Account + "/keys"}, {"PATCH", "orgs/acme/keys/" + key.ID},
		{"POST", "orgs/acme/members"}, {"PATCH", "orgs/acme"}, {"POST", "orgs"}, {"POST", "orgs/acme/keys/" + key.ID + "/rotate"}, {"PUT", "orgs/acme/accounts/" + key.Account + "/limits/x"},
		{"POST", "orgs/acme/accounts/" + key.Account + "/limits/credits/raise"}, {"POST", "charge"}, {"POST", "orgs/acme/management-keys"}, {"PUT", "orgs/acme/key-policy"},
		{"POST", recipients}, {"PATCH", recipients + "/" + hook.ID}, {"PATCH", recipients + "/" + letters.ID}, {"POST", recipients + "/" + hook.ID + "/rotate-secret"}, {"POST", recipients + "/" + letters.ID + "/replay"},
	}
	f.Fuzz(func(t *testing.T, i uint8, body string) {
		route := routes[int(i)%len(routes)]
		r := httptest.NewRequest(route[0], "/api/v1/"+route[1], strings.NewReader(body))
		r.Header.Set("Test-Who", string(staff))
		r.Header.Set("Content-Type", "application/json")
		if route[0] == http.MethodPatch {
			r.Header.Set("If-Match", "*")
		}
		before, err := h.Service.AuditHead(t.Context(), "acme")
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		d.ServeHTTP(w, r)
		if w.Code >= 500 || !json.Valid(w.Body.Bytes()) || !utf8.Valid(w.Body.Bytes()) {
			t.Fatalf("%s %s of %q: %d %s", route[0], route[1], body, w.Code, w.Body)
		}
		after, err := h.Service.AuditHead(t.Context(), "acme")
		if err != nil {
			t.Fatal(err)
		}
		if w.Code >= 400 && after != before {
			t.Fatalf("%s %s of %q was refused and changed something", route[0], route[1], body)
		}
		if w.Code < 300 && !json.Valid([]byte(body)) && strings.TrimSpace(body) != "" {
			t.Fatalf("%s %s of %q was accepted", route[0], route[1], body)
		}
	})
}
