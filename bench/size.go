package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/keypurse/keypurse/bench/internal/fixture"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/pgstore"
)

// The tree whose rows are counted: accounts with one monthly limit in an
// organization with one, keys with none of their own.
const (
	sizeAccounts = 5_000
	sizeKeys     = 3 // an account
)

// sizes measures what is stored.
type sizes struct {
	*database
	*service
	clock    clock
	accounts int
	last     map[string]tableSize
	out      strings.Builder
}

type tableSize struct{ rows, table, indexes float64 }

// Size writes what an account, a key, a bucket and an id cost on Postgres, in
// rows and in bytes as freshly written, what a charge adds to the write-ahead log,
// and the sums of a million accounts. Sizes do not depend on speed: a smaller
// database says what a larger one takes.
func Size(ctx context.Context, out io.Writer, quick bool) (err error) {
	s := &sizes{accounts: sizeAccounts}
	if quick {
		s.accounts = 200
	}
	if s.database, err = newCluster().open(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.database.close()) }()
	st, err := pgstore.Open(ctx, s.dsn, pgstore.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	seeds := newSeeding(st)
	cfg := config()
	cfg.Now = s.clock.now
	svc, err := saccount.New(seeds, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, svc.Close()) }()
	s.service = &service{Service: svc, store: st}
	if err := s.measure(ctx, seeds); err != nil {
		return err
	}
	_, err = io.WriteString(out, s.out.String())
	return err
}

// measure makes one kind of row after the other and weighs each.
func (s *sizes) measure(ctx context.Context, seeds *seeding) error {
	limit := saccount.Limits{"": saccount.NewLimit(plenty*1_000_000, quota.Period{Unit: quota.Month})}
	if _, err := s.CreateOrg(ctx, benchActor, saccount.OrgSpec{ID: orgID(0), Limits: limit}); err != nil {
		return err
	}
	if _, err := s.weigh(ctx); err != nil {
		return err
	}
	fmt.Fprintf(&s.out, "%d accounts with a monthly limit, %d keys each, in one organization; bytes of tables and indexes, as freshly written.\n\n"+
		"| what | rows | bytes | bytes of tables | of indexes |\n| --- | ---: | ---: | ---: | ---: |\n", s.accounts, sizeKeys)
	var ids []string
	account, err := s.stage(ctx, "an account: its record, audit entry and its limit's counter", s.accounts, func() error {
		for i := range s.accounts {
			a, err := s.CreateAccount(ctx, benchActor, orgID(0), saccount.AccountSpec{Name: "account " + strconv.Itoa(i), Limits: limit})
			if err != nil {
				return err
			}
			ids = append(ids, a.ID)
		}
		return seeds.flush(ctx)
	})
	if err != nil {
		return err
	}
	keys := s.accounts * sizeKeys
	key, err := s.stage(ctx, "a key: its record and audit entry", keys, func() error {
		for i := range keys {
			token, _, err := s.CreateKey(ctx, benchActor, orgID(0), ids[i%len(ids)], saccount.KeySpec{Name: "key " + strconv.Itoa(i)})
			if err != nil {
				return err
			}
			s.tokens = append(s.tokens, token.Reveal())
		}
		return seeds.flush(ctx)
	})
	if err != nil {
		return err
	}
	// From the middle of a quarter of an hour, so that no bucket turns by itself.
	at := time.Now().Truncate(quota.BucketWidth).Add(quota.BucketWidth / 2)
	s.clock.past.Store(&at)
	first, err := s.stage(ctx, "a key's first charge: its bucket and last use, and its share of its account's bucket", keys, func() error { return s.every(ctx, false) })
	if err != nil {
		return err
	}
	later := at.Add(quota.BucketWidth)
	s.clock.past.Store(&later)
	quarter, err := s.stage(ctx, "a later quarter of an hour in which a key was charged: its bucket, and its share of its account's", keys, func() error { return s.every(ctx, false) })
	if err != nil {
		return err
	}
	id, err := s.stage(ctx, "a charge with an id: its receipt", keys, func() error { return s.every(ctx, true) })
	if err != nil {
		return err
	}
	if err := s.logged(ctx); err != nil {
		return err
	}
	s.sum(account, key, first, quarter, id)
	return nil
}

// stage is what n of something add, a piece.
func (s *sizes) stage(ctx context.Context, what string, n int, do func() error) (per tableSize, err error) {
	if err := do(); err != nil {
		return per, fmt.Errorf("%s: %w", what, err)
	}
	if err := s.Flush(ctx); err != nil {
		return per, err
	}
	before := s.last
	after, err := s.weigh(ctx)
	if err != nil {
		return per, err
	}
	for name, t := range after {
		b := before[name]
		per.rows += (t.rows - b.rows) / float64(n)
		per.table += (t.table - b.table) / float64(n)
		per.indexes += (t.indexes - b.indexes) / float64(n)
	}
	fmt.Fprintf(&s.out, "| %s | %.2f | %.0f | %.0f | %.0f |\n", what, per.rows, per.bytes(), per.table, per.indexes)
	return per, nil
}

func (t tableSize) bytes() float64 { return t.table + t.indexes }

// weigh writes all tables anew and says how large they are. The marks of batches
// are left out: they live for an hour.
func (s *sizes) weigh(ctx context.Context) (map[string]tableSize, error) {
	if err := s.exec(ctx, s.dsn, `VACUUM FULL`); err != nil {
		return nil, err
	}
	db, err := s.pool(1)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, `SELECT c.relname, c.reltuples::float8, pg_table_size(c.oid)::float8, pg_indexes_size(c.oid)::float8
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'keypurse' AND c.relkind = 'r' AND c.relname <> 'batches'`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	s.last = map[string]tableSize{}
	for rows.Next() {
		var name string
		var t tableSize
		if err := rows.Scan(&name, &t.rows, &t.table, &t.indexes); err != nil {
			return nil, err
		}
		s.last[name] = t
	}
	return s.last, rows.Err()
}

// every charges each key once, many at a time.
func (s *sizes) every(ctx context.Context, ids bool) error {
	return s.together(ctx, 64, len(s.tokens), func(_, i int) error {
		c := saccount.Charge{Amount: 1}
		if ids {
			c.ID = fmt.Sprintf("key-of-16-bytes:%026d", i) // as long as a random id with its key's before it
		}
		_, d, err := s.AuthenticateAndCharge(ctx, s.tokens[i], nil, c)
		if err == nil {
			err = d.Err()
		}
		return err
	})
}

// together does n things by so many callers.
func (s *sizes) together(_ context.Context, callers, n int, do func(w, i int) error) error {
	var wg sync.WaitGroup
	errs := make([]error, callers)
	for w := range callers {
		wg.Go(func() {
			for i := w; i < n && errs[w] == nil; i += callers {
				errs[w] = do(w, i)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// logged says what a charge adds to the write-ahead log, by a lone caller and in
// batches: of rows that are there, with no checkpoint in between.
func (s *sizes) logged(ctx context.Context) error {
	s.out.WriteString("\n| write-ahead log | bytes a charge |\n| --- | ---: |\n")
	for _, callers := range []int{1, 64} {
		n := 2_000 * callers / (1 + callers/8)
		charge := func(w, i int) error { return s.charge(ctx, fixture.Pick(w, i, len(s.tokens))) }
		if err := s.every(ctx, false); err != nil { // the first touch of a page after a checkpoint logs it whole
			return err
		}
		const at = `SELECT (pg_current_wal_insert_lsn() - '0/0')::float8`
		before, err := s.number(ctx, at)
		if err == nil {
			err = s.together(ctx, callers, n, charge)
		}
		if err != nil {
			return err
		}
		after, err := s.number(ctx, at)
		if err != nil {
			return err
		}
		fmt.Fprintf(&s.out, "| %s, one organization | %.0f |\n", plural(callers, "caller"), (after-before)/float64(n))
	}
	return nil
}

// sum says what a million accounts cost.
func (s *sizes) sum(account, key, first, quarter, id tableSize) {
	const million, gb = 1e6, 1e9
	keys := million * sizeKeys
	fmt.Fprintf(&s.out, "\n| a million accounts of %d keys | rows | GB |\n| --- | ---: | ---: |\n", sizeKeys)
	row := func(what string, n, per, bytes float64) {
		fmt.Fprintf(&s.out, "| %s | %s | %.2f |\n", what, number(n*per), n*bytes/gb)
	}
	row("records, audit and limits", million, account.rows+sizeKeys*key.rows, account.bytes()+sizeKeys*key.bytes())
	row("buckets and last uses, each key charged once", keys, first.rows, first.bytes())
	row("each further quarter of an hour in which all keys are charged", keys, quarter.rows, quarter.bytes())
	row("a day of buckets, each key charged in 8 of its 96 quarters", keys*8, quarter.rows, quarter.bytes())
	row("a day folded (Service.Retain): a bucket a key and account", keys, quarter.rows, quarter.bytes())
	row("a million charges with ids, until their 35 days are over", million, id.rows, id.bytes())
}
