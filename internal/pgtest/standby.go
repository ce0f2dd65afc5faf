//go:build unix

package pgtest

import (
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// standbyName is what a standby calls itself to its primary.
const standbyName = "pgtest_standby"

// Standby makes a copy of a server, by pg_basebackup, that follows it by
// streaming replication, and starts it. From then on a commit of the server
// waits for the copy's disk (synchronous_standby_names). The error is
// ErrNotFound where the server's programs have no pg_basebackup.
func (s *Server) Standby(cfg Config) (*Server, error) {
	if !executable(s.bin, "pg_basebackup") {
		return nil, fmt.Errorf("%w: %s has no pg_basebackup", ErrNotFound, s.bin)
	}
	cfg.Bin = s.bin
	cfg.Data = func(n *Server, dir string) error {
		return n.Tool("pg_basebackup", "-D", dir, "-R", "-X", "stream", "-c", "fast", "--no-sync",
			"-d", dsn(s.dir)+" application_name="+standbyName)
	}
	standby, err := Start(cfg)
	if err != nil {
		return nil, err
	}
	if err := s.follow(); err != nil {
		return nil, errors.Join(err, standby.Stop())
	}
	return standby, nil
}

// follow makes the server's commits wait for its standby, and returns when
// they do.
func (s *Server) follow() error {
	db, err := sql.Open("postgres", s.DSN())
	if err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	defer db.Close()
	for _, text := range []string{"ALTER SYSTEM SET synchronous_standby_names TO '" + standbyName + "'", "SELECT pg_reload_conf()"} {
		if _, err := db.Exec(text); err != nil {
			return fmt.Errorf("pgtest: %w", err)
		}
	}
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) { // another process's work: there is nothing to wait on
		var n int
		if err := db.QueryRow("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'").Scan(&n); err != nil {
			return fmt.Errorf("pgtest: %w", err)
		}
		if n == 1 {
			return nil
		}
		if time.Since(start) > startTime {
			return errors.New("pgtest: the standby does not follow")
		}
	}
}

// Promote makes a standby a primary, and returns when it takes writes.
func (s *Server) Promote() error {
	db, err := sql.Open("postgres", s.DSN())
	if err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	defer db.Close()
	var done bool
	if err := db.QueryRow("SELECT pg_promote(true, 60)").Scan(&done); err != nil || !done {
		return fmt.Errorf("pgtest: promote: done %v: %w", done, err)
	}
	return nil
}
