package pgstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"
	_ "github.com/lib/pq" // the driver of Open

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// Defaults and bounds of a Config.
const (
	DefaultSchema   = "keypurse"
	DefaultTimeout  = 10 * time.Second
	DefaultMaxRows  = 1 << 18
	DefaultMaxCalls = 4096

	// OpenConnections bounds the pool that Open makes: charges need one or two at
	// a time, the rest is for reading.
	OpenConnections = 32

	idleConnection = 5 * time.Minute

	minTimeout = 100 * time.Millisecond
	maxTimeout = 10 * time.Minute
	minRows    = 1 << 8
	maxRows    = 1 << 26
	maxCalls   = 1 << 20
)

// Config configures a Store. Its zero value is good.
type Config struct {
	// Schema is where the tables are; Migrate makes it. Up to 48 of a-z, 0-9
	// and _, not beginning with a digit. Empty is DefaultSchema.
	Schema string
	// Timeout bounds how long a call goes on while the server fails or does not
	// answer: then it returns an error. Zero is DefaultTimeout; 100 ms to 10
	// minutes.
	Timeout time.Duration
	// MaxRows bounds the counters in memory, about 250 bytes each. Zero is
	// DefaultMaxRows.
	MaxRows int
	// MaxCalls bounds the calls under way at once, those included that wait for
	// a connection of the pool: more are answered quota.ErrBusy at once. Charges
	// do not count, since one connection serves them all: quota.LedgerConfig
	// bounds those. Zero is DefaultMaxCalls; 1 to 1,048,576.
	MaxCalls int
	// Unprepared never prepares a statement on the server. A pool that gives
	// each transaction another connection (PgBouncer's transaction mode) needs
	// it, with binary_parameters=yes in lib/pq's connection string or
	// default_query_exec_mode=exec in pgx's.
	Unprepared bool
	// AllowUnsafe lets the Store open on a server with fsync or
	// full_page_writes off, which loses charges, and may lose all, in a crash.
	AllowUnsafe bool
	// AllowStandby lets the Store open on a server in recovery: it can read
	// usage there, and everything that writes fails.
	AllowStandby bool
	// Logger hears of what was retried and of what fails in the background. Nil
	// discards.
	Logger *slog.Logger

	// now is the process's clock, for tests.
	now func() time.Time
}

var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,47}$`)

func (c Config) check() (Config, error) {
	if c.Schema == "" {
		c.Schema = DefaultSchema
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.MaxRows == 0 {
		c.MaxRows = DefaultMaxRows
	}
	if c.MaxCalls == 0 {
		c.MaxCalls = DefaultMaxCalls
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.now == nil {
		c.now = time.Now
	}
	switch {
	case !schemaName.MatchString(c.Schema):
		return c, fmt.Errorf("%w Schema %q: give up to 48 of a-z, 0-9 and _, not beginning with a digit", saccount.ErrInvalid, c.Schema)
	case c.Timeout < minTimeout || c.Timeout > maxTimeout:
		return c, fmt.Errorf("%w Timeout %v: give %v to %v", saccount.ErrInvalid, c.Timeout, minTimeout, maxTimeout)
	case c.MaxRows < minRows || c.MaxRows > maxRows:
		return c, fmt.Errorf("%w MaxRows %d: give %d to %d", saccount.ErrInvalid, c.MaxRows, minRows, maxRows)
	case c.MaxCalls < 1 || c.MaxCalls > maxCalls:
		return c, fmt.Errorf("%w MaxCalls %d: give 1 to %d", saccount.ErrInvalid, c.MaxCalls, maxCalls)
	}
	return c, nil
}

// Store is a store.Store on Postgres, to be shared by any number of processes.
// Safe for concurrent use.
type Store struct {
	db    *sqlx.DB
	owned bool
	cfg   Config
	sql   statements
	clock serverClock

	// busy is held by one Apply at a time: a channel, so that a caller whose
	// time is over need not wait for it.
	busy   chan struct{}
	books  map[string]*book // guarded by busy
	rows   int              // counters in memory
	batch  uint64
	shifts shifts
	// later are organizations whose book another call made worthless.
	mu    sync.Mutex
	later map[string]bool

	keys, managers asker

	prepared sync.Map // text -> *sql.Stmt
	closed   atomic.Bool
	calls    sync.RWMutex // held for reading by calls under way
	under    atomic.Int64 // calls under way that MaxCalls bounds
	afloat   atomic.Int64 // batches whose statement has not ended
	asking   atomic.Int64 // look-ups whose statement has not ended
}

// New makes a Store on the host's pool, which stays the host's to close. The
// schema must have been migrated: see Migrate. It asks the server what it is
// and what time it has, for up to cfg.Timeout. Errors: saccount.ErrInvalid
// where the Config is wrong, ErrSchema where the tables are not those that this
// version knows, ErrUnsafe where the server may lose what it acknowledged, and
// those of the connection.
func New(db *sql.DB, cfg Config) (*Store, error) {
	s, err := open(context.Background(), db, cfg, false)
	if err != nil {
		return nil, fmt.Errorf("pgstore: new: %w", err)
	}
	return s, nil
}

// Open makes a Store of its own pool on lib/pq, of OpenConnections at most,
// migrates the schema and closes the pool with the Store. It is the short way;
// hosts with a pool, or with other bounds on one, use New.
// Errors are those of Migrate and New.
func Open(ctx context.Context, dsn string, cfg Config) (*Store, error) {
	s, err := openDSN(ctx, dsn, cfg)
	if err != nil {
		return nil, fmt.Errorf("pgstore: open: %w", err)
	}
	return s, nil
}

func openDSN(ctx context.Context, dsn string, cfg Config) (*Store, error) {
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		return nil, errors.New("the connection string cannot be read") // it may hold a password
	}
	db.SetMaxOpenConns(OpenConnections)
	db.SetMaxIdleConns(OpenConnections) // the default of two would connect anew all the time
	db.SetConnMaxIdleTime(idleConnection)
	if err := migrate(ctx, db, cfg); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	s, err := open(ctx, db, cfg, true)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

func open(ctx context.Context, db *sql.DB, cfg Config, owned bool) (*Store, error) {
	if db == nil {
		return nil, fmt.Errorf("%w pool: none given", saccount.ErrInvalid)
	}
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	s := &Store{
		db: sqlx.NewDb(db, "postgres"), owned: owned, cfg: cfg, sql: texts4(cfg.Schema),
		busy: make(chan struct{}, 1), books: map[string]*book{}, later: map[string]bool{},
	}
	s.shifts.most, s.shifts.long, s.shifts.idle, s.shifts.still = shiftBatches, shiftTime, shiftIdle, shiftStill
	s.keys.s, s.keys.text = s, s.sql.askKeys
	s.managers.s, s.managers.text = s, s.sql.askManagers
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	if err := s.greet(ctx); err != nil {
		return nil, err
	}
	for _, text := range s.sql.within() {
		err := s.persist(ctx, "new", func() error {
			return call(ctx, nil, func() error { _, err := s.stmt(ctx, db, text); return err })
		})
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Close frees what the Store prepared, and the pool where Open made it. Calls
// under way finish first; later ones fail with saccount.ErrClosed. Idempotent.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.calls.Lock()
	defer s.calls.Unlock()
	s.endShift()
	s.shifts.ending.Wait()
	s.books = nil
	var err error
	s.prepared.Range(func(_, v any) bool {
		err = errors.Join(err, v.(*sql.Stmt).Close())
		return true
	})
	if s.owned {
		err = errors.Join(err, s.db.Close())
	}
	if err != nil && !again(err) { // a connection that was lost is closed
		return fmt.Errorf("pgstore: close: %w", err)
	}
	return nil
}

// begin is the first line of every call: end must be called, and the context
// is over when the call must be.
func (s *Store) begin(ctx context.Context, verb string) (_ context.Context, end func(), err error) {
	if err := ctx.Err(); err != nil && !s.closed.Load() {
		return ctx, nil, fmt.Errorf("pgstore: %s: %w", verb, err)
	}
	s.calls.RLock()
	if s.closed.Load() {
		s.calls.RUnlock()
		return ctx, nil, fmt.Errorf("pgstore: %s: %w", verb, saccount.ErrClosed)
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	return ctx, func() { cancel(); s.calls.RUnlock() }, nil
}

// enter is begin for the calls that MaxCalls bounds.
func (s *Store) enter(ctx context.Context, verb string) (_ context.Context, end func(), err error) {
	if n := s.under.Add(1); n > int64(s.cfg.MaxCalls) && !s.closed.Load() {
		s.under.Add(-1)
		return ctx, nil, fmt.Errorf("pgstore: %s: %w: %d calls wait for the database", verb, quota.ErrBusy, s.cfg.MaxCalls)
	}
	ctx, begun, err := s.begin(ctx, verb)
	if err != nil {
		s.under.Add(-1)
		return ctx, nil, err
	}
	return ctx, func() { begun(); s.under.Add(-1) }, nil
}

// take gives the caller the books.
func (s *Store) take(ctx context.Context) error {
	select {
	case s.busy <- struct{}{}:
		return nil
	default:
	}
	select {
	case s.busy <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Store) give() { <-s.busy }

// forget makes the book of an organization worthless before the next Apply.
func (s *Store) forget(org string) {
	s.mu.Lock()
	s.later[org] = true
	s.mu.Unlock()
}
