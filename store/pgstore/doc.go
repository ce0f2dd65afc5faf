// Package pgstore keeps everything in Postgres, for services of several
// processes: any number of them share one database, and a limit holds exactly
// over all of them.
//
//	db, err := sql.Open("postgres", dsn)
//	...
//	if err := pgstore.Migrate(ctx, db, pgstore.Config{}); err != nil { ... }
//	store, err := pgstore.New(db, pgstore.Config{})
//	if err != nil { ... }
//	defer store.Close()
//	svc, err := saccount.New(store, saccount.Config{...})
//
// Open does the three steps with a pool of its own. PostgreSQL 14 or later; any
// driver of database/sql (proven with lib/pq and pgx's stdlib).
//
// # How it charges
//
// Charges are decided in this process, by the same code as on every backend, on
// the rows as this process last left them, and a batch of them is written in one
// statement. Each organization has a row with a version, and its rows are written
// only where that is still the one that they were decided on. Where another
// process has moved it, the organization's row is locked, what the other changed is
// read, and it is decided again. So a lone process reads nothing to charge, and many
// processes are exact. A refusal writes nothing.
//
// A charge is durable when it is answered: synchronous_commit is raised to on for
// it where it is lower, and never lowered. A batch leaves its token in the
// database: where the answer to a commit is lost, the token says what became of
// it. Serialization failures, deadlocks and lost connections are tried again until
// Config.Timeout is over; then the call returns an error, which wraps the cause.
//
// # What it needs
//
//   - One schema, made by Migrate: see Config.Schema and Migrations.
//   - A connection of the pool for each call under way: charges of one Service use
//     one at a time, whatever their number, and another where several processes
//     write to one organization (they take turns, of 50 ms at most), so that a
//     small pool will do; one of fewer than 3 is slower then. Give the
//     pool a bound (SetMaxOpenConns), and let it keep what it opened
//     (SetMaxIdleConns): database/sql has none for the one, and 2 for the other.
//   - Behind a pooler that gives each transaction another connection (PgBouncer's
//     transaction mode), Config.Unprepared, and for lib/pq
//     ignore_startup_parameters = extra_float_digits in PgBouncer's own settings.
//   - fsync on, and a primary: New refuses others.
//
// # Failover
//
// A Store goes on with whatever server its pool connects to. Lead an address to
// the new primary, or name both servers in the connection string with
// target_session_attrs=read-write, which lib/pq and pgx know. So that nothing
// that was acknowledged is lost with the old primary, let its commits wait for the
// standby (synchronous_standby_names); what was under way is tried again until
// Config.Timeout is over.
//
// Time is the server's: see Store.Now, which saccount.Service goes by unless it is
// given a clock of its own.
package pgstore
