package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/keypurse/keypurse/bench/internal/fixture"
	"github.com/keypurse/keypurse/bench/internal/harness"
)

// byHand are purses and usage in Postgres as one lays them out without a
// library: a row for each key, account and organization.
type byHand struct {
	*database
	db    *sql.DB
	shape fixture.Shape
}

const handSchema = `
CREATE TABLE purses (id bigint PRIMARY KEY, most bigint NOT NULL, used bigint NOT NULL DEFAULT 0) WITH (fillfactor = 50);
CREATE TABLE usage (id bigint, bucket bigint, credits bigint NOT NULL, requests bigint NOT NULL, PRIMARY KEY (id, bucket)) WITH (fillfactor = 70);`

// The best single statement: it locks the three rows in one order, and where
// all have room, writes them and their usage.
const handStatement = `WITH l AS MATERIALIZED (
	SELECT id, used + $4 <= most AS fits FROM purses WHERE id IN ($1, $2, $3) ORDER BY id FOR UPDATE
), ok AS (
	SELECT bool_and(fits) AND count(*) = 3 AS ok FROM l
), w AS (
	UPDATE purses p SET used = p.used + $4 FROM ok WHERE p.id IN ($1, $2, $3) AND ok.ok RETURNING p.id
)
INSERT INTO usage AS u (id, bucket, credits, requests) SELECT id, $5, $4, 1 FROM w
ON CONFLICT (id, bucket) DO UPDATE SET credits = u.credits + excluded.credits, requests = u.requests + 1`

func purseNumber(level byte, n int) int64 { return int64(level)<<40 | int64(n) }

func (b *byHand) path(n int) (org, account, key int64) {
	a, o := b.shape.Parents(n)
	return purseNumber(0, o), purseNumber(1, a), purseNumber(2, n)
}

// newByHand fills a database of its own, for so many callers.
func newByHand(ctx context.Context, pg *cluster, shape fixture.Shape, callers int) (*byHand, error) {
	d, err := pg.open(ctx)
	if err != nil {
		return nil, err
	}
	b := &byHand{database: d, shape: shape}
	if b.db, err = d.pool(callers); err != nil {
		return nil, errors.Join(err, d.close())
	}
	texts := []string{handSchema}
	for level, n := range [...]int{shape.Orgs, shape.Accounts, shape.Keys} {
		texts = append(texts, fmt.Sprintf(`INSERT INTO purses (id, most) SELECT %d + i, 1::bigint << 60 FROM generate_series(0, %d) i`, purseNumber(byte(level), 0), n-1))
	}
	for _, text := range append(texts, `VACUUM ANALYZE`) {
		if _, err := b.db.ExecContext(ctx, text); err != nil {
			return nil, errors.Join(err, b.stop())
		}
	}
	return b, nil
}

func (b *byHand) stop() error { return errors.Join(b.db.Close(), b.close()) }

func bucketNow() int64 { return time.Now().UnixMicro() / 900_000_000 }

// handTransaction is what a Go developer writes by hand: BEGIN, three SELECT
// FOR UPDATE, three UPDATE, COMMIT, without usage.
func handTransaction(pg *cluster, work string, shape fixture.Shape, callers int) harness.Case {
	return onPG(pg, work, whoHand, shape, callers, nil, func(ctx context.Context, b *byHand, _ []*sql.Stmt, key int) error {
		tx, err := b.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		org, account, k := b.path(key)
		for _, id := range [...]int64{org, account, k} {
			var used, most int64
			if err := tx.QueryRowContext(ctx, `SELECT used, most FROM purses WHERE id = $1 FOR UPDATE`, id).Scan(&used, &most); err != nil {
				return errors.Join(err, tx.Rollback())
			}
			if used+1 > most {
				return errors.Join(errRefused, tx.Rollback())
			}
		}
		for _, id := range [...]int64{org, account, k} {
			if _, err := tx.ExecContext(ctx, `UPDATE purses SET used = used + $2 WHERE id = $1`, id, 1); err != nil {
				return errors.Join(err, tx.Rollback())
			}
		}
		return tx.Commit()
	})
}

// handSingle is the best single prepared statement that writes the same rows,
// usage included.
func handSingle(pg *cluster, work string, shape fixture.Shape, callers int) harness.Case {
	return onPG(pg, work, whoSingle, shape, callers, []string{handStatement}, func(ctx context.Context, b *byHand, st []*sql.Stmt, key int) error {
		org, account, k := b.path(key)
		res, err := st[0].ExecContext(ctx, org, account, k, 1, bucketNow())
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n != 3 {
			return errors.Join(errRefused, err)
		}
		return nil
	})
}

// handRow is one row updated a charge, from so many processes.
func handRow(pg *cluster, work string, shape fixture.Shape, callers, processes int) harness.Case {
	return harness.Case{Work: work, Who: whoRow, Callers: callers,
		Setup: func(ctx context.Context, env harness.Env) (*harness.Running, error) {
			b, err := newByHand(ctx, pg, cut(env, shape), 1)
			if err != nil {
				return nil, err
			}
			return inProcesses(ctx, processes, job{Kind: jobRow, DSN: b.dsn, Callers: callers / processes, Row: purseNumber(0, 0)}, b.pids(), b.stop)
		}}
}

const rowStatement = `UPDATE purses SET used = used + $2 WHERE id = $1 AND used + $2 <= most`

// handSelect is a bare prepared SELECT of one row by its id.
func handSelect(pg *cluster, work string, shape fixture.Shape, callers int) harness.Case {
	return onPG(pg, work, whoSelect, shape, callers, []string{`SELECT used, most FROM purses WHERE id = $1`},
		func(ctx context.Context, b *byHand, st []*sql.Stmt, key int) error {
			_, _, k := b.path(key)
			var used, most int64
			return st[0].QueryRowContext(ctx, k).Scan(&used, &most)
		})
}

func onPG(pg *cluster, work, who string, shape fixture.Shape, callers int, texts []string, op func(ctx context.Context, b *byHand, st []*sql.Stmt, key int) error) harness.Case {
	return harness.Case{Work: work, Who: who, Callers: callers,
		Setup: func(ctx context.Context, env harness.Env) (*harness.Running, error) {
			b, err := newByHand(ctx, pg, cut(env, shape), callers)
			if err != nil {
				return nil, err
			}
			var st []*sql.Stmt
			for _, text := range texts {
				x, err := b.db.PrepareContext(ctx, text)
				if err != nil {
					return nil, errors.Join(err, b.stop())
				}
				st = append(st, x)
			}
			return &harness.Running{
				Op:    func(w, i int) error { return op(ctx, b, st, fixture.Pick(w, i, b.shape.Keys)) },
				PIDs:  b.pids(),
				Close: b.stop,
			}, nil
		}}
}
