// Package boltstore keeps everything in one bbolt file: durable, for one
// process, with nothing to run beside it. It is the default of an embedder
// that has no database.
//
// What is acknowledged is on the disk. A batch of operations is one value with
// a checksum, appended to a journal in one transaction; the counters in use
// live in memory, the others are read when they are needed; counters that
// changed are written to their own place in slices, a few with each commit,
// and the journal behind them is dropped. Opening reads the journal alone.
//
// Every stored value carries a CRC-32C of its key and itself, because bbolt
// serves a damaged page without complaint. What fails it is quota.ErrCorrupt,
// and only the subject that it belongs to is refused; a damaged journal keeps
// the store from opening. Check finds everything that is damaged; Backup writes
// a consistent copy of a store in use.
//
// Limits: one process at a time has the file (others get saccount.ErrLocked);
// the file does not shrink by itself (see Compact); a network file system that
// does not honour flock or fsync is no place for it.
package boltstore

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store"
)

var _ store.Store = (*Store)(nil)

// Bounds and defaults of a Config.
const (
	DefaultOpenTimeout  = 2 * time.Second
	DefaultMaxRows      = 1 << 18
	DefaultJournalBytes = 4 << 20
	minRows             = 1 << 8
	maxRows             = 1 << 26
	minJournalBytes     = 1 << 12
	maxJournalBytes     = 1 << 30
	maxOpenTimeout      = time.Hour
)

// Config configures a Store. Its zero value is good.
type Config struct {
	// OpenTimeout is how long Open waits for another process to let go of the
	// file. Zero is DefaultOpenTimeout; at most an hour.
	OpenTimeout time.Duration
	// Logger hears of what goes wrong behind a call that went well. Nil discards.
	Logger *slog.Logger
	// MaxRows bounds the counters that are kept in memory while they are not
	// waiting to be written, about 250 bytes each. Zero is DefaultMaxRows.
	MaxRows int
	// JournalBytes is the size at which the journal begins to be written into
	// its places: more makes that rarer and opening slower. Zero is
	// DefaultJournalBytes, 4 KiB to 1 GiB.
	JournalBytes int
	// MaxSize bounds the file in bytes: what would make it larger is refused,
	// as on a full disk. Zero is no bound. Not for New.
	MaxSize int64
	// NoSyncForTests leaves out every fsync: a power cut loses what was
	// acknowledged and may ruin the file. For tests of others' code only.
	NoSyncForTests bool
}

func (c Config) check() (Config, error) {
	if c.OpenTimeout == 0 {
		c.OpenTimeout = DefaultOpenTimeout
	}
	if c.MaxRows == 0 {
		c.MaxRows = DefaultMaxRows
	}
	if c.JournalBytes == 0 {
		c.JournalBytes = DefaultJournalBytes
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case c.OpenTimeout < 0 || c.OpenTimeout > maxOpenTimeout:
		return c, fmt.Errorf("%w OpenTimeout %v: give 0 to %v", saccount.ErrInvalid, c.OpenTimeout, maxOpenTimeout)
	case c.MaxRows < minRows || c.MaxRows > maxRows:
		return c, fmt.Errorf("%w MaxRows %d: give %d to %d", saccount.ErrInvalid, c.MaxRows, minRows, maxRows)
	case c.JournalBytes < minJournalBytes || c.JournalBytes > maxJournalBytes:
		return c, fmt.Errorf("%w JournalBytes %d: give %d to %d", saccount.ErrInvalid, c.JournalBytes, minJournalBytes, maxJournalBytes)
	case c.MaxSize < 0:
		return c, fmt.Errorf("%w MaxSize %d: give 0 for no bound, or more", saccount.ErrInvalid, c.MaxSize)
	}
	return c, nil
}

// Store is a store.Store in a bbolt file. Safe for concurrent use. It runs no
// goroutine.
type Store struct {
	cfg Config
	log *slog.Logger
	db  *bbolt.DB
	// fewRows is fewRows, but in tests.
	fewRows int
	own     bool // the handle is ours to close
	file    *os.File
	page    int // bytes

	// mu is held by whoever writes, from deciding until it is durable, and by
	// whoever looks at counters in memory.
	mu     sync.Mutex
	closed atomic.Bool
	failed error // the file can no longer be trusted to take writes
	stuck  bool  // a write transaction could not be ended: bbolt's lock is lost

	writes  uint64 // transactions committed
	books   map[string]*book
	last    *book // that was asked for last
	rows    int   // counters in memory
	batch   uint64
	touched []*book
	changes []change
	buf     []byte
	parts   []byte
	reader  *snap             // of the loader, while deciding
	alerts  int64             // the highest Seq given
	foldAt  map[string][]byte // where the next Fold of an organization looks first
	jour    journal
	ckpt    checkpoint

	closing sync.Mutex   // held by Close
	life    sync.RWMutex // held by read transactions; taken after mu
	gone    bool         // the file was let go
}

// lock takes mu for a call and checks that it may go on. On an error nothing
// is locked.
func (s *Store) lock(ctx context.Context, verb string) error {
	s.mu.Lock()
	if err := s.open(ctx, verb); err != nil {
		s.mu.Unlock()
		return err
	}
	return nil
}

// open is the first line of a call that only reads: it waits for nobody.
func (s *Store) open(ctx context.Context, verb string) error {
	err := ctx.Err()
	if s.closed.Load() {
		err = saccount.ErrClosed
	}
	if err != nil {
		return fmt.Errorf("boltstore: %s: %w", verb, err)
	}
	return nil
}

// Close writes what the journal holds into its places and, where Open made the
// Store, closes the file. Idempotent; calls under way finish first, later ones
// fail with saccount.ErrClosed. Where the last writing fails nothing is lost:
// the journal has it, and the next Open reads it.
func (s *Store) Close() error {
	s.closing.Lock()
	defer s.closing.Unlock()
	if s.closed.Load() {
		return nil
	}
	s.mu.Lock()
	if s.failed == nil {
		if err := s.settle(); err != nil {
			s.log.Warn("boltstore: the journal was not written into its places; the next start does it", "file", s.db.Path(), "error", err)
		}
	}
	s.closed.Store(true)
	s.books, s.last, s.foldAt = nil, nil, nil
	s.mu.Unlock()
	return s.release()
}

// release gives back what Open or New took, when nobody reads any more.
func (s *Store) release() error {
	s.life.Lock()
	defer s.life.Unlock()
	s.gone = true
	err := s.file.Close()
	if s.own && !s.stuck {
		if e := guarded(s.db.Close); e != nil {
			err = e
		}
	}
	if err != nil {
		return fmt.Errorf("boltstore: close: %w", err)
	}
	return nil
}
