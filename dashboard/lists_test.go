package dashboard_test

import (
	"context"
	"fmt"
	"html"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/dashboard"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
)

// A page costs the store as many calls with all its rows as with one.
func TestPagesReadInBounds(t *testing.T) {
	var calls atomic.Int64
	k := kitOf(t, saccounttest.New(t, saccount.Config{Observer: saccount.Observer{
		Stored: func(context.Context, saccount.Stored) { calls.Add(1) },
	}}), dashboard.Config{})
	limit := saccount.Limits{"": saccount.NewLimit(1000*quota.Credit, quota.Period{Unit: quota.Month})}
	var first saccount.Account
	made := 0
	grow := func(to int) {
		for ; made < to; made++ {
			a, err := k.Service.CreateAccount(t.Context(), "user:alice", "acme", saccount.AccountSpec{Name: fmt.Sprint("Worker ", made), Limits: limit})
			require.NoError(t, err)
			if made == 0 {
				first = a
			}
			_, err = k.Service.CreateMember(t.Context(), "user:alice", "acme", saccount.MemberSpec{ID: fmt.Sprint("m", made), Limits: limit})
			require.NoError(t, err)
			for _, id := range []string{a.ID, first.ID} {
				if id == first.ID && made >= 25 {
					continue // more than a page: those that live are read by themselves
				}
				_, _, err := k.Service.CreateKey(t.Context(), "user:alice", "acme", id, saccount.KeySpec{Name: fmt.Sprint("Backend ", id, made), Limits: limit})
				if id != first.ID || made > 0 {
					require.NoError(t, err)
				}
			}
		}
	}
	pages := []string{
		"orgs/acme", "orgs/acme/accounts", "orgs/acme/accounts?sort=name", "orgs/acme/accounts?q=Work", "orgs/acme/accounts?status=disabled",
		"orgs/acme/accounts.csv", "orgs/acme/members", "orgs/acme/accounts/FIRST", "orgs/acme/accounts/FIRST/delete",
	}
	read := func() (out []int64) {
		for _, p := range pages {
			calls.Store(0)
			k.page(manager, strings.Replace(p, "FIRST", first.ID, 1)).text()
			out = append(out, calls.Load())
		}
		return out
	}
	grow(1)
	one := read()
	grow(40)
	many := read()
	assert.Equal(t, one, many, "calls of the store for %v", pages)
	for i, n := range many {
		assert.Positive(t, n, pages[i])
		assert.LessOrEqual(t, n, int64(16), pages[i])
	}
}

// The keys that live are on an account's page however many were deleted before.
func TestAccountWithManyDeletedKeys(t *testing.T) {
	k := newKit(t)
	_, key := k.Issue(saccounttest.Spec{})
	for i := range 250 {
		_, gone, err := k.Service.CreateKey(t.Context(), "user:alice", "acme", key.Account, saccount.KeySpec{Name: fmt.Sprint("Gone ", i)})
		require.NoError(t, err)
		require.NoError(t, k.Service.DeleteKey(t.Context(), "user:alice", "acme", gone.ID))
	}
	_, last, err := k.Service.CreateKey(t.Context(), "user:alice", "acme", key.Account, saccount.KeySpec{Name: "The last one"})
	require.NoError(t, err)
	page := k.page(viewer, "orgs/acme/accounts/"+key.Account).text()
	assert.Contains(t, page, last.ID)
	assert.Contains(t, page, key.ID)
	assert.NotContains(t, page, "Gone")
	assert.NotContains(t, page, "More keys")
	assert.Contains(t, k.page(viewer, "orgs/acme/accounts").text(), `<td data-label="Keys">2</td>`)
	assert.Contains(t, k.page(manager, "orgs/acme/accounts/"+key.Account+"/delete").text(), "2 keys go with it")
}

// The keys of an account are shown a page at a time, all of them in the end.
func TestAccountWithManyKeys(t *testing.T) {
	k := newKit(t)
	a, err := k.Service.CreateAccount(t.Context(), "user:alice", "acme", saccount.AccountSpec{Name: "Worker of many"})
	require.NoError(t, err)
	want := map[string]bool{}
	for i := range 120 {
		_, key, err := k.Service.CreateKey(t.Context(), "user:alice", "acme", a.ID, saccount.KeySpec{Name: fmt.Sprint("Backend ", i)})
		require.NoError(t, err)
		want["keys/"+key.ID+"\""] = true
	}
	path, pages := "orgs/acme/accounts/"+a.ID+"?period=7d", 0
	next := regexp.MustCompile(`<a rel="next" href="(\?[^"]+)">More keys</a>`)
	for path != "" {
		body := k.page(manager, path).text()
		pages++
		for link := range want {
			if strings.Contains(body, link) {
				delete(want, link)
			}
		}
		assert.Equal(t, pages > 1, strings.Contains(body, "First keys"))
		assert.Contains(t, body, "7 days", "the period stays")
		path = ""
		if m := next.FindStringSubmatch(body); m != nil {
			path = "orgs/acme/accounts/" + a.ID + html.UnescapeString(m[1])
		}
	}
	assert.Empty(t, want)
	assert.Equal(t, 5, pages)
	assert.Equal(t, 400, k.page(manager, "orgs/acme/accounts/"+a.ID+"?after=nonsense").Code)
}

// The list of accounts draws a bar for each day of the last thirty with use.
func TestAccountsHaveSparks(t *testing.T) {
	k := newKit(t)
	token := k.Token(saccounttest.Spec{})
	bars := func() int {
		t.Helper()
		m := regexp.MustCompile(`<path class="part0" d="((?:M\d+ 24v-\d+h\d+v\d+z)*)"/>`).FindStringSubmatch(k.page(viewer, "orgs/acme/accounts").text())
		require.NotNil(t, m)
		return strings.Count(m[1], "M")
	}
	assert.Zero(t, bars())
	for range 3 {
		p, err := k.Service.Authenticate(t.Context(), token, addr("192.0.2.1"))
		require.NoError(t, err)
		_, err = k.Service.Charge(t.Context(), p, saccount.Charge{Amount: quota.Credit})
		require.NoError(t, err)
		k.Advance(48 * time.Hour)
	}
	assert.Equal(t, 3, bars())
	k.Advance(26 * 24 * time.Hour)
	assert.Equal(t, 1, bars())
}
