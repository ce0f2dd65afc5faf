package saccount_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/memstore"
)

// The audit log says who changed what, from where, and can be checked against a
// head that was kept outside of the store.
func ExampleService_Verify() {
	st := memstore.New()
	defer func() { _ = st.Close() }()
	svc, err := saccount.New(st, saccount.Config{
		Secrets: []saccount.Secret{{ID: "2026-03", Key: []byte("32 random bytes from your vault.")}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = svc.Close() }()
	ctx := saccount.WithOrigin(context.Background(), saccount.Origin{Request: "req-17", Addr: netip.MustParseAddr("192.0.2.7")})
	if _, err := svc.CreateOrg(ctx, "user:alice", saccount.OrgSpec{ID: "acme", Name: "Acme"}); err != nil {
		fmt.Println(err)
		return
	}
	if err := svc.DisableOrg(ctx, "user:bob", "acme"); err != nil {
		fmt.Println(err)
		return
	}
	for e, err := range svc.AuditEntries(ctx, "acme", saccount.AuditFilter{Newest: true}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(e.Seq, e.Actor, e.Action, e.Subject, e.Addr, e.Request)
	}
	anchor, err := svc.AuditHead(ctx, "acme") // mail it to yourself
	if err != nil {
		fmt.Println(err)
		return
	}
	v, err := svc.Verify(ctx, "acme", saccount.Verify{Anchor: anchor})
	fmt.Println(v.Entries, v.Bad, err)
	// Output:
	// 2 user:bob disable org:acme 192.0.2.7 req-17
	// 1 user:alice create org:acme 192.0.2.7 req-17
	// 2 <nil> <nil>
}

// An auditor gets a file.
func ExampleWriteAuditCSV() {
	st := memstore.New()
	defer func() { _ = st.Close() }()
	svc, err := saccount.New(st, saccount.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = svc.Close() }()
	ctx := context.Background()
	if _, err := svc.CreateOrg(ctx, "=1+1", saccount.OrgSpec{ID: "acme"}); err != nil {
		fmt.Println(err)
		return
	}
	var file strings.Builder
	if err := saccount.WriteAuditCSV(&file, svc.AuditEntries(ctx, "acme", saccount.AuditFilter{})); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(strings.Contains(file.String(), "acme,'=1+1,create,org:acme"))
	// Output: true
}

// Keys that somebody should look at, and why.
func ExampleService_KeysInNeed() {
	st := memstore.New()
	defer func() { _ = st.Close() }()
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	svc, err := saccount.New(st, saccount.Config{Now: func() time.Time { return now }})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = svc.Close() }()
	ctx := context.Background()
	const alice = saccount.Actor("user:alice")
	if _, err := svc.CreateOrg(ctx, alice, saccount.OrgSpec{ID: "acme"}); err != nil {
		fmt.Println(err)
		return
	}
	// What the organization asks of its keys. Those that nobody uses for 90 days
	// are disabled, a week after a warning.
	if _, err := svc.UpdateOrg(ctx, alice, "acme", saccount.Update{Keys: &saccount.KeyPolicy{DisableDays: 90}}); err != nil {
		fmt.Println(err)
		return
	}
	account, err := svc.CreateAccount(ctx, alice, "acme", saccount.AccountSpec{Name: "Production Worker"})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, _, err := svc.CreateKey(ctx, alice, "acme", account.ID, saccount.KeySpec{Name: "Backend"}); err != nil {
		fmt.Println(err)
		return
	}
	now = now.AddDate(0, 0, 85)
	for k, err := range svc.AllKeysInNeed(ctx, "acme", saccount.NeedFilter{}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		for i := range k.Needs {
			fmt.Printf("%s: %s: %s\n", k.Key.Name, k.Needs[i], k.Advice[i])
		}
	}
	tell := func(e saccount.Enforced) error {
		fmt.Println(e.Key.Name, "disabled:", e.Disabled, e.When.Format(time.DateOnly))
		return nil
	}
	for range 2 {
		if err := svc.EnforceKeyPolicy(ctx, "acme", now, tell); err != nil {
			fmt.Println(err)
			return
		}
		now = now.AddDate(0, 0, 7)
	}
	// Output:
	// Backend: never used: it was never used since 2026-03-10: delete it if nobody waits for it
	// Backend: no expiry: it lives for ever: set an expiry
	// Backend: no limit: neither it nor its account nor the organization has a limit: set one
	// Backend disabled: false 2026-06-10
	// Backend disabled: true 2026-06-10
}

// Somebody found a token in public.
func ExampleService_ReportLeak() {
	st := memstore.New()
	defer func() { _ = st.Close() }()
	svc, err := saccount.New(st, saccount.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = svc.Close() }()
	ctx := context.Background()
	if _, err := svc.CreateOrg(ctx, "user:alice", saccount.OrgSpec{ID: "acme"}); err != nil {
		fmt.Println(err)
		return
	}
	account, err := svc.CreateAccount(ctx, "user:alice", "acme", saccount.AccountSpec{Name: "Production Worker"})
	if err != nil {
		fmt.Println(err)
		return
	}
	token, key, err := svc.CreateKey(ctx, "user:alice", "acme", account.ID, saccount.KeySpec{Name: "Backend"})
	if err != nil {
		fmt.Println(err)
		return
	}
	found, err := svc.ReportLeak(ctx, saccount.Leak{Token: token.Reveal(), Source: "a customer"})
	fmt.Println(found.Real, found.Disabled, found.Subject.ID() == key.ID, err)
	_, err = svc.Authenticate(ctx, token.Reveal(), netip.Addr{})
	fmt.Println(errors.Is(err, saccount.ErrUnauthenticated))
	// Output:
	// true true true <nil>
	// true
}
