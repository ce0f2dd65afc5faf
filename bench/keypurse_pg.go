package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

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
	return charging(pg, work, whoKeypurse, shape, callers, processes, false, nil)
}

// ourLeases is ourProcesses where charges are spent from blocks in memory, in
// steady use.
func ourLeases(pg *cluster, work string, shape fixture.Shape, callers, processes int) harness.Case {
	return charging(pg, work, whoLeases, shape, callers, processes, true, nil)
}

// leasesOf is ourLeases in processes of one processor each.
func leasesOf(pg *cluster, work string, shape fixture.Shape, callers, processes int) harness.Case {
	return processesThat(pg, work, whoLeases, shape, callers, processes, job{Leases: true, Procs: 1}, nil)
}

// leaseWrites is how many transactions that write there are to a charge of
// ourLeases.
func leaseWrites(pg *cluster, work string, shape fixture.Shape, callers, processes int) harness.Case {
	return charging(pg, work, whoLeases, shape, callers, processes, true, func(d *database, run *harness.Running) {
		round := run.Round
		// A transaction gets a number when it writes.
		const numbers = `SELECT pg_snapshot_xmax(pg_current_snapshot())::text::float8`
		run.Round = func(ctx context.Context, t time.Duration) (r harness.Round, err error) {
			before, err := d.number(ctx, numbers)
			if err == nil {
				r, err = round(ctx, t)
			}
			if err != nil {
				return r, err
			}
			after, err := d.number(ctx, numbers)
			return harness.Round{Value: (after - before) / max(1, r.Rate*t.Seconds())}, err
		}
	})
}

// steadyTime is how long a load of several processes goes on before it is measured.
// Blocks are taken for callers that charge often, and given back while the other
// cases have their turn; and what one process has in memory of an organization is
// old where the others, which are started after it, have charged all of its keys.
const steadyTime = 3 * time.Second

func steady(run *harness.Running, env harness.Env) {
	round := run.Round
	run.Round = func(ctx context.Context, d time.Duration) (harness.Round, error) {
		before := steadyTime
		if env.Quick {
			before = d
		}
		if _, err := round(ctx, before); err != nil {
			return harness.Round{}, err
		}
		return round(ctx, d)
	}
}

// charging is keypurse in processes; change makes something else of what they
// measure.
func charging(pg *cluster, work, who string, shape fixture.Shape, callers, processes int, leases bool, change func(*database, *harness.Running)) harness.Case {
	return processesThat(pg, work, who, shape, callers, processes, job{Leases: leases}, change)
}

func processesThat(pg *cluster, work, who string, shape fixture.Shape, callers, processes int, j job, change func(*database, *harness.Running)) harness.Case {
	return harness.Case{Work: work, Who: who, Callers: callers,
		Setup: func(ctx context.Context, env harness.Env) (*harness.Running, error) {
			s, d, err := onPostgres(ctx, pg, cut(env, shape), config())
			if err != nil {
				return nil, err
			}
			if err := s.Close(); err != nil {
				return nil, errors.Join(err, d.close())
			}
			j := j
			j.Kind, j.DSN, j.Callers, j.Tokens = jobCharge, d.dsn, callers/processes, s.tokens
			run, err := inProcesses(ctx, processes, j, d.pids(), d.close)
			if err != nil {
				return nil, err
			}
			if change != nil {
				change(d, run)
			}
			steady(run, env)
			return run, nil
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
