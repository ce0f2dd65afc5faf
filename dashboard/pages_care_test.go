package dashboard_test

import (
	"encoding/csv"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
)

// carePages are the pages of this file, of an organization, account and key.
func carePages(account, key string) []string {
	return []string{
		"report", "report?period=last", "accounts/" + account + "/report", "keys/" + key + "/report", "usage.csv?kind=keys", "needs", "needs?need=no_limit",
		"audit", "audit?subject=" + account, "audit.csv", "audit.jsonl", "audit/verify",
	}
}

func TestCarePagesRoles(t *testing.T) {
	k := newKit(t)
	_, key := k.Issue(saccounttest.Spec{Key: saccount.KeySpec{Name: "Ours"}})
	pages := append(carePages(key.Account, key.ID), "key-policy")
	n := 0
	for _, p := range pages {
		for _, by := range []who{"", "view other", "admin other", viewer, manager, admin, staff} {
			n++
			want := http.StatusOK
			switch {
			case by == "":
				want = http.StatusUnauthorized
			case strings.HasSuffix(string(by), "other"):
				want = http.StatusNotFound
			case by == viewer && p == "key-policy":
				want = http.StatusForbidden
			}
			got := k.page(by, "orgs/acme/"+p)
			assert.Equal(t, want, got.Code, "%s as %q", p, by)
			if want != http.StatusOK {
				assert.NotContains(t, got.Body.String(), "Ours", "%s as %q", p, by)
			}
		}
	}
	for _, by := range []who{viewer, "manage other", ""} {
		assert.NotEqual(t, http.StatusSeeOther, k.send(by, "orgs/acme/key-policy", "unused_days", "1").Code)
	}
	o, err := k.Service.GetOrg(t.Context(), "acme")
	require.NoError(t, err)
	assert.Nil(t, o.Keys)
	assert.NotContains(t, k.page(viewer, "orgs/acme/settings").text(), "/key-policy")
	assert.NotContains(t, k.page(viewer, "orgs/acme/needs").text(), "/key-policy")
	assert.Contains(t, k.page(manager, "orgs/acme/settings").text(), "/key-policy")
	// Records of another organization, in an own page's address.
	for _, p := range []string{"accounts/" + key.Account + "/report", "keys/" + key.ID + "/report", "needs?account=" + key.Account} {
		_, err := k.Service.CreateOrg(t.Context(), "x", saccount.OrgSpec{ID: "other"})
		if err != nil {
			require.ErrorIs(t, err, saccount.ErrExists)
		}
		foreign, unknown := k.page("admin other", "orgs/other/"+p), k.page("admin other", "orgs/other/"+strings.NewReplacer(key.Account, "sa_0000000000000000", key.ID, "0000000000000000").Replace(p))
		assert.Equal(t, http.StatusNotFound, foreign.Code, p)
		assert.Equal(t, unknown.Body.String(), foreign.Body.String(), p)
	}
	t.Logf("%d requests", n)
}

func TestAuditPage(t *testing.T) {
	k := newKit(t)
	p := k.Principal(saccounttest.Spec{})
	for i := range 30 {
		k.Advance(time.Minute)
		name := fmt.Sprint("Worker ", i)
		_, err := k.Service.UpdateAccount(t.Context(), "user:bob", "acme", p.AccountID(), saccount.Update{Name: &name})
		require.NoError(t, err)
	}
	first := k.page(viewer, "orgs/acme/audit").text()
	assert.Contains(t, first, "<del>Worker 28</del> <ins>Worker 29</ins>", "what was changed, the newest first")
	assert.NotContains(t, first, "<ins>Worker 4<")
	next := regexp.MustCompile(`rel="next" href="\?([^"]+)"`).FindStringSubmatch(first)
	require.NotNil(t, next)
	assert.Contains(t, k.page(viewer, "orgs/acme/audit?"+strings.ReplaceAll(next[1], "&amp;", "&")).text(), "<ins>Worker 3</ins>")
	for query, want := range map[string]int{
		"actor=user:bob&order=oldest": 25, "actor=test": 3, "action=create": 3, "subject=" + p.AccountID() + "&action=create": 1, "subject=" + p.KeyID(): 1, "subject=acme": 1, "subject=org:acme": 1, "subject=nobody": 0,
		"from=2030-01-15T12:28": 3, "to=2030-01-15T12:00:30": 3, "from=2030-01-16": 0,
	} {
		body := k.page(viewer, "orgs/acme/audit?"+query).text()
		assert.Equal(t, want, strings.Count(body, `<th scope="row">`), query)
	}
	assert.Contains(t, k.page(viewer, "orgs/acme/audit?actor=nobody").text(), "None fits")
	for _, bad := range []string{"from=yesterday", "after=x"} {
		assert.Equal(t, http.StatusBadRequest, k.page(viewer, "orgs/acme/audit?"+bad).Code, bad)
	}
	a := k.page(viewer, "orgs/acme/audit.csv?actor=user:bob")
	assert.Equal(t, "text/csv; charset=utf-8", a.Header().Get("Content-Type"))
	rows, err := csv.NewReader(strings.NewReader(a.text())).ReadAll()
	require.NoError(t, err)
	assert.Len(t, rows, 31)
	assert.Equal(t, 33, strings.Count(k.page(viewer, "orgs/acme/audit.jsonl").text(), "\n"))

	// The trail of an account and of its key, and the overview's.
	account := k.page(viewer, "orgs/acme/accounts/"+p.AccountID()).text()
	assert.Contains(t, account, "Audit trail")
	assert.Equal(t, 8, strings.Count(account, "user:bob – update"))
	assert.Contains(t, account, "audit?subject=account%3A"+p.AccountID())
	assert.Contains(t, k.page(viewer, "orgs/acme/keys/"+p.KeyID()).text(), "test – create key")
	assert.Contains(t, k.page(viewer, "orgs/acme").text(), "user:bob – update service account")
	for range 600 {
		require.NoError(t, k.Service.DisableOrg(t.Context(), "x", "acme"))
		require.NoError(t, k.Service.EnableOrg(t.Context(), "x", "acme"))
	}
	assert.Contains(t, k.page(viewer, "orgs/acme/accounts/"+p.AccountID()).text(), "Nothing was changed since", "it does not go through a long log")
	assert.Contains(t, k.page(viewer, "orgs/acme/audit?subject="+p.AccountID()).text(), "<ins>Worker 29</ins>", "the log's page does")
}

func TestVerifyPage(t *testing.T) {
	k, st := tamperedKit(t, 24)
	const at = "orgs/acme/audit/verify"
	whole := k.page(viewer, at).text()
	assert.Contains(t, whole, "The log is as it was written")
	mark := regexp.MustCompile(`<dt>Mark</dt><dd><code>([^<]+)</code>`).FindStringSubmatch(whole)
	require.NotNil(t, mark)
	hidden := regexp.MustCompile(`<input type="hidden" name="([a-z_]+)" value="([^"]*)">`)
	anchor := url.Values{"anchor_seq": {"25"}, "anchor_mark": {mark[1]}}
	steps := func(q url.Values) (bodies []string) {
		q.Set("limit", "10")
		for {
			body := k.page(viewer, at+"?"+q.Encode()).text()
			bodies = append(bodies, body)
			if !strings.Contains(body, "Go on") {
				return bodies
			}
			q = url.Values{} // what the form says, and nothing else
			for _, m := range hidden.FindAllStringSubmatch(body, -1) {
				q.Set(m[1], m[2])
			}
		}
	}
	bodies := steps(anchor)
	require.Len(t, bodies, 3)
	assert.Contains(t, bodies[0], "entries up to 10 of 25 are as they were written")
	assert.Contains(t, bodies[1], `value="20" max="25"`)
	assert.Contains(t, bodies[2], "The log is as it was written")
	st.change(17)
	assert.Contains(t, k.page(viewer, at).text(), "changed at entry 17")
	assert.Contains(t, steps(url.Values{})[1], "changed at entry 17")
	st.spoil = func(es []saccount.Entry) []saccount.Entry { return es[:min(len(es), int(max(0, 21-es[0].Seq)))] }
	assert.Contains(t, k.page(viewer, at).text(), "The log is as it was written", "that its end is gone cannot be seen")
	bodies = steps(url.Values{"anchor_seq": {"25"}, "anchor_mark": {mark[1]}})
	assert.Contains(t, bodies[len(bodies)-1], "cut tail at entry 21", "but by an anchor, kept from step to step")
	for _, bad := range []string{"?anchor_seq=5", "?from_seq=x&from_mark=y", "?anchor_seq=1&anchor_mark=" + strings.Repeat("x", 200)} {
		assert.Equal(t, http.StatusBadRequest, k.page(viewer, at+bad).Code)
	}
}

// A service that began without secrets says of its first entries what they are.
func TestVerifyPageOfPlainEntries(t *testing.T) {
	k, st := tamperedKit(t, 14)
	svc := k.on(st, saccount.Secret{ID: "a", Key: []byte("0123456789abcdef0123456789abcdef")})
	_, err := svc.CreateMember(t.Context(), "setup", "acme", saccount.MemberSpec{ID: "keyed"})
	require.NoError(t, err)
	const at = "orgs/acme/audit/verify"
	first := k.page(viewer, at).text()
	assert.Contains(t, first, "unkeyed at entry 1")
	assert.Contains(t, first, "Take the entries from before it had secrets")
	step := k.page(viewer, at+"?unkeyed=true&limit=10").text()
	assert.Contains(t, step, "entries up to 10 of 16")
	assert.Contains(t, step, `name="unkeyed" value="true"`)
	assert.Contains(t, k.page(viewer, at+"?unkeyed=true").text(), "15 of the entries looked at now are chained without a secret")
}

func TestKeyPolicyPage(t *testing.T) {
	k := newKit(t)
	const at = "orgs/acme/key-policy"
	assert.Contains(t, k.page(viewer, "orgs/acme/settings").text(), "Pointed out as unused after</dt><dd>90 days")
	assert.Equal(t, "orgs/acme/settings", k.send(manager, at, "unused_days", "30", "disable_days", " 60 ", "rotate_days", "", "revision", "1", "once", "1").to(at))
	o, err := k.Service.GetOrg(t.Context(), "acme")
	require.NoError(t, err)
	assert.Equal(t, saccount.KeyPolicy{UnusedDays: 30, DisableDays: 60}, *o.Keys)
	assert.Contains(t, k.page(viewer, "orgs/acme/settings").text(), "after 60 days without a use, with a warning 7 days before")
	assert.Contains(t, k.page(manager, at).text(), `name="disable_days" type="text" value="60"`)
	for field, text := range map[string]string{"unused_days": "a month", "disable_days": "7", "rotate_days": "3651"} {
		a := k.send(manager, at, field, text, "grace_days", "", "once", field)
		assert.Equal(t, http.StatusUnprocessableEntity, a.Code, field)
		assert.Contains(t, a.Body.String(), `value="`+text+`"`, "what was typed is kept")
		assert.Contains(t, a.Body.String(), `class="error"`, field)
	}
	stale := k.send(manager, at, "unused_days", "20", "revision", "1", "once", "2")
	assert.Equal(t, http.StatusConflict, stale.Code)
	assert.Contains(t, stale.Body.String(), "Somebody changed it")
	k.send(manager, at, "once", "3").to(at)
	o, err = k.Service.GetOrg(t.Context(), "acme")
	require.NoError(t, err)
	assert.Nil(t, o.Keys, "all at the defaults")
}

func TestNeedsPage(t *testing.T) {
	k := newKit(t)
	var last saccount.Key
	for i := range 30 {
		k.Advance(time.Second)
		_, last = k.Issue(saccounttest.Spec{Monthly: quota.Credit, Key: saccount.KeySpec{Name: fmt.Sprint("Backend ", i)}})
	}
	_, soon := k.Issue(saccounttest.Spec{Monthly: quota.Credit, Key: saccount.KeySpec{Name: "Soon", Expires: k.Now().Add(9 * 24 * time.Hour)}})
	first := k.page(viewer, "orgs/acme/needs").text()
	assert.Equal(t, 25, strings.Count(first, `<th scope="row">`))
	assert.Contains(t, first, "it lives for ever: set an expiry")
	next := regexp.MustCompile(`rel="next" href="\?([^"]+)"`).FindStringSubmatch(first)
	require.NotNil(t, next)
	second := k.page(viewer, "orgs/acme/needs?"+strings.ReplaceAll(next[1], "&amp;", "&")).text()
	assert.Equal(t, 6, strings.Count(second, `<th scope="row">`))
	expiring := k.page(viewer, "orgs/acme/needs?need=expiring").text()
	assert.Contains(t, expiring, soon.ID)
	assert.Equal(t, 1, strings.Count(expiring, `<th scope="row">`))
	assert.Contains(t, k.page(viewer, "orgs/acme/needs?need=leaked").text(), "no key needs a hand for this")
	one := k.page(viewer, "orgs/acme/needs?account="+last.Account).text()
	assert.Equal(t, 1, strings.Count(one, `<th scope="row">`))
	assert.Equal(t, http.StatusBadRequest, k.page(viewer, "orgs/acme/needs?need=bored").Code)
	assert.Equal(t, http.StatusBadRequest, k.page(viewer, "orgs/acme/needs?after=x").Code)
	overview := k.page(viewer, "orgs/acme").text()
	assert.Equal(t, 5, strings.Count(overview, "it lives for ever"))
	assert.Contains(t, overview, "Look through all keys")
}

func TestReportPages(t *testing.T) {
	k := newKit(t)
	_, err := k.Service.UpdateOrg(t.Context(), "x", "acme", saccount.Update{Limits: saccount.Limits{"": saccount.NewLimit(1000*quota.Credit, quota.Period{Unit: quota.Month})}})
	require.NoError(t, err)
	busy, calm := k.Principal(saccounttest.Spec{Monthly: 2000 * quota.Credit}), k.Principal(saccounttest.Spec{})
	assert.Contains(t, k.page(viewer, "orgs/acme").text(), "Too little was used yet")
	charge := func(p saccount.Principal, n int64) {
		t.Helper()
		_, err := k.Service.Charge(t.Context(), p, saccount.Charge{Amount: quota.Credits(n) * quota.Credit})
		require.NoError(t, err)
	}
	for range 14 { // to the 29th
		charge(busy, 20)
		charge(calm, 1)
		k.Advance(24 * time.Hour)
	}
	charge(busy, 5000) // refused
	overview := k.page(viewer, "orgs/acme").text()
	assert.Contains(t, overview, "294</p><p>credits in 30 days; none before")
	assert.Regexp(t, `At the pace of late <strong>\d+[.\d]* of 1000</strong> \(\d+ %\) will be used when it resets`, overview)
	assert.Regexp(t, `(?s)Accounts that spent most.*Account 1<.*280.*Account 2<.*14<`, overview)
	k.Advance(5 * 24 * time.Hour) // into February
	charge(busy, 140)
	report := k.page(viewer, "orgs/acme/report").text()
	assert.Contains(t, report, "140</p><p>credits;")
	last := k.page(viewer, "orgs/acme/report?period=last").text()
	assert.Contains(t, last, "294</p><p>credits; none before (0)")
	assert.Contains(t, last, "a limit stood in the way: 1")
	assert.Contains(t, last, "Limit credits: spent in its window by the end of each day, at most: 294 credits")
	assert.Regexp(t, `(?s)Service accounts that spent most.*2 of 2.*Account 1<.*280`, last)
	assert.Contains(t, last, "Keys that spent most")
	assert.Contains(t, k.page(viewer, "orgs/acme/report?period=7d").text(), "credits; up ", "beside the week before")
	assert.Contains(t, k.page(viewer, "orgs/acme/accounts/"+busy.AccountID()+"/report?period=last").text(), "280</p>")
	assert.Contains(t, k.page(viewer, "orgs/acme/keys/"+calm.KeyID()+"/report?period=last").text(), "14</p>")
	assert.Equal(t, http.StatusBadRequest, k.page(viewer, "orgs/acme/report?period=1000y").Code)
	rows, err := csv.NewReader(strings.NewReader(k.page(viewer, "orgs/acme/usage.csv?period=last&kind=accounts").text())).ReadAll()
	require.NoError(t, err)
	assert.Len(t, rows, 1+2*31)
	for _, bad := range []string{"kind=orgs", "period=x", "subject=nonsense"} {
		assert.Equal(t, http.StatusBadRequest, k.page(viewer, "orgs/acme/usage.csv?"+bad).Code, bad)
	}
	// The suggested limit, beside the form of an account's limit.
	form := "orgs/acme/limits/account/" + busy.AccountID() + "/"
	assert.Contains(t, k.page(manager, form+"credits").text(), "0 months with spending, and 3 are needed", "January is not whole")
	k.send(manager, form+"+", "limit", "daily", "max", "30", "period", "day", "once", "1").to(form + "+")
	for range 5 {
		charge(busy, 20)
		k.Advance(24 * time.Hour)
	}
	assert.Contains(t, k.page(manager, form+"daily").text(), "Suggested: 180 credits a day.")
}

func TestReportMeasuresAreWords(t *testing.T) {
	k := newKit(t)
	p := k.Principal(saccounttest.Spec{})
	at := "orgs/acme/report?period=7d"
	for i, x := range []struct {
		amount int64
		want   string
	}{{100, "none before"}, {50, "down 50 %"}, {50, "the same as before"}, {75, "up 50 %"}, {1, "down 99 %"}, {900, "more than ten times as much as before"}} {
		_, err := k.Service.Charge(t.Context(), p, saccount.Charge{Amount: quota.Credits(x.amount) * quota.Credit})
		require.NoError(t, err)
		assert.Contains(t, k.page(viewer, at).text(), fmt.Sprintf("%d</p><p>credits; %s", x.amount, x.want), i)
		k.Advance(7 * 24 * time.Hour)
	}
}

// An organization with many accounts is not read through for its overview.
func TestOverviewOfManyAccounts(t *testing.T) {
	k := newKit(t)
	for i := range 101 {
		_, err := k.Service.CreateAccount(t.Context(), "x", "acme", saccount.AccountSpec{Name: fmt.Sprint("Worker ", i)})
		require.NoError(t, err)
	}
	p := k.Principal(saccounttest.Spec{})
	_, err := k.Service.Charge(t.Context(), p, saccount.Charge{Amount: quota.Credit})
	require.NoError(t, err)
	assert.Contains(t, k.page(viewer, "orgs/acme").text(), "too many accounts to rank them here")
	report := k.page(viewer, "orgs/acme/report?period=7d").text()
	assert.NotContains(t, report, "Keys that spent most")
	rank := regexp.MustCompile(`href="\?([^"]+)">Rank all`).FindStringSubmatch(report)
	require.NotNil(t, rank)
	assert.Contains(t, k.page(viewer, "orgs/acme/report?"+strings.ReplaceAll(rank[1], "&amp;", "&")).text(), "Keys that spent most")
}

// What people write is shown as they wrote it on these pages too.
func TestCarePagesHostileNames(t *testing.T) {
	names := hostileNames()
	k := newKit(t)
	shown := 0
	for i, name := range names {
		k.Advance(time.Second)
		a, err := k.Service.CreateAccount(t.Context(), saccount.Actor(strings.TrimSpace(name)), "acme", saccount.AccountSpec{Name: name, Description: name, Labels: map[string]string{"l": name}})
		require.NoError(t, err, name)
		token, key, err := k.Service.CreateKey(t.Context(), "x", "acme", a.ID, saccount.KeySpec{Name: name})
		require.NoError(t, err)
		p, err := k.Service.Authenticate(t.Context(), token.Reveal(), addr("192.0.2.1"))
		require.NoError(t, err)
		_, err = k.Service.Charge(t.Context(), p, saccount.Charge{Amount: quota.Credit})
		require.NoError(t, err)
		if i%10 == 0 {
			_, err = k.Service.ReportLeak(t.Context(), saccount.Leak{Token: token.Reveal(), Source: name, URL: name})
			require.NoError(t, err)
		}
		pages := carePages(a.ID, key.ID)
		if i%20 != 19 {
			pages = []string{"audit?actor=" + url.QueryEscape(name), "needs?account=" + a.ID, "accounts/" + a.ID, "keys/" + key.ID}
		}
		var body strings.Builder
		for _, at := range append(pages, "") {
			at = strings.TrimSuffix("orgs/acme/"+at, "/")
			got := k.page(admin, at)
			require.Equal(t, http.StatusOK, got.Code, "%q: %s", name, at)
			if strings.HasPrefix(got.Header().Get("Content-Type"), "text/html") {
				body.WriteString(got.Body.String())
			}
		}
		for _, bad := range []string{"<script>alert", "<img", "<svg/", "</title><script", `href="javascript`, "7*7=49"} {
			assert.NotContains(t, body.String(), bad, name)
		}
		shown++
	}
	t.Logf("%d names", shown)
}
