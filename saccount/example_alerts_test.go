package saccount_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/memstore"
)

// A host hears of every organization's alerts by sinks of its own. Here they are
// delivered by a call; a service runs go svc.Watch(ctx).
func ExampleService_Watch() {
	ctx := context.Background()
	st := memstore.New()
	defer st.Close()
	svc, err := saccount.New(st, saccount.Config{Alerts: saccount.Alerts{
		Sinks: []alert.Route{{Name: "print", Sink: alert.Func(func(_ context.Context, a alert.Alert) error {
			fmt.Println(a.Text)
			return nil
		}), Filter: alert.Filter{Kinds: []alert.Kind{alert.KindThreshold, alert.KindOverage}}}},
		Rules: saccount.Rules{Unused: 90, Unusual: true}, // besides what is on without asking
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer svc.Close()
	_, err = svc.CreateOrg(ctx, "user:ann", saccount.OrgSpec{ID: "acme"})
	if err != nil {
		fmt.Println(err)
		return
	}
	worker, err := svc.CreateAccount(ctx, "user:ann", "acme", saccount.AccountSpec{
		Name: "Production Worker", Limits: saccount.Limits{"": saccount.NewLimit(10*quota.Credit, quota.Period{})},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	token, _, err := svc.CreateKey(ctx, "user:ann", "acme", worker.ID, saccount.KeySpec{Name: "Backend"})
	if err != nil {
		fmt.Println(err)
		return
	}
	caller, err := svc.Authenticate(ctx, token.Reveal(), netip.Addr{})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := svc.Charge(ctx, caller, saccount.Charge{Amount: 8 * quota.Credit}); err != nil {
		fmt.Println(err)
		return
	}
	if err := svc.DeliverAlerts(ctx); err != nil {
		fmt.Println(err)
	}
	// Unordered output:
	// Service account “Production Worker” has spent 8 credits, 50% or more of its limit of 10 credits.
	// Service account “Production Worker” has spent 8 credits, 80% or more of its limit of 10 credits.
}

// An organization's recipients are its own: here a mail address that hears of
// everything, and a webhook that hears of overage.
func ExampleService_AddRecipient() {
	ctx := context.Background()
	st := memstore.New()
	defer st.Close()
	svc, err := saccount.New(st, saccount.Config{
		Secrets: []saccount.Secret{{ID: "2026-03", Key: []byte("32 random bytes, from crypto/rand")}},
		Alerts: saccount.Alerts{Email: func(_ context.Context, m alert.Email) error {
			fmt.Println(m.To, m.Subject)
			return nil
		}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer svc.Close()
	if _, err := svc.CreateOrg(ctx, "user:ann", saccount.OrgSpec{ID: "acme", Name: "Acme"}); err != nil {
		fmt.Println(err)
		return
	}
	if _, err := svc.AddRecipient(ctx, "user:ann", "acme", saccount.RecipientSpec{Email: "ops@acme.example"}); err != nil {
		fmt.Println(err)
		return
	}
	hook, err := svc.AddRecipient(ctx, "user:ann", "acme", saccount.RecipientSpec{
		URL: "https://acme.example/alerts", Filter: alert.Filter{Kinds: []alert.Kind{alert.KindOverage}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	secrets, err := svc.WebhookSecrets(ctx, "acme", hook.ID)
	fmt.Println(secrets, err) // Reveal shows it to who set it up
	if err := svc.RemoveRecipient(ctx, "user:ann", "acme", hook.ID); err != nil {
		fmt.Println(err)
		return
	}
	if err := svc.TestAlert(ctx, "user:ann", "acme", ""); err != nil {
		fmt.Println(err)
		return
	}
	if err := svc.DeliverAlerts(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// [whsec_[redacted]] <nil>
	// [ops@acme.example] This is a test alert of organization “Acme”. Nothing happened
}

// What no try of the schedule delivered is a dead letter, kept for the host to
// look at and to send again when the receiver works.
func ExampleService_ReplayAlerts() {
	ctx := context.Background()
	st := memstore.New()
	defer st.Close()
	broken := true
	svc, err := saccount.New(st, saccount.Config{Alerts: saccount.Alerts{
		Sinks: []alert.Route{{Name: "pager", Sink: alert.Func(func(_ context.Context, a alert.Alert) error {
			if broken {
				return errors.New("the pager is away")
			}
			fmt.Println(a.Text)
			return nil
		})}},
		Schedule: []time.Duration{}, // one try, for this example
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer svc.Close()
	if _, err := svc.CreateOrg(ctx, "user:ann", saccount.OrgSpec{ID: "acme", Name: "Acme"}); err != nil {
		fmt.Println(err)
		return
	}
	if err := svc.TestAlert(ctx, "user:ann", "acme", ""); err != nil {
		fmt.Println(err)
		return
	}
	if err := svc.DeliverAlerts(ctx); err != nil {
		fmt.Println(err)
		return
	}
	dead, err := svc.AlertDeliveries(ctx, alert.Query{State: alert.Dead, N: 10})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, d := range dead {
		fmt.Println(d.Sink, d.State, d.Error)
	}
	broken = false
	n, err := svc.ReplayAlerts(ctx, alert.Query{Sink: "pager"})
	fmt.Println("replayed:", n, err)
	if err := svc.DeliverAlerts(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// pager dead the pager is away
	// replayed: 1 <nil>
	// This is a test alert of organization “Acme”. Nothing happened.
}
