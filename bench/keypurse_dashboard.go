package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/keypurse/keypurse/bench/internal/fixture"
	"github.com/keypurse/keypurse/bench/internal/harness"
	"github.com/keypurse/keypurse/dashboard"
	"github.com/keypurse/keypurse/saccount"
)

// managed is the organization that is looked at: as many accounts and keys as
// one may come to have.
var managed = fixture.Shape{Keys: 1_000_000, Accounts: 100_000, Orgs: 1}

const (
	crowd     = 10_000 // keys of one account more: nothing bounds them
	offEvery  = 1_000  // accounts, of which one is disabled and one deleted
	usedDays  = 30     // of history, an hour each, on what the pages show
	usedPage  = 25     // accounts with history on the first page and on a deep one
	usedCrowd = 200    // keys of the crowd with history
)

// What is asked of the dashboard.
const (
	askOverview = "overview"
	askFirst    = "accounts, first page"
	askDeep     = "accounts, 50,000 down"
	askByName   = "accounts by name, 50,000 down"
	askPrefix   = "accounts by a name prefix that 111 have"
	askDisabled = "accounts, disabled ones"
	askAccount  = "an account with 10 keys"
	askCrowd    = "an account with 10,000 keys"
	askAPI      = "API: 100 accounts, 50,000 down"
	askAPIKeys  = "API: 100 keys, 500,000 down"
	askNeeds    = "keys that need a hand"
	askAudit    = "audit log, newest page"

	// What looks through much, a bounded part at a time.
	askNoNeed = "keys that need a hand, none in 5,000"
	askRare   = "audit log, an entry 10,000 away"
	askVerify = "audit log, 100,000 entries verified"
	askReport = "report of a month"
)

var dashboardAsks = []string{askOverview, askFirst, askDeep, askByName, askPrefix, askDisabled, askAccount, askCrowd, askAPI, askAPIKeys, askNeeds, askAudit}

var longAsks = []string{askNoNeed, askRare, askVerify, askReport}

// boards are the stores that it is asked on: those that outlive a process.
var boards = watchedStores[1:]

// board is a dashboard on a store with an organization in it.
type board struct {
	*service
	h    http.Handler
	pids []int
	urls map[string][]string // of what is asked
}

// newBoard makes one when it is first asked for.
func newBoard(env harness.Env, pg *cluster, p *watchedStore) *lazy[*board] {
	l := &lazy[*board]{}
	l.make = func(ctx context.Context) (*board, func() error, error) {
		st, pids, remove, err := p.open(ctx, env, pg)
		if err != nil {
			return nil, nil, err
		}
		var c clock
		s, err := newService(ctx, st, cut(env, managed), c.now)
		if err != nil {
			return nil, nil, errors.Join(err, st.Close(), remove())
		}
		b := &board{service: s, pids: pids}
		stop := func() error { return errors.Join(b.Close(), remove()) }
		if err := b.furnish(ctx, env, &c); err != nil {
			return nil, nil, errors.Join(err, stop())
		}
		return b, stop, nil
	}
	return l
}

// furnish makes what the tree has not, the past, and the addresses to ask.
func (b *board) furnish(ctx context.Context, env harness.Env, c *clock) (err error) {
	org := orgID(0)
	b.h, err = dashboard.New(b.Service, dashboard.Config{Authorize: func(*http.Request) (dashboard.Caller, error) {
		return dashboard.Caller{Actor: benchActor, Org: org, Role: saccount.RoleAdmin}, nil
	}})
	if err != nil {
		return err
	}
	accounts, keys := cut(env, managed).Accounts, cut(env, managed).Keys
	deep, deepIDs, err := b.page(ctx, "api/v1/orgs/"+org+"/accounts?limit="+strconv.Itoa(saccount.MaxPage), accounts/2)
	if err != nil {
		return err
	}
	_, firstIDs, err := b.page(ctx, "api/v1/orgs/"+org+"/accounts?limit=100", 0)
	if err != nil {
		return err
	}
	byName, _, err := b.page(ctx, "api/v1/orgs/"+org+"/accounts?sort=name&limit="+strconv.Itoa(saccount.MaxPage), accounts/2)
	if err != nil {
		return err
	}
	deepKeys, _, err := b.page(ctx, "api/v1/orgs/"+org+"/keys?limit="+strconv.Itoa(saccount.MaxPage), keys/2)
	if err != nil {
		return err
	}
	crowded, tokens, err := b.crowd(ctx, env.Size(crowd))
	if err != nil {
		return err
	}
	if err := b.some(ctx); err != nil {
		return err
	}
	shown := append(firstIDs[:min(usedPage, len(firstIDs))], deepIDs[:min(usedPage, len(deepIDs))]...)
	if err := b.past(ctx, env, c, shown, tokens[:min(usedCrowd, len(tokens))]); err != nil {
		return err
	}
	at := "/orgs/" + org + "/accounts"
	b.urls = map[string][]string{
		askOverview: {"/orgs/" + org},
		askFirst:    {at},
		askDeep:     {at + "?after=" + deep},
		askByName:   {at + "?sort=name&after=" + byName},
		askPrefix:   {at + "?q=" + url.QueryEscape("account 777")},
		askDisabled: {at + "?status=disabled"},
		askCrowd:    {at + "/" + crowded},
		askAPI:      {"/api/v1/orgs/" + org + "/accounts?limit=100&cursor=" + deep},
		askAPIKeys:  {"/api/v1/orgs/" + org + "/keys?limit=100&cursor=" + deepKeys},
		askNeeds:    {"/orgs/" + org + "/needs"},
		askAudit:    {"/orgs/" + org + "/audit"},
		askNoNeed:   {"/orgs/" + org + "/needs?need=leaked"},
		askRare:     {"/orgs/" + org + "/audit?order=oldest&action=none"},
		askVerify:   {"/orgs/" + org + "/audit/verify"},
		askReport:   {"/orgs/" + org + "/report?period=30d"},
	}
	for _, a := range shown {
		b.urls[askAccount] = append(b.urls[askAccount], at+"/"+a.ID)
	}
	return nil
}

// listed is an account in an answer of the API.
type listed struct{ ID, Name string }

// page follows a list of the API down to the n-th, and gives the cursor and the
// items behind it.
func (b *board) page(ctx context.Context, path string, n int) (cursor string, items []listed, err error) {
	for seen := 0; ; {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://bench/"+path+"&cursor="+cursor, nil)
		if err != nil {
			return "", nil, err
		}
		rec := &answered{recorder: recorder{header: http.Header{}}}
		b.h.ServeHTTP(rec, req)
		var p struct {
			Items []listed
			Next  string
		}
		if err := json.Unmarshal(rec.body, &p); err != nil || rec.status != http.StatusOK {
			return "", nil, fmt.Errorf("%s: status %d: %.200s: %w", path, rec.status, rec.body, err)
		}
		if seen += len(p.Items); seen > n || p.Next == "" {
			return cursor, p.Items, nil
		}
		cursor = p.Next
	}
}

// answered keeps the body too.
type answered struct {
	recorder
	body []byte
}

func (a *answered) Write(p []byte) (int, error) {
	a.body = append(a.body, p...)
	return len(p), nil
}

// crowd makes an account with many keys.
func (b *board) crowd(ctx context.Context, keys int) (id string, tokens []string, err error) {
	seeds := newSeeding(b.store)
	svc, err := saccount.New(seeds, config())
	if err != nil {
		return "", nil, err
	}
	a, err := svc.CreateAccount(ctx, benchActor, orgID(0), saccount.AccountSpec{Name: "crowd"})
	if err == nil {
		err = seeds.flush(ctx)
	}
	for i := 0; i < keys && err == nil; i++ {
		token, _, e := svc.CreateKey(ctx, benchActor, orgID(0), a.ID, saccount.KeySpec{Name: "key " + strconv.Itoa(i)})
		tokens, err = append(tokens, token.Reveal()), e
	}
	return a.ID, tokens, errors.Join(err, seeds.flush(ctx), svc.Close())
}

// some accounts are disabled, and some are deleted.
func (b *board) some(ctx context.Context) error {
	n := 0
	for a, err := range b.Accounts(ctx, orgID(0), saccount.Filter{Limit: saccount.MaxPage}) {
		if err != nil {
			return err
		}
		switch n++; {
		case n%offEvery == offEvery/2:
			err = b.DisableAccount(ctx, benchActor, orgID(0), a.ID)
		case n%offEvery == offEvery-1:
			err = b.DeleteAccount(ctx, benchActor, orgID(0), a.ID)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// past lets a key of each account, and keys of the crowd, be used once an hour,
// many at a time.
func (b *board) past(ctx context.Context, env harness.Env, c *clock, accounts []listed, tokens []string) error {
	each := cut(env, managed).Accounts
	for _, a := range accounts {
		if n, err := strconv.Atoi(strings.TrimPrefix(a.Name, "account ")); err == nil && n < each && n < len(b.tokens) {
			tokens = append(tokens, b.tokens[n])
		}
	}
	defer c.past.Store(nil)
	hours := usedDays * 24
	if env.Quick {
		hours = 24
	}
	start := time.Now().Add(-time.Duration(hours) * time.Hour)
	for hour := range hours {
		at := start.Add(time.Duration(hour) * time.Hour)
		c.past.Store(&at)
		var wg sync.WaitGroup
		errs := make(chan error, len(tokens))
		for _, t := range tokens {
			wg.Go(func() {
				_, _, err := b.AuthenticateAndCharge(ctx, t, nil, saccount.Charge{Amount: 1})
				if err != nil {
					errs <- err
				}
			})
		}
		wg.Wait()
		select {
		case err := <-errs:
			return err
		default:
		}
	}
	return nil
}

// looked is one thing that is asked of the dashboard on a store, whole pages
// written, by one caller.
func looked(ask string, p *watchedStore, l *lazy[*board]) harness.Case {
	return harness.Case{Work: ask, Who: whoKeypurse + ", " + p.name, Group: p.name,
		Setup: func(ctx context.Context, _ harness.Env) (*harness.Running, error) {
			b, err := l.get(ctx)
			if err != nil {
				return nil, err
			}
			urls := b.urls[ask]
			return &harness.Running{PIDs: b.pids, Close: l.release, Op: func(w, i int) error {
				u := urls[fixture.Pick(w, i, len(urls))]
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://bench"+u, nil)
				if err != nil {
					return err
				}
				req.RemoteAddr, req.RequestURI = "192.0.2.1:1234", u
				rec := &recorder{header: http.Header{}}
				b.h.ServeHTTP(rec, req)
				if rec.status != http.StatusOK {
					return fmt.Errorf("%s: status %d", u, rec.status)
				}
				return nil
			}}, nil
		}}
}
