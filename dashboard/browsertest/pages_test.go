package browsertest

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

const (
	narrow = 360
	wide   = 1440
)

// usable asserts what every page has to be: nothing that axe-core knows to be
// wrong, in both schemes, nothing beside the window at 360 pixels.
func (b *tab) usable() {
	b.t.Helper()
	at := js[string](b, "location.pathname + location.search")
	if !js[bool](b, `typeof axe === "object"`) {
		js[bool](b, shared.axe+"; true")
	}
	axe := func(what, options string) {
		b.t.Helper()
		found := js[[]string](b, `axe.run(document, `+options+`).then(r => r.violations.flatMap(v => v.nodes.map(n => v.id + ": " + n.target + ": " + n.failureSummary)))`)
		assert.Empty(b.t, found, "%s, %s", at, what)
	}
	b.look(narrow, "light")
	axe("narrow", `{preload: false, resultTypes: ["violations"]}`)
	beside := js[[]string](b, `document.documentElement.scrollWidth <= innerWidth ? [] :
		[...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth).map(e => e.tagName + "." + e.className + ": " + e.textContent.slice(0, 40))`)
	assert.Empty(b.t, beside, "%s: beside a window of %d pixels", at, narrow)
	b.look(narrow, "dark")
	axe("dark", `{preload: false, runOnly: ["color-contrast"], resultTypes: ["violations"]}`)
	b.look(wide, "light")
	axe("wide", `{preload: false, resultTypes: ["violations"]}`)
}

// furnish gives the host one of everything.
func (h *host) furnish(t *testing.T) {
	t.Helper()
	ctx, daily := t.Context(), func(n quota.Credits) saccount.Limits {
		return saccount.Limits{"daily": saccount.NewLimit(n*quota.Credit, quota.Period{Unit: quota.Day})}
	}
	a := h.history(t, "acme", saccount.AccountSpec{
		Name: "Production Worker", Description: "Counts words around the clock.", Labels: map[string]string{"team": "core"},
		Limits: saccount.Limits{"": saccount.NewLimit(200*quota.Credit, quota.Period{Unit: quota.Month}), "daily": saccount.NewLimit(12*quota.Credit, quota.Period{Unit: quota.Day})},
	}, saccount.KeySpec{Name: "Backend", Environment: "production", Limits: daily(10), Scopes: []string{"words:read"}, Expires: h.now().AddDate(0, 2, 0)},
		saccount.KeySpec{Name: "Nightly job", Environment: "staging"})
	keys, err := h.svc.ListKeys(ctx, "acme", a.ID, saccount.Filter{})
	require.NoError(t, err)
	_, _, err = h.svc.RotateKey(ctx, "user:alice", "acme", keys.Items[0].ID, quota.MinKeep)
	require.NoError(t, err)
	require.NoError(t, h.svc.DisableKey(ctx, "user:alice", "acme", keys.Items[1].ID))
	gone, err := h.svc.CreateAccount(ctx, "user:alice", "acme", saccount.AccountSpec{Name: "Retired Importer"})
	require.NoError(t, err)
	require.NoError(t, h.svc.DeleteAccount(ctx, "user:alice", "acme", gone.ID))
	h.alerted(t, "acme")
	_, err = h.svc.CreateMember(ctx, "user:ada", "acme", saccount.MemberSpec{ID: "mia@example.com", Name: "Mia", Limits: daily(5)})
	require.NoError(t, err)
}

// shape tells pages that are made of the same kinds of parts from others: what is
// wrong with one of them is wrong with all.
func (b *tab) shape() string {
	b.t.Helper()
	return js[string](b, `[...new Set([...document.querySelectorAll("body, body *")].map(e =>
		[e.parentElement.tagName, e.tagName, e.getAttribute("class"), e.type, ...e.getAttributeNames()].join(" ")))].sort().join("\n")`)
}

// crawl opens every page that can be reached by links from some, one for each
// path and set of names in the query, and calls visit on it.
func (b *tab) crawl(visit func(path string), from ...string) int {
	b.t.Helper()
	kind := func(u *url.URL) string {
		q := []string{}
		for k := range u.Query() {
			q = append(q, k)
		}
		slices.Sort(q)
		return u.Path + "?" + strings.Join(q, "&")
	}
	seen := map[string]bool{}
	todo := []string{}
	for _, p := range from {
		todo = append(todo, b.host.at(p))
	}
	for ; len(todo) > 0; todo = todo[1:] {
		u, err := url.Parse(todo[0])
		require.NoError(b.t, err)
		if seen[kind(u)] {
			continue
		}
		seen[kind(u)] = true
		require.Equal(b.t, 200, b.open(todo[0]), todo[0])
		visit(strings.TrimPrefix(u.RequestURI(), mount))
		for _, to := range js[[]string](b, `[...document.links].filter(a => !a.hasAttribute("download")).map(a => a.href.split("#")[0])`) {
			require.True(b.t, strings.HasPrefix(to, b.host.at("")), "%s leads to %s", u, to)
			todo = append(todo, to)
		}
	}
	return len(seen)
}

// starts are where every page can be reached from by links. That no page is left
// out is for TestPagesCrawl, beside the table of pages.
var starts = []string{"", "orgs/acme/accounts?status=deleted", "orgs/acme/accounts?q=nobody"}

// Every page that there is a link to is usable by everybody.
func TestEveryPage(t *testing.T) {
	h := newHost(t)
	h.furnish(t)
	sam := h.browser(t, "sam")
	seen := map[string]bool{}
	n := sam.crawl(func(string) {
		if s := sam.shape(); !seen[s] {
			seen[s] = true
			sam.usable()
		}
	}, starts...)
	assert.Greater(t, n, 40)
	assert.Greater(t, len(seen), 25)
	t.Logf("%d pages, of %d shapes", n, len(seen))
}

// Screenshots of every page, where KEYPURSE_SCREENSHOTS names a directory: both
// schemes, 1440 and 360 pixels wide.
func TestScreenshots(t *testing.T) {
	dir := os.Getenv("KEYPURSE_SCREENSHOTS")
	if dir == "" {
		t.Skip("make screenshots makes them")
	}
	require.NoError(t, os.MkdirAll(dir, 0o755))
	h := newHost(t)
	h.furnish(t)
	month, day := quota.Period{Unit: quota.Month}, quota.Period{Unit: quota.Day}
	h.history(t, "acme", saccount.AccountSpec{Name: "Search Indexer", Limits: saccount.Limits{"": saccount.NewLimit(500*quota.Credit, month)}},
		saccount.KeySpec{Name: "First half", Environment: "production"}, saccount.KeySpec{Name: "Second half", Environment: "production"}, saccount.KeySpec{Name: "Trial", Environment: "staging"})
	h.history(t, "acme", saccount.AccountSpec{Name: "Support Assistant", Limits: saccount.Limits{"": saccount.NewLimit(15*quota.Credit, day)}}, saccount.KeySpec{Name: "Assistant"})
	h.history(t, "acme", saccount.AccountSpec{Name: "Nightly Report"}, saccount.KeySpec{Name: "Report job"})
	sam := h.browser(t, "sam")
	shot := func(name string) {
		for _, width := range []int64{wide, narrow} {
			for _, scheme := range []string{"light", "dark"} {
				sam.look(width, scheme)
				png, err := chromedp.Run(sam.ctx, chromedp.FullScreenshot(100))
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%d-%s.png", name, width, scheme)), png, 0o644))
			}
		}
		sam.look(wide, "light")
	}
	// A page of each kind, named by its path.
	pages := map[string]string{}
	sam.crawl(func(path string) {
		if s := sam.shape(); pages[s] == "" {
			pages[s] = path
			shot(strings.NewReplacer("/", " ", "?", " ", "&", " ", "=", "-").Replace(path))
		}
	}, starts...)
	// And those that are answers to a form.
	sam.open("orgs/acme/accounts/new")
	sam.fill("Name", "Payment Worker")
	sam.fill("Credit limit", "five")
	sam.press("Add another limit")
	sam.press("Create the service account")
	shot("a form with what is wrong")
	sam.open("orgs/acme/accounts")
	sam.press("Search Indexer")
	sam.createKey("Reserve")
	shot("a token, the only time")
	sam.leads(chromedp.Reload())
	shot("a token, again")
}
