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
// answer, usage included.
func ourPostgres(pg *cluster, work string, shape fixture.Shape, callers int) harness.Case {
	return harness.Case{Work: work, Who: whoKeypurse, Callers: callers,
		Setup: func(ctx context.Context, env harness.Env) (*harness.Running, error) {
			s, d, err := onPostgres(ctx, pg, cut(env, shape), config())
			if err != nil {
				return nil, err
			}
			stop := func() error { return errors.Join(s.Close(), d.close()) }
			if err := s.knowTogether(ctx); err != nil {
				return nil, errors.Join(err, stop())
			}
			return &harness.Running{
				Op:    func(w, i int) error { return s.charge(ctx, fixture.Pick(w, i, len(s.tokens))) },
				PIDs:  d.pids(),
				Close: stop,
			}, nil
		}}
}

// ourProcesses is ourPostgres from so many processes.
func ourProcesses(pg *cluster, work string, shape fixture.Shape, callers, processes int) harness.Case {
	return harness.Case{Work: work, Who: whoKeypurse, Callers: callers,
		Setup: func(ctx context.Context, env harness.Env) (*harness.Running, error) {
			s, d, err := onPostgres(ctx, pg, cut(env, shape), config())
			if err != nil {
				return nil, err
			}
			if err := s.Close(); err != nil {
				return nil, errors.Join(err, d.close())
			}
			return inProcesses(ctx, processes, job{Kind: jobCharge, DSN: d.dsn, Callers: callers / processes, Tokens: s.tokens}, d.pids(), d.close)
		}}
}

// ourLookup is Authenticate of a Service that keeps no key in memory.
func ourLookup(pg *cluster, work string, shape fixture.Shape, callers int) harness.Case {
	return harness.Case{Work: work, Who: whoKeypurse, Callers: callers,
		Setup: func(ctx context.Context, env harness.Env) (*harness.Running, error) {
			cfg := config()
			cfg.CacheSize = -1
			s, d, err := onPostgres(ctx, pg, cut(env, shape), cfg)
			if err != nil {
				return nil, err
			}
			stop := func() error { return errors.Join(s.Close(), d.close()) }
			if err := s.know(ctx, false); err != nil {
				return nil, errors.Join(err, stop())
			}
			return &harness.Running{
				Op: func(w, i int) error {
					_, err := s.Authenticate(ctx, s.tokens[fixture.Pick(w, i, len(s.tokens))], netip.Addr{})
					return err
				},
				PIDs:  d.pids(),
				Close: stop,
			}, nil
		}}
}

// onPostgres is the tree of a shape in a database of its own.
func onPostgres(ctx context.Context, pg *cluster, shape fixture.Shape, cfg saccount.Config) (*service, *database, error) {
	d, err := pg.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	st, err := pgstore.Open(ctx, d.dsn, pgstore.Config{})
	if err != nil {
		return nil, nil, errors.Join(err, d.close())
	}
	made, err := newService(ctx, st, shape, nil)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("make the tree: %w", err), st.Close(), d.close())
	}
	if err := made.Close(); err != nil {
		return nil, nil, errors.Join(err, d.close())
	}
	s, err := openOnPostgres(ctx, d.dsn, made.tokens, cfg)
	if err != nil {
		return nil, nil, errors.Join(err, d.close())
	}
	return s, d, nil
}
