package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// A month of history, so that the dashboard has something to show: made by
// charging at instants that have passed, with a fixed seed.
const (
	demoDays    = 30
	demoWorkers = 64
)

// demoAccount is a service account of the demonstration.
type demoAccount struct {
	name, description string
	limit             *saccount.LimitSpec
	perHour           int // charges in an hour of work
	nights            bool
	keys              []saccount.KeySpec
}

func demoAccounts() []demoAccount {
	month, day := quota.Period{Unit: quota.Month}, quota.Period{Unit: quota.Day}
	return []demoAccount{
		{"Search Indexer", "Keeps the index of the shop up to date.", saccount.NewLimit(4000*quota.Credit, month), 12, true,
			[]saccount.KeySpec{{Name: "Indexer, first half", Environment: "production"}, {Name: "Indexer, second half", Environment: "production"}, {Name: "Indexer in staging", Environment: "staging"}}},
		{"Support Assistant", "Answers what customers ask by day.", saccount.NewLimit(70*quota.Credit, day), 20, false,
			[]saccount.KeySpec{{Name: "Assistant backend", Environment: "production", Scopes: []string{"words:read"}}}},
		{"Nightly Report", "", nil, 3, true, []saccount.KeySpec{{Name: "Report job", Environment: "production"}, {Name: "Never used", Environment: "dev"}}},
	}
}

// demo adds the accounts of the demonstration with their history, where they
// are not there yet. st may not be used by a Service meanwhile.
func demo(ctx context.Context, st saccount.Store, now time.Time) error {
	var mu sync.Mutex
	at := now.Add(-demoDays * 24 * time.Hour)
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return at }
	svc, err := saccount.New(st, saccount.Config{Prefix: "acme", Now: clock})
	if err != nil {
		return err
	}
	err = demoHistory(ctx, svc, func(t time.Time) { mu.Lock(); at = t; mu.Unlock() }, now)
	if errors.Is(err, saccount.ErrExists) {
		err = nil // of an earlier start
	}
	return errors.Join(err, svc.Close())
}

func demoHistory(ctx context.Context, svc *saccount.Service, set func(time.Time), now time.Time) error {
	if _, err := svc.CreateOrg(ctx, actor, saccount.OrgSpec{ID: orgID, Name: "Acme"}); err != nil && !errors.Is(err, saccount.ErrExists) {
		return err
	}
	chance := rand.New(rand.NewPCG(1, 2))
	type worker struct {
		demoAccount
		tokens []string
	}
	var all []worker
	for _, d := range demoAccounts() {
		spec := saccount.AccountSpec{Name: d.name, Description: d.description}
		if d.limit != nil {
			spec.Limits = saccount.Limits{"": d.limit}
		}
		a, err := svc.CreateAccount(ctx, "user:alice", orgID, spec)
		if err != nil {
			return err
		}
		w := worker{demoAccount: d}
		for _, k := range d.keys {
			token, _, err := svc.CreateKey(ctx, "user:alice", orgID, a.ID, k)
			if err != nil {
				return err
			}
			w.tokens = append(w.tokens, token.Reveal())
		}
		all = append(all, w)
	}
	from := netip.MustParseAddr("192.0.2.10")
	for t := now.Add(-demoDays * 24 * time.Hour).Truncate(time.Hour); t.Before(now); t = t.Add(time.Hour) {
		set(t.Add(time.Duration(chance.IntN(59)) * time.Minute))
		var todo []func() error
		for _, w := range all {
			if h := t.Hour(); !w.nights && (h < 7 || h > 18 || t.Weekday() == time.Saturday || t.Weekday() == time.Sunday) {
				continue
			}
			for range w.perHour/2 + chance.IntN(w.perHour) {
				token := w.tokens[chance.IntN(max(1, len(w.tokens)-1))] // the last one stays unused, where there are several
				cost := quota.Credits(10+chance.Int64N(40)) * (quota.Credit / 100)
				todo = append(todo, func() error {
					_, _, err := svc.AuthenticateAndCharge(ctx, token, func() netip.Addr { return from }, saccount.Charge{Amount: cost})
					return err
				})
			}
		}
		if err := together(todo); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
	}
	return nil
}

// together runs many at once: so many charges share a commit.
func together(todo []func() error) error {
	var wg sync.WaitGroup
	errs := make([]error, min(demoWorkers, len(todo)))
	for i := range errs {
		wg.Go(func() {
			for j := i; j < len(todo); j += len(errs) {
				if err := todo[j](); err != nil {
					errs[i] = err
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
