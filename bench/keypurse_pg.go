package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/keypurse/keypurse/bench/internal/fixture"
	"github.com/keypurse/keypurse/bench/internal/harness"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/pgstore"
)

// ourPostgres is Authenticate and Charge on Postgres, durable before the
// answer, usage included, by so many Services with Stores and pools of their
// own: to the server they are as many processes.
func ourPostgres(work string, shape fixture.Shape, callers, services int) harness.Case {
	return harness.Case{Work: work, Who: whoKeypurse, Callers: callers,
		Setup: func(ctx context.Context, env harness.Env) (*harness.Running, error) {
			all, stop, err := onPostgres(ctx, env, shape, services, 0)
			if err != nil {
				return nil, err
			}
			for _, s := range all {
				if err := s.knowTogether(ctx); err != nil {
					return nil, errors.Join(err, stop())
				}
			}
			return &harness.Running{
				Op: func(w, i int) error {
					s := all[w%len(all)]
					return s.charge(ctx, fixture.Pick(w, i, len(s.tokens)))
				},
				Close: stop,
			}, nil
		}}
}

// ourLookup is Authenticate of a Service that keeps no key in memory.
func ourLookup(work string, shape fixture.Shape, callers int) harness.Case {
	return harness.Case{Work: work, Who: whoKeypurse, Callers: callers,
		Setup: func(ctx context.Context, env harness.Env) (*harness.Running, error) {
			all, stop, err := onPostgres(ctx, env, shape, 1, -1)
			if err != nil {
				return nil, err
			}
			s := all[0]
			if err := s.know(ctx, false); err != nil {
				return nil, errors.Join(err, stop())
			}
			return &harness.Running{
				Op: func(w, i int) error {
					_, err := s.Authenticate(ctx, s.tokens[fixture.Pick(w, i, len(s.tokens))], netip.Addr{})
					return err
				},
				Close: stop,
			}, nil
		}}
}

func onPostgres(ctx context.Context, env harness.Env, shape fixture.Shape, services, cache int) (all []*service, stop func() error, err error) {
	server, err := startPG()
	if err != nil {
		return nil, nil, err
	}
	stop = func() (err error) {
		for _, s := range all {
			err = errors.Join(err, s.Close())
		}
		return errors.Join(err, server.Stop())
	}
	for i := range services {
		st, err := pgstore.Open(ctx, server.DSN(), pgstore.Config{})
		if err != nil {
			return nil, nil, errors.Join(err, stop())
		}
		if i == 0 {
			s, err := newService(ctx, st, cut(env, shape), nil)
			if err != nil {
				return nil, nil, errors.Join(fmt.Errorf("make the tree: %w", err), st.Close(), stop())
			}
			if cache == 0 {
				all = append(all, s)
				continue
			}
			if err := s.Service.Close(); err != nil {
				return nil, nil, errors.Join(err, st.Close(), stop())
			}
			all = append(all, &service{store: st, tokens: s.tokens})
		} else {
			all = append(all, &service{store: st, tokens: all[0].tokens})
		}
		cfg := config()
		if cache != 0 {
			cfg.CacheSize = cache
		}
		s := all[i]
		if s.Service, err = saccount.New(st, cfg); err != nil {
			return nil, nil, errors.Join(err, stop())
		}
	}
	return all, stop, nil
}
