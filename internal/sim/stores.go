package sim

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/keypurse/keypurse/store"
	"github.com/keypurse/keypurse/store/boltstore"
	"github.com/keypurse/keypurse/store/memstore"
	"github.com/keypurse/keypurse/store/pgstore"
)

// backend opens the store of one world, again and again.
type backend struct {
	open   func() (store.Store, error)
	close  func() error
	remove func()                   // of its files
	files  func() ([][]byte, error) // what lies on the disk; nil: nothing does
}

// newBackend makes the store of the world that begins at a step. tight makes it
// forget and write out as often as it can.
func newBackend(cfg Config, from int, tight bool, log *slog.Logger) (*backend, error) {
	switch cfg.Store {
	case "memory":
		s := memstore.New()
		return &backend{
			open:   func() (store.Store, error) { return s, nil },
			close:  func() error { return nil },
			remove: func() {},
		}, nil
	case "bolt":
		path := filepath.Join(cfg.Dir, fmt.Sprintf("sim-%d-%d.db", cfg.Seed, from))
		bolt := boltstore.Config{Logger: log}
		if tight {
			bolt.MaxRows, bolt.JournalBytes = 256, 4096
		}
		b := &backend{}
		b.open = func() (store.Store, error) {
			s, err := boltstore.Open(path, bolt)
			if err != nil {
				return nil, err
			}
			b.close = s.Close
			return s, nil
		}
		b.remove = func() { _ = os.Remove(path) } // the directory goes anyway
		b.files = func() ([][]byte, error) {
			data, err := os.ReadFile(path)
			return [][]byte{data}, err
		}
		return b, os.RemoveAll(path)
	case "postgres":
		return onPostgres(cfg, from, tight, log)
	}
	return nil, fmt.Errorf("sim: store %q is not known; give memory, bolt or postgres", cfg.Store)
}

// onPostgres is a schema of its own on the server of cfg.DSN.
func onPostgres(cfg Config, from int, tight bool, log *slog.Logger) (*backend, error) {
	if cfg.DSN == "" {
		return nil, errors.New("sim: postgres needs a DSN")
	}
	pg := pgstore.Config{Schema: fmt.Sprintf("sim_%d_%d", cfg.Seed, from), Logger: log}
	if tight {
		pg.MaxRows = 256
	}
	ctx := context.Background()
	db, err := sql.Open("postgres", cfg.DSN)
	if err != nil {
		return nil, err
	}
	drop := func() error {
		_, err := db.ExecContext(ctx, `DROP SCHEMA IF EXISTS "`+pg.Schema+`" CASCADE`)
		return err
	}
	b := &backend{}
	b.open = func() (store.Store, error) {
		s, err := pgstore.Open(ctx, cfg.DSN, pg)
		if err != nil {
			return nil, err
		}
		b.close = s.Close
		return unshared{s}, nil
	}
	b.remove = func() { _ = errors.Join(drop(), db.Close()) } // the server goes anyway
	b.files = func() (out [][]byte, err error) {
		for _, text := range []string{
			`SELECT data FROM %s.records WHERE data IS NOT NULL`, `SELECT data FROM %s.audit WHERE data IS NOT NULL`, `SELECT body FROM %s.receipts`,
			`SELECT r::text::bytea FROM (SELECT id, name, parent, labels FROM %s.records) r`, `SELECT u::text::bytea FROM %s.uses u`,
			`SELECT c::text::bytea FROM %s.counters c`, `SELECT o::text::bytea FROM %s.outbox o`,
		} {
			rows, err := db.QueryContext(ctx, fmt.Sprintf(text, `"`+pg.Schema+`"`))
			if err != nil {
				return nil, err
			}
			for rows.Next() {
				var v []byte
				if err := rows.Scan(&v); err != nil {
					return nil, errors.Join(err, rows.Close())
				}
				out = append(out, v)
			}
			if err := rows.Err(); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return b, drop()
}

// unshared hides that a Store is saccount.Shared: when a Service hears of
// another's changes is a matter of real time, which no seed decides.
type unshared struct{ store.Store }
