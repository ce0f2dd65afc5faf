package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	_ "github.com/lib/pq" // the driver that keypurse uses, too

	"github.com/keypurse/keypurse/bench/internal/harness"
	"github.com/keypurse/keypurse/internal/pgtest"
)

// settings of the cluster, beside Postgres' own: fsync, full_page_writes and
// synchronous_commit are on.
var settings = []string{"fsync=on", "synchronous_commit=on", "shared_buffers=1GB", "max_wal_size=8GB", "checkpoint_timeout=30min", "max_connections=1500"}

// cluster is the Postgres of a section: all of its cases are on one, in a
// database each. It runs while one of them is open.
type cluster struct {
	server lazy[*pgtest.Server]
	made   atomic.Int64
}

// newCluster starts nothing.
func newCluster() *cluster {
	c := new(cluster)
	c.server.make = func(context.Context) (*pgtest.Server, func() error, error) {
		s, err := pgtest.Start(pgtest.Config{Settings: settings})
		if errors.Is(err, pgtest.ErrNotFound) {
			return nil, nil, harness.NotRun("no Postgres was found")
		}
		if err != nil {
			return nil, nil, err
		}
		return s, s.Stop, nil
	}
	return c
}

// database is one case's.
type database struct {
	cluster   *cluster
	name, dsn string
	admin     string // of a database that stays
	dir       string // of the socket
	pid       int    // of the server's first process
}

func (c *cluster) open(ctx context.Context) (*database, error) {
	s, err := c.server.get(ctx)
	if err != nil {
		return nil, err
	}
	d := &database{cluster: c, name: fmt.Sprintf("case%d", c.made.Add(1)), admin: s.DSN(), dir: filepath.Dir(s.Socket())}
	d.dsn = strings.Replace(d.admin, "dbname=postgres", "dbname="+d.name, 1)
	if d.pid, err = s.PID(); err == nil {
		err = d.exec(ctx, d.admin, "CREATE DATABASE "+d.name)
	}
	if err != nil {
		return nil, errors.Join(err, c.server.release())
	}
	return d, nil
}

// exec does something on a connection of its own.
func (d *database) exec(ctx context.Context, dsn, text string) error {
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, text)
	return errors.Join(err, db.Close())
}

// number asks for one.
func (d *database) number(ctx context.Context, text string, args ...any) (n float64, err error) {
	db, err := sql.Open("postgres", d.dsn)
	if err != nil {
		return 0, err
	}
	err = db.QueryRowContext(ctx, text, args...).Scan(&n)
	return n, errors.Join(err, db.Close())
}

// pool is a pool of so many connections, which stay.
func (d *database) pool(connections int) (*sql.DB, error) {
	db, err := sql.Open("postgres", d.dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

// pids is the server's: what it works is part of the case.
func (d *database) pids() []int { return []int{d.pid} }

func (d *database) close() error {
	err := d.exec(context.Background(), d.admin, "DROP DATABASE IF EXISTS "+d.name+" WITH (FORCE)")
	return errors.Join(err, d.cluster.server.release())
}

// lazy is something that several cases use: made for the first of them, and let
// go of by the last.
type lazy[T any] struct {
	make func(context.Context) (v T, stop func() error, err error)

	mu    sync.Mutex
	users int
	v     T
	stop  func() error
}

func (l *lazy[T]) get(ctx context.Context) (T, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users == 0 {
		v, stop, err := l.make(ctx)
		if err != nil {
			return v, err
		}
		l.v, l.stop = v, stop
	}
	l.users++
	return l.v, nil
}

func (l *lazy[T]) release() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users--; l.users > 0 {
		return nil
	}
	var none T
	l.v = none
	return l.stop()
}
