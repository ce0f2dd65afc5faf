package pgstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/keypurse/keypurse/saccount"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations are the numbered steps of the schema, forward only, as files that
// goose runs too ("-- +goose Up"; https://github.com/pressly/goose). Names in
// them have no schema: run them with search_path set to the one of the Config,
// and set the table keypurse_schema to the number of the last one, as Migrate
// does, where another tool keeps its own account.
func Migrations() fs.FS {
	sub, err := fs.Sub(files, "migrations")
	if err != nil {
		panic(err) // the directory is part of the package
	}
	return sub
}

// versionTable has one row: the number of the last step.
const versionTable = "keypurse_schema"

// lockNumber is "keypurse" in ASCII: the advisory lock of migrations.
const lockNumber = 0x6b65797075727365

// Migrate makes the schema what this version needs: each step once, all of
// them in one transaction under an advisory lock of that transaction, which
// transaction pooling leaves alone. Any number of processes may call it at
// once. A schema that is newer is refused with ErrSchema before anything is
// written. An error leaves the schema as it was.
func Migrate(ctx context.Context, db *sql.DB, cfg Config) error {
	if db == nil {
		return fmt.Errorf("pgstore: migrate: %w pool: none given", saccount.ErrInvalid)
	}
	if err := migrate(ctx, db, cfg); err != nil {
		return fmt.Errorf("pgstore: migrate: %w", err)
	}
	return nil
}

type step struct {
	number int
	name   string
	text   string
}

func steps() ([]step, error) {
	var out []step
	names, err := fs.Glob(Migrations(), "*.sql")
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	for _, name := range names {
		number, _, _ := strings.Cut(name, "_")
		n, err := strconv.Atoi(number)
		if err != nil || n != len(out)+1 {
			return nil, fmt.Errorf("migration %s is out of order", name)
		}
		text, err := fs.ReadFile(files, path.Join("migrations", name))
		if err != nil {
			return nil, err
		}
		out = append(out, step{n, name, string(text)})
	}
	return out, nil
}

func migrate(ctx context.Context, db *sql.DB, cfg Config) error {
	cfg, err := cfg.check()
	if err != nil {
		return err
	}
	all, err := steps()
	if err != nil {
		return err
	}
	newest := all[len(all)-1].number
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	if version, err := schemaVersion(ctx, db, cfg.Schema); err == nil && version == newest {
		return nil // nearly always: no lock, nothing written
	}
	s := &Store{db: nil, cfg: cfg}
	return s.persist(ctx, "migrate", func() error {
		return call(ctx, nil, func() error { return upgrade(ctx, db, cfg, all) })
	})
}

func upgrade(ctx context.Context, db *sql.DB, cfg Config, all []step) (err error) {
	tx, err := db.BeginTx(ctx, readCommitted)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = tx.Rollback() // the first error is the one that counts
		}
	}()
	if _, err := tx.ExecContext(ctx, fmt.Sprintf(`SELECT pg_advisory_xact_lock(%d)`, int64(lockNumber))); err != nil {
		return err
	}
	newest := all[len(all)-1].number
	version, err := schemaVersion(ctx, tx, cfg.Schema)
	switch {
	case err != nil:
		return err
	case version > newest:
		return tooNew(cfg.Schema, version, newest)
	case version == newest:
		return tx.Rollback()
	}
	for _, text := range []string{
		fmt.Sprintf(`CREATE SCHEMA IF NOT EXISTS "%s"`, cfg.Schema),
		fmt.Sprintf(`SET LOCAL search_path TO "%s"`, cfg.Schema),
		`SET LOCAL synchronous_commit TO on`,
		`CREATE TABLE IF NOT EXISTS ` + versionTable + ` (one boolean PRIMARY KEY DEFAULT true CHECK (one), version integer NOT NULL)`,
	} {
		if _, err := tx.ExecContext(ctx, text); err != nil {
			return err
		}
	}
	for _, st := range all[version:] {
		if _, err := tx.ExecContext(ctx, st.text); err != nil {
			return fmt.Errorf("step %s: %w", st.name, err)
		}
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf(`INSERT INTO %s (version) VALUES (%d) ON CONFLICT (one) DO UPDATE SET version = excluded.version`, versionTable, newest)); err != nil {
		return err
	}
	return tx.Commit()
}

func tooNew(schema string, version, newest int) error {
	return fmt.Errorf("%w: schema %q is at version %d, newer than %d, which this version of keypurse knows; update keypurse", ErrSchema, schema, version, newest)
}

// one is what schemaVersion needs of a pool or a transaction.
type one interface {
	QueryRowContext(ctx context.Context, text string, args ...any) *sql.Row
}

// schemaVersion is 0 where there is no schema, or none of ours.
func schemaVersion(ctx context.Context, db one, schema string) (int, error) {
	var version int
	// Not by to_regclass: after the wait for the lock a server process may still
	// remember that there was no such table.
	err := db.QueryRowContext(ctx, fmt.Sprintf(`SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = '%s' AND c.relname = '%s'`, schema, versionTable)).Scan(&version)
	if err != nil || version == 0 {
		return 0, err
	}
	err = db.QueryRowContext(ctx, fmt.Sprintf(`SELECT version FROM "%s".%s`, schema, versionTable)).Scan(&version)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return version, err
}

// greet refuses a server that the Store must not run on, and learns its clock.
func (s *Store) greet(ctx context.Context) error {
	all, err := steps()
	if err != nil {
		return err
	}
	newest := all[len(all)-1].number
	return s.persist(ctx, "new", func() error {
		return call(ctx, nil, func() error {
			version, err := schemaVersion(ctx, s.db, s.cfg.Schema)
			switch {
			case err != nil:
				return err
			case version > newest:
				return tooNew(s.cfg.Schema, version, newest)
			case version < newest:
				return fmt.Errorf("%w: schema %q is at version %d of %d; run pgstore.Migrate", ErrSchema, s.cfg.Schema, version, newest)
			}
			var fsync, pages string
			var standby bool
			if err := s.db.QueryRowContext(ctx, `SELECT current_setting('fsync'), current_setting('full_page_writes'), pg_is_in_recovery()`).Scan(&fsync, &pages, &standby); err != nil {
				return err
			}
			if (fsync == "off" || pages == "off") && !s.cfg.AllowUnsafe {
				return fmt.Errorf("%w: fsync is %s and full_page_writes is %s: a crash of the server may lose charges, or everything; switch both on, or set AllowUnsafe", ErrUnsafe, fsync, pages)
			}
			if standby && !s.cfg.AllowStandby {
				return fmt.Errorf("%w: it is a standby and takes no writes; connect to the primary, or set AllowStandby", ErrUnsafe)
			}
			return s.clock.measure(ctx, s)
		})
	})
}
