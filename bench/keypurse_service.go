package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/keypurse/keypurse/apikey"
	"github.com/keypurse/keypurse/bench/internal/fixture"
	"github.com/keypurse/keypurse/bench/internal/harness"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store"
	"github.com/keypurse/keypurse/store/memstore"
)

// clock is what keypurse goes by: the real one, or an instant of the past while
// history is made.
type clock struct{ past atomic.Pointer[time.Time] }

func (c *clock) now() time.Time {
	if t := c.past.Load(); t != nil {
		return *t
	}
	return time.Now()
}

// service is keypurse with a tree of keys, each of which, its account and its
// organization has a limit that resets and that no case reaches.
type service struct {
	*saccount.Service
	store  store.Store
	tokens []string
}

const benchActor = saccount.Actor("bench")

func config() saccount.Config {
	return saccount.Config{
		Prefix:    "acme_live",
		Peppers:   []apikey.Pepper{{ID: "bench", Key: pepper}},
		CacheSize: 1 << 21, // a million keys are known
	}
}

// newService makes the tree of a shape on an empty store.
func newService(ctx context.Context, st store.Store, shape fixture.Shape, now func() time.Time) (*service, error) {
	cfg := config()
	cfg.Now = now
	seeds := newSeeding(st)
	svc, err := saccount.New(seeds, cfg)
	if err != nil {
		return nil, err
	}
	s := &service{Service: svc, store: st, tokens: make([]string, shape.Keys)}
	limit := saccount.Limits{"": saccount.NewLimit(plenty*1_000_000, quota.Period{Unit: quota.Month})}
	for i := range shape.Orgs {
		if _, err := svc.CreateOrg(ctx, benchActor, saccount.OrgSpec{ID: orgID(i), Limits: limit}); err != nil {
			return nil, errors.Join(err, svc.Close())
		}
	}
	accounts := make([]string, shape.Accounts)
	for i := range accounts {
		a, err := svc.CreateAccount(ctx, benchActor, orgID(i%shape.Orgs), saccount.AccountSpec{Name: "account " + strconv.Itoa(i), Limits: limit})
		if err != nil {
			return nil, errors.Join(err, svc.Close())
		}
		accounts[i] = a.ID
	}
	if err := seeds.flush(ctx); err != nil {
		return nil, errors.Join(err, svc.Close())
	}
	for i := range s.tokens {
		account, org := shape.Parents(i)
		token, _, err := svc.CreateKey(ctx, benchActor, orgID(org), accounts[account], saccount.KeySpec{Name: "key " + strconv.Itoa(i), Limits: limit})
		if err != nil {
			return nil, errors.Join(err, svc.Close())
		}
		s.tokens[i] = token.Reveal()
	}
	if err := errors.Join(seeds.flush(ctx), svc.Close()); err != nil {
		return nil, err
	}
	fixture.Pack(s.tokens)
	s.Service, err = saccount.New(st, cfg) // on the store itself
	return s, err
}

func orgID(n int) string { return "org" + strconv.Itoa(n) }

// know lets every key be used once, as in a service that runs for a while.
func (s *service) know(ctx context.Context, charge bool) error {
	for i := range s.tokens {
		var err error
		if charge {
			err = s.charge(ctx, i)
		} else {
			_, err = s.Authenticate(ctx, s.tokens[i], netip.Addr{})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// inUse lets every key be used before a round begins. That a key was used is noted
// once a minute; between two rounds all of them would come due, which no service
// sees that is in use all the time.
func (s *service) inUse(charge bool) func(context.Context) (func() error, error) {
	return func(ctx context.Context) (func() error, error) {
		return func() error { return nil }, s.know(ctx, charge)
	}
}

// charge is one request: the token is checked and three levels are charged.
func (s *service) charge(ctx context.Context, key int) error {
	_, d, err := s.AuthenticateAndCharge(ctx, s.tokens[key], nil, saccount.Charge{Amount: 1})
	if err != nil {
		return err
	}
	if !d.Allowed {
		return fmt.Errorf("%w: %w", errRefused, d.Err())
	}
	return nil
}

// live charges every key once an hour for so many days that are over.
func (s *service) live(ctx context.Context, c *clock, days int) error {
	defer c.past.Store(nil)
	start := time.Now().Add(-time.Duration(days) * 24 * time.Hour)
	for hour := range days * 24 {
		at := start.Add(time.Duration(hour) * time.Hour)
		c.past.Store(&at)
		if err := s.know(ctx, true); err != nil {
			return err
		}
	}
	return nil
}

func (s *service) Close() error { return errors.Join(s.Service.Close(), s.store.Close()) }

func inMemory(ctx context.Context, env harness.Env, shape fixture.Shape, charge bool) (*service, error) {
	s, err := newService(ctx, memstore.New(), cut(env, shape), nil)
	if err != nil {
		return nil, err
	}
	if err := s.know(ctx, charge); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// ourAuthenticate is Service.Authenticate of keys that are known.
func ourAuthenticate(work string, shape fixture.Shape, procs int) harness.Case {
	return harness.Case{Work: work, Who: whoKeypurse, Callers: procs, Procs: procs, Sample: 16,
		Setup: func(ctx context.Context, env harness.Env) (*harness.Running, error) {
			s, err := inMemory(ctx, env, shape, false)
			if err != nil {
				return nil, err
			}
			return &harness.Running{Close: s.Close, Begin: s.inUse(false), Op: func(w, i int) error {
				_, err := s.Authenticate(ctx, s.tokens[fixture.Pick(w, i, len(s.tokens))], netip.Addr{})
				return err
			}}, nil
		}}
}

// ourCharge is Authenticate and Charge on memstore, usage included.
func ourCharge(work string, shape fixture.Shape, callers int) harness.Case {
	return harness.Case{Work: work, Who: whoKeypurse, Callers: callers, Sample: 16,
		Setup: func(ctx context.Context, env harness.Env) (*harness.Running, error) {
			s, err := inMemory(ctx, env, shape, true)
			if err != nil {
				return nil, err
			}
			return &harness.Running{Close: s.Close, Begin: s.inUse(true), Op: func(w, i int) error {
				return s.charge(ctx, fixture.Pick(w, i, len(s.tokens)))
			}}, nil
		}}
}

// ourChargeInHistory is ourCharge on a store that has a year of usage.
func ourChargeInHistory(work string, shape fixture.Shape, days int) harness.Case {
	return harness.Case{Work: work, Who: whoKeypurse, Sample: 16,
		Setup: func(ctx context.Context, env harness.Env) (*harness.Running, error) {
			var c clock
			s, err := newService(ctx, memstore.New(), cut(env, shape), c.now)
			if err != nil {
				return nil, err
			}
			if env.Quick {
				days = min(days, 3)
			}
			if err := s.live(ctx, &c, days); err != nil {
				return nil, errors.Join(err, s.Close())
			}
			return &harness.Running{Close: s.Close, Op: func(w, i int) error {
				return s.charge(ctx, fixture.Pick(w, i, len(s.tokens)))
			}}, nil
		}}
}
