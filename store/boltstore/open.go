package boltstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// formatVersion is what this package writes; it reads those before it too.
// Format 2 has tabStates, tabRecent and tabSinks.
const formatVersion = 2

var (
	metaFormat = []byte("format")
	magic      = []byte("keypurse store ")
)

// allocSize is what the file grows by at least, so that it rarely grows.
const allocSize = 4 << 20

// mmapSize is how much address space is taken at once: growing within it waits
// for no reader. Windows would make the file that large.
func mmapSize() int {
	if runtime.GOOS == "windows" || strconv.IntSize < 64 {
		return 0
	}
	return 1 << (strconv.IntSize / 2)
}

func (c *Config) options(timeout time.Duration) *bbolt.Options {
	return &bbolt.Options{
		Timeout: timeout, FreelistType: bbolt.FreelistMapType, NoStatistics: true,
		InitialMmapSize: mmapSize(), MaxSize: int(c.MaxSize), NoSync: c.NoSyncForTests,
	}
}

// Open opens the store in the file at path, which is made, with mode 0600, where
// there is none. The file belongs to the Store until Close.
//
// Errors: saccount.ErrLocked where another process has the file (the message
// names it and, where the system tells, the process); saccount.ErrVersion where
// a newer version of this package wrote it; saccount.ErrInvalid where it is no
// store, or cfg is wrong; quota.ErrCorrupt where it is damaged. In all of these
// cases the file is as it was.
func Open(path string, cfg Config) (*Store, error) {
	s, err := open(path, cfg)
	if err != nil {
		return nil, fmt.Errorf("boltstore: open %s: %w", path, err)
	}
	return s, nil
}

func open(path string, cfg Config) (*Store, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	until := time.Now().Add(cfg.OpenTimeout)
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	if err := ensure(path, cfg, until); err != nil {
		return nil, err
	}
	// First read-only: what is not ours must not be written to, and opening for
	// writing can do that by itself.
	o := cfg.options(remaining(until))
	o.ReadOnly = true
	db, err := openFile(path, o)
	if err != nil {
		return nil, explain(path, err)
	}
	err = guarded(func() error { return inspect(db, path) })
	if e := guarded(db.Close); err == nil {
		err = e
	}
	if err != nil {
		return nil, err
	}
	if db, err = openFile(path, cfg.options(remaining(until))); err != nil {
		return nil, explain(path, err)
	}
	db.AllocSize = allocSize
	s, err := load(db, cfg)
	if err != nil {
		return nil, errors.Join(err, guarded(db.Close))
	}
	s.own = true
	return s, nil
}

// New makes a Store in a bbolt file that the host has open, beside whatever the
// host keeps in it; all of the Store's buckets begin with "keypurse/". The
// handle stays the host's to close, after the Store. It must be writable and
// have no NoSync. Errors are those of Open.
func New(db *bbolt.DB, cfg Config) (*Store, error) {
	s, err := adopt(db, cfg)
	if err != nil {
		return nil, fmt.Errorf("boltstore: new: %w", err)
	}
	return s, nil
}

func adopt(db *bbolt.DB, cfg Config) (*Store, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	switch {
	case db == nil:
		return nil, fmt.Errorf("%w handle: none given", saccount.ErrInvalid)
	case db.IsReadOnly():
		return nil, fmt.Errorf("%w handle: it is read-only", saccount.ErrInvalid)
	case db.NoSync && !cfg.NoSyncForTests:
		return nil, fmt.Errorf("%w handle: with NoSync a power cut loses what was acknowledged", saccount.ErrInvalid)
	case cfg.MaxSize != 0:
		return nil, fmt.Errorf("%w MaxSize: the handle has its own", saccount.ErrInvalid)
	}
	if err := guarded(func() error {
		return db.View(func(tx *bbolt.Tx) error { return sized(tx, db.Path()) })
	}); err != nil {
		return nil, err
	}
	return load(db, cfg)
}

func remaining(until time.Time) time.Duration { return max(time.Until(until), time.Millisecond) }

// openFile is bbolt.Open that leaves no file open, and no lock taken, where it
// panics over what it reads.
func openFile(path string, o *bbolt.Options) (db *bbolt.DB, err error) {
	var f *os.File
	o.OpenFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
		var err error
		f, err = os.OpenFile(name, flag&^os.O_CREATE, mode)
		return f, err
	}
	err = guarded(func() (err error) { db, err = bbolt.Open(path, 0o600, o); return err })
	if err != nil && f != nil {
		_ = f.Close() // bbolt closes it too, unless it panicked
	}
	return db, err
}

// explain says what an error of bbolt's means to whoever gave the path.
func explain(path string, err error) error {
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return fmt.Errorf("%w%s; one process at a time can have the store", saccount.ErrLocked, holder(path))
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrVersionMismatch):
		return fmt.Errorf("%w file: it is not a keypurse store: %w", saccount.ErrInvalid, err)
	case errors.Is(err, berrors.ErrChecksum), errors.Is(err, quota.ErrCorrupt):
		return fmt.Errorf("%w: the file is damaged; restore it from a backup: %w", quota.ErrCorrupt, err)
	case errors.As(err, new(*fs.PathError)):
		return err
	}
	return fmt.Errorf("%w: the file cannot be read as a store: %w", quota.ErrCorrupt, err)
}

// sized refuses a file that was cut off: to look behind its end is a fault.
func sized(tx *bbolt.Tx, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() < tx.Size() {
		return fmt.Errorf("%w: the file has %d bytes and should have %d: it was cut off; restore it from a backup", quota.ErrCorrupt, info.Size(), tx.Size())
	}
	return nil
}

// inspect looks whose file it is, and whether it is all there.
func inspect(db *bbolt.DB, path string) error {
	return db.View(func(tx *bbolt.Tx) error {
		if err := sized(tx, path); err != nil {
			return err
		}
		k, _ := tx.Cursor().First()
		if k == nil {
			return nil // nothing in it yet
		}
		if tx.Bucket(tabMeta.name) == nil {
			return fmt.Errorf("%w file: it is a bbolt file of something else (with a bucket %q); give the store a file of its own, or New its handle", saccount.ErrInvalid, k)
		}
		return version(tx)
	})
}

func version(tx *bbolt.Tx) error {
	b, err := tabMeta.bucket(tx)
	if err != nil {
		return err
	}
	v := b.Get(metaFormat)
	if v == nil {
		return fmt.Errorf("%w: the header is missing; restore the file from a backup", quota.ErrCorrupt)
	}
	if v, err = tabMeta.unseal(metaFormat, v); err != nil {
		return err
	}
	if len(v) != len(magic)+2 || string(v[:len(magic)]) != string(magic) {
		return tabMeta.damaged(metaFormat)
	}
	if n := binary.BigEndian.Uint16(v[len(magic):]); n > formatVersion {
		return fmt.Errorf("%w: the file has format %d and this is for formats up to %d; use the newer version", saccount.ErrVersion, n, formatVersion)
	}
	return nil
}

// layout makes what is missing, in one transaction.
func layout(tx *bbolt.Tx) error {
	if tx.Bucket(tabMeta.name) != nil {
		return version(tx)
	}
	for _, t := range tables {
		if _, err := tx.CreateBucket(t.name); err != nil {
			return err
		}
	}
	return putFormat(tx)
}

func putFormat(tx *bbolt.Tx) error {
	return tabMeta.put(tx, metaFormat, binary.BigEndian.AppendUint16(append([]byte{}, magic...), formatVersion))
}

// putStates writes the index of states that a file of format 1 lacks: once, as
// long as it takes to read every record.
func putStates(tx *bbolt.Tx) error {
	err := tabRecords.each(tx, []byte{0}, nil, func(k, v []byte) (bool, error) {
		kind, _, id, err := cutRecordKey(k)
		if err != nil {
			return false, tabRecords.damaged(k)
		}
		r, err := parseRecord(kind, id, k, v)
		if err != nil {
			return false, err
		}
		if state := stateIn(r); state != 0 {
			err = tabStates.put(tx, stateKey(nil, state, r), nil)
		}
		return true, err
	})
	if err != nil {
		return err
	}
	return putFormat(tx)
}

// load makes the Store of an open file and reads its journal.
func load(db *bbolt.DB, cfg Config) (_ *Store, err error) {
	s := &Store{cfg: cfg, log: cfg.Logger, db: db, page: db.Info().PageSize, books: map[string]*book{}, foldAt: map[string][]byte{}, fewRows: fewRows}
	if s.file, err = os.Open(db.Path()); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = s.file.Close() // it was only read
		}
	}()
	fresh := false
	var lacking []*table
	err = s.view(func(tx *snap) error {
		if fresh = tx.Bucket(tabMeta.name) == nil; fresh {
			return nil
		}
		for _, t := range later {
			if tx.Bucket(t.name) == nil {
				lacking = append(lacking, t)
			}
		}
		return s.restore(tx)
	})
	switch {
	case err != nil:
	case fresh: // an empty bbolt file
		err = s.update(layout)
	case len(lacking) > 0:
		err = s.update(func(tx *bbolt.Tx) error {
			for _, t := range lacking {
				if _, err := tx.CreateBucketIfNotExists(t.name); err != nil {
					return err
				}
			}
			if slices.Contains(lacking, tabStates) {
				if err := putStates(tx); err != nil {
					return err
				}
			}
			return indexAlerts(tx, lacking)
		})
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// restore reads what is needed from the first.
func (s *Store) restore(tx *snap) (err error) {
	if err := version(tx.Tx); err != nil {
		return err
	}
	for _, h := range s.heads() {
		if h.bad {
			s.log.Warn("boltstore: one of the two heads of the file is damaged: the last commit before it was opened may be lost; run Check", "file", s.db.Path(), "page", h.page)
		}
	}
	if s.alerts, err = s.lastAlert(tx); err != nil {
		return err
	}
	if err := s.replay(tx); err != nil {
		return err
	}
	if len(s.jour.gens) > 0 {
		s.round()
	}
	return nil
}
