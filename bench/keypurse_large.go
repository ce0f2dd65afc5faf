package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/keypurse/keypurse/bench/internal/fixture"
	"github.com/keypurse/keypurse/bench/internal/harness"
	"github.com/keypurse/keypurse/quota"
)

// The databases that are compared: one that is as good as empty, and one with a
// million keys. Both have organizations of the same number, so that a batch of
// charges touches as many of them in both.
var (
	emptyTree = fixture.Shape{Keys: 1_000, Accounts: 100, Orgs: 10}
	largeTree = fixture.Shape{Keys: 1_000_000, Accounts: 100_000, Orgs: 10}
)

const (
	pastAccounts = 1_000                  // accounts with a past, of those that there are
	week         = 7 * 24 * 4             // buckets; the past that the empty database has, and queries ask for
	year         = 365 * 24 * 4           // buckets; the past of the large one
	bloatTime    = 10 * time.Minute       // of load
	bloatQuick   = 500 * time.Millisecond // in a smoke test
)

// tree is a database with a past.
type tree struct {
	*database
	cached, bare *service // that knows every key, and that knows none
	past         []pastAccount
}

type pastAccount struct {
	org     string
	subject quota.Subject
}

// newTree makes one when it is first asked for, and knows its keys.
func newTree(pg *cluster, shape fixture.Shape, buckets int) *lazy[*tree] {
	l := &lazy[*tree]{}
	l.make = func(ctx context.Context) (*tree, func() error, error) {
		s, d, err := onPostgres(ctx, pg, shape, config())
		if err != nil {
			return nil, nil, err
		}
		t := &tree{database: d, cached: s}
		stop := func() error {
			err := t.cached.Close()
			if t.bare != nil {
				err = errors.Join(err, t.bare.Close())
			}
			return errors.Join(err, d.close())
		}
		if err := s.knowTogether(ctx); err != nil {
			return nil, nil, errors.Join(err, stop())
		}
		if err := t.remember(ctx, buckets); err != nil {
			return nil, nil, errors.Join(fmt.Errorf("make a past: %w", err), stop())
		}
		cfg := config()
		cfg.CacheSize = -1
		if t.bare, err = openOnPostgres(ctx, d.dsn, s.tokens, cfg); err != nil {
			return nil, nil, errors.Join(err, stop())
		}
		return t, stop, nil
	}
	return l
}

// remember gives accounts a bucket for each quarter of an hour of the past. It
// writes rows as the store does: a year of a thousand accounts is 35 million.
func (t *tree) remember(ctx context.Context, buckets int) error {
	db, err := t.pool(1)
	if err != nil {
		return err
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, `SELECT DISTINCT org, subject FROM keypurse.buckets
WHERE series = '' AND subject LIKE 'account:%' ORDER BY org, subject LIMIT $1`, pastAccounts)
	if err != nil {
		return err
	}
	for rows.Next() {
		var a pastAccount
		if err := rows.Scan(&a.org, &a.subject); err != nil {
			return errors.Join(err, rows.Close())
		}
		t.past = append(t.past, a)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	const width = int64(quota.BucketWidth / time.Microsecond)
	for _, a := range t.past {
		_, err := db.ExecContext(ctx, `INSERT INTO keypurse.counters (org, subject, number, series, start, used, held, overage, requests, max, ends, rare)
SELECT $1, $2, 0, '', $3::bigint - i * $4::bigint, 1000000, 0, 0, 1, 0, 0, '' FROM generate_series(1, $5::bigint) i ORDER BY i DESC ON CONFLICT DO NOTHING`,
			a.org, string(a.subject), quota.BucketStart(quota.Micros(time.Now())), width, buckets)
		if err != nil {
			return err
		}
	}
	_, err = db.ExecContext(ctx, `VACUUM ANALYZE`)
	return err
}

// onTree is a case on one of the trees.
func onTree(work string, l *lazy[*tree], callers int, op func(ctx context.Context, t *tree, w, i int) error) harness.Case {
	return harness.Case{Work: work, Who: whoKeypurse, Group: groupQueries, Callers: callers,
		Setup: func(ctx context.Context, _ harness.Env) (*harness.Running, error) {
			t, err := l.get(ctx)
			if err != nil {
				return nil, err
			}
			return &harness.Running{
				Op:   func(w, i int) error { return op(ctx, t, w, i) },
				PIDs: t.pids(), Close: l.release,
			}, nil
		}}
}

func treeAuthenticate(ctx context.Context, t *tree, w, i int) error {
	_, err := t.bare.Authenticate(ctx, t.bare.tokens[fixture.Pick(w, i, len(t.bare.tokens))], netip.Addr{})
	return err
}

func treeCharge(ctx context.Context, t *tree, w, i int) error {
	return t.cached.charge(ctx, fixture.Pick(w, i, len(t.cached.tokens)))
}

// treeUsage asks what an account used in the last week: as many rows in both
// trees.
func treeUsage(ctx context.Context, t *tree, w, i int) error {
	a := t.past[fixture.Pick(w, i, len(t.past))]
	now := time.Now()
	got, err := t.bare.UsageTotals(ctx, a.org, []quota.Subject{a.subject}, now.Add(-week*quota.BucketWidth), now)
	if err == nil && (len(got) != 1 || got[0].Requests < week/2) {
		err = fmt.Errorf("usage of %s: %v", a.subject, got)
	}
	return err
}

// bloat is what a long load leaves behind on one hot organization: the size of
// all tables and indexes, of that of the same rows freshly written; and dead
// rows, of living ones.
type bloat struct{ size, dead float64 }

func newBloat(pg *cluster, quick bool) *lazy[bloat] {
	const callers = 64
	l := &lazy[bloat]{}
	l.make = func(ctx context.Context) (b bloat, stop func() error, err error) {
		shape, load := hot, bloatTime
		if quick {
			shape, load = cut(harness.Env{Quick: true}, hot), bloatQuick
		}
		s, d, err := onPostgres(ctx, pg, shape, config())
		if err != nil {
			return b, nil, err
		}
		ended := make(chan error, callers)
		over, cancel := context.WithTimeout(ctx, load)
		defer cancel()
		for w := range callers {
			go func() {
				var err error
				for i := 0; err == nil && over.Err() == nil; i++ {
					err = s.charge(ctx, fixture.Pick(w, i, len(s.tokens)))
				}
				ended <- err
			}()
		}
		for range callers {
			err = errors.Join(err, <-ended)
		}
		err = errors.Join(err, s.Close()) // its connections tell what they did
		if err == nil {
			b, err = d.bloat(ctx)
		}
		if err != nil {
			return b, nil, errors.Join(err, d.close())
		}
		return b, d.close, nil
	}
	return l
}

func (d *database) bloat(ctx context.Context) (b bloat, err error) {
	const (
		size = `SELECT sum(pg_total_relation_size(c.oid))::float8 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'keypurse' AND c.relkind = 'r'`
		dead = `SELECT (sum(n_dead_tup) / greatest(sum(n_live_tup), 1))::float8 FROM pg_stat_user_tables WHERE schemaname = 'keypurse'`
	)
	loaded, err := d.number(ctx, size)
	if err != nil {
		return b, err
	}
	if b.dead, err = d.number(ctx, dead); err != nil {
		return b, err
	}
	if err := d.exec(ctx, d.dsn, `VACUUM FULL`); err != nil {
		return b, err
	}
	fresh, err := d.number(ctx, size)
	b.size = loaded / max(fresh, 1)
	return b, err
}

// stated is a figure that was measured before the rounds: all of them give it.
func stated(work string, l *lazy[bloat], of func(bloat) float64) harness.Case {
	return harness.Case{Work: work, Who: whoKeypurse, Group: "bloat",
		Setup: func(ctx context.Context, _ harness.Env) (*harness.Running, error) {
			b, err := l.get(ctx)
			if err != nil {
				return nil, err
			}
			return &harness.Running{
				Round: func(context.Context, time.Duration) (harness.Round, error) { return harness.Round{Value: of(b)}, nil },
				Close: l.release,
			}, nil
		}}
}
