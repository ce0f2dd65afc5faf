package dashboard_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

var fieldNames = regexp.MustCompile(` name="([a-z]+(?:-\d+)?)"`)

// A rate limit is set, kept, changed and removed.
func TestPagesRateLimit(t *testing.T) {
	k := newKit(t)
	a, err := k.Service.CreateAccount(t.Context(), "x", "acme", saccount.AccountSpec{Name: "Worker of nights"})
	require.NoError(t, err)
	_, key, err := k.Service.CreateKey(t.Context(), "x", "acme", a.ID, saccount.KeySpec{Name: "Backend"})
	require.NoError(t, err)
	rates := map[string]func() *saccount.RateLimit{
		"orgs/acme/accounts/" + a.ID + "/edit": func() *saccount.RateLimit {
			a, err := k.Service.GetAccount(t.Context(), "acme", a.ID)
			require.NoError(t, err)
			return a.Rate
		},
		"orgs/acme/keys/" + key.ID + "/edit": func() *saccount.RateLimit {
			key, err := k.Service.GetKey(t.Context(), "acme", key.ID)
			require.NoError(t, err)
			return key.Rate
		},
	}
	for edit, rate := range rates {
		send := func(fields ...string) answer {
			return k.send(manager, edit, append(fields, "name", "Worker of nights", "expiry", "never", "once", fmt.Sprint(edit, fields))...)
		}
		for wrong, at := range map[[2]string]string{{"many", ""}: "rate", {"-1", ""}: "rate", {"NaN", ""}: "rate", {"", "5"}: "rate", {"5", "0"}: "burst", {"5", "1.5"}: "burst"} {
			a := send("rate", wrong[0], "burst", wrong[1])
			assert.Equal(t, http.StatusUnprocessableEntity, a.Code, wrong)
			assert.Contains(t, a.Body.String(), "f-"+at+"-error", wrong)
		}
		send("rate", "2.5", "burst", "").to(edit)
		assert.Equal(t, &saccount.RateLimit{PerSecond: 2.5, Burst: 3}, rate())
		assert.Contains(t, k.page(manager, edit).text(), `value="2.5"`)
		send().to(edit)
		assert.NotNil(t, rate(), "a form without the fields changes nothing")
		send("rate", "20", "burst", "100").to(edit)
		assert.Equal(t, &saccount.RateLimit{PerSecond: 20, Burst: 100}, rate())
		send("rate", "", "burst", "").to(edit)
		assert.Nil(t, rate())
	}
}

// Several limits are made, changed and removed in the one form of an account, and
// of a key, and what was not changed goes on as it was.
func TestPagesSeveralLimits(t *testing.T) {
	k := newKit(t)
	fields := func(body string) string {
		var out []string
		for _, m := range fieldNames.FindAllStringSubmatch(body, -1) {
			if strings.Contains(m[1], "limit") || strings.Contains(m[1], "max") {
				out = append(out, m[1])
			}
		}
		return strings.Join(out, " ")
	}
	const create = "orgs/acme/accounts/new"
	assert.Equal(t, "max", fields(k.page(manager, create).text()))
	asked := k.send(manager, create, "name", "Worker of nights", "max", "500", "period", "month", "zone", "", "add", "limit", "once", "1").text()
	assert.Equal(t, "limit max limit-2 max-2", fields(asked))
	assert.Contains(t, asked, `value="Worker of nights"`)
	assert.Contains(t, asked, `value="500"`)
	list, err := k.Service.ListAccounts(t.Context(), "acme", saccount.Filter{})
	require.NoError(t, err)
	assert.Empty(t, list.Items, "it was asked for one more field, no account")

	// What is wrong is said where it is.
	for want, wrong := range map[string][]string{
		"f-limit-2-error":  {"limit-2", "credits", "max-2", "5"},
		"f-max-2-error":    {"limit-2", "daily", "max-2", "5,5"},
		"f-zone-2-error":   {"limit-2", "daily", "max-2", "5", "period-2", "day", "zone-2", "Europe/Nowhere"},
		"f-period-2-error": {"limit-2", "daily", "max-2", "5", "period-2", "fortnight"},
	} {
		a := k.send(manager, create, append(wrong, "name", "Worker of nights", "limit", "credits", "max", "500", "period", "month", "once", want)...)
		assert.Equal(t, http.StatusUnprocessableEntity, a.Code, want)
		assert.Equal(t, 1, strings.Count(a.Body.String(), `class="error"`), want)
		assert.Contains(t, a.Body.String(), want)
	}
	assert.Contains(t, k.send(manager, create, "name", "x y z", "max", "1", "max-2", "5", "once", "n").Body.String(), "f-limit-2-error", "a second one has a name")

	to := k.send(manager, create, "name", "Worker of nights", "limit", "credits", "max", "500", "period", "month", "limit-2", "daily", "max-2", "20", "period-2", "day",
		"zone-2", "Asia/Tokyo", "limit-3", "", "max-3", "", "period-3", "month", "once", "1").to(create)
	id := to[strings.LastIndex(to, "/")+1:]
	limits := func() map[string]quota.Limit {
		t.Helper()
		a, err := k.Service.GetAccount(t.Context(), "acme", id)
		require.NoError(t, err)
		out := map[string]quota.Limit{}
		for _, l := range a.Limits {
			out[l.Name] = l
		}
		return out
	}
	made := limits()
	require.Len(t, made, 2)
	assert.Equal(t, 500*quota.Credit, made["credits"].Max)
	assert.Equal(t, quota.Period{Unit: quota.Day, Zone: "Asia/Tokyo"}, made["daily"].Period)

	edit := to + "/edit"
	shown := k.page(manager, edit).text()
	assert.Equal(t, "limit max limit-2 max-2", fields(shown))
	assert.Contains(t, shown, "Empty: the limit is removed")
	k.send(manager, edit, "revision", "1", "name", "Worker of nights", "limit", "credits", "max", "500", "period", "month", "zone", "UTC",
		"limit-2", "daily", "max-2", "20", "period-2", "day", "zone-2", "Asia/Tokyo", "once", "2").to(edit)
	assert.Equal(t, made, limits(), "nothing was changed")
	k.send(manager, edit, "name", "Worker of nights", "limit", "daily", "max", "30", "period", "day", "zone", "Asia/Tokyo", "limit-2", "credits", "max-2", "", "period-2", "month",
		"limit-3", "hourly", "max-3", "0.5", "period-3", "hour", "once", "3").to(edit)
	now := limits()
	require.Len(t, now, 2, "the emptied one was removed")
	assert.Equal(t, 30*quota.Credit, now["daily"].Max)
	assert.Equal(t, made["daily"].Number, now["daily"].Number, "its windows go on")
	assert.Equal(t, quota.Hour, now["hourly"].Period.Unit)

	// One that another removed meanwhile is not made again under another name.
	require.NoError(t, k.Service.DeleteAccount(t.Context(), "x", "acme", id))
	a, err := k.Service.CreateAccount(t.Context(), "x", "acme", saccount.AccountSpec{Name: "Worker of days"})
	require.NoError(t, err)
	late := k.send(manager, "orgs/acme/accounts/"+a.ID+"/edit", "revision", "9", "name", "Worker of days", "limit", "daily", "max", "30", "period", "day", "once", "4")
	assert.Equal(t, http.StatusConflict, late.Code)
	assert.Contains(t, late.Body.String(), `name="limit" type="text" value="daily"`)

	// A key's, too.
	keys := "orgs/acme/accounts/" + a.ID + "/keys/new"
	assert.Contains(t, k.page(manager, keys).text(), `<option value="staging">`)
	assert.Equal(t, "limit max limit-2 max-2", fields(k.send(manager, keys, "name", "Backend", "expiry", "90d", "max", "", "add", "limit", "once", "k").text()))
	k.send(manager, keys, "name", "Backend", "expiry", "90d", "max", "9", "period", "day", "limit-2", "total", "max-2", "100", "period-2", "never", "once", "k").text()
	ks, err := k.Service.ListKeys(t.Context(), "acme", a.ID, saccount.Filter{})
	require.NoError(t, err)
	require.Len(t, ks.Items[0].Limits, 2)
	edit = "orgs/acme/keys/" + ks.Items[0].ID + "/edit"
	k.send(manager, edit, "name", "Backend", "expiry", "never", "limit", "total", "max", "", "once", "ke").to(edit)
	key, err := k.Service.GetKey(t.Context(), "acme", ks.Items[0].ID)
	require.NoError(t, err)
	require.Len(t, key.Limits, 1)
	assert.Equal(t, "credits", key.Limits[0].Name)

	// At most as many fields as there can be limits.
	many := []string{"name", "Backend", "expiry", "never", "add", "limit", "once", "m", "max", ""}
	for i := 2; i <= quota.MaxLimits; i++ {
		many = append(many, fmt.Sprint("max-", i), "")
	}
	full := k.send(manager, edit, many...).text()
	assert.Contains(t, full, `name="max-16"`)
	assert.NotContains(t, full, `name="max-17"`)
	assert.NotContains(t, full, `name="add"`)
}
