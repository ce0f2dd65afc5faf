package saccount_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/memstore"
)

// A service account with 500 credits a month, and a request that costs some.
func Example() {
	ctx := context.Background()
	svc, err := saccount.New(memstore.New(), saccount.Config{
		Prefix: "acme_live",
		Now:    func() time.Time { return time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer svc.Close()

	const alice = saccount.Actor("user:alice")
	org, err := svc.CreateOrg(ctx, alice, saccount.OrgSpec{Name: "Acme"})
	if err != nil {
		fmt.Println(err)
		return
	}
	account, err := svc.CreateAccount(ctx, alice, org.ID, saccount.AccountSpec{
		Name:   "Production Worker",
		Limits: saccount.Limits{"": saccount.NewLimit(500*quota.Credit, quota.Period{Unit: quota.Month})},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	token, key, err := svc.CreateKey(ctx, alice, org.ID, account.ID, saccount.KeySpec{Name: "Production API Key - Backend Service"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(key.Masked == token.Masked(), strings.HasPrefix(token.Reveal(), token.Masked()))

	caller, err := svc.Authenticate(ctx, token.Reveal(), netip.MustParseAddr("203.0.113.7"))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, cost := range []quota.Credits{499 * quota.Credit, 2 * quota.Credit} {
		d, err := svc.Charge(ctx, caller, saccount.Charge{Amount: cost})
		if err != nil {
			fmt.Println(err)
			return
		}
		left, _ := d.Remaining()
		fmt.Println("allowed:", d.Allowed, "remaining:", left)
	}
	// Output:
	// true true
	// allowed: true remaining: 1
	// allowed: false remaining: 1
}

// A cost that is not known before the work is done.
func ExampleService_Reserve() {
	ctx := context.Background()
	svc, _ := saccount.New(memstore.New(), saccount.Config{})
	defer svc.Close()
	_, _ = svc.CreateOrg(ctx, "user:alice", saccount.OrgSpec{ID: "acme"})
	_, _ = svc.CreateMember(ctx, "user:alice", "acme", saccount.MemberSpec{
		ID: "bob", Limits: saccount.Limits{"": saccount.NewLimit(10*quota.Credit, quota.Period{})},
	})
	bob, err := svc.Member(ctx, "acme", "bob") // signed in by the host
	if err != nil {
		fmt.Println(err)
		return
	}
	held, d, err := svc.Reserve(ctx, bob, saccount.Reserve{Amount: 8 * quota.Credit, TTL: time.Minute})
	if err != nil || !d.Allowed {
		fmt.Println(err, d.Err())
		return
	}
	d, err = held.Commit(ctx, 3*quota.Credit) // or held.Release(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	left, _ := d.Remaining()
	fmt.Println(left)
	// Output: 7
}

// In an update what is left out is unchanged, and limits go by name.
func ExampleService_UpdateAccount() {
	ctx := context.Background()
	svc, _ := saccount.New(memstore.New(), saccount.Config{})
	defer svc.Close()
	_, _ = svc.CreateOrg(ctx, "user:alice", saccount.OrgSpec{ID: "acme", Zone: "Europe/Berlin"})
	a, _ := svc.CreateAccount(ctx, "user:alice", "acme", saccount.AccountSpec{
		Name: "CI pipeline",
		Limits: saccount.Limits{
			"day":   saccount.NewLimit(10*quota.Credit, quota.Period{Unit: quota.Day}),
			"month": saccount.NewLimit(100*quota.Credit, quota.Period{Unit: quota.Month}),
		},
	})
	raised := 200 * quota.Credit
	a, err := svc.UpdateAccount(ctx, "user:alice", "acme", a.ID, saccount.Update{Limits: saccount.Limits{
		"day":   nil,                                                             // removed
		"month": {Max: &raised},                                                  // its period stays
		"hour":  saccount.NewLimit(quota.Credit, quota.Period{Unit: quota.Hour}), // new
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, l := range a.Limits {
		fmt.Println(l.Name, l.Max, l.Period)
	}
	// Output:
	// hour 1 hourly, Europe/Berlin
	// month 200 monthly, Europe/Berlin
}

// The public records are JSON without secrets.
func ExampleKey() {
	b, _ := json.Marshal(saccount.Key{ID: "0123456789abcdef", Name: "Backend", Masked: "acme_live_0123456789abcdef", Status: saccount.StatusActive})
	fmt.Println(string(b))
	// Output: {"id":"0123456789abcdef","account":"","org":"","name":"Backend","masked":"acme_live_0123456789abcdef","status":"active","created":"0001-01-01T00:00:00Z","revision":0}
}

// Where a round trip a charge is too much, charges are spent in memory.
func ExampleConfig_leases() {
	ctx := context.Background()
	svc, err := saccount.New(memstore.New(), saccount.Config{Leases: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer svc.Close() // settles, and gives back what was not spent

	limits := saccount.Limits{"": saccount.NewLimit(500*quota.Credit, quota.Period{})}
	if _, err := svc.CreateOrg(ctx, "user:alice", saccount.OrgSpec{ID: "acme", Limits: limits}); err != nil {
		fmt.Println(err)
		return
	}
	if _, err := svc.CreateMember(ctx, "user:alice", "acme", saccount.MemberSpec{ID: "bob"}); err != nil {
		fmt.Println(err)
		return
	}
	bob, err := svc.Member(ctx, "acme", "bob")
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 1000 {
		if _, err := svc.Charge(ctx, bob, saccount.Charge{Amount: quota.Credit / 10}); err != nil {
			fmt.Println(err)
			return
		}
	}
	if err := svc.Flush(ctx); err != nil { // as happens by itself within a second
		fmt.Println(err)
		return
	}
	status, err := svc.Status(ctx, bob)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(status[0].Subject, status[0].Used, "of", status[0].Max, "stranded", status[0].Stranded)
	// Output: org:acme 100 of 500 stranded 0
}

func ExampleService_Report() {
	ctx := context.Background()
	now := time.Date(2030, 2, 1, 9, 0, 0, 0, time.UTC)
	store := memstore.New()
	svc, err := saccount.New(store, saccount.Config{Now: func() time.Time { return now }})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer svc.Close()
	_, _ = svc.CreateOrg(ctx, "user:alice", saccount.OrgSpec{ID: "acme", Name: "Acme", Limits: saccount.Limits{"": saccount.NewLimit(1000*quota.Credit, quota.Period{Unit: quota.Month})}})
	a, _ := svc.CreateAccount(ctx, "user:alice", "acme", saccount.AccountSpec{Name: "Nightly Export"})
	token, _, _ := svc.CreateKey(ctx, "user:alice", "acme", a.ID, saccount.KeySpec{Name: "production"})
	for range 10 { // 40 credits a day
		_, _, err := svc.AuthenticateAndCharge(ctx, token.Reveal(), nil, saccount.Charge{Amount: 40 * quota.Credit})
		if err != nil {
			fmt.Println(err)
			return
		}
		now = now.AddDate(0, 0, 1)
	}

	r, err := svc.Report(ctx, saccount.ReportQuery{Org: "acme"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(r.Total.Credits, "credits in", r.Total.Requests, "requests, most by", r.Accounts.Top[0].Name)
	l := r.Limits[0]
	fmt.Println("till the end of the month", l.Projection.AtEnd.Whole(), "of", l.Status.Max)
	// Output:
	// 400 credits in 10 requests, most by Nightly Export
	// till the end of the month 1105 of 1000
}
