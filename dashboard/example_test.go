package dashboard_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/keypurse/keypurse/dashboard"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/memstore"
)

// A host mounts the handler under a prefix, behind its own login.
func ExampleNew() {
	svc, err := saccount.New(memstore.New(), saccount.Config{Prefix: "acme_live"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer svc.Close()
	if _, err := svc.CreateOrg(context.Background(), "setup", saccount.OrgSpec{ID: "acme"}); err != nil {
		fmt.Println(err)
		return
	}

	// login stands for whatever tells the host who is signed in.
	login := func(r *http.Request) (user, org string, ok bool) {
		c, err := r.Cookie("session")
		return "alice", "acme", err == nil && c.Value == "alice's session"
	}
	h, err := dashboard.New(svc, dashboard.Config{Authorize: func(r *http.Request) (dashboard.Caller, error) {
		user, org, ok := login(r)
		if !ok {
			return dashboard.Caller{}, saccount.ErrUnauthenticated
		}
		return dashboard.Caller{Actor: saccount.Actor("user:" + user), Org: org, Role: saccount.RoleManage}, nil
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	mux := http.NewServeMux()
	mux.Handle("/console/keys/", h)
	srv := httptest.NewServer(mux)
	defer srv.Close()

	create := func(session string) {
		r, err := http.NewRequest("POST", srv.URL+"/console/keys/api/v1/orgs/acme/accounts", strings.NewReader(`{"name":"Production Worker"}`))
		if err != nil {
			fmt.Println(err)
			return
		}
		r.Header.Set("Content-Type", "application/json")
		r.AddCookie(&http.Cookie{Name: "session", Value: session})
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			fmt.Println(err)
			return
		}
		defer res.Body.Close()
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(res.Status)
	}
	create("")
	create("alice's session")
	// Output:
	// 401 Unauthorized
	// 201 Created
}
