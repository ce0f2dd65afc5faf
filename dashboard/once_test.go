package dashboard_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/dashboard"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/boltstore"
)

// Every POST that is sent again under the same Idempotency-Key is done once.
func TestIdempotencyKeys(t *testing.T) {
	n := 0
	for _, op := range newWorld(t).operations() {
		if op.Method != "POST" || op.ID == "verify" || op.ID == "reportLeak" { // they need none: see TestLeaks
			continue
		}
		w := newWorld(t)
		count := func() (total int) {
			for _, org := range []string{"acme", saccount.HostPartition} {
				head, err := w.Service.AuditHead(t.Context(), org)
				require.NoError(t, err)
				total += int(head.Seq)
			}
			p, err := w.Service.ListOrgs(t.Context(), saccount.Filter{})
			require.NoError(t, err)
			return total + len(p.Items)
		}
		spent := func() any {
			return w.do(viewer, "GET", "orgs/acme/status", "").ok(200)["limits"]
		}
		key := []string{"Idempotency-Key", `"once"`}
		if op.ID == "commit" || op.ID == "release" || op.ID == "renew" {
			key = nil // the reservation's id is enough
		}
		first := w.send(staff, op, w.Acme, key...)
		require.Less(t, first.Code, 300, "%s: %s", op.ID, first.Body)
		changes, credits := count(), spent()
		body, one := first.object(), ""
		for range 3 {
			again := w.send(staff, op, w.Acme, key...)
			require.Equal(t, first.Code, again.Code, "%s: %s", op.ID, again.Body)
			got := again.object()
			if one = again.Header().Get("Idempotency-Replayed"); one != "" {
				assert.Equal(t, "true", one, op.ID)
				if body["token"] != nil {
					assert.NotContains(t, again.Body.String(), body["token"], op.ID)
					assert.Contains(t, got["notice"], "shown by the first answer", op.ID)
				}
				if body["secret"] != nil {
					assert.NotContains(t, again.Body.String(), body["secret"], op.ID)
					assert.Contains(t, got["notice"], "read it from secrets", op.ID)
				}
				assert.Equal(t, body["id"], got["id"], op.ID)
				assert.Equal(t, first.Header().Get("ETag"), again.Header().Get("ETag"), op.ID)
			} else if op.ID == "charge" || op.ID == "reserve" || op.ID == "refund" || op.ID == "commit" || op.ID == "release" {
				assert.Equal(t, true, got["replayed"], op.ID)
				assert.Equal(t, body["id"], got["id"], op.ID)
			} else {
				assert.Equal(t, "renew", op.ID)
			}
		}
		assert.Equal(t, changes, count(), op.ID)
		assert.Equal(t, credits, spent(), op.ID)
		n++
		if key == nil || op.ID == "reserve" || op.ID == "charge" || op.ID == "refund" {
			continue
		}
		// Somebody else's is another, and something else under it is refused.
		w2 := w.send("admin *", op, w.Acme, "Idempotency-Key", "another")
		require.NotEqual(t, "true", w2.Header().Get("Idempotency-Replayed"), op.ID)
		path, _ := w.Request(op, w.Acme)
		other := w.do(staff, "POST", path, `{"name":"Something else"}`, key...)
		if other.Code != 415 {
			assert.Equal(t, 422, other.Code, "%s: %s", op.ID, other.Body)
			assert.Equal(t, "id_conflict", other.code(), op.ID)
		}
	}
	t.Logf("%d operations", n)
}

func TestIdempotencyKeysThatAreWrong(t *testing.T) {
	k := newKit(t)
	for _, v := range []string{"", `"`, `"a`, `"a"b"`, strings.Repeat("x", 129), "\x01"} {
		a := k.do(manager, "POST", "orgs/acme/accounts", `{"name":"A"}`, "Idempotency-Key", v)
		assert.Equal(t, 400, a.Code, "%q", v)
		assert.Equal(t, []string{"Idempotency-Key"}, a.pointers())
	}
	// Two people may choose the same.
	k.do(manager, "POST", "orgs/acme/accounts", `{"name":"A"}`, "Idempotency-Key", "x").ok(201)
	k.do(manager, "POST", "orgs/acme/accounts", `{"name":"B"}`, "Idempotency-Key", "x").ok(422)
	h, err := dashboard.New(k.Service, dashboard.Config{Authorize: func(*http.Request) (dashboard.Caller, error) {
		return dashboard.Caller{Actor: "user:bob", Org: "acme", Role: saccount.RoleManage}, nil
	}})
	require.NoError(t, err)
	k.h = h
	k.do(manager, "POST", "orgs/acme/accounts", `{"name":"B"}`, "Idempotency-Key", "x").ok(201)
	// One that failed is not remembered.
	k.do(manager, "POST", "orgs/acme/accounts", `{"name":"B"}`, "Idempotency-Key", "y").ok(409)
	k.do(manager, "POST", "orgs/acme/accounts", `{"name":"C"}`, "Idempotency-Key", "y").ok(201)
}

// It survives a restart, and of many at once, in two processes' handlers on
// one store, one makes the key.
func TestIdempotencyOutlivesTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	var ids []string
	var token string
	for life := range 3 {
		st, err := boltstore.Open(path, boltstore.Config{})
		require.NoError(t, err)
		var handlers []http.Handler
		var svcs []*saccount.Service
		for range 2 {
			svc, err := saccount.New(st, saccount.Config{})
			require.NoError(t, err)
			svcs = append(svcs, svc)
			h, err := dashboard.New(svc, dashboard.Config{Authorize: authorize})
			require.NoError(t, err)
			handlers = append(handlers, h)
		}
		if life == 0 {
			_, err := svcs[0].CreateOrg(t.Context(), "setup", saccount.OrgSpec{ID: "acme"})
			require.NoError(t, err)
			a, err := svcs[0].CreateAccount(t.Context(), "setup", "acme", saccount.AccountSpec{Name: "Production Worker"})
			require.NoError(t, err)
			ids = append(ids, a.ID)
		}
		var wg sync.WaitGroup
		answers := make([]answer, 20)
		for i := range answers {
			wg.Go(func() {
				k := &kit{t: t, h: handlers[i%2]}
				answers[i] = k.do(manager, "POST", "orgs/acme/accounts/"+ids[0]+"/keys", `{"name":"Backend"}`, "Idempotency-Key", "once")
			})
		}
		wg.Wait()
		shown := 0
		for _, a := range answers {
			got := a.ok(201)
			if s, ok := got["token"].(string); ok {
				shown, token = shown+1, s
			} else {
				assert.Equal(t, "true", a.Header().Get("Idempotency-Replayed"))
			}
			if len(ids) == 1 {
				ids = append(ids, got["id"].(string))
			}
			assert.Equal(t, ids[1], got["id"])
		}
		assert.Equal(t, map[bool]int{true: 1, false: 0}[life == 0], shown, "life %d", life)
		p, err := svcs[0].ListKeys(t.Context(), "acme", "", saccount.Filter{})
		require.NoError(t, err)
		assert.Len(t, p.Items, 1)
		for _, s := range svcs {
			require.NoError(t, s.Close())
		}
		require.NoError(t, st.Close())
	}
	assert.NotEmpty(t, token)
}

// Two editors, and two hundred: each edit is based on what was read, all but
// one of those that read the same are told so, and none is lost.
func TestEditorsRace(t *testing.T) {
	k := newKit(t)
	made := k.do(manager, "POST", "orgs/acme/accounts", `{"name":"Production Worker"}`)
	path := "orgs/acme/accounts/" + made.ok(201)["id"].(string)
	etag := made.Header().Get("ETag")
	codes := make([]int, 2)
	var wg sync.WaitGroup
	for i := range codes {
		wg.Go(func() {
			codes[i] = k.do(manager, "PATCH", path, fmt.Sprintf(`{"labels":{"editor%d":"was here"}}`, i), "If-Match", etag).Code
		})
	}
	wg.Wait()
	assert.ElementsMatch(t, []int{200, 412}, codes)
	// The one that was refused reads again, and both edits are there.
	for i, code := range codes {
		if code == 412 {
			now := k.do(manager, "GET", path, "")
			k.do(manager, "PATCH", path, fmt.Sprintf(`{"labels":{"editor%d":"was here"}}`, i), "If-Match", now.Header().Get("ETag")).ok(200)
		}
	}
	got := k.do(manager, "GET", path, "").ok(200)
	assert.Equal(t, map[string]any{"editor0": "was here", "editor1": "was here"}, got["labels"])

	stale := 0
	var mu sync.Mutex
	for i := range 20 {
		wg.Go(func() {
			for {
				now := k.do(manager, "GET", path, "")
				a := k.do(manager, "PATCH", path, fmt.Sprintf(`{"labels":{"crowd%d":"x"}}`, i), "If-Match", now.Header().Get("ETag"))
				if a.Code == 200 {
					return
				}
				assert.Equal(t, "stale", a.code())
				mu.Lock()
				stale++
				mu.Unlock()
			}
		})
		wg.Go(func() { // who does not care what is there loses nothing either
			k.do(manager, "PATCH", path, fmt.Sprintf(`{"labels":{"any%d":"x"}}`, i%10), "If-Match", "*")
		})
	}
	wg.Wait()
	labels := k.do(manager, "GET", path, "").ok(200)["labels"].(map[string]any)
	for i := range 20 {
		assert.Contains(t, labels, fmt.Sprintf("crowd%d", i))
	}
	t.Logf("%d were told that they were late", stale)
}

// Of many who send what they have read at the same moment, one wins, each time.
func TestOneEditorWins(t *testing.T) {
	k := newKit(t)
	path := "orgs/acme/accounts/" + k.do(manager, "POST", "orgs/acme/accounts", `{"name":"Production Worker"}`).ok(201)["id"].(string)
	const rounds, editors = 200, 8
	for round := range rounds {
		etag := k.do(manager, "GET", path, "").Header().Get("ETag")
		codes := make([]int, editors)
		start := make(chan struct{})
		var wg sync.WaitGroup
		for i := range codes {
			wg.Go(func() {
				<-start
				codes[i] = k.do(manager, "PATCH", path, fmt.Sprintf(`{"description":"round %d, editor %d"}`, round, i), "If-Match", etag).Code
			})
		}
		close(start)
		wg.Wait()
		won := 0
		for _, c := range codes {
			if c == 200 {
				won++
			} else {
				require.Equal(t, 412, c)
			}
		}
		require.Equal(t, 1, won, "round %d", round)
	}
	assert.EqualValues(t, 1+rounds, k.do(manager, "GET", path, "").ok(200)["revision"])
}

func TestIfMatch(t *testing.T) {
	k := newKit(t)
	id := k.do(manager, "POST", "orgs/acme/accounts", `{"name":"Production Worker"}`).ok(201)["id"].(string)
	path := "orgs/acme/accounts/" + id
	a := k.do(manager, "PATCH", path, `{"name":"New"}`)
	assert.Equal(t, 428, a.Code)
	assert.Equal(t, "if_match_required", a.code())
	for _, bad := range []string{"1", `W/"1"`, `"x"`, `"1", "2"`, `"0"`, `"01"`, ""} {
		assert.Equal(t, 400, k.do(manager, "PATCH", path, `{"name":"New"}`, "If-Match", bad).Code, bad)
	}
	for _, op := range [][2]string{{"POST", path + "/disable"}, {"POST", path + "/enable"}, {"DELETE", path}, {"PUT", path + "/limits/credits"}} {
		body := ""
		if op[0] == "PUT" {
			body = `{"max":"1"}`
		}
		assert.Equal(t, 412, k.do(manager, op[0], op[1], body, "If-Match", `"7"`).Code, op)
	}
	assert.Equal(t, 412, k.do(manager, "PATCH", path, `{"name":"New"}`, "If-Match", `"7"`).Code)
	assert.Equal(t, 400, k.do(manager, "GET", path, "", "If-Match", `"1"`).Code)
	now := k.do(manager, "POST", path+"/disable", "", "If-Match", `"1"`)
	assert.Equal(t, "disabled", now.ok(200)["status"])
	assert.Equal(t, `"2"`, now.Header().Get("ETag"))
	k.do(manager, "DELETE", path, "", "If-Match", `"2"`).ok(204)
	assert.Equal(t, 404, k.do(manager, "GET", path, "").Code)
	assert.Equal(t, "deleted", k.do(manager, "GET", path+"?deleted=true", "").ok(200)["status"])
}
