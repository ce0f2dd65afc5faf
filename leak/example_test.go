package leak_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/keypurse/keypurse/leak"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/memstore"
)

// Somebody found a token and hands it in. Whether it is real, the answer does
// not tell.
func ExamplePlain() {
	st := memstore.New()
	defer func() { _ = st.Close() }()
	svc, err := saccount.New(st, saccount.Config{Prefix: "acme_live"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = svc.Close() }()
	ctx := context.Background()
	org, _ := svc.CreateOrg(ctx, "user:alice", saccount.OrgSpec{Name: "Acme"})
	account, _ := svc.CreateAccount(ctx, "user:alice", org.ID, saccount.AccountSpec{Name: "Production Worker"})
	token, key, err := svc.CreateKey(ctx, "user:alice", org.ID, account.ID, saccount.KeySpec{Name: "Backend"})
	if err != nil {
		fmt.Println(err)
		return
	}
	plain, err := leak.Plain(svc, leak.Config{Pace: 10 * time.Millisecond})
	if err != nil {
		fmt.Println(err)
		return
	}
	w := httptest.NewRecorder()
	plain.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/leaks", strings.NewReader(token.Reveal())))
	fmt.Print(w.Code, " ", w.Body)
	key, err = svc.GetKey(ctx, org.ID, key.ID)
	fmt.Println(key.Status, err)
	// Output:
	// 202 Thank you. If this is a token of ours, it is disabled.
	// disabled <nil>
}

// GitHub's secret scanning sends what it finds, signed.
func ExampleGitHub() {
	st := memstore.New()
	defer func() { _ = st.Close() }()
	svc, err := saccount.New(st, saccount.Config{Prefix: "acme_live"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = svc.Close() }()
	github, err := leak.GitHub(svc, leak.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	mux := http.NewServeMux()
	mux.Handle("POST /leaks/github", github)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/leaks/github", strings.NewReader(`[]`)))
	fmt.Println(w.Code)
	// Output: 403
}
