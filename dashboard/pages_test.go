package dashboard_test

import (
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/dashboard"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
)

// page gets a page, below the mount path.
func (k *kit) page(by who, path string) answer {
	k.t.Helper()
	return k.raw(by, http.MethodGet, "/"+path, "")
}

// send sends a page's form; fields are pairs.
func (k *kit) send(by who, path string, fields ...string) answer {
	k.t.Helper()
	v := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		v.Set(fields[i], fields[i+1])
	}
	return k.raw(by, http.MethodPost, "/"+path, v.Encode(), "Content-Type", "application/x-www-form-urlencoded")
}

// to is where a redirect leads, below the mount path.
func (a answer) to(from string) string {
	a.t.Helper()
	require.Equal(a.t, http.StatusSeeOther, a.Code, a.Body.String())
	at, err := url.Parse("http://host/" + from)
	require.NoError(a.t, err)
	to, err := at.Parse(a.Header().Get("Location"))
	require.NoError(a.t, err)
	return strings.TrimPrefix(to.Path, "/")
}

func (a answer) text() string {
	a.t.Helper()
	require.Equal(a.t, http.StatusOK, a.Code, a.Body.String())
	return a.Body.String()
}

var tokenShaped = regexp.MustCompile(`[a-z][a-z0-9_]*_[0-9A-Za-z]{65}`)

// a key on its way through its life, by forms alone.
func TestPagesLifecycle(t *testing.T) {
	k := newKit(t)
	const accounts = "orgs/acme/accounts"
	assert.Contains(t, k.page(viewer, accounts).text(), "No service account yet")
	assert.Contains(t, k.page(manager, "orgs/acme").text(), "The first service account")

	made := k.send(manager, accounts+"/new", "name", " Production Worker ", "max", "500", "period", "month", "labels", "team=core\n", "once", "1")
	account := made.to(accounts + "/new")
	id := account[strings.LastIndex(account, "/")+1:]
	stored, err := k.Service.GetAccount(t.Context(), "acme", id)
	require.NoError(t, err)
	assert.Equal(t, "Production Worker", stored.Name)
	assert.Equal(t, map[string]string{"team": "core"}, stored.Labels)
	require.Len(t, stored.Limits, 1)
	assert.Equal(t, 500*quota.Credit, stored.Limits[0].Max)
	assert.Equal(t, quota.Month, stored.Limits[0].Period.Unit)

	again := k.send(manager, accounts+"/new", "name", "Production Worker", "once", "1")
	assert.Equal(t, accounts, again.to(accounts+"/new"), "the same form sent twice makes one account")
	twin := k.send(manager, accounts+"/new", "name", "Production Worker", "max", "1,5", "once", "2")
	assert.Equal(t, http.StatusUnprocessableEntity, twin.Code)
	assert.Contains(t, twin.Body.String(), `value="1,5"`, "what was typed is kept")
	twin = k.send(manager, accounts+"/new", "name", "Production Worker", "once", "3")
	assert.Equal(t, http.StatusConflict, twin.Code)
	assert.Contains(t, twin.Body.String(), "Another one that lives has this name")

	shown := k.send(manager, account+"/keys/new", "name", "Backend", "environment", "production", "expiry", "90d", "scopes", "a b", "allow_from", "192.0.2.0/24\n", "once", "k1")
	body := shown.text()
	token := tokenShaped.FindString(body)
	require.NotEmpty(t, token)
	assert.Equal(t, "no-store", shown.Header().Get("Cache-Control"))
	assert.Contains(t, body, "_API_KEY="+token)
	assert.NotRegexp(t, `=["'][^"'>]*`+token, body, "in no attribute, where things look for values")
	_, err = k.Service.Authenticate(t.Context(), token, addr("192.0.2.1"))
	require.NoError(t, err)
	twice := k.send(manager, account+"/keys/new", "name", "Backend", "expiry", "90d", "once", "k1")
	assert.Equal(t, http.StatusConflict, twice.Code)
	assert.NotRegexp(t, tokenShaped, twice.Body.String(), "a token is shown once")

	key := regexp.MustCompile(`orgs/acme/keys/[0-9A-Za-z]{16}`).FindString(body)
	for _, p := range []string{account, account + "/keys/new", key, key + "/edit", key + "/rotate", accounts, "orgs/acme"} {
		assert.NotRegexp(t, tokenShaped, k.page(admin, p).text(), p)
	}
	keyID := key[strings.LastIndex(key, "/")+1:]

	// Its limit.
	limit := "orgs/acme/limits/key/" + keyID
	k.send(manager, limit+"/+", "limit", "daily", "max", "10", "period", "day", "zone", "Europe/Berlin", "once", "l1").to(limit + "/+")
	kept, err := k.Service.GetKey(t.Context(), "acme", keyID)
	require.NoError(t, err)
	require.Len(t, kept.Limits, 1)
	assert.Equal(t, quota.Period{Unit: quota.Day, Zone: "Europe/Berlin"}, kept.Limits[0].Period)
	number := kept.Limits[0].Number
	k.send(manager, limit+"/daily", "max", "20", "period", "day", "zone", "Europe/Berlin", "once", "l2").to(limit + "/daily")
	kept, err = k.Service.GetKey(t.Context(), "acme", keyID)
	require.NoError(t, err)
	assert.Equal(t, 20*quota.Credit, kept.Limits[0].Max)
	assert.Equal(t, number, kept.Limits[0].Number, "the period was not set anew")
	assert.Equal(t, http.StatusForbidden, k.send(manager, limit+"/daily/top-up", "amount", "5", "once", "t1").Code, "money to the host")
	k.send(admin, limit+"/daily/top-up", "amount", "5", "once", "t1").to(limit + "/daily/top-up")
	k.send(admin, limit+"/daily/top-up", "amount", "5", "once", "t1").to(limit + "/daily/top-up")
	st, err := k.Service.StatusOf(t.Context(), "acme", saccount.KindKey, keyID)
	require.NoError(t, err)
	assert.Equal(t, 25*quota.Credit, st[0].Max, "added once")
	k.send(admin, limit+"/daily/raise", "raise", "50", "until", k.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04"), "once", "r1").to(limit + "/daily/raise")
	st, err = k.Service.StatusOf(t.Context(), "acme", saccount.KindKey, keyID)
	require.NoError(t, err)
	assert.Equal(t, 55*quota.Credit, st[0].Max)
	k.send(manager, limit+"/daily/remove", "once", "x1").to(limit + "/daily/remove")

	// Rotated, cancelled, disabled, enabled, deleted.
	rotated := k.send(manager, key+"/rotate", "overlap", "24h", "once", "o1").text()
	second := tokenShaped.FindString(rotated)
	require.NotEmpty(t, second)
	require.NotEqual(t, token, second)
	assert.Contains(t, k.page(viewer, key).text(), "The old secret lives until")
	k.send(manager, key+"/cancel-rotation", "once", "c1").to(key + "/cancel-rotation")
	_, err = k.Service.Authenticate(t.Context(), second, addr("192.0.2.1"))
	require.ErrorIs(t, err, saccount.ErrUnauthenticated)
	k.send(manager, key+"/disable", "once", "d1").to(key + "/disable")
	_, err = k.Service.Authenticate(t.Context(), token, addr("192.0.2.1"))
	require.ErrorIs(t, err, saccount.ErrUnauthenticated)
	k.send(manager, key+"/enable", "once", "d2").to(key + "/enable")
	_, err = k.Service.Authenticate(t.Context(), token, addr("192.0.2.1"))
	require.NoError(t, err)

	ask := k.page(manager, account+"/delete").text()
	assert.Contains(t, ask, "1 key goes with it")
	assert.Contains(t, ask, "Disable it instead")
	wrong := k.send(manager, account+"/delete", "name", "Production", "once", "e1")
	assert.Equal(t, http.StatusUnprocessableEntity, wrong.Code)
	_, err = k.Service.GetAccount(t.Context(), "acme", id)
	require.NoError(t, err, "nothing was deleted")
	k.send(manager, account+"/delete", "name", "Production Worker", "once", "e2").to(account + "/delete")
	_, err = k.Service.Authenticate(t.Context(), token, addr("192.0.2.1"))
	require.ErrorIs(t, err, saccount.ErrUnauthenticated)
	past := k.page(manager, account).text()
	assert.Contains(t, past, "Its history stays")
	assert.NotContains(t, past, "<form", "nothing can be done to what was deleted")
	assert.Contains(t, k.page(viewer, accounts+"?status=deleted").text(), "Production Worker")
}

// TestPagesEditors: of two who edit at once the second is told, and what was
// typed is kept.
func TestPagesEditors(t *testing.T) {
	k := newKit(t)
	a, err := k.Service.CreateAccount(t.Context(), "x", "acme", saccount.AccountSpec{Name: "Worker of nights"})
	require.NoError(t, err)
	edit := "orgs/acme/accounts/" + a.ID + "/edit"
	k.send(manager, edit, "revision", "1", "name", "Worker of days", "once", "1").to(edit)
	second := k.send(manager, edit, "revision", "1", "name", "Worker of weeks", "description", "typed", "once", "2")
	assert.Equal(t, http.StatusConflict, second.Code)
	assert.Contains(t, second.Body.String(), "Somebody changed it")
	assert.Contains(t, second.Body.String(), "Worker of weeks")
	assert.Contains(t, second.Body.String(), `name="revision" value="2"`)
	now, err := k.Service.GetAccount(t.Context(), "acme", a.ID)
	require.NoError(t, err)
	assert.Equal(t, "Worker of days", now.Name)
	k.send(manager, edit, "revision", "2", "name", "Worker of weeks", "once", "3").to(edit)
}

var hrefs = regexp.MustCompile(`(?:href|src)="([^"#]+)"`)

// TestPagesCrawl follows every link that the host's admin is shown: all lead
// somewhere, all pages of the table are among them, and reading changes nothing.
func TestPagesCrawl(t *testing.T) {
	var m mailbox
	k := kitOf(t, saccounttest.New(t, m.config()), dashboard.Config{})
	ctx := t.Context()
	_, err := k.Service.AddRecipient(ctx, "x", "acme", saccount.RecipientSpec{Name: "Night shift", Email: "operations@example.com"})
	require.NoError(t, err)
	a, err := k.Service.CreateAccount(ctx, "x", "acme", saccount.AccountSpec{Name: "Crawled", Limits: saccount.Limits{"": saccount.NewLimit(quota.Credit, quota.Period{Unit: quota.Day})}})
	require.NoError(t, err)
	_, _, err = k.Service.CreateKey(ctx, "x", "acme", a.ID, saccount.KeySpec{Name: "Crawled key"})
	require.NoError(t, err)
	_, err = k.Service.CreateMember(ctx, "x", "acme", saccount.MemberSpec{ID: "m 1/?#%", Name: "Mia"})
	require.NoError(t, err)
	before := k.state()

	seen := map[string]bool{}
	todo := []string{"http://host/mount/"}
	for len(todo) > 0 {
		at := todo[0]
		todo = todo[1:]
		if seen[at] {
			continue
		}
		seen[at] = true
		u, err := url.Parse(at)
		require.NoError(t, err)
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, at, nil)
		r.Header.Set("Test-Who", string(staff))
		w := httptest.NewRecorder()
		http.StripPrefix("/mount", k.h).ServeHTTP(w, r)
		require.Equal(t, http.StatusOK, w.Code, "%s: %s", at, w.Body.String())
		if !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
			continue
		}
		for _, m := range hrefs.FindAllStringSubmatch(w.Body.String(), -1) {
			to, err := u.Parse(strings.ReplaceAll(m[1], "&amp;", "&"))
			require.NoError(t, err, m[1])
			require.True(t, strings.HasPrefix(to.Path, "/mount/") && to.Host == "host", "%s leads to %s", at, to)
			todo = append(todo, to.String())
		}
	}
	for _, p := range dashboard.PagePaths() {
		at := regexp.MustCompile("^http://host/mount/" + regexp.MustCompile(`\\{\w+\\}`).ReplaceAllString(regexp.QuoteMeta(p), "[^/]+") + `(\?.*)?$`)
		if p != "orgs/{org}/advice" { // asked for by a script
			assert.True(t, slices.ContainsFunc(slices.Collect(maps.Keys(seen)), at.MatchString), "no link leads to %s", p)
		}
	}
	t.Logf("%d pages and files", len(seen))
	assert.Equal(t, before, k.state(), "reading changes nothing")
}

// TestPagesLinks: links with several choices in them keep all of them.
func TestPagesLinks(t *testing.T) {
	k := newKit(t)
	for i := range 30 {
		_, err := k.Service.CreateAccount(t.Context(), "x", "acme", saccount.AccountSpec{Name: fmt.Sprintf("Worker %02d", i)})
		require.NoError(t, err)
	}
	const accounts = "orgs/acme/accounts"
	follow := func(from, page, link string) string {
		t.Helper()
		m := regexp.MustCompile(`href="([^"]*)"[^>]*>` + link + `<`).FindStringSubmatch(page)
		require.NotNil(t, m, "no link %q", link)
		at, err := url.Parse("http://host/" + from)
		require.NoError(t, err)
		to, err := at.Parse(strings.ReplaceAll(m[1], "&amp;", "&"))
		require.NoError(t, err)
		return k.raw(viewer, http.MethodGet, to.RequestURI(), "").text()
	}
	workers := func(page string) []string { return regexp.MustCompile(`>Worker \d\d<`).FindAllString(page, -1) }
	first := k.page(viewer, accounts+"?sort=name&q=Worker&status=active").text()
	next := follow(accounts, first, "Next page")
	assert.Len(t, workers(first), 25)
	assert.Equal(t, []string{">Worker 25<", ">Worker 26<", ">Worker 27<", ">Worker 28<", ">Worker 29<"}, workers(next))
	assert.Equal(t, workers(first), workers(follow(accounts, next, "First page")))
	assert.Equal(t, 31, strings.Count(follow(accounts, first, "Export as CSV"), "\r\n"))

	a, err := k.Service.ListAccounts(t.Context(), "acme", saccount.Filter{Limit: 1})
	require.NoError(t, err)
	account := accounts + "/" + a.Items[0].ID
	page := k.page(viewer, account).text()
	for _, link := range []string{"7 days", "1 year", "By requests"} {
		assert.Regexp(t, `aria-current="true">`+link, follow(account, page, link))
	}
}

// state is everything that changes would show in.
func (k *kit) state() string {
	k.t.Helper()
	head, err := k.Service.AuditHead(k.t.Context(), "acme")
	require.NoError(k.t, err)
	o, err := k.Service.GetOrg(k.t.Context(), "acme")
	require.NoError(k.t, err)
	return fmt.Sprint(head, o.Revision)
}

// TestPagesRoles: whose page it is and who may what, page by page.
func TestPagesRoles(t *testing.T) {
	k := newKit(t)
	ctx := t.Context()
	a, err := k.Service.CreateAccount(ctx, "x", "acme", saccount.AccountSpec{Name: "Ours", Limits: saccount.Limits{"": saccount.NewLimit(quota.Credit, quota.Period{})}})
	require.NoError(t, err)
	_, key, err := k.Service.CreateKey(ctx, "x", "acme", a.ID, saccount.KeySpec{Name: "Ours"})
	require.NoError(t, err)
	limits := []string{"orgs/acme/limits/account/" + a.ID + "/credits", "orgs/acme/limits/account/" + a.ID + "/+"}
	reads := []string{"orgs/acme", "orgs/acme/accounts", "orgs/acme/accounts.csv", "orgs/acme/accounts/" + a.ID, "orgs/acme/keys/" + key.ID, "orgs/acme/members", "orgs/acme/settings"}
	changes := []string{
		limits[0], limits[1], "orgs/acme/accounts/new", "orgs/acme/accounts/" + a.ID + "/edit", "orgs/acme/accounts/" + a.ID + "/delete", "orgs/acme/accounts/" + a.ID + "/keys/new",
		"orgs/acme/keys/" + key.ID + "/edit", "orgs/acme/keys/" + key.ID + "/rotate", "orgs/acme/keys/" + key.ID + "/delete",
	}
	asked := 0
	for _, p := range append(reads, changes...) {
		for _, by := range []who{"", "view other", "manage other", "admin other", viewer, manager, admin, staff} {
			asked++
			want := http.StatusOK
			switch {
			case by == "":
				want = http.StatusUnauthorized
			case strings.HasSuffix(string(by), "other"):
				want = http.StatusNotFound
			case by == viewer && !slices.Contains(reads, p):
				want = http.StatusForbidden
			}
			got := k.page(by, p)
			assert.Equal(t, want, got.Code, "%s as %q", p, by)
			assert.Equal(t, "text/html; charset=utf-8", strings.Replace(got.Header().Get("Content-Type"), "text/csv", "text/html", 1), p)
			assert.NotEmpty(t, got.Header().Get("Content-Security-Policy"))
			if want != http.StatusOK {
				assert.NotContains(t, got.Body.String(), "Ours", "%s as %q", p, by)
			}
		}
	}
	for _, p := range []string{"orgs/acme/settings", "orgs/acme/limits/org/acme/+", "orgs/acme/limits/account/" + a.ID + "/credits/top-up", "orgs/acme/limits/account/" + a.ID + "/credits/raise"} {
		asked++
		assert.Equal(t, http.StatusForbidden, k.send(manager, p, "name", "x", "max", "1", "limit", "y", "amount", "1").Code, p)
	}
	for _, p := range changes {
		asked++
		assert.Equal(t, http.StatusForbidden, k.send(viewer, p, "name", "x").Code, p)
	}
	t.Logf("%d requests", asked)
}

// TestPagesCrossSite: a form of another site changes nothing.
func TestPagesCrossSite(t *testing.T) {
	k := newKit(t)
	before := k.state()
	for _, h := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}} {
		a := k.raw(manager, "POST", "/orgs/acme/accounts/new", "name=x", append(h, "Content-Type", "application/x-www-form-urlencoded")...)
		assert.Equal(t, http.StatusForbidden, a.Code, h)
	}
	assert.Equal(t, before, k.state())
	a := k.page(manager, "orgs/acme")
	assert.Contains(t, a.Header().Get("Content-Security-Policy"), "frame-ancestors 'none'")
	assert.Equal(t, "DENY", a.Header().Get("X-Frame-Options"))
}

// TestPagesHostileNames: what people write is shown as they wrote it, and runs
// nowhere.
func TestPagesHostileNames(t *testing.T) {
	k := newKit(t)
	base := []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `{{.Root}}`, `{{template "main" .}}`, `=HYPERLINK("http://evil")`, `@SUM(1)`, `+1+1`, `-1`,
		`'); DROP TABLE accounts;--`, `</title><svg onload=alert(1)>`, `javascript:alert(1)`, `&lt;b&gt;`, "`${1}`", `\u003cscript\u003e`, `%3Cscript%3E`, `../../etc`, `a?b#c`, `💥`, `İ`, `ﬀ`,
	}
	shown := 0
	for i := range 100 {
		name := base[i%len(base)] + strings.Repeat(" .", i/len(base))
		a, err := k.Service.CreateAccount(t.Context(), "x", "acme", saccount.AccountSpec{Name: name, Description: name, Labels: map[string]string{"l": name}})
		require.NoError(t, err, name)
		body := k.page(admin, "orgs/acme/accounts/"+a.ID).text() + k.page(admin, "orgs/acme/accounts/"+a.ID+"/edit").text() + k.page(admin, "orgs/acme/accounts?q="+url.QueryEscape(name)).text()
		for _, bad := range []string{"<script>", "<img", "<svg onload", "</title><", `href="javascript`, "No template"} {
			assert.NotContains(t, body, bad, name)
		}
		shown++
	}
	csv := k.page(viewer, "orgs/acme/accounts.csv").text()
	for _, line := range strings.Split(csv, "\r\n") {
		for _, cell := range strings.Split(line, ",") {
			assert.NotRegexp(t, `^"?[=+\-@]`, cell)
		}
	}
	t.Logf("%d names", shown)
}

// TestAssetsSmall: what a browser loads beside the pages.
func TestAssetsSmall(t *testing.T) {
	var total int64
	require.NoError(t, fs.WalkDir(os.DirFS("assets"), ".", func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		total += info.Size()
		return err
	}))
	assert.Less(t, total, int64(60<<10))
	k := newKit(t)
	for _, m := range hrefs.FindAllStringSubmatch(k.page(viewer, "orgs/acme").text(), -1) {
		if strings.Contains(m[1], "assets/") {
			a := k.page("", m[1][strings.Index(m[1], "assets/"):])
			assert.Equal(t, http.StatusOK, a.Code)
			assert.Equal(t, "public, max-age=31536000, immutable", a.Header().Get("Cache-Control"))
		}
	}
	assert.Equal(t, http.StatusNotFound, k.page(viewer, "assets/keypurse.css").Code, "names say what is in a file")
}
