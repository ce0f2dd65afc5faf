package bench

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/bench/internal/fixture"
	"github.com/keypurse/keypurse/bench/internal/harness"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store"
	"github.com/keypurse/keypurse/store/boltstore"
	"github.com/keypurse/keypurse/store/memstore"
	"github.com/keypurse/keypurse/store/pgstore"
)

// watchedStore is a store that is charged with and without somebody watching.
type watchedStore struct {
	name    string
	callers int
	// open makes an empty one; pids are its server's.
	open func(context.Context, harness.Env, *cluster) (st store.Store, pids []int, remove func() error, err error)
}

func (s *watchedStore) work() string { return workMemory(s.name, s.callers) }

var watchedStores = []*watchedStore{
	{"memory", 32, func(context.Context, harness.Env, *cluster) (store.Store, []int, func() error, error) {
		return memstore.New(), nil, func() error { return nil }, nil
	}},
	{"bbolt", 64, func(_ context.Context, env harness.Env, _ *cluster) (store.Store, []int, func() error, error) {
		dir, err := os.MkdirTemp(env.Dir, "keypurse-")
		if err != nil {
			return nil, nil, nil, err
		}
		st, err := boltstore.Open(filepath.Join(dir, "keypurse.db"), boltstore.Config{})
		return st, nil, func() error { return os.RemoveAll(dir) }, err
	}},
	{"Postgres", 32, func(ctx context.Context, _ harness.Env, pg *cluster) (store.Store, []int, func() error, error) {
		d, err := pg.open(ctx)
		if err != nil {
			return nil, nil, nil, err
		}
		st, err := pgstore.Open(ctx, d.dsn, pgstore.Config{Timeout: time.Minute}) // a seeded batch is large
		if err != nil {
			return nil, nil, nil, errors.Join(err, d.close())
		}
		return st, d.pids(), d.close, nil
	}},
}

const (
	// chargesAnAlert is how many charges there are to one that passes a
	// threshold: a subject that passes all of its thresholds in a window spends
	// its limit in some 40,000 requests.
	chargesAnAlert = 10_000
	// clockStep is how many calls a caller counts before the others hear of it.
	clockStep = 64
)

// charged is time that goes by with charges, so that windows turn and thresholds
// are passed at one rate on every store and machine.
type charged struct {
	window int64 // charges in an hour
	n      atomic.Int64
}

func (c *charged) now() time.Time {
	at := time.Date(2030, time.January, 1, 0, 0, 0, 0, time.UTC)
	return at.Add(time.Duration(float64(c.n.Load()) / float64(c.window) * float64(time.Hour)))
}

// ourWatched is Authenticate and Charge where every key, account and
// organization has a limit an hour. Watched, each limit has four thresholds, of
// which two to three are passed in an hour, the Service looks for all that there
// are rules for, and Watch sends to a function. Unwatched, there are no
// thresholds and nobody watches.
func ourWatched(pg *cluster, p *watchedStore, shape fixture.Shape, watched bool) harness.Case {
	who := whoUnwatched
	if watched {
		who = whoWatched
	}
	return harness.Case{Work: p.work(), Who: who, Callers: p.callers,
		Setup: func(ctx context.Context, env harness.Env) (*harness.Running, error) {
			st, pids, remove, err := p.open(ctx, env, pg)
			if err != nil {
				return nil, err
			}
			subjects := shape.Keys + shape.Accounts + shape.Orgs
			c := &charged{window: int64(chargesAnAlert * subjects * 7 / 3)}
			var sent atomic.Int64
			s, err := newWatched(ctx, st, shape, c, watched, &sent)
			if err != nil {
				return nil, errors.Join(err, st.Close(), remove())
			}
			run := &harness.Running{
				Op: func(w, i int) error {
					if i%clockStep == clockStep-1 {
						c.n.Add(clockStep)
					}
					return s.charge(ctx, fixture.Pick(w, i, len(s.tokens)))
				},
				PIDs: pids,
				Close: func() error {
					err := errors.Join(s.Close(), remove())
					if err == nil && watched && !env.Quick && c.n.Load() > c.window && sent.Load() == 0 {
						return errors.New("no alert was sent: nothing was watched")
					}
					return err
				},
			}
			if watched {
				run.Begin = func(ctx context.Context) (func() error, error) {
					watching, stop := context.WithCancel(ctx)
					ended := make(chan error, 1)
					go func() { ended <- s.Watch(watching) }()
					return func() error {
						stop()
						return <-ended
					}, nil
				}
			}
			return run, nil
		}}
}

// newWatched makes the tree and lets every key be used once.
func newWatched(ctx context.Context, st store.Store, shape fixture.Shape, c *charged, watched bool, sent *atomic.Int64) (*service, error) {
	cfg := config()
	cfg.Now = c.now
	cfg.Thresholds = []quota.Threshold{}
	if watched {
		cfg.Thresholds = []quota.Threshold{quota.Percent(20), quota.Percent(40), quota.Percent(60), quota.ThresholdOverage}
		cfg.Alerts = saccount.Alerts{
			Sinks: []alert.Route{{Name: "count", Sink: alert.Func(func(context.Context, alert.Alert) error { sent.Add(1); return nil })}},
			Rules: saccount.Rules{Unused: 30, Rotation: 90, NewAddress: true, RunOut: true, Unusual: true},
		}
	}
	svc, err := saccount.New(st, cfg)
	if err != nil {
		return nil, err
	}
	s := &service{Service: svc, store: st, tokens: make([]string, shape.Keys)}
	// The n-th of so many subjects of a kind may spend 1.25 to 2.5 times what it
	// does in an hour: thresholds are passed all over the hour, and nobody is
	// refused.
	limit := func(n, of int) saccount.Limits {
		spends := quota.Credits(c.window) / quota.Credits(of)
		return saccount.Limits{"": saccount.NewLimit(spends*5/4+spends*5/4*quota.Credits(n)/quota.Credits(of), quota.Period{Unit: quota.Hour})}
	}
	made := func() error {
		for i := range shape.Orgs {
			if _, err := svc.CreateOrg(ctx, benchActor, saccount.OrgSpec{ID: orgID(i), Limits: limit(i, shape.Orgs)}); err != nil {
				return err
			}
		}
		accounts := make([]string, shape.Accounts)
		for i := range accounts {
			a, err := svc.CreateAccount(ctx, benchActor, orgID(i%shape.Orgs), saccount.AccountSpec{Name: "account " + strconv.Itoa(i), Limits: limit(i, shape.Accounts)})
			if err != nil {
				return err
			}
			accounts[i] = a.ID
		}
		for i := range s.tokens {
			account, org := shape.Parents(i)
			token, _, err := svc.CreateKey(ctx, benchActor, orgID(org), accounts[account], saccount.KeySpec{Name: "key " + strconv.Itoa(i), Limits: limit(i, shape.Keys)})
			if err != nil {
				return err
			}
			s.tokens[i] = token.Reveal()
		}
		return s.knowTogether(ctx)
	}
	if err := made(); err != nil {
		return nil, errors.Join(err, svc.Close())
	}
	return s, nil
}
