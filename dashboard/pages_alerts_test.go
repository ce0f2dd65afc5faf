package dashboard_test

import (
	"errors"
	"net/http"
	"net/url"
	"regexp"
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

var secretShaped = regexp.MustCompile(`whsec_[0-9A-Za-z+/=&#;]+`)

// follow checks that every link of a page leads somewhere.
func (k *kit) follow(by who, path string) {
	k.t.Helper()
	at, err := url.Parse("http://host/" + path)
	require.NoError(k.t, err)
	for _, m := range hrefs.FindAllStringSubmatch(k.page(by, path).text(), -1) {
		to, err := at.Parse(strings.ReplaceAll(m[1], "&amp;", "&"))
		require.NoError(k.t, err, m[1])
		assert.Equal(k.t, http.StatusOK, k.page(by, strings.TrimPrefix(to.RequestURI(), "/")).Code, "%s leads to %s", path, to)
	}
}

// Who hears of alerts, from adding to removing, by forms alone.
func TestPagesRecipients(t *testing.T) {
	var m mailbox
	k := kitOf(t, saccounttest.New(t, m.config()), dashboard.Config{})
	const all = "orgs/acme/recipients"
	assert.Contains(t, k.page(manager, all).text(), "Nobody yet")
	wrong := k.send(manager, all+"/new", "name", "Ops", "url", "http://hooks.example.com/", "email", "", "once", "0")
	assert.Equal(t, http.StatusUnprocessableEntity, wrong.Code)
	assert.Contains(t, wrong.Body.String(), `value="http://hooks.example.com/"`, "what was typed is kept")
	assert.Contains(t, wrong.Body.String(), `id="f-url-error"`)
	assert.Equal(t, http.StatusUnprocessableEntity, k.send(manager, all+"/new", "url", "", "email", "", "once", "0").Code)

	made := k.send(manager, all+"/new", "name", "Ops", "url", "https://hooks.example.com/in/T0KEN", "email", "", "kinds", "overage", "limits", "credits", "subjects", "key:\n", "once", "1")
	secret := secretShaped.FindString(made.text())
	require.NotEmpty(t, secret)
	assert.Equal(t, "no-store", made.Header().Get("Cache-Control"))
	again := k.send(manager, all+"/new", "name", "Ops", "url", "https://hooks.example.com/in/T0KEN", "email", "", "once", "1")
	assert.Equal(t, http.StatusConflict, again.Code)
	assert.NotRegexp(t, secretShaped, again.Body.String(), "a secret is shown once")
	list, err := k.Service.Recipients(t.Context(), "acme")
	require.NoError(t, err)
	require.Len(t, list, 1)
	hook := all + "/" + list[0].ID
	mail := k.send(manager, all+"/new", "name", "", "url", "", "email", "operations@example.com", "once", "2").to(all + "/new")

	for _, p := range []string{all, hook, hook + "/edit", mail, "orgs/acme/settings", "orgs/acme"} {
		assert.NotRegexp(t, secretShaped, k.page(admin, p).text(), p)
	}
	for _, p := range []string{all, hook, mail} {
		body := k.page(viewer, p).text()
		assert.NotContains(t, body, "T0KEN", p)
		assert.NotContains(t, body, "operations@", p)
		assert.NotContains(t, body, `method="post"`, "nobody is shown a form that would be refused: %s", p)
	}
	assert.Contains(t, k.page(manager, hook).text(), "https://hooks.example.com/in/T0KEN")
	edit := k.page(manager, hook+"/edit").text()
	assert.Contains(t, edit, `value="overage" checked`)
	k.send(manager, hook+"/edit", "revision", "1", "name", "Night", "url", "https://hooks.example.com/in/T0KEN", "once", "3").to(hook + "/edit")
	late := k.send(manager, hook+"/edit", "revision", "1", "name", "Day", "url", "https://hooks.example.com/in/T0KEN", "once", "4")
	assert.Equal(t, http.StatusConflict, late.Code)
	assert.Contains(t, late.Body.String(), "Somebody changed it")
	list, err = k.Service.Recipients(t.Context(), "acme")
	require.NoError(t, err)
	assert.Equal(t, "Night", list[0].Name)
	assert.Empty(t, list[0].Filter.Kinds)

	rotated := k.send(manager, hook+"/rotate", "overlap", "1h", "once", "5").text()
	assert.NotEqual(t, secret, secretShaped.FindString(rotated))
	assert.Contains(t, rotated, "signs too until")
	assert.Contains(t, k.page(viewer, hook).text(), "Two secrets sign until")
	twice := k.send(manager, hook+"/rotate", "overlap", "1h", "once", "5")
	assert.Equal(t, http.StatusConflict, twice.Code)
	assert.Equal(t, http.StatusBadRequest, k.send(manager, hook+"/rotate", "overlap", "own", "once", "6").Code)

	// A test that fails is a dead letter, and is tried again.
	m.fails = errors.New("mailbox of operations@example.com is full")
	to := k.send(manager, mail+"/test", "once", "7")
	assert.Equal(t, mail, to.to(mail+"/test"))
	assert.Contains(t, to.Header().Get("Location"), "tested=on")
	assert.Contains(t, k.page(manager, mail+"?tested=on").text(), "A test alert was asked for")
	require.NoError(t, k.Service.DeliverAlerts(t.Context()))
	body := k.page(manager, mail+"?state=dead").text()
	assert.Contains(t, body, "is full")
	assert.Contains(t, body, "Try all of them again")
	assert.NotContains(t, k.page(viewer, mail).text(), "is full")
	m.fails = nil
	id := regexp.MustCompile(`name="alert" value="(alert_[^"]+)"`).FindStringSubmatch(body)
	require.NotNil(t, id)
	assert.Equal(t, http.StatusNotFound, k.send(manager, mail+"/replay", "alert", "alert_none", "once", "8").Code)
	k.send(manager, mail+"/replay", "alert", id[1], "once", "9").to(mail + "/replay")
	require.NoError(t, k.Service.DeliverAlerts(t.Context()))
	assert.Len(t, m.letters, 1)
	assert.Contains(t, k.page(viewer, mail).text(), "delivered")
	assert.Contains(t, k.page(viewer, mail+"?state=dead").text(), "Nothing that fits")

	k.send(manager, mail+"/disable", "once", "10").to(mail + "/disable")
	assert.NotContains(t, k.page(manager, mail).text(), "Send a test alert")
	k.send(manager, mail+"/enable", "once", "11").to(mail + "/enable")
	for _, p := range []string{all, hook, mail, all + "/new", hook + "/edit", "orgs/acme/settings"} {
		k.follow(staff, p)
	}
	k.send(manager, mail+"/remove", "once", "12").to(mail + "/remove")
	assert.Equal(t, http.StatusNotFound, k.page(manager, mail).Code)
	assert.Contains(t, k.page(viewer, "orgs/acme/alerts").text(), "a recipient that was removed")
}

// What was alerted of: the list, the overview and the account's own page.
func TestPagesAlerts(t *testing.T) {
	var m mailbox
	k := kitOf(t, saccounttest.New(t, m.config()), dashboard.Config{})
	ctx := t.Context()
	_, err := k.Service.AddRecipient(ctx, "x", "acme", saccount.RecipientSpec{Name: "Night & day", Email: "operations@example.com"})
	require.NoError(t, err)
	assert.Contains(t, k.page(viewer, "orgs/acme").text(), "None has.")
	assert.Contains(t, k.page(viewer, "orgs/acme/alerts").text(), "There is none.")
	const name = `<script>alert("1")</script>`
	a, err := k.Service.CreateAccount(ctx, "x", "acme", saccount.AccountSpec{Name: name, Limits: saccount.Limits{"": saccount.NewLimit(100*quota.Credit, quota.Period{Unit: quota.Month})}})
	require.NoError(t, err)
	token, key, err := k.Service.CreateKey(ctx, "x", "acme", a.ID, saccount.KeySpec{Name: name, Limits: saccount.Limits{"daily": saccount.NewLimit(50*quota.Credit, quota.Period{Unit: quota.Day})}})
	require.NoError(t, err)
	other, _ := k.Issue(saccounttest.Spec{Monthly: 100 * quota.Credit})
	for _, tok := range []string{token.Reveal(), other.Reveal()} {
		p, err := k.Service.Authenticate(ctx, tok, addr("192.0.2.1"))
		require.NoError(t, err)
		_, err = k.Service.Charge(ctx, p, saccount.Charge{Amount: 50 * quota.Credit})
		require.NoError(t, err)
	}
	require.NoError(t, k.Service.DeliverAlerts(ctx))
	k.Advance(time.Hour)

	body := k.page(viewer, "orgs/acme/alerts").text()
	assert.NotContains(t, body, "<script>alert")
	assert.Contains(t, body, "&lt;script&gt;alert")
	assert.Equal(t, 5, strings.Count(body, "delivered to Night &amp; day"), "two of the account's and three of the key's limit")
	assert.Contains(t, body, "has spent 50 credits, 50% or more of its limit of 100 credits")
	account := "orgs/acme/accounts/" + a.ID
	mine := k.page(viewer, "orgs/acme/alerts?about="+url.QueryEscape("account:"+a.ID)).text()
	assert.Equal(t, 4, strings.Count(mine, "delivered to"))
	assert.Contains(t, mine, "and its keys")
	assert.Contains(t, k.page(viewer, "orgs/acme/alerts?kind=overage").text(), "There is none that fits")
	assert.Contains(t, k.page(viewer, "orgs/acme/alerts?state=dead").text(), "There is none that fits")
	for _, bad := range []string{"?kind=none", "?state=none", "?after=x"} {
		assert.Equal(t, http.StatusBadRequest, k.page(viewer, "orgs/acme/alerts"+bad).Code, bad)
	}
	overview := k.page(viewer, "orgs/acme").text()
	passed := overview[strings.Index(overview, `id="h-passed"`):strings.Index(overview, `id="h-alerts"`)]
	assert.Equal(t, 2, strings.Count(passed, "50 of 100 credits, past 50% of its limit “credits”"))
	assert.Contains(t, overview, "has spent 50 credits, 100% or more of its limit “daily” of 50 credits")
	assert.Contains(t, k.page(viewer, account).text(), "All alerts of this account")
	for _, p := range []string{"orgs/acme", "orgs/acme/alerts", "orgs/acme/alerts?kind=threshold&about=account:" + a.ID, account, "orgs/acme/keys/" + key.ID} {
		k.follow(staff, p)
	}
	assert.NotContains(t, passed, "more")
	for range 7 {
		tok := k.Token(saccounttest.Spec{Monthly: 100 * quota.Credit})
		p, err := k.Service.Authenticate(ctx, tok, addr("192.0.2.1"))
		require.NoError(t, err)
		_, err = k.Service.Charge(ctx, p, saccount.Charge{Amount: 50 * quota.Credit})
		require.NoError(t, err)
	}
	overview = k.page(viewer, "orgs/acme").text()
	assert.Equal(t, 8, strings.Count(overview, "past 50% of its limit"))
	assert.Contains(t, overview, "There are more")
	// The next window begins with nobody.
	k.Advance(31 * 24 * time.Hour)
	assert.Contains(t, k.page(viewer, "orgs/acme").text(), "None has.")
	// Paged, where there are many.
	for range 60 {
		require.NoError(t, k.Service.TestAlert(ctx, "user:ann", "acme", ""))
	}
	seen := 0
	for at, n := "orgs/acme/alerts?kind=test", 0; at != ""; n++ {
		require.Less(t, n, 10)
		body := k.page(viewer, at).text()
		seen += strings.Count(body, "This is a test alert")
		next := regexp.MustCompile(`rel="next" href="([^"]+)"`).FindStringSubmatch(body)
		at = ""
		if next != nil {
			at = "orgs/acme/alerts" + strings.ReplaceAll(next[1], "&amp;", "&")
			assert.Contains(t, at, "kind=test")
		}
	}
	assert.Equal(t, 60, seen)
	// What is behind the newest thousand is said not to be known.
	for range saccount.MaxPage - 60 {
		require.NoError(t, k.Service.TestAlert(ctx, "user:ann", "acme", ""))
	}
	overview = k.page(viewer, "orgs/acme").text()
	assert.Contains(t, overview, "None has since")
	assert.Contains(t, overview, "The newest 1,000 alerts were looked at")
	k.follow(staff, "orgs/acme")
}

// What alerts, of an organization, an account, a key, a member, and of single limits.
func TestPagesThresholds(t *testing.T) {
	k := newKit(t)
	ctx := t.Context()
	limit := func() saccount.Limits {
		return saccount.Limits{"": saccount.NewLimit(100*quota.Credit, quota.Period{Unit: quota.Month})}
	}
	a, err := k.Service.CreateAccount(ctx, "x", "acme", saccount.AccountSpec{Name: "Worker", Limits: limit()})
	require.NoError(t, err)
	_, key, err := k.Service.CreateKey(ctx, "x", "acme", a.ID, saccount.KeySpec{Name: "Key", Limits: limit()})
	require.NoError(t, err)
	_, err = k.Service.CreateMember(ctx, "x", "acme", saccount.MemberSpec{ID: "ann", Limits: limit()})
	require.NoError(t, err)
	_, err = k.Service.UpdateOrg(ctx, "x", "acme", saccount.Update{Limits: limit()})
	require.NoError(t, err)
	for _, x := range []struct {
		at   string
		read func() (rev int64, own, limit []quota.Threshold)
	}{
		{"account/" + a.ID, func() (int64, []quota.Threshold, []quota.Threshold) {
			a, err := k.Service.GetAccount(ctx, "acme", a.ID)
			require.NoError(t, err)
			return a.Revision, a.Thresholds, a.Limits[0].Thresholds
		}},
		{"key/" + key.ID, func() (int64, []quota.Threshold, []quota.Threshold) {
			a, err := k.Service.GetKey(ctx, "acme", key.ID)
			require.NoError(t, err)
			return a.Revision, a.Thresholds, a.Limits[0].Thresholds
		}},
		{"member/ann", func() (int64, []quota.Threshold, []quota.Threshold) {
			a, err := k.Service.GetMember(ctx, "acme", "ann")
			require.NoError(t, err)
			return a.Revision, a.Thresholds, a.Limits[0].Thresholds
		}},
		{"org/acme", func() (int64, []quota.Threshold, []quota.Threshold) {
			a, err := k.Service.GetOrg(ctx, "acme")
			require.NoError(t, err)
			return a.Revision, a.Thresholds, a.Limits[0].Thresholds
		}},
	} {
		at := "orgs/acme/thresholds/" + x.at
		for i, y := range []struct {
			own, limit string
			want, of   []quota.Threshold
		}{
			{"75 %, left 2.5 ; Overage", "none", []quota.Threshold{75, quota.Left(2500000), quota.ThresholdOverage}, []quota.Threshold{}},
			{"None", "", []quota.Threshold{}, nil}, {"", "90%", nil, []quota.Threshold{90}},
		} {
			k.send(admin, at, "thresholds", y.own, "thresholds-credits", y.limit, "once", x.at+string(rune('a'+i))).to(at)
			_, own, of := x.read()
			assert.Equal(t, y.want, own, x.at)
			assert.Equal(t, y.of, of, x.at)
		}
		page := k.page(admin, at).text()
		assert.Contains(t, page, `value="90%"`)
		rev, _, _ := x.read()
		for _, bad := range []string{"80", "left", "left -1", "1%,2%,3%,4%,5%,6%,7%,8%,9%", "<b>"} {
			a := k.send(admin, at, "thresholds", bad, "thresholds-credits", "", "once", bad)
			assert.Equal(t, http.StatusUnprocessableEntity, a.Code, bad)
			assert.Contains(t, a.Body.String(), `id="f-thresholds-error"`)
		}
		now, _, of := x.read()
		assert.Equal(t, rev, now)
		assert.NotNil(t, of)
		assert.Equal(t, http.StatusConflict, k.send(admin, at, "revision", "1", "thresholds", "1%", "thresholds-credits", "", "once", "late").Code)
		assert.Equal(t, http.StatusForbidden, k.page(viewer, at).Code)
	}
	// The organization's own are its manager's, its limits' are its host's.
	assert.NotContains(t, k.page(manager, "orgs/acme/thresholds/org/acme").text(), "thresholds-credits")
	k.send(manager, "orgs/acme/thresholds/org/acme", "thresholds", "60%", "thresholds-credits", "1%", "once", "m").to("orgs/acme/thresholds/org/acme")
	o, err := k.Service.GetOrg(ctx, "acme")
	require.NoError(t, err)
	assert.Equal(t, []quota.Threshold{60}, o.Thresholds)
	assert.Equal(t, []quota.Threshold{90}, o.Limits[0].Thresholds)
	for _, p := range []string{"thresholds/org/acme", "thresholds/org/other", "thresholds/nothing/x", "thresholds/account/" + key.ID, "thresholds/key/0000000000000000"} {
		if p != "thresholds/org/acme" {
			assert.Equal(t, http.StatusNotFound, k.page(admin, "orgs/acme/"+p).Code, p)
		}
		assert.Equal(t, http.StatusNotFound, k.page("admin other", "orgs/acme/"+p).Code, p)
	}
}

// Whose pages these are, page by page.
func TestPagesAlertsRoles(t *testing.T) {
	w := newWorld(t)
	ours, theirs := "orgs/acme/recipients/"+w.Acme.Recipient, "orgs/acme/recipients/"+w.Globex.Recipient
	reads := []string{"orgs/acme/alerts", "orgs/acme/recipients", ours}
	changes := []string{"orgs/acme/recipients/new", ours + "/edit"}
	posts := []string{ours + "/test", ours + "/replay", ours + "/rotate", ours + "/disable", ours + "/enable", ours + "/remove", ours + "/edit", "orgs/acme/recipients/new", "orgs/acme/thresholds/org/acme"}
	asked := 0
	for _, by := range []who{"", viewer, manager, admin, staff, "view globex", "manage globex", "admin globex"} {
		get := func(p string) int { asked++; return w.page(by, p).Code }
		post := func(p string) int { asked++; return w.kit.send(by, p, "once", "x").Code }
		mine, may := strings.HasSuffix(string(by), "acme") || by == staff, by != viewer
		for _, p := range append(append([]string{}, reads...), changes...) {
			want := http.StatusOK
			switch {
			case by == "":
				want = http.StatusUnauthorized
			case !mine:
				want = http.StatusNotFound
			case !may && (p == changes[0] || p == changes[1]):
				want = http.StatusForbidden
			}
			assert.Equal(t, want, get(p), "%s as %q", p, by)
		}
		for _, p := range posts {
			switch {
			case by == "":
				assert.Equal(t, http.StatusUnauthorized, post(p), "%s as %q", p, by)
			case !mine:
				assert.Equal(t, http.StatusNotFound, post(p), "%s as %q", p, by)
			case !may:
				assert.Equal(t, http.StatusForbidden, post(p), "%s as %q", p, by)
			}
		}
		if mine {
			for _, p := range []string{"", "/edit", "/test", "/replay", "/rotate", "/disable", "/remove"} {
				at := theirs + p
				if p == "" || p == "/edit" && may {
					assert.Equal(t, http.StatusNotFound, get(at), at)
				}
				if p != "" && may {
					fields := []string{"once", p, "overlap", "1h"}
					assert.Equal(t, http.StatusNotFound, w.kit.send(by, at, fields...).Code, at)
				}
			}
		}
	}
	r, err := w.Service.GetRecipient(t.Context(), "globex", w.Globex.Recipient)
	require.NoError(t, err)
	assert.EqualValues(t, 1, r.Revision, "nothing of theirs was changed")
	r, err = w.Service.GetRecipient(t.Context(), "acme", w.Acme.Recipient)
	require.NoError(t, err)
	assert.EqualValues(t, 1, r.Revision)
	t.Logf("%d requests", asked)
}
