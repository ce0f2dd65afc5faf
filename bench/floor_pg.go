package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
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
			run, err := inProcesses(ctx, processes, job{Kind: jobRow, DSN: b.dsn, Callers: callers / processes, Row: purseNumber(0, 0)}, b.pids(), b.stop)
			if err == nil {
				steady(run, env)
			}
			return run, err
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

// The rows that Authenticate has to know, as one lays them out without a library.
const lookupSchema = `
CREATE TABLE orgs (id bigint PRIMARY KEY, name text NOT NULL, disabled boolean NOT NULL, deleted bigint, settings bigint NOT NULL, data bytea NOT NULL);
CREATE TABLE accounts (id bigint PRIMARY KEY, org bigint NOT NULL, name text NOT NULL, disabled boolean NOT NULL, deleted bigint, data bytea NOT NULL);
CREATE TABLE keys (id bigint PRIMARY KEY, account bigint NOT NULL, name text NOT NULL, disabled boolean NOT NULL, expires bigint, deleted bigint, hash bytea NOT NULL, data bytea NOT NULL);
CREATE TABLE uses (key bigint PRIMARY KEY, at bigint NOT NULL, addr text NOT NULL);`

const lookupStatement = `SELECT k.name, k.disabled, k.expires, k.deleted, k.hash, k.data, u.at, a.id, a.name, a.disabled, a.deleted, a.data, o.id, o.name, o.disabled, o.deleted, o.settings, o.data
FROM keys k JOIN accounts a ON a.id = k.account JOIN orgs o ON o.id = a.org LEFT JOIN uses u ON u.key = k.id WHERE k.id = $1`

// handLookup is a bare prepared SELECT of the rows that Authenticate has to know:
// the key's, with its hash and when it was used, the account's and the
// organization's. They are read and nothing is done with them.
func handLookup(pg *cluster, work string, shape fixture.Shape, callers int) harness.Case {
	return harness.Case{Work: work, Who: whoSelectAll, Callers: callers,
		Setup: func(ctx context.Context, env harness.Env) (*harness.Running, error) {
			b, err := newByHand(ctx, pg, cut(env, shape), callers)
			if err != nil {
				return nil, err
			}
			data := strings.Repeat("x", 200) // about what limits and the like take
			texts := []string{lookupSchema,
				fmt.Sprintf(`INSERT INTO orgs SELECT i, 'organization ' || i, false, NULL, 1, '%s' FROM generate_series(0, %d) i`, data, b.shape.Orgs-1),
				fmt.Sprintf(`INSERT INTO uses SELECT i, 1, '' FROM generate_series(0, %d) i`, b.shape.Keys-1)}
			var accounts, keys []string
			for i := range b.shape.Accounts {
				accounts = append(accounts, fmt.Sprintf("(%d, %d, 'account %d', false, NULL, '%s')", i, i%b.shape.Orgs, i, data))
			}
			for i := range b.shape.Keys {
				a, _ := b.shape.Parents(i)
				keys = append(keys, fmt.Sprintf("(%d, %d, 'key %d', false, NULL, NULL, sha256('%d'), '%s')", i, a, i, i, data))
			}
			texts = append(texts, `INSERT INTO accounts VALUES `+strings.Join(accounts, ","), `INSERT INTO keys VALUES `+strings.Join(keys, ","), `VACUUM ANALYZE`)
			for _, text := range texts {
				if _, err := b.db.ExecContext(ctx, text); err != nil {
					return nil, errors.Join(err, b.stop())
				}
			}
			st, err := b.db.PrepareContext(ctx, lookupStatement)
			if err != nil {
				return nil, errors.Join(err, b.stop())
			}
			return &harness.Running{
				Op: func(w, i int) error {
					var name [3]string
					var id [2]int64
					var disabled [3]bool
					var expires, used sql.NullInt64
					var deleted [3]sql.NullInt64
					var settings int64
					var hash []byte
					var data [3][]byte
					return st.QueryRowContext(ctx, fixture.Pick(w, i, b.shape.Keys)).Scan(&name[0], &disabled[0], &expires, &deleted[0], &hash, &data[0], &used,
						&id[0], &name[1], &disabled[1], &deleted[1], &data[1], &id[1], &name[2], &disabled[2], &deleted[2], &settings, &data[2])
				},
				PIDs:  b.pids(),
				Close: b.stop,
			}, nil
		}}
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
